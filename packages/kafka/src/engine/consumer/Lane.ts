/**
 * Where records leave the engine: the partitions that one reader takes its records from, in turn. A merged stream has
 * one lane for all its partitions, a partitioned stream one for each.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { PartitionBuffer, Slice } from "./PartitionBuffer.ts"

/** Why a lane gives no more records: `None` for its regular end. */
export type Over<E> = Option.Option<E>

export interface Hooks {
  readonly now: () => number
  /** Whether nothing may be handed out for now; `goOn` tells when that is over. */
  readonly isHeldBack: () => boolean
  /** A slice was handed out. */
  readonly onTaken: (slice: Slice) => void
  /** The reader is done with its last slice, as far as a lane can know. */
  readonly onReturned: () => void
  /** The reader has taken everything there was and waits, or has ended. */
  readonly onHungry: () => void
}

export class Lane<E> {
  readonly partitions = new Set<PartitionBuffer>()
  private ended = false
  private readonly held = new Set<PartitionBuffer>()
  /** Set while records wait and nobody takes them: since when, in milliseconds. */
  unreadSince: number | undefined = undefined
  stallReported = false
  /** Ends once all its partitions have reached their `end`, after the first assignment. */
  bounded = false
  private positioned = false
  /** Its reader commits in a way of its own. */
  commits = false
  /** Says whether the reader works on records of a partition; absent where only commits can tell. */
  inHand: ((partition: PartitionBuffer) => boolean) | undefined = undefined
  /** Told when the reader has ended. */
  onClosed: (() => void) | undefined = undefined
  /** Told when nothing is held back any more. */
  onGoOn: (() => void) | undefined = undefined
  /** Told when a partition leaves. */
  onRemoved: ((partition: PartitionBuffer) => void) | undefined = undefined
  private readonly hooks: Hooks
  private over: Over<E> | undefined = undefined
  private ready: Array<PartitionBuffer> = []
  /** Where the slice is from that the reader took last, and has not come back from. */
  private taken: PartitionBuffer | undefined = undefined
  private waiter: ((look: Effect.Effect<void>) => void) | undefined = undefined

  constructor(hooks: Hooks) {
    this.hooks = hooks
  }

  /** The reader has ended: nothing it took is being worked on any more. */
  get closed(): boolean {
    return this.ended
  }

  close(): void {
    if (this.ended) return
    this.ended = true
    this.ready = []
    this.unreadSince = undefined
    this.onClosed?.()
    this.hooks.onHungry()
  }

  /** An assignment has come, with or without partitions for this lane. */
  setPositioned(): void {
    this.positioned = true
    this.notify()
  }

  /** The reader has taken everything and waits for more. */
  get hungry(): boolean {
    return this.waiter !== undefined
  }

  /** Whether there is something to take at once. */
  get hasReady(): boolean {
    return this.ready.length > 0 && !this.hooks.isHeldBack()
  }

  /** Nothing is held back any more. */
  goOn(): void {
    this.notify()
    this.onGoOn?.()
  }

  /** The reader has not come back since it took records of this partition. */
  holds(partition: PartitionBuffer): boolean {
    return this.taken === partition
  }

  get isOver(): boolean {
    return this.over !== undefined
  }

  add(partition: PartitionBuffer): void {
    this.partitions.add(partition)
    this.offer(partition)
  }

  remove(partition: PartitionBuffer): void {
    if (!this.partitions.delete(partition)) return
    // until the next assignment nobody knows which partitions are to reach their end
    this.positioned = false
    this.held.delete(partition)
    this.unqueue(partition)
    this.onRemoved?.(partition)
    this.notify()
  }

  /** Something of this partition has arrived, or its position has moved. */
  offer(partition: PartitionBuffer): void {
    if (this.held.has(partition)) return
    if (partition.bufferedRecords > 0 && !this.ready.includes(partition)) {
      this.ready.push(partition)
      this.unreadSince ??= this.hooks.now()
    }
    this.notify()
  }

  /** Its reader has enough of this partition for now. */
  hold(partition: PartitionBuffer): void {
    this.held.add(partition)
    this.unqueue(partition)
  }

  release(partition: PartitionBuffer): void {
    if (this.held.delete(partition) && this.partitions.has(partition)) this.offer(partition)
  }

  private unqueue(partition: PartitionBuffer): void {
    const index = this.ready.indexOf(partition)
    if (index >= 0) this.ready.splice(index, 1)
    if (this.ready.length === 0) this.unreadSince = undefined
  }

  /** No more records: the reader sees the end, or the error, with its next pull. */
  finish(over: Over<E>): void {
    if (this.over !== undefined) return
    this.end(over)
    this.notify()
  }

  private end(over: Over<E>): void {
    this.over = over
    this.ready = []
    this.unreadSince = undefined
  }

  /** Has the reader look, which takes nothing before it does: it may have been interrupted meanwhile. */
  private notify(): void {
    if (this.waiter === undefined || !(this.hasReady || this.isOver || this.isDone)) return
    const waiter = this.waiter
    this.waiter = undefined
    waiter(Effect.void)
  }

  private step(max: number): Effect.Effect<Slice, Option.Option<E>> | undefined {
    if (this.over !== undefined) return Effect.fail(this.over)
    const slice = this.take(max)
    if (slice !== undefined) return Effect.succeed(slice)
    if (this.isDone) {
      this.end(Option.none())
      return Effect.fail(Option.none())
    }
    return undefined
  }

  /** Whether all there is to read has been handed out. */
  private get isDone(): boolean {
    if (!this.bounded || !this.positioned) return false
    for (const partition of this.partitions) if (!partition.reachedEnd) return false
    return true
  }

  /** The next slice, from the partition whose turn it is. Synchronous, for readers that loop by themselves. */
  take(max: number): Slice | undefined {
    if (this.over !== undefined || this.hooks.isHeldBack()) return undefined
    while (this.ready.length > 0) {
      const partition = this.ready.shift()!
      const slice = partition.take(max)
      if (partition.bufferedRecords > 0 && !this.held.has(partition)) this.ready.push(partition)
      if (slice === undefined) continue
      this.unreadSince = this.ready.length > 0 ? this.hooks.now() : undefined
      this.stallReported = false
      this.taken = partition
      this.hooks.onTaken(slice)
      return slice
    }
    this.unreadSince = undefined
    return undefined
  }

  /** The next slice of at most `max` records: waits for it. Fails with `None` at the end. */
  pull(max: number): Effect.Effect<Slice, Option.Option<E>> {
    return Effect.suspend(() => {
      if (this.taken !== undefined) {
        this.taken = undefined
        this.hooks.onReturned()
      }
      return this.step(max) ?? Effect.flatMap(this.something, () => this.pull(max))
    })
  }

  /** Waits until there may be something. No finalizer: what waits with one is garbage that gets old. */
  private readonly something = Effect.async<void>((resume) => {
    this.waiter = resume
    this.hooks.onHungry()
  })
}
