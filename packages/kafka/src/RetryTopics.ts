/**
 * Retry topics: where records wait that are to be tried again later, while the topic they came from goes on. One
 * declaration names them, and a worker's `retryTopics` uses it.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import { millisOf } from "./engine/duration.ts"
import { rawTopic } from "./engine/worker/raw.ts"
import type * as Topic from "./Topic.ts"

/**
 * Where records wait for one of the delays.
 *
 * @since 0.1.0
 * @category models
 */
export interface Stage {
  readonly topic: Topic.Topic<string, Uint8Array | null, Uint8Array | null>
  /** In milliseconds. */
  readonly delay: number
}

/**
 * The retry topics of one topic.
 *
 * @since 0.1.0
 * @category models
 */
export interface RetryTopics {
  /** The slug of the topic whose records are tried again. */
  readonly slug: string
  readonly order: "key" | "none"
  /** One for each delay. With order by key they share one topic. */
  readonly stages: readonly [Stage, ...ReadonlyArray<Stage>]
  /** The topics to create, for `TopicRegistry.ensure`. Their keys and values are bytes. */
  readonly topics: ReadonlyArray<Topic.Topic<string, Uint8Array | null, Uint8Array | null>>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** How long a record waits before it is tried again: the first time, the second, and so on. At least one. */
  readonly delays: readonly [Duration.DurationInput, ...ReadonlyArray<Duration.DurationInput>]
  /**
   * Whether records of one key keep their order:
   *
   * - `"key"`, the default: while a record of a key waits, those behind it follow it to the retry topic, and are handled
   *   after it. All delays share one topic, `<slug>.retry`, with as many partitions as the topic itself.
   * - `"none"`: what failed waits, and what is behind it is handled meanwhile. Each delay has a topic of its own:
   *   `<slug>.retry.1m`, `<slug>.retry.10m`, and so on.
   */
  readonly order?: "key" | "none" | undefined
}

const units = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000], ["ms", 1]] as const

const nameOf = (millis: number): string => {
  const [unit, size] = units.find(([, size]) => millis % size === 0) ?? ["ms", 1]
  return `${millis / size}${unit}`
}

/**
 * The retry topics of a topic.
 *
 * Throws a `TypeError` where there is no delay, or one that is no whole number of milliseconds above zero: a definition
 * is a constant of the program.
 *
 * @example
 * ```ts
 * import { RetryTopics, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string, partitions: 3 })
 * const OrderRetries = RetryTopics.make(Orders, { delays: ["1 minute", "10 minutes"] })
 *
 * const ready = TopicRegistry.ensure([Orders, ...OrderRetries.topics])
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (topic: Topic.Any, options: Options): RetryTopics => {
  const order = options.order ?? "key"
  const shared = rawTopic(topic, `${topic.slug}.retry`)
  const used = new Set<string>()
  const stages = options.delays.map((input): Stage => {
    const delay = millisOf(input) ?? 0
    if (!Number.isSafeInteger(delay) || delay <= 0) {
      throw new TypeError(
        `the retry topics of "${topic.slug}": ${
          String(input)
        } is no delay: it must be a whole number of milliseconds above zero`
      )
    }
    if (order === "key") return { topic: shared, delay }
    const slug = `${topic.slug}.retry.${nameOf(delay)}`
    const name = used.has(slug) ? `${slug}.${used.size + 1}` : slug
    used.add(slug).add(name)
    return { topic: rawTopic(topic, name), delay }
  })
  const [first, ...rest] = stages
  if (first === undefined) throw new TypeError(`the retry topics of "${topic.slug}": there must be at least one delay`)
  return {
    slug: topic.slug,
    order,
    stages: [first, ...rest],
    topics: order === "key" ? [shared] : stages.map((stage) => stage.topic)
  }
}
