/**
 * How slugs become names on the cluster, and how definitions become topics there.
 *
 * @since 0.1.0
 */
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { prefixProblem } from "./engine/topicPrefix.ts"
import * as topics from "./engine/topics.ts"
import { KafkaClient } from "./KafkaClient.ts"
import { KafkaConfig } from "./KafkaConfig.ts"
import type { ClientError, TopicMismatchError, UnknownTopicError } from "./KafkaError.ts"
import type * as Topic from "./Topic.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly prefix: string | undefined
  /**
   * The physical name: `run-events` is `coffeebuddy.run-events` under the prefix `coffeebuddy`, and itself without one.
   * A string is taken for a slug. Two slugs never share a name.
   */
  readonly resolve: (topicOrSlug: Topic.Any | string) => string
  /** The slug of a physical name; `undefined` where the name does not bear the prefix. The inverse of `resolve`. */
  readonly slug: (name: string) => string | undefined
}

/**
 * @since 0.1.0
 * @category tags
 */
export class TopicRegistry extends Context.Tag("@coffeebuddy/kafka/TopicRegistry")<TopicRegistry, Service>() {}

/**
 * A registry with a prefix, or without one. An `Either` is an `Effect` too.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options?: { readonly prefix?: string | undefined }
): Either.Either<Service, ConfigError.ConfigError> => {
  const prefix = options?.prefix
  if (prefix === undefined) {
    return Either.right({
      prefix,
      resolve: (topicOrSlug) => slugOf(topicOrSlug),
      slug: (name) => name
    })
  }
  const problem = prefixProblem(prefix)
  if (problem !== undefined) return Either.left(ConfigError.InvalidData(["topicPrefix"], problem))
  const start = `${prefix}.`
  return Either.right({
    prefix,
    resolve: (topicOrSlug) => start + slugOf(topicOrSlug),
    slug: (name) => name.startsWith(start) && name.length > start.length ? name.slice(start.length) : undefined
  })
}

const slugOf = (topicOrSlug: Topic.Any | string): string =>
  typeof topicOrSlug === "string" ? topicOrSlug : topicOrSlug.slug

/**
 * The registry with the `topicPrefix` of `KafkaConfig`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<TopicRegistry, ConfigError.ConfigError, KafkaConfig> = Layer.effect(
  TopicRegistry,
  Effect.flatMap(KafkaConfig, (config) => make({ prefix: config.topicPrefix }))
)

/**
 * The registry with a prefix of its own, whatever `KafkaConfig` says.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (
  options: { readonly prefix?: string | undefined }
): Layer.Layer<TopicRegistry, ConfigError.ConfigError> => Layer.effect(TopicRegistry, make(options))

/**
 * The physical name of a topic.
 *
 * @example
 * ```ts
 * import { TopicRegistry } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const program = TopicRegistry.resolve("run-events").pipe(
 *   Effect.tap((name) => Effect.log(name)), // coffeebuddy.run-events
 *   Effect.provide(TopicRegistry.layerWith({ prefix: "coffeebuddy" }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const resolve = (topicOrSlug: Topic.Any | string): Effect.Effect<string, never, TopicRegistry> =>
  Effect.map(TopicRegistry, (registry) => registry.resolve(topicOrSlug))

/**
 * What became of one topic in {@link ensure}.
 *
 * @since 0.1.0
 * @category models
 */
export interface Ensured {
  readonly slug: string
  /** The physical name. */
  readonly topic: string
  /** `"extended"`: partitions were added. */
  readonly outcome: "created" | "extended" | "unchanged"
}

/**
 * Creates the topics that are missing, and checks the others against their definitions: partitions, replicas and every
 * configuration entry that the definition names. What a definition leaves open is left as it is.
 *
 * Fails with `TopicMismatchError` where an existing topic contradicts its definition, with all differences at once, and
 * then nothing has been changed. With `addPartitions` a topic with too few partitions is given more instead: records
 * with the same key may then land in another partition than before.
 *
 * Ends when every partition it created has a leader.
 *
 * @example
 * ```ts
 * import { Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
 *
 * const Orders = Topic.make("orders", {
 *   key: Serde.string,
 *   value: Serde.string,
 *   partitions: 6,
 *   config: { "retention.ms": "604800000" }
 * })
 * const ready = TopicRegistry.ensure([Orders])
 * ```
 *
 * @since 0.1.0
 * @category operations
 */
export const ensure = (
  definitions: Iterable<Topic.Any>,
  options?: {
    /** Add partitions where a topic has fewer than defined. `false` if absent. */
    readonly addPartitions?: boolean | undefined
  }
): Effect.Effect<
  ReadonlyArray<Ensured>,
  ClientError | UnknownTopicError | TopicMismatchError,
  TopicRegistry | KafkaClient
> =>
  Effect.scoped(Effect.gen(function*() {
    const registry = yield* TopicRegistry
    const client = yield* KafkaClient
    const all = [...definitions]
    const wanted = all.map((definition) => topics.wantedOf(registry.resolve(definition), definition))
    const session = yield* client.openAdmin
    const outcomes = yield* topics.ensure(session, wanted, options?.addPartitions ?? false)
    return all.map((definition): Ensured => {
      const topic = registry.resolve(definition)
      return { slug: definition.slug, topic, outcome: outcomes.get(topic) ?? "unchanged" }
    })
  })).pipe(Effect.withSpan("TopicRegistry.ensure"))

/**
 * A definition as a row, for documentation.
 *
 * @since 0.1.0
 * @category models
 */
export interface Row {
  readonly slug: string
  /** The physical name. */
  readonly topic: string
  /** The broker's default if `undefined`. */
  readonly partitions: number | undefined
  /** The broker's default if `undefined`. */
  readonly replicationFactor: number | undefined
  readonly config: Readonly<Record<string, string>>
}

/**
 * The definitions as rows with their physical names, in order of these.
 *
 * @since 0.1.0
 * @category documentation
 */
export const describe = (
  definitions: Iterable<Topic.Any>
): Effect.Effect<ReadonlyArray<Row>, never, TopicRegistry> =>
  Effect.map(TopicRegistry, (registry) =>
    Array.from(definitions, (definition): Row => ({
      slug: definition.slug,
      topic: registry.resolve(definition),
      partitions: definition.partitions,
      replicationFactor: definition.replicationFactor,
      config: definition.config
    })).sort((a, b) => a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : 0))

/**
 * Rows as a Markdown table.
 *
 * @example
 * ```ts
 * import { Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
 * import { Console, Effect } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string, partitions: 6 })
 * const program = TopicRegistry.describe([Orders]).pipe(
 *   Effect.map(TopicRegistry.toMarkdown),
 *   Effect.flatMap(Console.log)
 * )
 * ```
 *
 * @since 0.1.0
 * @category documentation
 */
export const toMarkdown = (rows: ReadonlyArray<Row>): string => {
  const cells = rows.map((row) => [
    row.topic,
    row.partitions === undefined ? "broker default" : String(row.partitions),
    row.replicationFactor === undefined ? "broker default" : String(row.replicationFactor),
    Object.entries(row.config).map(([name, value]) => `${name}=${value}`).join(", ").replaceAll("|", "\\|")
  ])
  const table = [["topic", "partitions", "replicas", "configuration"], ["---", "---:", "---:", "---"], ...cells]
  return table.map((row) => `| ${row.join(" | ")} |`).join("\n")
}
