/**
 * Records as kafkajs encodes them.
 */
import type { Message } from "kafkajs"
import type { ProducerBatch, RawProducerRecord } from "../../KafkaClient.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"

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
 * Headers as kafkajs takes them, an object of values or arrays of values, would lose the order of names. It makes pairs
 * of such an array with the array's own `map`, so this one answers with the pairs it has.
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

/**
 * What kafkajs encodes. It makes a copy with the two deltas in it, which V8 does ten times as fast where the original
 * has room for them. And it subtracts times and sorts them, for which numbers are the faster by as much. A class for
 * the reason that engine/producer/metadata.ts gives.
 */
export class EncodedMessage {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Exclude<Message["headers"], undefined>
  readonly timestamp: number | string
  readonly offsetDelta = 0
  readonly timestampDelta = 0

  constructor({ headers, key, value }: RawProducerRecord, timestamp: number | string) {
    this.key = key === null ? null : asBuffer(key)
    this.value = value === null ? null : asBuffer(value)
    this.headers = headers.length === 0 ? noHeaders : { all: HeaderList.holding(headers) }
    this.timestamp = timestamp
  }
}

/**
 * The records of one partition. kafkajs writes the producer into a copy of it, and into one of its topic: where there is
 * no room for that, V8 makes a new hidden class for every request.
 */
export class EncodedPartition {
  readonly partition: number
  readonly firstSequence: number | undefined
  readonly messages: Array<EncodedMessage>
  readonly transactionalId = undefined
  readonly producerId = undefined
  readonly producerEpoch = undefined

  constructor({ partition, records }: ProducerBatch, firstSequence: number | undefined) {
    this.partition = partition
    this.firstSequence = firstSequence
    this.messages = messages(records)
  }
}

export class EncodedTopic {
  readonly topic: string
  readonly partitions: Array<EncodedPartition> = []
  readonly transactionalId = undefined
  readonly producerId = undefined
  readonly producerEpoch = undefined

  constructor(topic: string) {
    this.topic = topic
  }
}

const messages = (records: ReadonlyArray<RawProducerRecord>): Array<EncodedMessage> => {
  // most were stamped in the same moment
  let last: bigint | undefined
  let stamp: number | string = 0
  return records.map((record) => {
    const { timestamp } = record
    if (timestamp !== last) {
      last = timestamp
      stamp = isExact(timestamp) ? Number(timestamp) : String(timestamp)
    }
    return new EncodedMessage(record, stamp)
  })
}

/** As a number; kafkajs takes a zero for no time at all. */
const isExact = (timestamp: bigint): boolean => timestamp > 0n && timestamp <= Number.MAX_SAFE_INTEGER
