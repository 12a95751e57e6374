/**
 * The one fiber that owns a consumer's state. Everybody else leaves it commands; it decides by the pure pieces beside
 * this file and talks to the driver's session.
 *
 * A turn: take the commands, see to gates, commits and ended streams, poll with the demand that follows from what is
 * buffered, hand what arrived to the lanes.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Assignment } from "../../ConsumerRecord.ts"
import type { ConsumerNotice, ConsumerSession, Fetched } from "../../KafkaClient.ts"
import type * as KafkaClient from "../../KafkaClient.ts"
import {
  type ClientError,
  CommitError,
  ConsumerError,
  type DeserializationError,
  type KafkaAuthorizationError,
  OffsetOutOfRangeError,
  type UnknownTopicError,
  type UnsupportedFeatureError
} from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { Emit } from "../observe.ts"
import { type Batch, CommitBook, Deferred as DeferredCommits, isCurrent } from "./CommitBook.ts"
import * as FetchPlanner from "./FetchPlanner.ts"
import { type Gate, isSettled } from "./Gate.ts"
import { Lane } from "./Lane.ts"
import { PartitionBuffer } from "./PartitionBuffer.ts"
import * as Positions_ from "./Positions.ts"
import * as Retry from "./Retry.ts"
import type { Settings } from "./Settings.ts"
import { covers, overlap, type Source, type Subscriber } from "./Subscriber.ts"

/** What a stream of a consumer can fail with. */
export type StreamError =
  | ConsumerError
  | ClientError
  | UnknownTopicError
  | UnsupportedFeatureError
  | KafkaAuthorizationError
  | OffsetOutOfRangeError
  | CommitError
  | DeserializationError

type Positions = ReadonlyMap<TopicPartition.Key, bigint>

type Command =
  | { readonly _tag: "Open"; readonly subscriber: Subscriber }
  | { readonly _tag: "Close"; readonly subscriber: Subscriber }
  | {
    readonly _tag: "Assigned"
    readonly partitions: ReadonlyArray<TopicPartition.TopicPartition>
    readonly reply: Deferred.Deferred<Positions>
  }
  /** Partitions that are still ours, for a stream that came after another had ended. */
  | { readonly _tag: "Reassign"; readonly partitions: ReadonlyArray<TopicPartition.TopicPartition> }
  | {
    readonly _tag: "Positioned"
    readonly buffers: ReadonlyArray<PartitionBuffer>
    readonly positions: Exit.Exit<Positions, StreamError>
    /** Absent where the driver did not ask, and must be told by a seek. */
    readonly reply: Deferred.Deferred<Positions> | undefined
  }
  | {
    readonly _tag: "Reset"
    readonly partition: PartitionBuffer
    readonly from: bigint
    readonly to: Exit.Exit<bigint, StreamError>
  }
  | {
    readonly _tag: "Seek"
    readonly partition: PartitionBuffer
    readonly offset: bigint
    readonly reply: Deferred.Deferred<void>
  }
  | {
    readonly _tag: "Revoked"
    readonly partitions: ReadonlyArray<TopicPartition.TopicPartition>
    readonly reply: Deferred.Deferred<void>
  }
  | { readonly _tag: "Lost"; readonly partitions: ReadonlyArray<TopicPartition.TopicPartition> }
  | {
    readonly _tag: "Subscribed"
    readonly fingerprint: string
    readonly exit: Exit.Exit<void, StreamError>
  }
  | { readonly _tag: "CommitEnded"; readonly exit: Exit.Exit<void, CommitError> }
  | { readonly _tag: "Stop" }

/** How long an ended stream keeps its partitions for the commit of what it had handed out, in milliseconds. */
const LINGER = 5000
/** The loop looks after itself at least so often, in milliseconds. */
const MAX_WAIT = 5000

export class RunLoop {
  readonly settings: Settings
  readonly book = new CommitBook()
  /** The current assignment. */
  readonly partitions = new Map<TopicPartition.Key, PartitionBuffer>()
  dead: StreamError | undefined = undefined
  lastPollAt: number
  lastCommitAt: number | undefined = undefined
  lastHeartbeatAt: number | undefined = undefined
  joined = false
  private readonly session: ConsumerSession
  private readonly scope: Scope.Scope
  private readonly clock: Clock.Clock
  readonly emit: Emit
  private readonly commands: Array<Command> = []
  private readonly subscribers = new Set<Subscriber>()
  private readonly lanes = new Map<PartitionBuffer, Lane<StreamError>>()
  /** What the group has given us, whether a stream reads it or not. */
  private readonly owned = new Set<TopicPartition.Key>()
  private gates: Array<Gate> = []
  private withheld: ReadonlySet<TopicPartition.Key> = new Set()
  /** Where readers were when partitions were revoked: for groups that never commit. */
  private readonly left = new Map<TopicPartition.Key, bigint>()
  /** What the driver was last told to read. */
  private subscribed = ""
  private subscribing = false
  private epoch = 0
  private rebalancingSince: number | undefined = undefined
  private stopping: { readonly deadline: number; readonly startedAt: number } | undefined = undefined
  private readonly ended: Deferred.Deferred<void>
  private over = false
  private readonly asking = new Set<() => void>()

  constructor(
    settings: Settings,
    session: ConsumerSession,
    scope: Scope.Scope,
    clock: Clock.Clock,
    emit: Emit,
    ended: Deferred.Deferred<void>
  ) {
    this.settings = settings
    this.session = session
    this.scope = scope
    this.clock = clock
    this.emit = emit
    this.ended = ended
    this.lastPollAt = clock.unsafeCurrentTimeMillis()
  }

  now(): number {
    return this.clock.unsafeCurrentTimeMillis()
  }

  /** Milliseconds with a fraction, for durations. */
  preciseNow(): number {
    return Number(this.clock.unsafeCurrentTimeNanos()) / 1e6
  }

  private send(command: Command): void {
    this.commands.push(command)
    this.session.wake()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // for streams
  // -------------------------------------------------------------------------------------------------------------------

  makeLane(): Lane<StreamError> {
    return new Lane<StreamError>({
      now: () => this.now(),
      onTaken: (slice) => {
        const { partition } = slice
        if (this.emit.enabled) {
          this.emit({
            _tag: "HandedOut",
            groupId: this.settings.groupId,
            topicPartition: partition.topicPartition,
            records: slice.to - slice.from,
            position: partition.handedOut
          })
        }
        if (this.withheld.has(partition.key) && partition.bufferedBytes * 2 < this.settings.prefetch.partitionBytes) {
          this.session.wake()
        }
      },
      onHungry: () => {
        if (this.withheld.size > 0 || this.gates.length > 0 || this.stopping !== undefined) this.session.wake()
      }
    })
  }

  /** Adds a stream, or says why it can't be. */
  open(subscriber: Subscriber): StreamError | undefined {
    const refusal = this.refusal()
    if (refusal !== undefined) return refusal
    for (const other of this.subscribers) {
      if (other.closedAt !== undefined) continue
      if ((other.source._tag === "Manual") !== (subscriber.source._tag === "Manual")) {
        return this.contradiction("one stream names its partitions and another joins the group: use two consumers")
      }
      if (other.source._tag === "Pattern" || subscriber.source._tag === "Pattern") {
        return this.contradiction("a pattern needs a consumer of its own: two sources would share topics")
      }
      if (overlap(other.source, subscriber.source)) {
        return this.contradiction("another stream of this consumer reads the same topic: they would share its records")
      }
    }
    this.subscribers.add(subscriber)
    this.send({ _tag: "Open", subscriber })
    return undefined
  }

  close(subscriber: Subscriber): void {
    for (const lane of [...subscriber.lanes]) lane.close()
    this.send({ _tag: "Close", subscriber })
  }

  private contradiction(description: string): ConsumerError {
    return new ConsumerError({ reason: "subscription", groupId: this.settings.groupId, description })
  }

  /** Why nothing can be asked of this consumer any more. */
  refusal(): StreamError | undefined {
    if (this.dead !== undefined) return this.dead
    if (this.stopping === undefined) return undefined
    return new ConsumerError({ reason: "closed", groupId: this.settings.groupId, description: "it was stopped" })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // commits
  // -------------------------------------------------------------------------------------------------------------------

  /** The assignment as one of this consumer's own that may still commit. */
  private ownOf(assignment: Assignment): PartitionBuffer | undefined {
    const partition = this.partitions.get(TopicPartition.key(assignment.topicPartition))
    return partition === assignment && isCurrent(partition) ? partition : undefined
  }

  commit(offsets: ReadonlyMap<Assignment, bigint>): Effect.Effect<void, CommitError> {
    return Effect.async<void, CommitError>((resume) => {
      const stale: Array<Assignment> = []
      const current: Array<readonly [PartitionBuffer, bigint]> = []
      for (const [assignment, offset] of offsets) {
        const partition = this.ownOf(assignment)
        if (partition === undefined) stale.push(assignment)
        else current.push([partition, offset])
      }
      if (this.dead !== undefined) {
        return resume(Effect.fail(this.commitError("closed", [...offsets.keys()], this.dead)))
      }
      if (current.length === 0) {
        return resume(stale.length === 0 ? Effect.void : Effect.fail(this.commitError("stale", stale)))
      }
      this.book.add(current, (failure, ended) => {
        if (failure !== undefined) return resume(Effect.fail(failure))
        for (const [partition] of current) if (ended.has(partition)) stale.push(partition)
        resume(stale.length === 0 ? Effect.void : Effect.fail(this.commitError("stale", stale)))
      })
      this.session.wake()
    })
  }

  /** Offsets that may wait for company. */
  makeDeferred(
    limit: number,
    within: number,
    collect?: () => Iterable<readonly [PartitionBuffer, bigint]>
  ): DeferredCommits {
    const deferred = new DeferredCommits(limit, within, collect)
    this.book.deferred.add(deferred)
    this.book.used = true
    return deferred
  }

  defer(deferred: DeferredCommits, assignment: Assignment, offset: bigint, records: number): void {
    const partition = this.ownOf(assignment)
    if (partition === undefined) return this.reportStale([assignment])
    deferred.add(partition, offset)
    this.touch(deferred, records)
    if (partition.status === "revoking") this.session.wake()
  }

  /** So many more records are done, whose offsets will be collected. */
  touch(deferred: DeferredCommits, records: number): void {
    if (deferred.touch(records, this.now())) this.session.wake()
  }

  /** Something that the loop waits for has changed. */
  wake(): void {
    this.session.wake()
  }

  /** Sends what was deferred, and waits for it. */
  flush(deferred: DeferredCommits): Effect.Effect<void, CommitError> {
    return Effect.suspend(() => {
      const offsets = deferred.drain()
      for (const partition of offsets.keys()) {
        if (isCurrent(partition)) continue
        offsets.delete(partition)
        this.reportStale([partition])
      }
      return Effect.catchIf(this.commit(offsets), (error) => error.reason === "stale", () => Effect.void)
    })
  }

  dropDeferred(deferred: DeferredCommits): void {
    this.book.deferred.delete(deferred)
  }

  private commitError(
    reason: CommitError["reason"],
    partitions: Iterable<Assignment>,
    cause?: unknown
  ): CommitError {
    return new CommitError({ reason, partitions: [...partitions].map((one) => one.topicPartition), cause })
  }

  /** Deferred offsets that came too late: their records are read again by whoever owns the partition now. */
  private reportStale(partitions: ReadonlyArray<Assignment>): void {
    if (!this.emit.enabled || partitions.length === 0) return
    this.emit({
      _tag: "CommitFailed",
      groupId: this.settings.groupId,
      partitions: partitions.map((one) => one.topicPartition),
      error: this.commitError("stale", partitions),
      willRetry: false
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // for the driver
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Asks the loop, and waits for its answer: `fallback` once the loop has ended. No race, because a driver may call
   * from where nothing can be interrupted.
   */
  private ask<A>(command: (reply: Deferred.Deferred<A>) => Command, fallback: A): Effect.Effect<A> {
    return Effect.flatMap(Deferred.make<A>(), (reply) => {
      if (this.over) return Effect.succeed(fallback)
      const giveUp = () => Deferred.unsafeDone(reply, Effect.succeed(fallback))
      this.asking.add(giveUp)
      this.send(command(reply))
      return Effect.ensuring(Deferred.await(reply), Effect.sync(() => this.asking.delete(giveUp)))
    })
  }

  readonly onAssigned = (
    partitions: ReadonlyArray<TopicPartition.TopicPartition>
  ): Effect.Effect<Positions> => this.ask<Positions>((reply) => ({ _tag: "Assigned", partitions, reply }), new Map())

  readonly onRevoked = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): Effect.Effect<void> =>
    this.ask<void>((reply) => ({ _tag: "Revoked", partitions, reply }), undefined)

  readonly onLost = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): Effect.Effect<void> =>
    Effect.sync(() => this.send({ _tag: "Lost", partitions }))

  readonly onNotice = (notice: ConsumerNotice): void => {
    const { groupId } = this.settings
    switch (notice._tag) {
      case "Heartbeat":
        this.lastHeartbeatAt = this.now()
        if (this.emit.enabled) this.emit({ _tag: "Heartbeat", groupId })
        return
      case "Rebalancing":
        this.joined = false
        this.rebalancingSince ??= this.now()
        if (this.emit.enabled) this.emit({ _tag: "Rebalancing", groupId })
        return
      case "Joined":
        this.joined = true
        this.lastHeartbeatAt = this.now()
        return
      case "Disconnected":
      case "Reconnected":
        if (this.emit.enabled) {
          this.emit({
            _tag: "Connection",
            clientId: groupId,
            state: notice._tag === "Disconnected" ? "disconnected" : "connected"
          })
        }
        return
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the loop
  // -------------------------------------------------------------------------------------------------------------------

  readonly run: Effect.Effect<void> = Effect.suspend(() =>
    Effect.catchAllCause(this.turns, (cause) => {
      if (Cause.isInterruptedOnly(cause)) return Effect.failCause(cause as Cause.Cause<never>)
      return Effect.sync(() => this.die(this.failureOf(cause, "the run loop died")))
    }).pipe(
      Effect.ensuring(Effect.suspend(() => {
        this.die(
          new ConsumerError({ reason: "closed", groupId: this.settings.groupId, description: "its scope was closed" }),
          false
        )
        this.over = true
        for (const giveUp of this.asking) giveUp()
        return Deferred.succeed(this.ended, undefined)
      }))
    )
  )

  private get turns(): Effect.Effect<void, StreamError> {
    const self = this
    return Effect.gen(function*() {
      while (true) {
        for (let command = self.commands.shift(); command !== undefined; command = self.commands.shift()) {
          yield* self.handle(command)
        }
        const now = self.now()
        self.checkGates(now)
        self.checkEndedStreams(now)
        self.checkStalls(now)
        if (self.isStopped(now)) return
        yield* self.syncSubscription()
        self.book.release(now, self.gates.length > 0 || self.stopping !== undefined)
        yield* self.sendCommit()
        if (self.commands.length > 0) continue
        const plan = FetchPlanner.plan([...self.fills()], self.settings.prefetch)
        self.withheld = plan.withheld
        const fetched = yield* self.session.poll(
          plan.demand,
          Math.max(0, Math.min(MAX_WAIT, self.dueAt() - self.now()))
        )
        self.lastPollAt = self.now()
        for (const one of fetched) yield* self.receive(one)
      }
    })
  }

  private handle(command: Command): Effect.Effect<void> {
    switch (command._tag) {
      case "Open":
        return Effect.sync(() => this.adopt(command.subscriber))
      case "Close":
        command.subscriber.closedAt = this.now()
        return Effect.void
      case "Assigned":
        for (const one of command.partitions) this.owned.add(TopicPartition.key(one))
        return this.assign(command.partitions, command.reply)
      case "Reassign":
        return this.assign(
          command.partitions.filter((one) => {
            const key = TopicPartition.key(one)
            return this.owned.has(key) && !this.partitions.has(key)
          }),
          undefined
        )
      case "Positioned":
        return this.position(command)
      case "Revoked":
        return Effect.sync(() => this.revoke(command.partitions, command.reply))
      case "Lost":
        return Effect.sync(() => this.lose(command.partitions))
      case "Subscribed":
        return Effect.sync(() => this.onSubscribed(command.fingerprint, command.exit))
      case "Reset":
        return this.onReset(command)
      case "Seek":
        return this.onSeek(command)
      case "CommitEnded":
        return Effect.sync(() => this.onCommitEnded(command.exit))
      case "Stop":
        return Effect.sync(() => this.beginStop())
    }
  }

  /** When something has to be looked at next, in milliseconds. */
  private dueAt(): number {
    let due = Math.min(this.book.dueAt, this.stopping?.deadline ?? Infinity)
    for (const gate of this.gates) due = Math.min(due, gate.deadline)
    for (const subscriber of this.subscribers) {
      if (subscriber.closedAt !== undefined) due = Math.min(due, subscriber.closedAt + LINGER)
      for (const { stallReported, unreadSince } of subscriber.lanes) {
        if (unreadSince !== undefined && !stallReported) due = Math.min(due, unreadSince + this.settings.stalledAfter)
      }
    }
    return due
  }

  private *fills(): Iterable<FetchPlanner.PartitionFill> {
    for (const partition of this.partitions.values()) {
      if (partition.status !== "active") continue
      const lane = this.lanes.get(partition)
      if (lane === undefined || lane.closed || lane.isOver || partition.resetting || partition.reachedEnd) continue
      yield {
        key: partition.key,
        bufferedBytes: partition.bufferedBytes,
        bufferedRecords: partition.bufferedRecords,
        hungry: lane.hungry,
        withheld: this.withheld.has(partition.key)
      }
    }
  }

  private receive(fetched: Fetched): Effect.Effect<void> {
    const partition = this.partitions.get(TopicPartition.key(fetched.topicPartition))
    if (partition === undefined || partition.status !== "active") return Effect.void
    const lane = this.lanes.get(partition)
    if (fetched._tag === "OutOfRange") return this.reset(partition, fetched.offset)
    if (fetched._tag === "Failed") {
      lane?.finish(Option.some(fetched.error))
      return Effect.void
    }
    partition.append(fetched)
    if (this.emit.enabled) this.emitPolled(partition, fetched)
    lane?.offer(partition)
    return Effect.void
  }

  private emitPolled(partition: PartitionBuffer, chunk: KafkaClient.FetchedChunk): void {
    let bufferedRecords = 0
    let bufferedBytes = 0
    for (const one of this.partitions.values()) {
      bufferedRecords += one.bufferedRecords
      bufferedBytes += one.bufferedBytes
    }
    const last = chunk.records.at(-1)
    this.emit({
      _tag: "Polled",
      groupId: this.settings.groupId,
      topicPartition: partition.topicPartition,
      records: chunk.records.length,
      bytes: chunk.bytes,
      position: chunk.nextOffset,
      highWatermark: chunk.highWatermark,
      lastTimestamp: last === undefined ? undefined : chunk.view.timestamp(last),
      bufferedRecords,
      bufferedBytes
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // streams and the subscription
  // -------------------------------------------------------------------------------------------------------------------

  /** A new stream may read partitions that are here already: from an ended stream that still waited for commits. */
  private adopt(subscriber: Subscriber): void {
    for (const other of this.subscribers) {
      if (other.closedAt !== undefined && overlap(other.source, subscriber.source)) this.subscribers.delete(other)
    }
    const taken = [...this.partitions.values()].filter((one) =>
      one.status === "active" && covers(subscriber.source, one.topicPartition)
    )
    if (taken.length === 0) return
    for (const partition of taken) this.withdraw(partition)
    this.gate(taken, () => this.send({ _tag: "Reassign", partitions: taken.map((one) => one.topicPartition) }))
  }

  private checkEndedStreams(now: number): void {
    for (const subscriber of this.subscribers) {
      if (subscriber.closedAt === undefined) continue
      const waiting = now < subscriber.closedAt + LINGER && this.stopping === undefined
      const own = [...this.partitions.values()].filter((one) => covers(subscriber.source, one.topicPartition))
      if (waiting && own.some((one) => !one.isCommitted || this.book.has(one))) continue
      this.subscribers.delete(subscriber)
    }
  }

  /** Tells the driver what to read, where that has changed. */
  private syncSubscription(): Effect.Effect<void> {
    if (this.subscribing || this.stopping !== undefined) return Effect.void
    const wanted = [...this.subscribers].map((one) => one.source)
    const subscription = toSubscription(wanted)
    const fingerprint = describe(subscription)
    if (fingerprint === this.subscribed) return Effect.void
    this.subscribing = true
    for (const subscriber of this.subscribers) subscriber.requested = true
    return Effect.asVoid(Effect.forkIn(
      Effect.flatMap(
        Effect.exit(Retry.until(this.session.subscribe(subscription), {
          deadline: this.now() + this.settings.unavailableAfter,
          retriable: Retry.isRetriable
        })),
        (exit) => Effect.sync(() => this.send({ _tag: "Subscribed", fingerprint, exit }))
      ),
      this.scope
    ))
  }

  private onSubscribed(fingerprint: string, exit: Exit.Exit<void, StreamError>): void {
    this.subscribing = false
    if (Exit.isSuccess(exit)) {
      this.subscribed = fingerprint
      return
    }
    const error = this.failureOf(exit.cause, "it could not subscribe")
    if (error._tag !== "UnknownTopicError") return this.die(error)
    this.subscribed = "?"
    for (const subscriber of this.subscribers) {
      if (!covers(subscriber.source, TopicPartition.make(error.topic, error.partition ?? 0))) continue
      subscriber.finish(error)
      this.subscribers.delete(subscriber)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // assignment
  // -------------------------------------------------------------------------------------------------------------------

  private assign(
    partitions: ReadonlyArray<TopicPartition.TopicPartition>,
    reply: Deferred.Deferred<Positions> | undefined
  ): Effect.Effect<void> {
    const buffers: Array<PartitionBuffer> = []
    const wanted: Array<Positions_.Wanted> = []
    for (const topicPartition of partitions) {
      const buffer = new PartitionBuffer(topicPartition, ++this.epoch)
      const before = this.partitions.get(buffer.key)
      if (before !== undefined) this.end(before)
      this.partitions.set(buffer.key, buffer)
      buffers.push(buffer)
      const source = this.subscriberOf(topicPartition)?.source
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
          Positions_.resolve(this.session, wanted, this.settings, this.now() + this.settings.unavailableAfter)
        ),
        (positions) => Effect.sync(() => this.send({ _tag: "Positioned", buffers, positions, reply }))
      ),
      this.scope
    ))
  }

  private position(command: Extract<Command, { readonly _tag: "Positioned" }>): Effect.Effect<void> {
    const { buffers, reply } = command
    let positions: Positions = new Map()
    if (Exit.isSuccess(command.positions)) positions = command.positions.value
    else {
      const error = this.failureOf(command.positions.cause, "it could not find out where to start")
      if (error._tag !== "OffsetOutOfRangeError" && error._tag !== "UnknownTopicError") {
        return Effect.sync(() => this.die(error))
      }
      this.subscriberOf(TopicPartition.make(error.topic, error.partition ?? 0))?.finish(error)
    }
    const seeks: Array<Effect.Effect<void>> = []
    const assigned: Array<PartitionBuffer> = []
    for (const buffer of buffers) {
      const position = positions.get(buffer.key)
      if (this.partitions.get(buffer.key) !== buffer || buffer.status !== "positioning" || position === undefined) {
        continue
      }
      buffer.startAt(position)
      buffer.status = "active"
      assigned.push(buffer)
      if (reply === undefined) seeks.push(this.session.seek(buffer.topicPartition, position))
      const subscriber = this.subscriberOf(buffer.topicPartition)
      if (subscriber === undefined) continue
      if (subscriber.ends !== undefined) buffer.end = subscriber.ends.get(buffer.key) ?? position
      const lane = subscriber.laneFor(buffer)
      this.lanes.set(buffer, lane)
      lane.add(buffer)
    }
    for (const subscriber of this.subscribers) if (subscriber.requested) subscriber.onPositioned()
    if (this.emit.enabled) {
      const now = this.now()
      this.emit({
        _tag: "Assigned",
        groupId: this.settings.groupId,
        partitions: assigned.map((one) => one.topicPartition),
        positions: assigned.map((one) => one.start),
        millis: now - (this.rebalancingSince ?? now)
      })
    }
    this.rebalancingSince = undefined
    return Effect.zipRight(
      Effect.all(seeks, { discard: true }),
      reply === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(reply, positions))
    )
  }

  private subscriberOf(topicPartition: TopicPartition.TopicPartition): Subscriber | undefined {
    for (const subscriber of this.subscribers) {
      if (subscriber.closedAt === undefined && covers(subscriber.source, topicPartition)) return subscriber
    }
    return undefined
  }

  /** No more of it is handed out; what is in hand may be committed. */
  private withdraw(partition: PartitionBuffer): void {
    partition.status = "revoking"
    partition.discard()
    this.lanes.get(partition)?.remove(partition)
  }

  /** It is not ours any more. */
  private end(partition: PartitionBuffer): void {
    const lane = this.lanes.get(partition)
    if (!this.book.used && lane !== undefined && !lane.closed && partition.status === "revoking") {
      this.left.set(partition.key, partition.handedOut)
    }
    partition.status = "ended"
    partition.discard()
    lane?.remove(partition)
    this.lanes.delete(partition)
    if (this.partitions.get(partition.key) === partition) this.partitions.delete(partition.key)
  }

  private revoke(
    partitions: ReadonlyArray<TopicPartition.TopicPartition>,
    reply: Deferred.Deferred<void>
  ): void {
    this.rebalancingSince ??= this.now()
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
      if (this.emit.enabled) this.emit({ _tag: "Revoked", groupId: this.settings.groupId, partitions })
      Deferred.unsafeDone(reply, Effect.void)
    })
  }

  private lose(partitions: ReadonlyArray<TopicPartition.TopicPartition>): void {
    for (const topicPartition of partitions) {
      const key = TopicPartition.key(topicPartition)
      this.owned.delete(key)
      const buffer = this.partitions.get(key)
      if (buffer !== undefined) this.end(buffer)
      this.left.delete(key)
    }
    if (this.emit.enabled) this.emit({ _tag: "Lost", groupId: this.settings.groupId, partitions })
  }

  /** Ends assignments once what is in hand of them is settled, or the time for it is over. */
  private gate(partitions: ReadonlyArray<PartitionBuffer>, then: () => void): void {
    const startedAt = this.now()
    this.gates.push({
      partitions,
      startedAt,
      deadline: this.settings.rebalanceGate ? startedAt + this.settings.revokeTimeout : startedAt,
      open: (unsettled) => {
        for (const partition of partitions) if (partition.status !== "ended") this.end(partition)
        if (this.emit.enabled) {
          this.emit({
            _tag: "GateWaited",
            groupId: this.settings.groupId,
            millis: this.now() - startedAt,
            unsettled: unsettled.map((one) => one.topicPartition)
          })
        }
        then()
      }
    })
  }

  private unsettled(partitions: Iterable<PartitionBuffer>): Array<PartitionBuffer> {
    return [...partitions].filter((one) => !isSettled(one, this.lanes.get(one), this.book))
  }

  private checkGates(now: number): void {
    if (this.gates.length === 0) return
    this.gates = this.gates.filter((gate) => {
      const unsettled = this.unsettled(gate.partitions)
      if (unsettled.length > 0 && now < gate.deadline) return true
      gate.open(unsettled)
      return false
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // positions
  // -------------------------------------------------------------------------------------------------------------------

  /** The log has moved away under the position: goes on by `autoOffsetReset`, and says so. */
  private reset(partition: PartitionBuffer, from: bigint): Effect.Effect<void> {
    const { autoOffsetReset } = this.settings
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
          Positions_.resolve(
            this.session,
            [{ topicPartition, explicit: autoOffsetReset, left: undefined }],
            this.settings,
            this.now() + this.settings.unavailableAfter
          )
        ),
        (positions) =>
          Effect.sync(() =>
            this.send({
              _tag: "Reset",
              partition,
              from,
              to: Exit.map(positions, (found) => found.get(partition.key) ?? 0n)
            })
          )
      ),
      this.scope
    ))
  }

  private onReset(command: Extract<Command, { readonly _tag: "Reset" }>): Effect.Effect<void> {
    const { from, partition, to } = command
    if (partition.status !== "active" || this.partitions.get(partition.key) !== partition) return Effect.void
    if (Exit.isFailure(to)) {
      return Effect.sync(() => this.die(this.failureOf(to.cause, "it could not find out where to go on")))
    }
    partition.resetting = false
    partition.jumpTo(to.value)
    if (this.emit.enabled) {
      this.emit({
        _tag: "OffsetReset",
        groupId: this.settings.groupId,
        topicPartition: partition.topicPartition,
        from,
        to: to.value
      })
    }
    this.lanes.get(partition)?.offer(partition)
    return this.session.seek(partition.topicPartition, to.value)
  }

  /** Goes on from another offset: what is buffered is dropped, what is in hand is not touched. */
  seek(partition: PartitionBuffer, offset: bigint): Effect.Effect<void> {
    return this.ask<void>((reply) => ({ _tag: "Seek", partition, offset, reply }), undefined)
  }

  private onSeek(command: Extract<Command, { readonly _tag: "Seek" }>): Effect.Effect<void> {
    const { offset, partition, reply } = command
    const done = Effect.asVoid(Deferred.succeed(reply, undefined))
    if (partition.status !== "active") return done
    this.book.forget(partition)
    partition.startAt(offset)
    this.lanes.get(partition)?.offer(partition)
    return Effect.zipRight(this.session.seek(partition.topicPartition, offset), done)
  }

  /** Reads a partition again, from where the group has committed. */
  restart(partition: PartitionBuffer): void {
    this.withdraw(partition)
    this.gate([partition], () => this.send({ _tag: "Reassign", partitions: [partition.topicPartition] }))
    this.session.wake()
  }

  groupMetadata(): KafkaClient.GroupMetadata | undefined {
    return this.session.groupMetadata()
  }

  /** Whether the group has heard of this member, and it of the group, so lately that the session can not be over. */
  get isHeard(): boolean {
    return this.lastHeartbeatAt !== undefined && this.now() - this.lastHeartbeatAt < this.settings.sessionTimeout / 2
  }

  // -------------------------------------------------------------------------------------------------------------------
  // sending commits
  // -------------------------------------------------------------------------------------------------------------------

  private sendCommit(): Effect.Effect<void> {
    const batch = this.book.begin()
    if (batch === undefined) return Effect.void
    const startedAt = this.now()
    const attempt = Effect.suspend(() => {
      this.book.dropStale()
      const offsets = [...batch.offsets].map(([one, offset]) => ({ ...one.topicPartition, offset }))
      return offsets.length === 0 ? Effect.void : this.session.commit(offsets)
    })
    const toError = ({ error }: { readonly error: CommitError | ClientError }): CommitError => {
      if (error._tag === "CommitError") return error
      const reason = error._tag === "KafkaAuthorizationError" || error._tag === "KafkaAuthenticationError" ||
          (error._tag === "KafkaRequestError" && !error.retriable)
        ? "refused"
        : "timeout"
      return this.commitError(reason, batch.offsets.keys(), error)
    }
    const request = Retry.until(attempt, {
      deadline: startedAt + this.settings.commitTimeout,
      // The broker knew another generation: where the assignment outlives it the next try says the new one, and where it
      // does not, its partitions are taken out before the next try.
      retriable: ({ error, retriable }) =>
        retriable || (error._tag === "CommitError" && generational.has(error.reason)),
      onRetry: (failure) => this.emitCommitFailed(batch, failure.error, true)
    }).pipe(
      Effect.mapError(toError),
      Effect.timeoutFail({
        duration: this.settings.commitTimeout,
        onTimeout: () => this.commitError("timeout", batch.offsets.keys())
      }),
      Effect.tap(() =>
        Effect.sync(() => {
          this.lastCommitAt = this.now()
          if (!this.emit.enabled || batch.offsets.size === 0) return
          this.emit({
            _tag: "Committed",
            groupId: this.settings.groupId,
            offsets: [...batch.offsets].map(([one, offset]) => ({ ...one.topicPartition, offset })),
            millis: this.lastCommitAt - startedAt
          })
        })
      ),
      Effect.exit,
      Effect.flatMap((exit) => Effect.sync(() => this.send({ _tag: "CommitEnded", exit })))
    )
    return Effect.asVoid(Effect.forkIn(request, this.scope))
  }

  private emitCommitFailed(batch: Batch, error: CommitError | ClientError, willRetry: boolean): void {
    if (!this.emit.enabled) return
    this.emit({
      _tag: "CommitFailed",
      groupId: this.settings.groupId,
      partitions: [...batch.offsets.keys()].map((one) => one.topicPartition),
      error,
      willRetry
    })
  }

  private onCommitEnded(exit: Exit.Exit<void, CommitError>): void {
    if (Exit.isSuccess(exit)) {
      const batch = this.book.confirm()
      if (batch === undefined) return
      if (batch.deferred && batch.stale.size > 0) this.reportStale([...batch.stale])
      for (const settle of batch.waiting) settle(undefined, batch.stale)
      return
    }
    const batch = this.book.reject()
    if (batch === undefined) return
    const error = Option.getOrElse(
      Cause.failureOption(exit.cause),
      () => this.commitError("closed", batch.offsets.keys(), Cause.squash(exit.cause))
    )
    this.emitCommitFailed(batch, error, false)
    for (const settle of batch.waiting) settle(error, batch.stale)
    if (!batch.deferred || error.reason === "stale") return
    for (const partition of batch.offsets.keys()) this.lanes.get(partition)?.finish(Option.some(error))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // standing still, stopping, dying
  // -------------------------------------------------------------------------------------------------------------------

  private checkStalls(now: number): void {
    for (const subscriber of this.subscribers) {
      for (const lane of subscriber.lanes) {
        if (lane.stallReported || lane.unreadSince === undefined) continue
        const millis = now - lane.unreadSince
        if (millis < this.settings.stalledAfter) continue
        lane.stallReported = true
        if (!this.emit.enabled) continue
        this.emit({
          _tag: "Stalled",
          groupId: this.settings.groupId,
          partitions: [...lane.partitions].filter((one) => one.bufferedRecords > 0).map((one) => one.topicPartition),
          millis
        })
      }
    }
  }

  /** No new records, streams end, what was processed is committed. Ends when the loop has. */
  readonly stop: Effect.Effect<void> = Effect.suspend(() => {
    this.send({ _tag: "Stop" })
    return Deferred.await(this.ended)
  })

  private beginStop(): void {
    if (this.stopping !== undefined) return
    const startedAt = this.now()
    this.stopping = { startedAt, deadline: startedAt + this.settings.stopTimeout }
    for (const subscriber of this.subscribers) subscriber.finish(undefined)
    for (const partition of this.partitions.values()) partition.discard()
  }

  private isStopped(now: number): boolean {
    if (this.stopping === undefined) return false
    const busy = !this.book.isIdle || this.unsettled(this.partitions.values()).length > 0 || this.reading()
    if (busy && now < this.stopping.deadline) return false
    if (this.emit.enabled) {
      this.emit({ _tag: "Stopped", groupId: this.settings.groupId, millis: now - this.stopping.startedAt })
    }
    return true
  }

  private reading(): boolean {
    for (const subscriber of this.subscribers) for (const lane of subscriber.lanes) if (!lane.closed) return true
    return false
  }

  private die(error: StreamError, loud = true): void {
    if (this.dead !== undefined) return
    this.dead = error
    if (loud && this.emit.enabled) this.emit({ _tag: "Died", groupId: this.settings.groupId, error })
    for (const subscriber of this.subscribers) subscriber.finish(error)
    for (const batch of this.book.abandon()) {
      if (batch.waiting.length === 0) continue
      const failure = this.commitError("closed", batch.offsets.keys(), error)
      for (const settle of batch.waiting) settle(failure, batch.stale)
    }
    for (const gate of this.gates) gate.open([])
    this.gates = []
    for (const partition of [...this.partitions.values()]) this.end(partition)
  }

  private failureOf(cause: Cause.Cause<StreamError>, description: string): StreamError {
    return Option.getOrElse(Cause.failureOption(cause), () =>
      new ConsumerError({
        reason: "crashed",
        groupId: this.settings.groupId,
        description,
        cause: Cause.squash(cause)
      }))
  }
}

const generational: ReadonlySet<CommitError["reason"]> = new Set(["rebalancing", "stale", "fenced"])

const toSubscription = (sources: ReadonlyArray<Source>): KafkaClient.Subscription => {
  const topics = new Set<string>()
  const partitions: Array<TopicPartition.TopicPartition> = []
  for (const source of sources) {
    if (source._tag === "Pattern") return source
    if (source._tag === "Topics") { for (const topic of source.topics) topics.add(topic) }
    else for (const partition of source.partitions.keys()) partitions.push(TopicPartition.make(source.topic, partition))
  }
  return partitions.length > 0 ? { _tag: "Manual", partitions } : { _tag: "Topics", topics }
}

const describe = (subscription: KafkaClient.Subscription): string => {
  switch (subscription._tag) {
    case "Topics":
      return [...subscription.topics].sort().join(",")
    case "Pattern":
      return `/${subscription.pattern.source}/${subscription.pattern.flags}`
    case "Manual":
      return subscription.partitions.map(TopicPartition.key).sort().join(",")
  }
}
