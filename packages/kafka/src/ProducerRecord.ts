/**
 * A record on its way to Kafka, typed.
 *
 * @since 0.1.0
 */
import type * as RecordHeaders from "./RecordHeaders.ts"

/**
 * A record of a topic whose keys are `K` and whose values are `V`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProducerRecord<out K, out V> {
  readonly key: K
  readonly value: V
  readonly headers?: RecordHeaders.Input | undefined
  /** Chosen by the key as Java's default partitioner does if absent. */
  readonly partition?: number | undefined
  /** Milliseconds since 1970; now, by Effect's Clock, if absent. */
  readonly timestamp?: bigint | number | undefined
}

/**
 * Where an acknowledged record is.
 *
 * @since 0.1.0
 * @category models
 */
export interface RecordMetadata {
  /** The physical name. */
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  /** Milliseconds since 1970: what was sent, or the broker's clock where the topic stamps by LogAppendTime. */
  readonly timestamp: bigint
}
