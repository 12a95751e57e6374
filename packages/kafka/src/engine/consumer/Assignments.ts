/**
 * What the group has given this consumer: assignments begin at a position, end through a gate or by loss, and move when
 * the log does.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { OffsetOutOfRangeError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type * as Command from "./Command.ts"
import type { CommitBook } from "./CommitBook.ts"
import type { EngineContext } from "./EngineContext.ts"
import { type Gate, isSettled } from "./Gate.ts"
import type { Lane } from "./Lane.ts"
import { PartitionBuffer } from "./PartitionBuffer.ts"
import * as Positions from "./Positions.ts"
import type { StreamError } from "./StreamError.ts"
import { covers, type Subscriber } from "./Subscriber.ts"
import type { Subscribers } from "./Subscribers.ts"

export class Assignments {
  /** The current ones. */
  readonly partitions = new Map<TopicPartition.Key, PartitionBuffer>()
  /** Where their records go. */
  readonly lanes = new Map<PartitionBuffer, Lane<StreamError>>()
  /** What the group has given us, whether a stream reads it or not. */
  readonly owned = new Set<TopicPartition.Key>()
  /** Whether the last assignment has come, and nothing of it was taken away since. */
  private isKnown = false
  gates: Array<Gate> = []
  rebalancingSince: number | undefined = undefined
  /** Where readers were when partitions were revoked: for groups that never commit. */
  private readonly left = new Map<TopicPartition.Key, bigint>()
  private epoch = 0
  private readonly context: EngineContext
  private readonly subscribers: Subscribers
  private readonly book: CommitBook

  constructor(context: EngineContext, subscribers: Subscribers, book: CommitBook) {
    this.context = context
    this.subscribers = subscribers
    this.book = book
  }

  assign(
    partitions: ReadonlyArray<TopicPartition.TopicPartition>,
    reply: Deferred.Deferred<Command.Positions> | undefined
  ): Effect.Effect<void> {
    const buffers: Array<PartitionBuffer> = []
    const wanted: Array<Positions.Wanted> = []
    for (const topicPartition of partitions) {
      const buffer = new PartitionBuffer(topicPartition, ++this.epoch)
      const before = this.partitions.get(buffer.key)
      if (before !== undefined) this.end(before)
      this.partitions.set(buffer.key, buffer)
      buffers.push(buffer)
      const source = this.subscribers.of(topicPartition)?.source
      wanted.push({
        topicPartition,
        explicit: source?._tag === "Manual" ? source.partitions.get(topicPartition.partition) : undefined,
        left: this.left.get(buffer.key)
      })
    }
    this.left.clear()
    return Effect.asVoid(Effect.forkIn(
      Effect.flatMap(
        Effect.exit(
          Positions.resolve(
            this.context.session,
            wanted,
            this.context.settings,
            this.context.now() + this.context.settings.unavailableAfter
          )
        ),
        (resolved) => Effect.sync(() => this.context.tell({ _tag: "Positioned", buffers, resolved, reply }))
      ),
      this.context.scope
    ))
  }

  position(command: Command.Of<"Positioned">): Effect.Effect<void> {
    const { buffers, reply, resolved } = command
    if (Exit.isFailure(resolved)) {
      return Effect.sync(() =>
        this.context.die(this.context.failureOf(resolved.cause, "it could not find out where to start"))
      )
    }
    const { committed, nowhere, positions } = resolved.value
    const seeks: Array<Effect.Effect<void>> = []
    const assigned: Array<PartitionBuffer> = []
    for (const buffer of buffers) {
      if (this.partitions.get(buffer.key) !== buffer || buffer.status !== "positioning") continue
      const position = positions.get(buffer.key)
      if (position === undefined) {
        const error = nowhere.get(buffer.key)
        if (error !== undefined) this.subscribers.of(buffer.topicPartition)?.finish(error)
        continue
      }
      buffer.startAt(position)
      buffer.status = "active"
      assigned.push(buffer)
      if (reply === undefined) seeks.push(this.context.session.seek(buffer.topicPartition, position))
      const subscriber = this.subscribers.of(buffer.topicPartition)
      if (subscriber === undefined) continue
      if (subscriber.ends !== undefined) buffer.end = subscriber.ends.get(buffer.key) ?? position
      const lane = subscriber.laneFor(buffer)
      this.lanes.set(buffer, lane)
      lane.add(buffer)
    }
    this.isKnown = true
    for (const subscriber of this.subscribers.all) {
      if (subscriber.requested && this.isComplete(subscriber)) subscriber.onPositioned()
    }
    if (this.context.emit.enabled) {
      const now = this.context.now()
      this.context.emit({
        _tag: "Assigned",
        groupId: this.context.settings.groupId,
        partitions: assigned.map((one) => one.topicPartition),
        positions: assigned.map((one) => one.start),
        committed: assigned.map((one) => committed.get(one.key)),
        millis: now - (this.rebalancingSince ?? now)
      })
    }
    this.rebalancingSince = undefined
    return Effect.zipRight(
      Effect.all(seeks, { discard: true }),
      reply === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(reply, positions))
    )
  }

  /** Whether all partitions that a stream names have come, where it names some. */
  private isComplete({ source }: Subscriber): boolean {
    return source._tag !== "Manual" ||
      [...source.partitions.keys()].every((partition) =>
        this.partitions.get(TopicPartition.key(TopicPartition.make(source.topic, partition)))?.status === "active"
      )
  }

  /** Whether a stream has all it will get before the next rebalance, which may be nothing. */
  hasArrivedFor({ lanes, source }: Subscriber): boolean {
    if (!this.isKnown || this.rebalancingSince !== undefined) return false
    for (const key of this.owned) {
      if (!covers(source, TopicPartition.fromKey(key))) continue
      const partition = this.partitions.get(key)
      const lane = partition?.status === "active" ? this.lanes.get(partition) : undefined
      if (lane === undefined || !lanes.has(lane)) return false
    }
    return true
  }

  /** A partition that no group has given us is read no more. */
  drop(partition: PartitionBuffer): void {
    this.owned.delete(partition.key)
    this.end(partition)
  }

  /** No more of it is handed out; what is in hand may be committed. */
  withdraw(partition: PartitionBuffer): void {
    partition.status = "revoking"
    partition.discard()
    this.lanes.get(partition)?.remove(partition)
  }

  /** It is not ours any more. */
  private end(partition: PartitionBuffer): void {
    const lane = this.lanes.get(partition)
    const commits = lane === undefined || lane.commits || this.book.uses(partition.topicPartition.topic)
    if (!commits && !lane.closed && partition.status === "revoking") {
      this.left.set(partition.key, partition.handedOut)
    }
    partition.status = "ended"
    partition.discard()
    lane?.remove(partition)
    this.lanes.delete(partition)
    if (this.partitions.get(partition.key) === partition) this.partitions.delete(partition.key)
  }

  revoke(
    partitions: ReadonlyArray<TopicPartition.TopicPartition>,
    reply: Deferred.Deferred<void>
  ): void {
    this.rebalancingSince ??= this.context.now()
    this.isKnown = false
    const buffers: Array<PartitionBuffer> = []
    for (const topicPartition of partitions) {
      const key = TopicPartition.key(topicPartition)
      this.owned.delete(key)
      const buffer = this.partitions.get(key)
      if (buffer === undefined) continue
      if (buffer.status === "positioning") this.end(buffer)
      else {
        if (buffer.status === "active") this.withdraw(buffer)
        buffers.push(buffer)
      }
    }
    this.gate(buffers, () => {
      if (this.context.emit.enabled) {
        this.context.emit({ _tag: "Revoked", groupId: this.context.settings.groupId, partitions })
      }
      Deferred.unsafeDone(reply, Effect.void)
    })
  }

  lose(partitions: ReadonlyArray<TopicPartition.TopicPartition>): void {
    this.isKnown = false
    for (const topicPartition of partitions) {
      const key = TopicPartition.key(topicPartition)
      this.owned.delete(key)
      const buffer = this.partitions.get(key)
      if (buffer !== undefined) this.end(buffer)
      this.left.delete(key)
    }
    if (this.context.emit.enabled) {
      this.context.emit({ _tag: "Lost", groupId: this.context.settings.groupId, partitions })
    }
  }

  /** Ends assignments once what is in hand of them is settled, or the time for it is over. */
  gate(partitions: ReadonlyArray<PartitionBuffer>, then: () => void): void {
    const startedAt = this.context.now()
    this.gates.push({
      partitions,
      startedAt,
      deadline: this.context.settings.rebalanceGate ? startedAt + this.context.settings.revokeTimeout : startedAt,
      open: (unsettled) => {
        for (const partition of partitions) if (partition.status !== "ended") this.end(partition)
        if (this.context.emit.enabled) {
          this.context.emit({
            _tag: "GateWaited",
            groupId: this.context.settings.groupId,
            millis: this.context.now() - startedAt,
            unsettled: unsettled.map((one) => one.topicPartition)
          })
        }
        then()
      }
    })
  }

  unsettled(partitions: Iterable<PartitionBuffer>): Array<PartitionBuffer> {
    return [...partitions].filter((one) => !isSettled(one, this.lanes.get(one), this.book))
  }

  checkGates(now: number): void {
    if (this.gates.length === 0) return
    this.gates = this.gates.filter((gate) => {
      const unsettled = this.unsettled(gate.partitions)
      if (unsettled.length > 0 && now < gate.deadline) return true
      gate.open(unsettled)
      return false
    })
  }

  /** The log has moved away under the position: goes on by `autoOffsetReset`, and says so. */
  reset(partition: PartitionBuffer, from: bigint): Effect.Effect<void> {
    const { autoOffsetReset } = this.context.settings
    const { topicPartition } = partition
    if (autoOffsetReset === "fail") {
      const error = new OffsetOutOfRangeError({ ...topicPartition, offset: from })
      this.lanes.get(partition)?.finish(Option.some(error))
      return Effect.void
    }
    partition.resetting = true
    return Effect.asVoid(Effect.forkIn(
      Effect.flatMap(
        Effect.exit(
          Positions.resolve(
            this.context.session,
            [{ topicPartition, explicit: autoOffsetReset, left: undefined }],
            this.context.settings,
            this.context.now() + this.context.settings.unavailableAfter
          )
        ),
        (resolved) => Effect.sync(() => this.context.tell({ _tag: "Reset", partition, from, resolved }))
      ),
      this.context.scope
    ))
  }

  onReset(command: Command.Of<"Reset">): Effect.Effect<void> {
    const { from, partition, resolved } = command
    if (partition.status !== "active" || this.partitions.get(partition.key) !== partition) return Effect.void
    if (Exit.isFailure(resolved)) {
      return Effect.sync(() =>
        this.context.die(this.context.failureOf(resolved.cause, "it could not find out where to go on"))
      )
    }
    const to = resolved.value.positions.get(partition.key)
    if (to === undefined) {
      const error = resolved.value.nowhere.get(partition.key)
      if (error !== undefined) this.lanes.get(partition)?.finish(Option.some(error))
      return Effect.void
    }
    partition.resetting = false
    partition.jumpTo(to)
    if (this.context.emit.enabled) {
      this.context.emit({
        _tag: "OffsetReset",
        groupId: this.context.settings.groupId,
        topicPartition: partition.topicPartition,
        from,
        to
      })
    }
    this.lanes.get(partition)?.offer(partition)
    return this.context.session.seek(partition.topicPartition, to)
  }

  onSeek(command: Command.Of<"Seek">): Effect.Effect<void> {
    const { offset, partition, reply } = command
    const done = Effect.asVoid(Deferred.succeed(reply, undefined))
    if (partition.status !== "active") return done
    this.book.forget(partition)
    partition.startAt(offset)
    this.lanes.get(partition)?.offer(partition)
    return Effect.zipRight(this.context.session.seek(partition.topicPartition, offset), done)
  }

  /** Reads a partition again, from where the group has committed. */
  restart(partition: PartitionBuffer): void {
    this.withdraw(partition)
    this.gate([partition], () => this.context.tell({ _tag: "Reassign", partitions: [partition.topicPartition] }))
    this.context.session.wake()
  }

  /** All of them end at once, and nothing waits any more. */
  endAll(): void {
    for (const gate of this.gates) gate.open([])
    this.gates = []
    for (const partition of [...this.partitions.values()]) this.end(partition)
  }
}
