/**
 * What a fetch response of kafkajs holds, read as Kafka means it. Pure.
 *
 * kafkajs's own `Batch` is not used: it delivers records of aborted transactions where two of them overlap or where a
 * record's key is four zero bytes, and it can't tell where a compacted record batch ends.
 */
import type { FetchedChunk, RecordView } from "../../KafkaClient.ts"
import type { Header, RecordHeaders } from "../../RecordHeaders.ts"
import type * as TopicPartition from "../../TopicPartition.ts"
import type { FetchedPartition, RawRecord } from "./internals.ts"

/**
 * Reads kafkajs's records, each part only when it is asked for.
 */
export const view: RecordView<RawRecord> = {
  offset: (raw) => BigInt(raw.offset),
  timestamp: (raw) => BigInt(raw.timestamp ?? -1),
  key: (raw) => raw.key,
  value: (raw) => raw.value,
  headers: (raw) => headers(raw)
}

const headers = (raw: RawRecord): RecordHeaders => {
  const out: Array<Header> = []
  for (const name in raw.headers) {
    const value = raw.headers[name]
    if (!Array.isArray(value)) out.push([name, singleHeader(value)])
    // under a name that every object has, such as "constructor", kafkajs puts that first
    else for (const one of value) if (one === null || Buffer.isBuffer(one)) out.push([name, one])
  }
  return out
}

const singleHeader = (value: Buffer | null | ReadonlyArray<Buffer | null> | undefined): Buffer | null =>
  Buffer.isBuffer(value) ? value : null

/**
 * The records of a partition from `position` on, as far as the reader may see them; `undefined` if the response says
 * nothing new.
 */
export const chunk = (
  topicPartition: TopicPartition.TopicPartition,
  position: bigint,
  data: FetchedPartition,
  committedOnly: boolean
): FetchedChunk<RawRecord> | undefined => {
  const { messages } = data
  if (messages.length === 0) return undefined
  const nextOffset = endOf(messages[messages.length - 1]!)
  if (nextOffset <= position) return undefined
  const { bytes, records } = visible(messages, position, committedOnly ? data.abortedTransactions ?? [] : [])
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
  BigInt(committedOnly && data.lastStableOffset !== undefined ? data.lastStableOffset : data.highWatermark)

/** Where the record batch of a record ends, which after compaction is not always with its last record. */
const endOf = (last: RawRecord): bigint => {
  const batch = last.batchContext
  const own = BigInt(last.offset) + 1n
  if (batch === undefined) return own
  const end = BigInt(batch.firstOffset) + BigInt(batch.lastOffsetDelta) + 1n
  return end > own ? end : own
}

interface Visible {
  readonly records: ReadonlyArray<RawRecord>
  readonly bytes: number
}

/** In one pass over the records, unless some are left out: there are many, and to look at each is what it costs. */
const visible = (
  messages: ReadonlyArray<RawRecord>,
  position: bigint,
  aborted: ReadonlyArray<{ readonly producerId: string; readonly firstOffset: string }>
): Visible => {
  // a response begins at the start of a record batch, which may be before the position
  let first = 0
  while (first < messages.length && BigInt(messages[first]!.offset) < position) first++
  if (aborted.length > 0) return measured(committed(messages, first, aborted))
  let bytes = 0
  for (let i = first; i < messages.length; i++) {
    const message = messages[i]!
    if (message.isControlRecord === true) {
      return measured(messages.slice(first).filter((one) => one.isControlRecord !== true))
    }
    bytes += bytesOf(message)
  }
  return { records: first === 0 ? messages : messages.slice(first), bytes }
}

const measured = (records: ReadonlyArray<RawRecord>): Visible => {
  let bytes = 0
  for (const record of records) bytes += bytesOf(record)
  return { records, bytes }
}

/** Leaves out what was written in transactions that were aborted, as the broker lists them. */
const committed = (
  messages: ReadonlyArray<RawRecord>,
  first: number,
  aborted: ReadonlyArray<{ readonly producerId: string; readonly firstOffset: string }>
): ReadonlyArray<RawRecord> => {
  const upcoming = aborted
    .map(({ firstOffset, producerId }) => ({ producerId, from: BigInt(firstOffset) }))
    .sort((a, b) => a.from < b.from ? -1 : a.from > b.from ? 1 : 0)
  const open = new Set<string>()
  const out: Array<RawRecord> = []
  let next = 0
  // from the very beginning, since a marker before the position ends a transaction too
  for (let i = 0; i < messages.length; i++) {
    const message = messages[i]!
    const offset = BigInt(message.offset)
    while (next < upcoming.length && upcoming[next]!.from <= offset) open.add(upcoming[next++]!.producerId)
    const batch = message.batchContext
    if (message.isControlRecord === true) {
      if (batch !== undefined && isAbortMarker(message)) open.delete(batch.producerId)
      continue
    }
    if (i < first) continue
    if (batch !== undefined && batch.inTransaction && open.has(batch.producerId)) continue
    out.push(message)
  }
  return out
}

/** A control record's key is its version and its type, two bytes each; type 0 is an abort. */
const isAbortMarker = ({ key }: RawRecord): boolean => key !== null && key.length >= 4 && key.readInt16BE(2) === 0

const bytesOf = ({ headers, key, value }: RawRecord): number => {
  let bytes = 0
  if (key !== null) bytes += key.length
  if (value !== null) bytes += value.length
  for (const name in headers) bytes += name.length + headerBytes(headers[name])
  return bytes
}

const headerBytes = (value: Buffer | null | ReadonlyArray<Buffer | null> | undefined): number => {
  if (value === null || value === undefined) return 0
  if (Buffer.isBuffer(value)) return value.length
  let bytes = 0
  for (const one of value) if (Buffer.isBuffer(one)) bytes += one.length
  return bytes
}
