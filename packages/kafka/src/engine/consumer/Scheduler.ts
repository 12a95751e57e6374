/**
 * Which record may be handled next, and how far each partition is done: the pure core of `forEach`.
 *
 * Records that must keep their order form a chain; only the first of a chain may be handled. With `"partition"` a
 * partition is one chain, with `"key"` each key of a partition is one, with `"unordered"` every record is its own.
 * What may be committed of a partition is its contiguous low watermark: everything up to the first record that is not
 * done.
 */
import type * as ConsumerRecord from "../../ConsumerRecord.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"

export type Ordering = "partition" | "key" | "unordered"

export interface Task<Record> {
  readonly record: Record
  readonly work: PartitionWork<Record>
  readonly chain: unknown
  /** Its place among the records of its assignment. */
  readonly place: number
  done: boolean
  /** The next of its chain. */
  next: Task<Record> | undefined
}

/** One assignment's records: handed to the scheduler, and not all done. */
export class PartitionWork<Record> {
  readonly partition: PartitionBuffer
  /** The last task of each chain that has one. */
  readonly chains = new Map<unknown, Task<Record>>()
  waiting = 0
  running = 0
  /** The last record of the contiguous run that is done. */
  lastDone: Task<Record> | undefined = undefined
  /** Records from this place on are not begun any more: those before it are, so that the watermark catches up. */
  cutoff = Infinity
  private count = 0
  private furthest = -1
  private entries: Array<Task<Record>> = []
  private head = 0

  constructor(partition: PartitionBuffer) {
    this.partition = partition
  }

  add(record: Record, chain: unknown): Task<Record> {
    const task: Task<Record> = { record, work: this, chain, place: this.count++, done: false, next: undefined }
    this.entries.push(task)
    this.waiting++
    return task
  }

  begin(task: Task<Record>): void {
    this.waiting--
    this.running++
    if (task.place > this.furthest) this.furthest = task.place
  }

  /** Nothing new is begun. What was passed over by others still is: left out, those others would be handled again. */
  withdraw(): void {
    this.cutoff = Math.min(this.cutoff, this.furthest + 1)
  }

  get withdrawn(): boolean {
    return this.cutoff !== Infinity
  }

  /** Whether something has to be done yet before it can be given away. */
  get inHand(): boolean {
    const first = this.entries[this.head]
    return this.running > 0 || (first !== undefined && this.mayBegin(first))
  }

  /** Nothing of an assignment that is over is begun: it could not be committed, and its next owner begins it too. */
  mayBegin(task: Task<Record>): boolean {
    return task.place < this.cutoff && this.partition.status !== "ended"
  }

  /** How many records lie between the watermark and the newest. */
  get ahead(): number {
    return this.entries.length - this.head
  }

  /** Moves the watermark over what is done; whether it moved. */
  advance(): boolean {
    const before = this.head
    while (this.head < this.entries.length && this.entries[this.head]!.done) this.lastDone = this.entries[this.head++]
    if (this.head === before) return false
    if (this.head === this.entries.length) {
      this.entries = []
      this.head = 0
    } else if (this.head >= 1024 && this.head * 2 >= this.entries.length) {
      this.entries = this.entries.slice(this.head)
      this.head = 0
    }
    return true
  }
}

export interface Limits {
  /** Most records of a partition that wait to be handled. */
  readonly waiting: number
  /** Most records of a partition between its watermark and its newest. */
  readonly ahead: number
}

export class Scheduler<Record extends ConsumerRecord.Any> {
  readonly works = new Map<PartitionBuffer, PartitionWork<Record>>()
  private readonly ordering: Ordering
  private readonly limits: Limits
  private runnable: Array<Task<Record>> = []
  private head = 0

  constructor(ordering: Ordering, limits: Limits) {
    this.ordering = ordering
    this.limits = limits
  }

  /** Takes up records of one partition, in order. */
  add(partition: PartitionBuffer, records: ReadonlyArray<Record>): void {
    let work = this.works.get(partition)
    if (work === undefined) {
      work = new PartitionWork<Record>(partition)
      this.works.set(partition, work)
    }
    for (const record of records) {
      const chain = this.chainOf(record)
      const task = work.add(record, chain)
      if (chain === undefined) {
        this.runnable.push(task)
        continue
      }
      const tail = work.chains.get(chain)
      work.chains.set(chain, task)
      if (tail === undefined) this.runnable.push(task)
      else tail.next = task
    }
  }

  /** How many records could be handled now. */
  get available(): number {
    return this.runnable.length - this.head
  }

  /** The next record to handle: it counts as running until it is `finish`ed. */
  next(): Task<Record> | undefined {
    while (this.head < this.runnable.length) {
      const task = this.runnable[this.head++]!
      if (this.head === this.runnable.length) {
        this.runnable = []
        this.head = 0
      } else if (this.head >= 1024 && this.head * 2 >= this.runnable.length) {
        this.runnable = this.runnable.slice(this.head)
        this.head = 0
      }
      if (!task.work.mayBegin(task)) continue
      task.work.begin(task)
      return task
    }
    return undefined
  }

  /** A record is done. Whether the watermark of its partition has moved. */
  finish(task: Task<Record>): boolean {
    const { chain, next, work } = task
    task.done = true
    work.running--
    if (chain !== undefined) {
      if (next !== undefined) this.runnable.push(next)
      else if (work.chains.get(chain) === task) work.chains.delete(chain)
      task.next = undefined
    }
    return work.advance()
  }

  /** Whether no more of a partition should be added for now. */
  isSaturated(work: PartitionWork<Record>): boolean {
    return work.waiting >= this.limits.waiting || work.ahead >= this.limits.ahead
  }

  /** Whether there is room again: lower than where it was said to be saturated, so that it does not flutter. */
  hasRoom(work: PartitionWork<Record>): boolean {
    return work.waiting * 2 <= this.limits.waiting && work.ahead < this.limits.ahead
  }

  /** Begins nothing new of a partition: see {@link PartitionWork.withdraw}. */
  withdraw(partition: PartitionBuffer): void {
    this.works.get(partition)?.withdraw()
  }

  /** Begins nothing new. */
  withdrawAll(): void {
    for (const work of this.works.values()) work.withdraw()
  }

  /** The partition has ended for good. */
  remove(partition: PartitionBuffer): void {
    this.works.delete(partition)
  }

  /** What of a partition may be committed. */
  watermark(partition: PartitionBuffer): bigint | undefined {
    return this.works.get(partition)?.lastDone?.record.nextOffset
  }

  /** Whether something runs, or has to. */
  get inHand(): boolean {
    for (const work of this.works.values()) if (work.inHand) return true
    return false
  }

  private chainOf(record: Record): unknown {
    if (this.ordering === "unordered") return undefined
    if (this.ordering === "partition") return "partition"
    const { key } = record
    // Kafka spreads records without a key: they have no order among themselves to keep
    if (key === null || key === undefined) return undefined
    if (typeof key !== "object" && typeof key !== "function") return key
    const { rawKey } = record
    return rawKey === null ? undefined : Buffer.from(rawKey).toString("latin1")
  }
}
