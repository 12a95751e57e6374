/**
 * Commits on their way: what is to be sent next, what is under way, and who waits for it. One request is under way at
 * a time; everything asked for meanwhile is merged into the next. Pure steps; the run loop does the sending.
 */
import type { CommitError } from "../../KafkaError.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"

export type Offsets = Map<PartitionBuffer, bigint>

/** Told once what became of a commit, and which of the assignments in the request had ended before it was sent. */
export type Settle = (failure: CommitError | undefined, stale: ReadonlySet<PartitionBuffer>) => void

export interface Batch {
  readonly offsets: Offsets
  readonly waiting: Array<Settle>
  /** Commits of `commitWithin` have nobody waiting: their failure is their streams'. */
  deferred: boolean
  readonly stale: Set<PartitionBuffer>
}

const emptyBatch = (): Batch => ({ offsets: new Map(), waiting: [], deferred: false, stale: new Set() })

const raise = (offsets: Offsets, partition: PartitionBuffer, offset: bigint): void => {
  const known = offsets.get(partition)
  if (known === undefined || known < offset) offsets.set(partition, offset)
}

/** Whether a commit of this assignment may still be sent. */
export const isCurrent = (partition: PartitionBuffer): boolean =>
  partition.status === "active" || partition.status === "revoking"

/** Offsets that may wait for company: those of one `commitWithin`, or the watermarks of one `forEach`. */
export class Deferred {
  /** How many records it speaks for. */
  count = 0
  /** Whether it is known of which topics it speaks. */
  claimed: boolean
  /** When it is sent at the latest, in milliseconds. */
  dueAt = Infinity
  private readonly offsets: Offsets = new Map()
  private readonly limit: number
  private readonly within: number
  private readonly collect: (() => Iterable<readonly [PartitionBuffer, bigint]>) | undefined

  /** `collect` is asked for offsets only when they are to be sent. */
  constructor(limit: number, within: number, collect?: () => Iterable<readonly [PartitionBuffer, bigint]>) {
    this.limit = limit
    this.within = within
    this.collect = collect
    this.claimed = collect !== undefined
  }

  add(partition: PartitionBuffer, offset: bigint): void {
    raise(this.offsets, partition, offset)
  }

  /** So many more records are done. Whether somebody should look at it. */
  touch(records: number, now: number): boolean {
    const first = this.count === 0
    if (first) this.dueAt = now + this.within
    this.count += records
    return first || this.count >= this.limit
  }

  isDue(now: number): boolean {
    return this.count >= this.limit || (this.count > 0 && now >= this.dueAt)
  }

  has(partition: PartitionBuffer): boolean {
    return this.offsets.has(partition)
  }

  /** Takes everything out. */
  drain(): Offsets {
    const offsets: Offsets = new Map(this.offsets)
    this.offsets.clear()
    if (this.count > 0 && this.collect !== undefined) {
      for (const [partition, offset] of this.collect()) {
        if (offset > (partition.committed ?? partition.start)) raise(offsets, partition, offset)
      }
    }
    this.count = 0
    this.dueAt = Infinity
    return offsets
  }
}

export class CommitBook {
  private next: Batch = emptyBatch()
  private sent: Batch | undefined = undefined
  readonly deferred = new Set<Deferred>()

  /** Topics of which something has been committed, or is set to be. */
  private readonly topics = new Set<string>()

  /** Whether what was handed out of a topic will be committed: only then is it worth waiting for that. */
  uses(topic: string): boolean {
    if (this.topics.has(topic)) return true
    // what nothing has flowed through yet may be of any topic
    for (const deferred of this.deferred) if (!deferred.claimed) return true
    return false
  }

  /** Adds an offset that may wait for company. */
  defer(deferred: Deferred, partition: PartitionBuffer, offset: bigint): void {
    this.topics.add(partition.topicPartition.topic)
    deferred.claimed = true
    deferred.add(partition, offset)
  }

  /** Adds a commit. Offsets of assignments that have ended must have been taken out. */
  add(offsets: Iterable<readonly [PartitionBuffer, bigint]>, settle: Settle): void {
    for (const [partition, offset] of offsets) {
      this.topics.add(partition.topicPartition.topic)
      raise(this.next.offsets, partition, offset)
    }
    this.next.waiting.push(settle)
  }

  /** Moves what was deferred into the next request: what is due, or everything. */
  release(now: number, all: boolean): void {
    for (const deferred of this.deferred) {
      if (deferred.count === 0 || !(all || deferred.isDue(now))) continue
      this.releaseOne(deferred)
    }
  }

  private releaseOne(deferred: Deferred): void {
    const offsets = deferred.drain()
    for (const [partition, offset] of offsets) raise(this.next.offsets, partition, offset)
    if (offsets.size > 0) this.next.deferred = true
  }

  /** When the next deferred offsets are due, in milliseconds. */
  get dueAt(): number {
    let due = Infinity
    for (const deferred of this.deferred) if (deferred.dueAt < due) due = deferred.dueAt
    return due
  }

  /** The next request, where there is one to send. Offsets whose assignment has ended meanwhile are not in it. */
  begin(): Batch | undefined {
    if (this.sent !== undefined || (this.next.offsets.size === 0 && this.next.waiting.length === 0)) return undefined
    const batch = this.next
    this.next = emptyBatch()
    this.sent = batch
    this.dropStale()
    for (const [partition, offset] of batch.offsets) {
      if (partition.committed !== undefined && partition.committed >= offset) batch.offsets.delete(partition)
    }
    return batch
  }

  /** Takes out of the request under way what belongs to assignments that have ended: before each try. */
  dropStale(): void {
    if (this.sent === undefined) return
    for (const partition of this.sent.offsets.keys()) {
      if (isCurrent(partition)) continue
      this.sent.stale.add(partition)
      this.sent.offsets.delete(partition)
    }
  }

  /** A seek makes what was committed before it say nothing about what comes. */
  forget(partition: PartitionBuffer): void {
    this.sent?.offsets.delete(partition)
    partition.committed = undefined
  }

  /** The request under way was confirmed. */
  confirm(): Batch | undefined {
    const batch = this.sent
    this.sent = undefined
    if (batch === undefined) return undefined
    for (const [partition, offset] of batch.offsets) {
      if (partition.committed === undefined || partition.committed < offset) partition.committed = offset
    }
    return batch
  }

  /** The request under way has failed for good. */
  reject(): Batch | undefined {
    const batch = this.sent
    this.sent = undefined
    return batch
  }

  /** What was deferred and could not be sent goes with the next request. */
  again(batch: Batch): void {
    for (const [partition, offset] of batch.offsets) {
      if (isCurrent(partition)) raise(this.next.offsets, partition, offset)
    }
    this.next.deferred = true
  }

  /** Everything that will never be sent, the request under way included. */
  abandon(): ReadonlyArray<Batch> {
    const batches = this.sent === undefined ? [this.next] : [this.sent, this.next]
    this.sent = undefined
    this.next = emptyBatch()
    for (const deferred of this.deferred) deferred.drain()
    return batches
  }

  /** Whether a commit of this assignment is waiting, deferred or under way. */
  has(partition: PartitionBuffer): boolean {
    if (this.next.offsets.has(partition) || this.sent?.offsets.has(partition) === true) return true
    for (const deferred of this.deferred) if (deferred.has(partition)) return true
    return false
  }

  get isIdle(): boolean {
    if (this.sent !== undefined || this.next.waiting.length > 0 || this.next.offsets.size > 0) return false
    for (const deferred of this.deferred) if (deferred.count > 0) return false
    return true
  }
}
