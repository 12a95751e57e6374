/**
 * What a fetch response of the library holds, read as Kafka means it. Pure.
 */
import type { fetchV12, KafkaRecord, RecordsBatch } from "@platformatic/kafka"
import type { FetchedChunk, RecordView } from "../../KafkaClient.ts"
import type { Header, RecordHeaders } from "../../RecordHeaders.ts"
import type * as TopicPartition from "../../TopicPartition.ts"

export type FetchedPartition = fetchV12.FetchResponsePartition

/** What the records of one batch have in common. */
interface Batch {
  readonly firstOffset: bigint
  readonly firstTimestamp: bigint
  /** Set where the topic stamps records by the broker's clock: of all records of the batch. */
  readonly appendTime: bigint | undefined
}

const none: KafkaRecord["headers"] = []

/**
 * A record, and what it has from its batch. It does not hold the records beside it, nor the library's record, which is a
 * literal: where V8 once believes that those live for long, it lets them all be old from birth, and whatever they hold
 * gets old with them. One run in three cost nearly twice the CPU for that.
 */
export class FetchedRecord {
  readonly batch: Batch
  readonly offsetDelta: number
  readonly timestampDelta: bigint
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: KafkaRecord["headers"]
  constructor(batch: Batch, record: KafkaRecord) {
    this.batch = batch
    this.offsetDelta = record.offsetDelta
    this.timestampDelta = record.timestampDelta
    this.key = record.key
    this.value = record.value
    this.headers = record.headers.length === 0 ? none : record.headers
  }
}

/**
 * Reads the library's records, each part only when it is asked for.
 */
export const view: RecordView<FetchedRecord> = {
  offset: ({ batch, offsetDelta }) => batch.firstOffset + BigInt(offsetDelta),
  timestamp: ({ batch, timestampDelta }) => batch.appendTime ?? batch.firstTimestamp + timestampDelta,
  key: ({ key }) => key,
  value: ({ value }) => value,
  headers: (record) => headers(record)
}

const headers = (record: FetchedRecord): RecordHeaders =>
  record.headers.map(([name, value]): Header => [name === null ? "" : name.toString("utf8"), value])

// attributes of a batch
const appendTimeBit = 1 << 3
const transactionBit = 1 << 4
const controlBit = 1 << 5

/**
 * The records of a partition from `position` on, as far as the reader may see them; `undefined` if the response says
 * nothing new.
 */
export const chunk = (
  topicPartition: TopicPartition.TopicPartition,
  position: bigint,
  data: FetchedPartition,
  committedOnly: boolean
): FetchedChunk<FetchedRecord> | undefined => {
  const batches = data.records ?? []
  const aborted = new Aborted(committedOnly ? data.abortedTransactions ?? [] : [])
  const records: Array<FetchedRecord> = []
  let bytes = 0
  let nextOffset = position
  for (const batch of batches) {
    const end = endOf(batch)
    if (end > nextOffset) nextOffset = end
    // from the very beginning, since a marker before the position ends a transaction too
    if (!aborted.shows(batch)) continue
    // a response begins at the start of a batch, which may be before the position
    if (end > position) bytes += append(records, batch, position)
  }
  if (nextOffset === position) return undefined
  return {
    _tag: "Chunk",
    topicPartition,
    records,
    view,
    bytes,
    nextOffset,
    highWatermark: logEnd(data, committedOnly)
  }
}

/**
 * The end of the log as this reader may see it.
 */
export const logEnd = (data: FetchedPartition, committedOnly: boolean): bigint =>
  committedOnly && data.lastStableOffset >= 0n ? data.lastStableOffset : data.highWatermark

/** Where a batch ends, which after compaction is not always with its last record. */
const endOf = (batch: RecordsBatch): bigint => batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n

/** Adds the records of a batch from `position` on. Answers how large they are. */
const append = (out: Array<FetchedRecord>, batch: RecordsBatch, position: bigint): number => {
  const { firstOffset, firstTimestamp, records } = batch
  const appendTime = (batch.attributes & appendTimeBit) === 0 ? undefined : batch.maxTimestamp
  const origin: Batch = { firstOffset, firstTimestamp, appendTime }
  const before = position > firstOffset ? Number(position - firstOffset) : 0
  let bytes = 0
  for (const record of records) {
    if (record.offsetDelta < before) continue
    if (record.key !== null) bytes += record.key.length
    if (record.value !== null) bytes += record.value.length
    for (const [name, value] of record.headers) bytes += (name?.length ?? 0) + (value?.length ?? 0)
    out.push(new FetchedRecord(origin, record))
  }
  return bytes
}

/** Tells what was written in transactions that were aborted, as the broker lists them. Batches are shown in order. */
class Aborted {
  private readonly upcoming: ReadonlyArray<{ readonly producerId: bigint; readonly firstOffset: bigint }>
  private readonly open = new Set<bigint>()
  private next = 0

  constructor(aborted: ReadonlyArray<{ readonly producerId: bigint; readonly firstOffset: bigint }>) {
    this.upcoming = aborted.length < 2
      ? aborted
      : [...aborted].sort((a, b) => a.firstOffset < b.firstOffset ? -1 : a.firstOffset > b.firstOffset ? 1 : 0)
  }

  /** Whether a reader sees the records of this batch. */
  shows(batch: RecordsBatch): boolean {
    const control = (batch.attributes & controlBit) !== 0
    if (this.upcoming.length === 0) return !control
    const end = endOf(batch)
    while (this.next < this.upcoming.length && this.upcoming[this.next]!.firstOffset < end) {
      this.open.add(this.upcoming[this.next++]!.producerId)
    }
    if (control) {
      if (isAbortMarker(batch)) this.open.delete(batch.producerId)
      return false
    }
    return (batch.attributes & transactionBit) === 0 || !this.open.has(batch.producerId)
  }
}

/** A control record's key is its version and its type, two bytes each; type 0 is an abort. */
const isAbortMarker = ({ records }: RecordsBatch): boolean => {
  const key = records[0]?.key
  return key !== undefined && key !== null && key.length >= 4 && key.readInt16BE(2) === 0
}
