/**
 * One attempt to produce: at most one request to one broker, by a kafkajs producer of which everything is known that
 * matters for not losing and not doubling records.
 *
 * kafkajs's idempotent mode is safe as long as each call of `sendBatch` leads to one request to one broker: it takes
 * the sequence numbers back when the request fails, so the same records sent again by the same producer are recognised
 * by the broker. It is not safe when one call leads to several brokers (a failed one is tried again while another is
 * still under way, with new sequence numbers), when it partitions again, or when it gives up on one call and goes on
 * with the next. Hence:
 *
 * - the partitioner, which kafkajs calls in each attempt before it sends anything, stops an attempt whose partitions
 *   have several leaders, or one that kafkajs does not know (it would leave those records out without a word);
 * - kafkajs's own retries are off;
 * - whether a request was sent is told by whether its records were encoded.
 */
import * as Effect from "effect/Effect"
import type { Message, PartitionMetadata, Producer, Transaction } from "kafkajs"
import type { BatchResult, ProducerBatch, RawProducerRecord } from "../../KafkaClient.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type * as Connection from "./connection.ts"
import type { Failure } from "./producerVerdict.ts"

// ---------------------------------------------------------------------------------------------------------------------
// records
// ---------------------------------------------------------------------------------------------------------------------

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/**
 * A header without a value. kafkajs measures the value before it looks whether there is one, and fails on `null`; an
 * empty one takes the same room, so that is what it is given to measure.
 */
class NullHeader {
  readonly key: string
  #measured = false
  constructor(key: string) {
    this.key = key
  }
  get value(): "" | null {
    if (this.#measured) return null
    this.#measured = true
    return ""
  }
}

/**
 * Headers as kafkajs takes them, an object of values or arrays of values, would lose the order of names and refuse
 * nulls. It maps such an array to pairs with the array's own `map`, so this one answers with the pairs it has.
 */
class HeaderList extends Array<Buffer> {
  #headers: RecordHeaders = []
  static holding(headers: RecordHeaders): HeaderList {
    const out = new HeaderList()
    out.#headers = headers
    return out
  }
  override map<U>(): Array<U> {
    // what kafkajs makes of each value, which its types do not say
    return this.#headers.map(([key, value]) =>
      value === null ? new NullHeader(key) : { key, value: asBuffer(value) }
    ) as Array<unknown> as Array<U>
  }
}

const noHeaders = {}

const headersOf = (headers: RecordHeaders): { all: HeaderList } | Record<string, never> =>
  headers.length === 0 ? noHeaders : { all: HeaderList.holding(headers) }

const bytesOf = (bytes: Uint8Array | null): Buffer | null => bytes === null ? null : asBuffer(bytes)

/**
 * The first record of a batch. kafkajs reads the timestamps when it encodes the request, and not before.
 */
class Head implements Message {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: { all: HeaderList } | Record<string, never>
  readonly partition: number
  readonly #timestamp: string
  readonly #attempt: Attempt
  constructor(record: RawProducerRecord, partition: number, attempt: Attempt) {
    this.key = bytesOf(record.key)
    this.value = bytesOf(record.value)
    this.headers = headersOf(record.headers)
    this.partition = partition
    this.#timestamp = String(record.timestamp)
    this.#attempt = attempt
  }
  get timestamp(): string {
    this.#attempt.encoded = true
    return this.#timestamp
  }
  place(topic: string, partitions: ReadonlyArray<PartitionMetadata>): void {
    this.#attempt.place(topic, this.partition, partitions)
  }
}

const messageOf = (record: RawProducerRecord, partition: number): Message => ({
  key: bytesOf(record.key),
  value: bytesOf(record.value),
  headers: headersOf(record.headers),
  timestamp: String(record.timestamp),
  partition
})

// ---------------------------------------------------------------------------------------------------------------------
// a kafkajs producer
// ---------------------------------------------------------------------------------------------------------------------

/** The broker that leads each partition of a topic, by partition. */
export type Leaders = ReadonlyMap<number, number>

export const leadersOf = (partitions: ReadonlyArray<PartitionMetadata>): Leaders =>
  new Map(partitions.map(({ leader, partitionId }) => [partitionId, leader]))

/**
 * A kafkajs producer and its sequence numbers. Once it is retired it is not used again.
 */
export interface Incarnation {
  readonly connection: Connection.Connection
  readonly producer: Producer
  /** The topics that kafkajs looks after, with leaders as it last saw them. */
  readonly leaders: Map<string, Leaders>
  /** The open transaction, if there is one. */
  transaction: Transaction | undefined
  /** How many records it was given, over all partitions. */
  records: number
  /** How often in a row kafkajs could not make out its topics. */
  troubles: number
  retired: boolean
}

/** For kafkajs, to which the partitions are told: they were chosen before. */
export const partitioner = () =>
({ message, partitionMetadata, topic }: {
  readonly topic: string
  readonly partitionMetadata: ReadonlyArray<PartitionMetadata>
  readonly message: Message
}): number => {
  if (message instanceof Head) message.place(topic, partitionMetadata)
  // all of ours have one; another is no partition at all
  return message.partition ?? -1
}

/** The partitions of this attempt have several leaders: it has to be several attempts. */
class SeveralLeaders extends Error {
  readonly retriable = false
}

/** kafkajs does not know the partition. It looks at the metadata again after an error of this name. */
class UnknownPartition extends Error {
  override readonly name = "KafkaJSMetadataNotLoaded"
}

class Attempt {
  /** Whether kafkajs began to encode a request. */
  encoded = false
  private leader: number | undefined = undefined
  private readonly incarnation: Incarnation

  constructor(incarnation: Incarnation) {
    this.incarnation = incarnation
  }

  place(topic: string, partition: number, partitions: ReadonlyArray<PartitionMetadata>): void {
    const leaders = leadersOf(partitions)
    this.incarnation.leaders.set(topic, leaders)
    const leader = leaders.get(partition)
    if (leader === undefined) throw new UnknownPartition(`no partition ${partition}`)
    this.leader ??= leader
    if (this.leader !== leader) throw new SeveralLeaders("several leaders")
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// an attempt
// ---------------------------------------------------------------------------------------------------------------------

export interface Settings {
  readonly acks: number
  readonly compression: number
  /** How long the broker may wait for its replicas. */
  readonly timeout: number
}

/**
 * - `"answered"`: what the broker answered for each batch, `undefined` where it did not mention it.
 * - `"split"`: nothing was sent, since the partitions have several leaders; `leaders` knows them now.
 */
export type Answer =
  | { readonly _tag: "answered"; readonly results: ReadonlyArray<BatchResult | undefined> }
  | { readonly _tag: "split" }
  | ({ readonly _tag: "failed" } & Failure)

/**
 * Sends batches that have one leader. Not to be interrupted without retiring the incarnation.
 */
export const run = (
  incarnation: Incarnation,
  batches: ReadonlyArray<ProducerBatch>,
  settings: Settings
): { readonly answer: Effect.Effect<Answer>; readonly encoded: () => boolean } => {
  const attempt = new Attempt(incarnation)
  const topics = new Map<string, Array<Message>>()
  for (const { partition, records, topic } of batches) {
    let messages = topics.get(topic)
    if (messages === undefined) topics.set(topic, messages = [])
    messages.push(new Head(records[0]!, partition, attempt))
    for (let i = 1; i < records.length; i++) messages.push(messageOf(records[i]!, partition))
    incarnation.records += records.length
  }
  const { compression, acks, timeout } = settings
  const answer = Effect.promise<Answer>(() =>
    (incarnation.transaction ?? incarnation.producer).sendBatch({
      acks,
      timeout,
      compression,
      topicMessages: Array.from(topics, ([topic, messages]) => ({ topic, messages }))
    }).then(
      (stored): Answer => {
        const byPartition = new Map(stored.map((one) => [
          TopicPartition.key({ topic: one.topicName, partition: one.partition }),
          one
        ]))
        return {
          _tag: "answered",
          results: batches.map((batch): BatchResult | undefined => {
            if (acks === 0) return { _tag: "Stored", baseOffset: -1n }
            const one = byPartition.get(TopicPartition.key(batch))
            if (one === undefined) return undefined
            const logAppendTime = BigInt(one.logAppendTime ?? -1)
            return {
              _tag: "Stored",
              baseOffset: BigInt(one.baseOffset ?? -1),
              ...(logAppendTime < 0n ? {} : { logAppendTime })
            }
          })
        }
      },
      (error: unknown): Answer =>
        error instanceof SeveralLeaders ? { _tag: "split" } : { _tag: "failed", error, encoded: attempt.encoded }
    )
  )
  return { answer, encoded: () => attempt.encoded }
}
