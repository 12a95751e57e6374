/**
 * A record on its way to a handler: read from the topic itself, or again from a retry topic. Either way the handler sees
 * the record as it was: its topic, place, time and headers.
 */
import * as ConsumerRecord from "../../ConsumerRecord.ts"
import type { RecordView } from "../../KafkaClient.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import type { TopicPartition } from "../../TopicPartition.ts"
import { type Origin, readRetry, type RetryMark, type Unmarked } from "./headers.ts"
import type { RawRecord, Undecoded } from "./raw.ts"

const view: RecordView<Delivery> = {
  offset: (delivery) => delivery.offset,
  timestamp: (delivery) => delivery.timestamp,
  key: (delivery) => delivery.key,
  value: (delivery) => delivery.value,
  headers: (delivery) => delivery.headers
}

export class Delivery implements Undecoded, ConsumerRecord.Origin {
  /** As it was read this time. */
  readonly raw: RawRecord
  readonly slug: string
  readonly view = view as RecordView
  private readonly returned: Unmarked<RetryMark> | undefined

  constructor(raw: RawRecord, slug: string, returned: Unmarked<RetryMark> | undefined) {
    this.raw = raw
    this.slug = slug
    this.returned = returned
  }

  get topicPartition(): TopicPartition {
    return this.returned?.mark ?? this.raw.topicPartition
  }
  get topic(): string {
    return this.topicPartition.topic
  }
  get partition(): number {
    return this.topicPartition.partition
  }
  get offset(): bigint {
    return this.returned?.mark.offset ?? this.raw.offset
  }
  get timestamp(): bigint {
    return this.returned?.mark.timestamp ?? this.raw.timestamp
  }
  get headers(): RecordHeaders {
    return this.returned?.headers ?? this.raw.headers
  }
  get key(): Uint8Array | null {
    return this.raw.rawKey
  }
  get value(): Uint8Array | null {
    return this.raw.rawValue
  }
  /** Whose retry it is; `undefined` where it is none. */
  get group(): string | undefined {
    return this.returned?.mark.group
  }
  /** Not handled before, in milliseconds since 1970. */
  get due(): number {
    return this.returned?.mark.due ?? 0
  }
  /** How often it was tried before this delivery. */
  get attempts(): number {
    return this.returned?.mark.attempts ?? 0
  }
  /** How many of the retry topics' delays it has had. */
  get round(): number {
    return this.returned?.mark.round ?? 0
  }
  get origin(): Origin {
    return {
      topic: this.topic,
      partition: this.partition,
      offset: this.offset,
      timestamp: this.timestamp
    }
  }

  // as the origin of the record that the handler sees

  get assignment(): ConsumerRecord.Assignment {
    const { assignment } = this.raw
    if (this.returned === undefined) return assignment
    const { partition, topic } = this.returned.mark
    return { topicPartition: { topic, partition }, epoch: assignment.epoch }
  }
  get last(): unknown {
    return this
  }
  get nextOffset(): bigint {
    return this.returned === undefined ? this.raw.nextOffset : this.offset + 1n
  }

  record(key: unknown, value: unknown): ConsumerRecord.Any {
    return ConsumerRecord.make(this, this, key, value)
  }
}

/** A record of a retry topic. What others have written there counts as first read there. */
export const returned = (raw: RawRecord, slug: string): Delivery => new Delivery(raw, slug, readRetry(raw.headers))

/** A record of which it is said where it came from. */
export const fromMark = (raw: RawRecord, slug: string, mark: Unmarked<RetryMark>): Delivery =>
  new Delivery(raw, slug, mark)

/** A record of the topic itself. */
export const direct = (raw: RawRecord, slug: string): Delivery => new Delivery(raw, slug, undefined)
