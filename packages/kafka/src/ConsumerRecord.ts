/**
 * A record that came from Kafka, typed.
 *
 * @since 0.1.0
 */
import * as Inspectable from "effect/Inspectable"
import { printable } from "./engine/printable.ts"
import type { RecordView } from "./KafkaClient.ts"
import type { RecordHeaders } from "./RecordHeaders.ts"
import type { TopicPartition } from "./TopicPartition.ts"

/**
 * @since 0.1.0
 * @category symbols
 */
export const TypeId = "~@coffeebuddy/kafka/ConsumerRecord"

/**
 * @since 0.1.0
 * @category symbols
 */
export type TypeId = typeof TypeId

/**
 * One period in which this consumer owned a partition. A record remembers the one it came from, so that committing it
 * after the partition has moved on is noticed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Assignment {
  readonly topicPartition: TopicPartition
  /** Counts this consumer's assignments of anything: unique in its lifetime. */
  readonly epoch: number
}

/**
 * What the records of one fetched chunk have in common.
 *
 * @since 0.1.0
 * @category models
 */
export interface Origin {
  readonly slug: string
  readonly assignment: Assignment
  readonly view: RecordView
  /** The last record of the chunk, whose commit moves past the control records and gaps behind it. */
  readonly last: unknown
  readonly nextOffset: bigint
}

/**
 * A record of a topic. `topic` is the slug of the topic's definition, and discriminates a stream of several topics.
 *
 * Offset, timestamp and headers are read from the driver's own record when they are asked for, so that a program that
 * never looks at them never pays for them.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerRecord<out K, out V, out Slug extends string = string> {
  readonly [TypeId]: TypeId
  readonly topic: Slug
  readonly key: K
  readonly value: V
  readonly partition: number
  readonly offset: bigint
  /** Milliseconds since 1970. */
  readonly timestamp: bigint
  readonly headers: RecordHeaders
  /** The key as it came. A view into a larger buffer perhaps: copy what is kept for long. */
  readonly rawKey: Uint8Array | null
  /** The value as it came. A view into a larger buffer perhaps: copy what is kept for long. */
  readonly rawValue: Uint8Array | null
  /** The physical topic and the partition. */
  readonly topicPartition: TopicPartition
  /** The offset to commit once this record is processed: past it, and past control records and gaps behind it. */
  readonly nextOffset: bigint
  /** The assignment it came with. */
  readonly assignment: Assignment
}

/**
 * @since 0.1.0
 * @category models
 */
export type Any = ConsumerRecord<unknown, unknown>

class ConsumerRecordImpl<K, V> extends Inspectable.Class implements ConsumerRecord<K, V> {
  private readonly origin: Origin
  private readonly raw: unknown
  readonly key: K
  readonly value: V

  constructor(origin: Origin, raw: unknown, key: K, value: V) {
    super()
    this.origin = origin
    this.raw = raw
    this.key = key
    this.value = value
  }
  get [TypeId](): TypeId {
    return TypeId
  }
  get topic(): string {
    return this.origin.slug
  }
  get partition(): number {
    return this.origin.assignment.topicPartition.partition
  }
  get offset(): bigint {
    return this.origin.view.offset(this.raw)
  }
  get timestamp(): bigint {
    return this.origin.view.timestamp(this.raw)
  }
  get headers(): RecordHeaders {
    return this.origin.view.headers(this.raw)
  }
  get rawKey(): Uint8Array | null {
    return this.origin.view.key(this.raw)
  }
  get rawValue(): Uint8Array | null {
    return this.origin.view.value(this.raw)
  }
  get topicPartition(): TopicPartition {
    return this.origin.assignment.topicPartition
  }
  get nextOffset(): bigint {
    return this.raw === this.origin.last ? this.origin.nextOffset : this.origin.view.offset(this.raw) + 1n
  }
  get assignment(): Assignment {
    return this.origin.assignment
  }
  override toJSON(): unknown {
    return {
      _id: "ConsumerRecord",
      topic: this.topic,
      partition: this.partition,
      offset: String(this.offset),
      timestamp: String(this.timestamp),
      key: printable(this.key),
      value: printable(this.value),
      headers: this.headers.map(([name, value]) => [name, value === null ? null : Buffer.from(value).toString("utf8")])
    }
  }
}

/**
 * A typed record over a driver's own.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: <K, V>(origin: Origin, raw: unknown, key: K, value: V) => ConsumerRecord<K, V> = (
  origin,
  raw,
  key,
  value
) => new ConsumerRecordImpl(origin, raw, key, value)

/**
 * @since 0.1.0
 * @category guards
 */
export const isConsumerRecord = (u: unknown): u is Any => u instanceof ConsumerRecordImpl
