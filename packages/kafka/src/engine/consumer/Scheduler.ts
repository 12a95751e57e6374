/**
 * Which record may be handled next, and how far each partition is done: the pure core of `forEach`.
 *
 * Records that must keep their order form a chain; only the first of a chain may be handled. With `"partition"` a
 * partition is one chain, with `"key"` each key of a partition is one, with `"unordered"` every record is its own.
 * What may be committed of a partition is its contiguous low watermark: everything up to the first record that is not
 * done.
 *
 * A record may have to wait for its time: because it is not due yet, or because it was postponed to be tried again. It
 * holds up its own chain, takes no worker, and is not in hand.
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
  running: boolean
  /** The next of its chain. */
  next: Task<Record> | undefined
  /** When it may be handled, in milliseconds; 0 where it need not wait. */
  due: number
  /** How many records it was handled together with when it was postponed, itself included. */
  together: number | undefined
}

/** One assignment's records: handed to the scheduler, and not all done. */
export class PartitionWork<Record> {
  readonly partition: PartitionBuffer
  /** The last task of each chain that has one. */
  readonly chains = new Map<unknown, Task<Record>>()
  waiting = 0
  running = 0
  /** How many of those that wait are in chains whose first was postponed. */
  stuck = 0
  /** The last record of the contiguous run that is done. */
  lastDone: Task<Record> | undefined = undefined
  /** Records from this place on are not begun any more: those before it are, so that the watermark catches up. */
  cutoff = Infinity
  /** How long those that were passed over are waited for once it is withdrawn, in milliseconds since 1970. */
  private patience = Infinity
  /** The chains whose first was postponed, with their lengths. */
  private readonly stuckChains = new Map<unknown, number>()
  private count = 0
  private entries: Array<Task<Record>> = []
  private head = 0

  constructor(partition: PartitionBuffer) {
    this.partition = partition
  }

  add(record: Record, chain: unknown): Task<Record> {
    const stuck = this.stuckChains.get(chain)
    if (stuck !== undefined) {
      this.stuckChains.set(chain, stuck + 1)
      this.stuck++
    }
    const task: Task<Record> = {
      record,
      work: this,
      chain,
      place: this.count++,
      done: false,
      running: false,
      next: undefined,
      due: 0,
      together: undefined
    }
    this.entries.push(task)
    this.waiting++
    return task
  }

  begin(task: Task<Record>): void {
    task.running = true
    this.waiting--
    this.running++
  }

  /** A chain waits for its first, which was postponed. */
  stick(first: Task<Record>): void {
    if (first.chain === undefined) return
    let length = 0
    for (let task: Task<Record> | undefined = first; task !== undefined; task = task.next) length++
    this.stuckChains.set(first.chain, length)
    this.stuck += length
  }

  /** A chain goes on. */
  unstick(chain: unknown): void {
    const length = this.stuckChains.get(chain)
    if (length === undefined) return
    this.stuckChains.delete(chain)
    this.stuck -= length
  }

  /** It is not done, and waits again. */
  giveBack(task: Task<Record>): void {
    task.running = false
    this.waiting++
    this.running--
  }

  /**
   * Nothing new is begun. What was passed over by others still is: left out, those others would be handled again. What
   * has to wait longer than `until`, in milliseconds, is left out all the same, and what is behind it.
   */
  withdraw(until = this.patience): void {
    this.patience = Math.min(this.patience, until)
    let last = this.entries.length - 1
    while (last >= this.head && !this.entries[last]!.done && !this.entries[last]!.running) last--
    const furthest = last >= this.head ? this.entries[last]!.place : (this.entries[this.head]?.place ?? this.count) - 1
    this.cutoff = Math.min(this.cutoff, furthest + 1)
    for (let index = this.head; index < this.entries.length && this.entries[index]!.place < this.cutoff; index++) {
      if (this.entries[index]!.due > this.patience) this.cutoff = this.entries[index]!.place
    }
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
  /** Most records of a partition that wait to be handled. Those that wait for a postponed one don't count. */
  readonly waiting: number
  /** Most records of a partition between its watermark and its newest. */
  readonly ahead: number
}

/** When records may be handled. Times are in milliseconds. */
export interface Timing<Record> {
  readonly now: () => number
  /** The earliest time for a record; asked when nothing of its chain is before it any more. */
  readonly notBefore: (record: Record) => number
}

/** No record has to wait for its time. */
const anyTime: Timing<unknown> = { now: () => 0, notBefore: () => 0 }

export class Scheduler<Record extends ConsumerRecord.Any> {
  readonly works = new Map<PartitionBuffer, PartitionWork<Record>>()
  private readonly ordering: Ordering
  private readonly limits: Limits
  private readonly timing: Timing<Record>
  private runnable: Array<Task<Record>> = []
  private head = 0
  /** Those that wait for their time, the latest first. */
  private delayed: Array<Task<Record>> = []

  constructor(ordering: Ordering, limits: Limits, timing: Timing<Record> = anyTime) {
    this.ordering = ordering
    this.limits = limits
    this.timing = timing
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
        this.lead(task)
        continue
      }
      const tail = work.chains.get(chain)
      work.chains.set(chain, task)
      if (tail === undefined) this.lead(task)
      else tail.next = task
    }
  }

  /** Nothing of its chain is before it any more: it may be handled, once its time has come. */
  private lead(task: Task<Record>): void {
    const due = this.timing.notBefore(task.record)
    if (due > this.timing.now()) this.delay(task, due)
    else this.runnable.push(task)
  }

  private delay(task: Task<Record>, due: number): void {
    task.due = due
    // mostly it is the latest of all, or one of the few latest
    let index = 0
    while (index < this.delayed.length && this.delayed[index]!.due > due) index++
    if (index === 0) this.delayed.unshift(task)
    else this.delayed.splice(index, 0, task)
  }

  /** When the next record that waits for its time may be handled; `Infinity` where none does. */
  get dueAt(): number {
    return this.delayed.at(-1)?.due ?? Infinity
  }

  /** Lets those whose time has come be handled. */
  release(): void {
    const now = this.timing.now()
    for (let task = this.delayed.at(-1); task !== undefined && task.due <= now; task = this.delayed.at(-1)) {
      this.delayed.pop()
      task.work.unstick(task.chain)
      this.runnable.push(task)
    }
  }

  /**
   * Records that were begun together come again later, together. They count as never begun: where nothing behind them
   * is done, they hold up no one who wants the partition back.
   */
  postpone(tasks: ReadonlyArray<Task<Record>>, due: number): void {
    const first = tasks[0]!
    const { work } = first
    for (const task of tasks) work.giveBack(task)
    first.together = tasks.length
    work.stick(first)
    this.delay(first, due)
    if (work.withdrawn) work.withdraw()
  }

  /** Begins those behind a record of a chain too, as far as they may be, to be handled with it. */
  following(first: Task<Record>, most: number): Array<Task<Record>> {
    const tasks = [first]
    const now = this.timing.now()
    const count = first.together ?? most
    for (let task = first.next; task !== undefined && tasks.length < count; task = task.next) {
      if (!task.work.mayBegin(task) || this.timing.notBefore(task.record) > now) break
      task.work.begin(task)
      tasks.push(task)
    }
    return tasks
  }

  /** Records that were begun together are done. Whether the watermark of their partition has moved. */
  finishAll(tasks: ReadonlyArray<Task<Record>>): boolean {
    const last = tasks.length - 1
    let moved = false
    for (const [index, task] of tasks.entries()) {
      if (index < last) task.next = undefined
      if (this.finish(task)) moved = true
    }
    return moved
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
    task.running = false
    work.running--
    if (chain !== undefined) {
      if (next !== undefined) this.lead(next)
      else if (work.chains.get(chain) === task) work.chains.delete(chain)
      task.next = undefined
    }
    return work.advance()
  }

  /** Whether no more of a partition should be added for now. */
  isSaturated(work: PartitionWork<Record>): boolean {
    return work.waiting - work.stuck >= this.limits.waiting || work.ahead >= this.limits.ahead
  }

  /** Whether there is room again: lower than where it was said to be saturated, so that it does not flutter. */
  hasRoom(work: PartitionWork<Record>): boolean {
    return (work.waiting - work.stuck) * 2 <= this.limits.waiting && work.ahead < this.limits.ahead
  }

  /** Begins nothing new of a partition: see {@link PartitionWork.withdraw}. */
  withdraw(partition: PartitionBuffer, until?: number): void {
    this.works.get(partition)?.withdraw(until)
  }

  /** Begins nothing new. */
  withdrawAll(until?: number): void {
    for (const work of this.works.values()) work.withdraw(until)
  }

  /** The partition has ended for good. */
  remove(partition: PartitionBuffer): void {
    const work = this.works.get(partition)
    if (work === undefined) return
    this.works.delete(partition)
    if (this.delayed.length > 0) this.delayed = this.delayed.filter((task) => task.work !== work)
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
