/**
 * A topic's definition: its slug, what its keys and values are, and how it is to be created. The one place where a
 * topic's name is written down.
 *
 * @since 0.1.0
 */
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Serde from "./Serde.ts"

/**
 * @since 0.1.0
 * @category symbols
 */
export const TypeId = "~@coffeebuddy/kafka/Topic"

/**
 * @since 0.1.0
 * @category symbols
 */
export type TypeId = typeof TypeId

/**
 * A topic whose keys are `K` and whose values are `V`. `R` is what its serdes need, mostly nothing.
 *
 * @since 0.1.0
 * @category models
 */
export interface Topic<out Slug extends string, in out K, in out V, out R = never> extends Pipeable {
  readonly [TypeId]: TypeId
  /** The name before `TopicRegistry` puts its prefix on. */
  readonly slug: Slug
  readonly key: Serde.Serde<K, R>
  readonly value: Serde.Serde<V, R>
  /** How many partitions `TopicRegistry.ensure` creates; the broker's default if absent. */
  readonly partitions: number | undefined
  /** How many replicas `TopicRegistry.ensure` creates; the broker's default if absent. */
  readonly replicationFactor: number | undefined
  /** Topic configuration by Kafka's names, for instance `{ "cleanup.policy": "compact" }`. */
  readonly config: Readonly<Record<string, string>>
}

/**
 * Any topic.
 *
 * @since 0.1.0
 * @category models
 */
// oxlint-disable-next-line no-explicit-any -- the one way to write "of any type" for an invariant parameter
export type Any = Topic<string, any, any, any>

/**
 * The key type of a topic.
 *
 * @since 0.1.0
 * @category types
 */
export type Key<T> = T extends Topic<infer _Slug, infer K, infer _V, infer _R> ? K : never

/**
 * The value type of a topic.
 *
 * @since 0.1.0
 * @category types
 */
export type Value<T> = T extends Topic<infer _Slug, infer _K, infer V, infer _R> ? V : never

/**
 * What the serdes of a topic need.
 *
 * @since 0.1.0
 * @category types
 */
export type Context<T> = T extends Topic<infer _Slug, infer _K, infer _V, infer R> ? R : never

/**
 * The slug of a topic, as a literal type.
 *
 * @since 0.1.0
 * @category types
 */
export type Slug<T> = T extends Topic<infer S, infer _K, infer _V, infer _R> ? S : never

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<K, V, RK = never, RV = never> {
  readonly key: Serde.Serde<K, RK>
  readonly value: Serde.Serde<V, RV>
  readonly partitions?: number | undefined
  readonly replicationFactor?: number | undefined
  readonly config?: Readonly<Record<string, string>> | undefined
}

const Proto = {
  [TypeId]: TypeId as TypeId,
  pipe() {
    return pipeArguments(this, arguments)
  }
}

/**
 * Kafka's rule for topic names: up to 249 of letters, digits, `.`, `_` and `-`, and neither `.` nor `..`.
 *
 * @since 0.1.0
 * @category guards
 */
export const isValidName = (name: string): boolean =>
  /^[a-zA-Z0-9._-]{1,249}$/.test(name) && name !== "." && name !== ".."

/**
 * A topic's definition. The types of its keys and values are those of the serdes.
 *
 * Throws a `TypeError` where the slug is no topic name, or a count is none: a definition is a constant of the program.
 *
 * @example
 * ```ts
 * import { Serde, Topic } from "@coffeebuddy/kafka"
 * import { Schema } from "effect"
 *
 * class RunEvent extends Schema.Class<RunEvent>("RunEvent")({ runId: Schema.String, type: Schema.String }) {}
 *
 * const RunEvents = Topic.make("run-events", {
 *   key: Serde.string,
 *   value: Serde.json(RunEvent),
 *   partitions: 6
 * })
 * type Event = Topic.Value<typeof RunEvents> // RunEvent
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <const Slug extends string, K, V, RK = never, RV = never>(
  slug: Slug,
  options: Options<K, V, RK, RV>
): Topic<Slug, K, V, RK | RV> => {
  if (!isValidName(slug)) {
    throw new TypeError(
      `"${slug}" is no topic name: use 1 to 249 of letters, digits, ".", "_" and "-", and neither "." nor ".."`
    )
  }
  for (const name of ["partitions", "replicationFactor"] as const) {
    const count = options[name]
    if (count !== undefined && !(Number.isInteger(count) && count >= 1)) {
      throw new TypeError(`topic "${slug}": ${name} must be a whole number of at least 1, and is ${count}`)
    }
  }
  return Object.assign(Object.create(Proto), {
    slug,
    key: options.key,
    value: options.value,
    partitions: options.partitions,
    replicationFactor: options.replicationFactor,
    config: options.config ?? {}
  })
}

/**
 * @since 0.1.0
 * @category guards
 */
export const isTopic = (u: unknown): u is Any => Predicate.hasProperty(u, TypeId)

/**
 * The same topic with other settings for its creation.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withConfig: {
  (
    config: Readonly<Record<string, string>>
  ): <Slug extends string, K, V, R>(self: Topic<Slug, K, V, R>) => Topic<Slug, K, V, R>
  <Slug extends string, K, V, R>(
    self: Topic<Slug, K, V, R>,
    config: Readonly<Record<string, string>>
  ): Topic<Slug, K, V, R>
} = dual(
  2,
  <Slug extends string, K, V, R>(
    self: Topic<Slug, K, V, R>,
    config: Readonly<Record<string, string>>
  ): Topic<Slug, K, V, R> =>
    make(self.slug, {
      key: self.key,
      value: self.value,
      partitions: self.partitions,
      replicationFactor: self.replicationFactor,
      config: { ...self.config, ...config }
    })
)

/**
 * @since 0.1.0
 * @category symbols
 */
export const PatternTypeId = "~@coffeebuddy/kafka/TopicPattern"

/**
 * @since 0.1.0
 * @category symbols
 */
export type PatternTypeId = typeof PatternTypeId

/**
 * All topics whose physical name matches, now and later.
 *
 * @since 0.1.0
 * @category models
 */
export interface Pattern<in out K, in out V, out R = never> {
  readonly [PatternTypeId]: PatternTypeId
  readonly pattern: RegExp
  readonly key: Serde.Serde<K, R>
  readonly value: Serde.Serde<V, R>
}

/**
 * A subscription to all topics whose physical name matches. A record's `topic` is that name then.
 *
 * @example
 * ```ts
 * import { Consumer, Serde, Topic } from "@coffeebuddy/kafka"
 *
 * const retries = Topic.pattern(/^run-events\.retry\./, { key: Serde.string, value: Serde.bytes })
 * const stream = Consumer.stream(retries)
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const pattern = <K, V, RK = never, RV = never>(
  pattern: RegExp,
  options: { readonly key: Serde.Serde<K, RK>; readonly value: Serde.Serde<V, RV> }
): Pattern<K, V, RK | RV> => ({
  [PatternTypeId]: PatternTypeId,
  pattern: new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, "")),
  key: options.key,
  value: options.value
})

/**
 * @since 0.1.0
 * @category guards
 */
export const isPattern = (u: unknown): u is Pattern<unknown, unknown, unknown> =>
  Predicate.hasProperty(u, PatternTypeId)
