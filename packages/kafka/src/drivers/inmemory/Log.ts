/**
 * The log of one partition: append, read, look up, forget. Knows nothing of time, brokers or Effect.
 */
import type { RawProducerRecord, RecordView } from "../../KafkaClient.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import { Sequences } from "./Sequences.ts"

/** `"commit"` and `"abort"` are the markers that end a transaction. */
export type Kind = "data" | "commit" | "abort"

/** What the records of one append have in common. */
interface Batch {
  readonly kind: Kind
  /** The producer of an idempotent or transactional batch, -1 otherwise. */
  readonly producerId: number
  /** The bytes of all its keys and values, one after the other. */
  readonly bytes: Uint8Array
  /** Set when its transaction is aborted. */
  aborted: boolean
}

/**
 * A record as the log keeps it, and as a reader gets it. Its key and value are views into its batch's bytes, made when
 * they are asked for: a million records are a million small objects, and not three million.
 */
export class StoredRecord {
  readonly batch: Batch
  readonly offset: bigint
  readonly timestamp: bigint
  readonly headers: RecordHeaders
  /** Where its key begins; its value follows. */
  readonly start: number
  /** -1 for null. */
  readonly keyLength: number
  /** -1 for null. */
  readonly valueLength: number
  readonly size: number
  /** The size of this record and of all before it in its log. */
  end: number
  /** The youngest timestamp up to here. */
  latest: bigint

  constructor(
    batch: Batch,
    offset: bigint,
    timestamp: bigint,
    headers: RecordHeaders,
    start: number,
    keyLength: number,
    valueLength: number,
    size: number
  ) {
    this.batch = batch
    this.offset = offset
    this.timestamp = timestamp
    this.headers = headers
    this.start = start
    this.keyLength = keyLength
    this.valueLength = valueLength
    this.size = size
    this.end = size
    this.latest = timestamp
  }

  get key(): Uint8Array | null {
    return this.keyLength < 0 ? null : part(this.batch.bytes, this.start, this.keyLength)
  }

  get value(): Uint8Array | null {
    return this.valueLength < 0
      ? null
      : part(this.batch.bytes, this.start + Math.max(this.keyLength, 0), this.valueLength)
  }
}

const part = (bytes: Uint8Array, start: number, length: number): Uint8Array =>
  new Uint8Array(bytes.buffer, bytes.byteOffset + start, length)

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
const noBytes = new Uint8Array(0)

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

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1")

const lengthOf = (bytes: Uint8Array | null): number => bytes === null ? -1 : bytes.length

const copyHeaders = (headers: RecordHeaders): RecordHeaders =>
  headers.length === 0
    ? noHeaders
    : headers.map(([name, value]) => [name, value === null ? null : new Uint8Array(value)] as const)

interface OpenTransaction {
  readonly first: bigint
  readonly batches: Array<Batch>
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
    return offset < this.start ? this.start : offset
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
    let length = 0
    for (const { key, value } of records) length += (key?.length ?? 0) + (value?.length ?? 0)
    // what a sender does to its own bytes later must not change the log
    const bytes = Buffer.allocUnsafe(length)
    const batch: Batch = { kind: "data", producerId: by.producerId, bytes, aborted: false }
    if (by.transactional) this.transactionOf(by.producerId).batches.push(batch)
    let start = 0
    for (let i = 0; i < records.length; i++) {
      const record = records[i]!
      const { key, value } = record
      if (key !== null) bytes.set(key, start)
      if (value !== null) bytes.set(value, start + (key?.length ?? 0))
      this.push(
        new StoredRecord(
          batch,
          base + BigInt(i),
          appendTime ?? record.timestamp,
          copyHeaders(record.headers),
          start,
          lengthOf(key),
          lengthOf(value),
          sizeOf(record)
        )
      )
      start += (key?.length ?? 0) + (value?.length ?? 0)
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
      open = { first: this.end, batches: [] }
      this.open.set(producerId, open)
    }
    return open
  }

  /** Ends a producer's transaction in this partition. */
  appendMarker(producerId: number, kind: "commit" | "abort", timestamp: bigint): void {
    const open = this.open.get(producerId)
    if (kind === "abort" && open !== undefined) { for (const batch of open.batches) batch.aborted = true }
    this.open.delete(producerId)
    this.hasHidden = true
    const batch: Batch = { kind, producerId, bytes: noBytes, aborted: false }
    const size = recordOverhead + batchOverhead
    this.push(new StoredRecord(batch, this.end, timestamp, noHeaders, 0, -1, -1, size))
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
      record.batch.kind === "data" && !(record.batch.aborted && isolation === "read_committed")
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
    const live = this.all()
    const newest = new Map<string, StoredRecord>()
    for (const record of live) {
      const { batch, key, offset } = record
      if (batch.kind === "data" && !batch.aborted && offset < stable && key !== null) newest.set(latin1(key), record)
    }
    const kept = live.filter((record) => {
      const { batch, key, offset, valueLength } = record
      if (record === last || offset >= stable || batch.kind !== "data") return true
      if (batch.aborted || key === null) return false
      return newest.get(latin1(key)) === record && !(dropTombstones && valueLength < 0)
    })
    if (kept.length < live.length) this.replace(kept)
    return live.length - kept.length
  }
}
