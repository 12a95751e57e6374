/**
 * The log of one partition: append, read, look up, forget. Knows nothing of time, brokers or Effect.
 */
import type { RawProducerRecord, RecordView } from "../../KafkaClient.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import { Sequences } from "./Sequences.ts"

/** `"commit"` and `"abort"` are the markers that end a transaction. */
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
  /** The size of this record. */
  readonly size: number
  /** The size of this record and of all before it in its log. */
  end: number
  /** The youngest timestamp up to here. */
  latest: bigint
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
    size: number
  ) {
    this.offset = offset
    this.timestamp = timestamp
    this.key = key
    this.value = value
    this.headers = headers
    this.kind = kind
    this.producerId = producerId
    this.size = size
    this.end = size
    this.latest = timestamp
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

/** What a record costs besides its content: its lengths, its distances in offset and time from the batch's first. */
const recordOverhead = 10

/** What a batch costs besides its records. */
export const batchOverhead = 61

const encoder = new TextEncoder()

export const sizeOf = (record: RawProducerRecord): number => {
  let size = recordOverhead + (record.key?.length ?? 0) + (record.value?.length ?? 0)
  for (const [name, value] of record.headers) size += 2 + encoder.encode(name).length + (value?.length ?? 0)
  return size
}

// what a sender does to its bytes later must not change the log
const copy = (bytes: Uint8Array | null): Uint8Array | null => bytes === null ? null : new Uint8Array(bytes)

interface OpenTransaction {
  readonly first: bigint
  readonly records: Array<StoredRecord>
}

export class Log {
  /** In order of offset; those before `head` are deleted. */
  private records: Array<StoredRecord> = []
  private head = 0
  private start = 0n
  private end = 0n
  /** Whether there is anything that not every reader is given. */
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

  /** The first offset whose transaction has not ended, or the end. */
  get lastStableOffset(): bigint {
    let offset = this.end
    for (const { first } of this.open.values()) if (first < offset) offset = first
    return offset
  }

  /** The end as a reader may see it. */
  visibleEnd(isolation: Isolation): bigint {
    return isolation === "read_committed" ? this.lastStableOffset : this.end
  }

  /** Everything in the log, markers included, oldest first. */
  all(): ReadonlyArray<StoredRecord> {
    return this.records.slice(this.head)
  }

  get bytes(): number {
    return this.endOfRecord(this.records.length - 1) - this.endOfRecord(this.head - 1)
  }

  private endOfRecord(index: number): number {
    return index < 0 ? 0 : this.records[index]!.end
  }

  /** Calls back on every change of what can be read, until the returned function is called. */
  listen(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }

  notify(): void {
    if (this.listeners.size > 0) { for (const listener of [...this.listeners]) listener() }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // writing
  // -------------------------------------------------------------------------------------------------------------------

  /** Answers the offset of the first one. */
  append(
    records: ReadonlyArray<RawProducerRecord>,
    appendTime: bigint | undefined,
    by: Appender = nobody
  ): bigint {
    const base = this.end
    const open = by.transactional ? this.transactionOf(by.producerId) : undefined
    for (let i = 0; i < records.length; i++) {
      const record = records[i]!
      const stored = new StoredRecord(
        base + BigInt(i),
        appendTime ?? record.timestamp,
        copy(record.key),
        copy(record.value),
        record.headers.length === 0 ? noHeaders : record.headers.map(([name, value]) => [name, copy(value)] as const),
        "data",
        by.producerId,
        sizeOf(record)
      )
      this.push(stored)
      open?.records.push(stored)
    }
    this.end = base + BigInt(records.length)
    this.notify()
    return base
  }

  private push(record: StoredRecord): void {
    const previous = this.records[this.records.length - 1]
    if (previous !== undefined) {
      record.end = previous.end + record.size
      record.latest = previous.latest > record.timestamp ? previous.latest : record.timestamp
    }
    this.records.push(record)
  }

  private transactionOf(producerId: number): OpenTransaction {
    let open = this.open.get(producerId)
    if (open === undefined) {
      open = { first: this.end, records: [] }
      this.open.set(producerId, open)
    }
    return open
  }

  /** Ends a producer's transaction in this partition. */
  appendMarker(producerId: number, kind: "commit" | "abort", timestamp: bigint): void {
    const open = this.open.get(producerId)
    if (kind === "abort" && open !== undefined) { for (const record of open.records) record.aborted = true }
    this.open.delete(producerId)
    this.hasHidden = true
    this.push(
      new StoredRecord(
        this.end,
        timestamp,
        null,
        null,
        noHeaders,
        kind,
        producerId,
        recordOverhead + batchOverhead
      )
    )
    this.end += 1n
    this.notify()
  }

  /** The next record gets this offset, as if all between had been compacted away. Whether that is ahead. */
  skipTo(offset: bigint): boolean {
    if (offset <= this.end) return false
    this.end = offset
    this.notify()
    return true
  }

  // -------------------------------------------------------------------------------------------------------------------
  // reading
  // -------------------------------------------------------------------------------------------------------------------

  /** The index of the first record that is not before an offset. */
  private indexOf(offset: bigint): number {
    const { head, records } = this
    const first = records[head]
    if (first === undefined || offset >= this.end) return records.length
    if (offset <= first.offset) return head
    // without gaps it is where it would be
    const guess = head + Number(offset - first.offset)
    if (guess < records.length && records[guess]!.offset === offset) return guess
    return this.search(head, Math.min(guess, records.length), (record) => record.offset >= offset)
  }

  /** The first index in `[low, high)` from which on something holds, or `high`. */
  private search(low: number, high: number, holds: (record: StoredRecord) => boolean): number {
    while (low < high) {
      const mid = (low + high) >>> 1
      if (holds(this.records[mid]!)) high = mid
      else low = mid + 1
    }
    return low
  }

  /** Up to `maxBytes` of records, at least one where there is one. */
  read(from: bigint, maxBytes: number, isolation: Isolation): Slice | "OutOfRange" {
    if (from < this.start || from > this.end) return "OutOfRange"
    const highWatermark = this.visibleEnd(isolation)
    if (from >= highWatermark) return { records: [], bytes: 0, nextOffset: from, highWatermark }
    const first = this.indexOf(from)
    const limit = this.indexOf(highWatermark)
    if (first === limit) return { records: [], bytes: 0, nextOffset: highWatermark, highWatermark }
    const before = this.endOfRecord(first - 1)
    const last = this.search(first + 1, limit, (record) => record.end - before > maxBytes) - 1
    const nextOffset = last === limit - 1 ? highWatermark : this.records[last]!.offset + 1n
    const bytes = this.endOfRecord(last) - before
    const all = this.records.slice(first, last + 1)
    if (!this.hasHidden) return { records: all, bytes, nextOffset, highWatermark }
    const records = all.filter((record) =>
      record.kind === "data" && !(record.aborted && isolation === "read_committed")
    )
    return {
      records,
      bytes: records.length === all.length ? bytes : records.reduce((sum, { size }) => sum + size, 0),
      nextOffset,
      highWatermark
    }
  }

  /** The offset of the first record not older than a time, if the reader may see one. */
  offsetFor(timestamp: bigint, isolation: Isolation): bigint | undefined {
    const limit = this.indexOf(this.visibleEnd(isolation))
    // what is deleted may have been younger than what is left, and then says nothing about it
    const before = this.head === 0 ? undefined : this.records[this.head - 1]!.latest
    const index = before === undefined || before < timestamp
      ? this.search(this.head, limit, (record) => record.latest >= timestamp)
      : this.records.findIndex((record, i) => i >= this.head && record.timestamp >= timestamp)
    return index >= 0 && index < limit ? this.records[index]!.offset : undefined
  }

  // -------------------------------------------------------------------------------------------------------------------
  // forgetting
  // -------------------------------------------------------------------------------------------------------------------

  /** Forgets everything below an offset. */
  deleteBefore(offset: bigint): void {
    if (offset <= this.start) return
    const start = offset < this.end ? offset : this.end
    this.head = this.indexOf(start)
    this.start = start
    if (this.head > 1024 && this.head * 2 > this.records.length) this.replace(this.records.slice(this.head))
    this.notify()
  }

  private replace(records: ReadonlyArray<StoredRecord>): void {
    this.records = []
    this.head = 0
    for (const record of records) {
      record.end = record.size
      record.latest = record.timestamp
      this.push(record)
    }
  }

  /** Forgets what is too old or too much. The last record stays, as Kafka never deletes its active segment. */
  retain(oldest: bigint | undefined, maxBytes: number | undefined): number {
    const limit = Math.min(this.indexOf(this.lastStableOffset), this.records.length - 1)
    let index = this.head
    const total = this.endOfRecord(this.records.length - 1)
    while (index < limit) {
      const record = this.records[index]!
      const tooOld = oldest !== undefined && record.timestamp < oldest
      const tooMuch = maxBytes !== undefined && total - this.endOfRecord(index - 1) > maxBytes
      if (!tooOld && !tooMuch) break
      index++
    }
    const deleted = index - this.head
    if (deleted > 0) this.deleteBefore(this.records[index]!.offset)
    return deleted
  }

  /**
   * Keeps the last record of each key, and drops what was aborted and, if asked, tombstones. Only what is certain is
   * touched, and the last record stays. Answers how many are gone; their offsets are gaps.
   */
  compact(dropTombstones: boolean): number {
    const stable = this.lastStableOffset
    const last = this.records[this.records.length - 1]
    const newest = new Map<string, StoredRecord>()
    const keyOf = (record: StoredRecord): string =>
      record.key === null ? "" : Buffer.from(record.key).toString("latin1")
    const live = this.all()
    for (const record of live) {
      if (record.kind === "data" && !record.aborted && record.offset < stable) newest.set(keyOf(record), record)
    }
    const kept = live.filter((record) => {
      if (record === last || record.offset >= stable || record.kind !== "data") return true
      if (record.aborted || record.key === null) return false
      return newest.get(keyOf(record)) === record && !(dropTombstones && record.value === null)
    })
    if (kept.length < live.length) this.replace(kept)
    return live.length - kept.length
  }
}
