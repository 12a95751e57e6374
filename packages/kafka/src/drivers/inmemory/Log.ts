/**
 * The log of one partition: append, read, look up, forget. Knows nothing of time, brokers or Effect.
 */
import type { RawProducerRecord, RecordView } from "../../KafkaClient.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import { Sequences } from "./Sequences.ts"

/** What a record is to a reader. */
export type Kind = "data" | "commit" | "abort"

/** A record as the log keeps it, and as a reader gets it. */
export class StoredRecord {
  readonly offset: bigint
  readonly timestamp: bigint
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: RecordHeaders
  readonly kind: Kind
  /** The producer of an idempotent or transactional record, -1 otherwise. */
  readonly producerId: number
  /** The size of this record and of all before it in its log. */
  readonly end: number
  /** Set when its transaction is aborted. */
  aborted = false

  constructor(
    offset: bigint,
    timestamp: bigint,
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: RecordHeaders,
    kind: Kind,
    producerId: number,
    end: number
  ) {
    this.offset = offset
    this.timestamp = timestamp
    this.key = key
    this.value = value
    this.headers = headers
    this.kind = kind
    this.producerId = producerId
    this.end = end
  }
}

export const view: RecordView<StoredRecord> = {
  offset: (record) => record.offset,
  timestamp: (record) => record.timestamp,
  key: (record) => record.key,
  value: (record) => record.value,
  headers: (record) => record.headers
}

export type Isolation = "read_committed" | "read_uncommitted"

export interface Slice {
  readonly records: ReadonlyArray<StoredRecord>
  readonly bytes: number
  /** Past control records, aborted records and gaps. */
  readonly nextOffset: bigint
  /** The end as this reader may see it. */
  readonly highWatermark: bigint
}

/** Who appends, where it matters. */
export interface Appender {
  readonly producerId: number
  readonly transactional: boolean
}

const nobody: Appender = { producerId: -1, transactional: false }
const noHeaders: RecordHeaders = []

const copy = (bytes: Uint8Array | null): Uint8Array | null => bytes === null ? null : new Uint8Array(bytes)

/** Lengths, offset and timestamp deltas: what a record costs besides its content. */
const overhead = 10

/** What a batch costs besides its records. */
export const batchOverhead = 61

const encoder = new TextEncoder()

export const sizeOf = (record: RawProducerRecord): number => {
  let size = overhead + (record.key === null ? 0 : record.key.length) +
    (record.value === null ? 0 : record.value.length)
  for (const [name, value] of record.headers) {
    size += 2 + encoder.encode(name).length + (value === null ? 0 : value.length)
  }
  return size
}

interface OpenTransaction {
  readonly first: bigint
  readonly records: Array<StoredRecord>
}

export class Log {
  /** In order of offset; those before `head` are deleted. */
  private records: Array<StoredRecord> = []
  private head = 0
  private size = 0
  private start = 0n
  private end = 0n
  private hasHidden = false
  private readonly open = new Map<number, OpenTransaction>()
  private readonly listeners = new Set<() => void>()
  readonly sequences = new Sequences()

  /** The first offset that may be read. */
  get startOffset(): bigint {
    return this.start
  }
  /** The offset that the next record gets. */
  get endOffset(): bigint {
    return this.end
  }
  /** The first offset that may still be aborted, or the end. */
  get lastStableOffset(): bigint {
    let lso = this.end
    for (const { first } of this.open.values()) if (first < lso) lso = first
    return lso
  }
  visibleEnd(isolation: Isolation): bigint {
    return isolation === "read_committed" ? this.lastStableOffset : this.end
  }
  /** Everything in the log, markers included, oldest first. */
  all(): ReadonlyArray<StoredRecord> {
    return this.records.slice(this.head)
  }
  get bytes(): number {
    return this.size - (this.head === 0 ? 0 : this.records[this.head - 1]!.end)
  }

  /** Calls back on every change of what can be read, until the returned function is called. */
  listen(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }
  notify(): void {
    for (const listener of [...this.listeners]) listener()
  }

  /** Answers the offset of the first one. The bytes are copied: what the caller does to its own later is its own. */
  append(
    records: ReadonlyArray<RawProducerRecord>,
    appendTime: bigint | undefined,
    by: Appender = nobody
  ): bigint {
    const base = this.end
    const open = by.transactional ? this.transactionOf(by.producerId) : undefined
    for (let i = 0; i < records.length; i++) {
      const record = records[i]!
      this.size += sizeOf(record)
      const stored = new StoredRecord(
        base + BigInt(i),
        appendTime ?? record.timestamp,
        copy(record.key),
        copy(record.value),
        record.headers.length === 0 ? noHeaders : record.headers.map(([name, value]) => [name, copy(value)] as const),
        "data",
        by.producerId,
        this.size
      )
      this.records.push(stored)
      open?.records.push(stored)
    }
    this.end = base + BigInt(records.length)
    this.notify()
    return base
  }

  private transactionOf(producerId: number): OpenTransaction {
    let open = this.open.get(producerId)
    if (open === undefined) {
      open = { first: this.end, records: [] }
      this.open.set(producerId, open)
    }
    return open
  }

  /** Ends the transaction of a producer in this partition with a marker. */
  appendMarker(producerId: number, kind: "commit" | "abort", timestamp: bigint): void {
    const open = this.open.get(producerId)
    if (kind === "abort" && open !== undefined) { for (const record of open.records) record.aborted = true }
    this.open.delete(producerId)
    this.hasHidden = true
    this.size += overhead + batchOverhead
    this.records.push(new StoredRecord(this.end, timestamp, null, null, noHeaders, kind, producerId, this.size))
    this.end += 1n
    this.notify()
  }

  /** The index of the first record whose offset is not below. */
  private indexOf(offset: bigint): number {
    const { head, records } = this
    if (offset >= this.end) return records.length
    if (head < records.length) {
      // without gaps it is where it would be
      const guess = head + Number(offset - records[head]!.offset)
      if (guess >= head && guess < records.length && records[guess]!.offset === offset) return guess
    }
    let low = head
    let high = records.length
    while (low < high) {
      const mid = (low + high) >>> 1
      if (records[mid]!.offset < offset) low = mid + 1
      else high = mid
    }
    return low
  }

  /** Up to `maxBytes` of records, at least one where there is one. */
  read(from: bigint, maxBytes: number, isolation: Isolation): Slice | "OutOfRange" {
    if (from < this.start || from > this.end) return "OutOfRange"
    const highWatermark = this.visibleEnd(isolation)
    if (from >= highWatermark) return { records: [], bytes: 0, nextOffset: from, highWatermark }
    const { records } = this
    const first = this.indexOf(from)
    const limit = this.indexOf(highWatermark)
    if (first === limit) return { records: [], bytes: 0, nextOffset: highWatermark, highWatermark }
    const before = first === 0 ? 0 : records[first - 1]!.end
    // the first record that is too much
    let low = first + 1
    let high = limit
    while (low < high) {
      const mid = (low + high) >>> 1
      if (records[mid]!.end - before <= maxBytes) low = mid + 1
      else high = mid
    }
    const nextOffset = low === limit ? highWatermark : records[low - 1]!.offset + 1n
    const bytes = records[low - 1]!.end - before
    const slice = records.slice(first, low)
    if (!this.hasHidden) return { records: slice, bytes, nextOffset, highWatermark }
    const committed = isolation === "read_committed"
    return {
      records: slice.filter((record) => record.kind === "data" && !(committed && record.aborted)),
      bytes,
      nextOffset,
      highWatermark
    }
  }

  /** The first record not older than a time, if there is one that the reader may see. */
  offsetFor(timestamp: bigint, isolation: Isolation): bigint | undefined {
    const limit = this.indexOf(this.visibleEnd(isolation))
    for (let i = this.head; i < limit; i++) {
      const record = this.records[i]!
      if (record.kind === "data" && record.timestamp >= timestamp) return record.offset
    }
    return undefined
  }

  /** Forgets everything below an offset. */
  deleteBefore(offset: bigint): void {
    if (offset <= this.start) return
    this.start = offset < this.end ? offset : this.end
    this.head = this.indexOf(this.start)
    if (this.head > 1024 && this.head * 2 > this.records.length) {
      this.records = this.records.slice(this.head)
      this.head = 0
    }
    this.notify()
  }
}
