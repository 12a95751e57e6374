/**
 * One partition of one topic, by its physical name on the cluster.
 *
 * @since 0.1.0
 */

/**
 * A partition of a topic. `topic` is the physical name, after `TopicRegistry` has put its prefix on.
 *
 * @since 0.1.0
 * @category models
 */
export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}

/**
 * A `TopicPartition` as one string, to key a `Map` with: `"coffeebuddy.run-events:3"`.
 * Kafka allows no colon in a topic name, so two partitions never share a key.
 *
 * @since 0.1.0
 * @category models
 */
export type Key = `${string}:${number}`

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (topic: string, partition: number): TopicPartition => ({ topic, partition })

/**
 * The key of a partition in a `Map`.
 *
 * @example
 * ```ts
 * import { TopicPartition } from "@coffeebuddy/kafka"
 *
 * console.log(TopicPartition.key(TopicPartition.make("run-events", 3))) // "run-events:3"
 * ```
 *
 * @since 0.1.0
 * @category conversions
 */
export const key = (self: TopicPartition): Key => `${self.topic}:${self.partition}`

/**
 * The partition that a key stands for: the inverse of {@link key}.
 *
 * @since 0.1.0
 * @category conversions
 */
export const fromKey = (key: Key): TopicPartition => {
  const colon = key.lastIndexOf(":")
  return { topic: key.slice(0, colon), partition: Number(key.slice(colon + 1)) }
}

/**
 * @since 0.1.0
 * @category conversions
 */
export const format = (self: TopicPartition): string => `${self.topic}[${self.partition}]`
