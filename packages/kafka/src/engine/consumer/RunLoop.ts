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
import type { ConsumerNotice, ConsumerSession, Fetched, FetchedChunk, GroupMetadata } from "../../KafkaClient.ts"
import { ConsumerError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { Emit } from "../observe.ts"
import { Assignments } from "./Assignments.ts"
import type { Command, Positions } from "./Command.ts"
import { Commits } from "./Commits.ts"
import type { EngineContext } from "./EngineContext.ts"
import * as FetchPlanner from "./FetchPlanner.ts"
import { Lane } from "./Lane.ts"
import { Lease } from "./Lease.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"
import * as Retry from "./Retry.ts"
import type { Settings } from "./Settings.ts"
import type { StreamError } from "./StreamError.ts"
import { covers, type Subscriber } from "./Subscriber.ts"
import { describe, Subscribers } from "./Subscribers.ts"

/** How long an ended stream keeps its partitions for the commit of what it had handed out, in milliseconds. */
const LINGER = 5000
/** The loop looks after itself at least so often, in milliseconds. */
const MAX_WAIT = 5000

export class RunLoop implements EngineContext {
  readonly settings: Settings
  readonly session: ConsumerSession
  readonly scope: Scope.Scope
  readonly emit: Emit
  readonly subscribers = new Subscribers()
  readonly commits: Commits
  readonly assignments: Assignments
  dead: StreamError | undefined = undefined
  lastPollAt: number
  private readonly lease: Lease
  joined = false
  private readonly clock: Clock.Clock
  private readonly commands: Array<Command> = []
  private withheld: ReadonlySet<TopicPartition.Key> = new Set()
  /** What the driver was last told to read. */
  private subscribed = ""
  private subscribing = false
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
    this.lease = new Lease(settings.sessionTimeout)
    this.commits = new Commits(this)
    this.assignments = new Assignments(this, this.subscribers, this.commits.book)
  }

  readonly now = (): number => this.clock.unsafeCurrentTimeMillis()

  get partitions(): ReadonlyMap<TopicPartition.Key, PartitionBuffer> {
    return this.assignments.partitions
  }

  readonly laneOf = (partition: PartitionBuffer): Lane<StreamError> | undefined => this.assignments.lanes.get(partition)

  readonly tell = (command: Command): void => {
    this.commands.push(command)
    this.session.wake()
  }

  /** Something that the loop waits for has changed. */
  wake(): void {
    this.session.wake()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // for streams
  // -------------------------------------------------------------------------------------------------------------------

  makeLane(): Lane<StreamError> {
    return new Lane<StreamError>({
      now: this.now,
      isHeldBack: () => this.isHeldBack,
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
      onReturned: () => {
        if (this.assignments.gates.length > 0) this.session.wake()
      },
      onHungry: () => {
        if (this.withheld.size > 0 || this.assignments.gates.length > 0 || this.stopping !== undefined) {
          this.session.wake()
        }
      }
    })
  }

  /** Adds a stream, or says why it can't be. */
  open(subscriber: Subscriber): StreamError | undefined {
    const refusal = this.refusal()
    if (refusal !== undefined) return refusal
    const description = this.subscribers.add(subscriber)
    if (description !== undefined) {
      return new ConsumerError({ reason: "subscription", groupId: this.settings.groupId, description })
    }
    this.tell({ _tag: "Open", subscriber })
    return undefined
  }

  close(subscriber: Subscriber): void {
    for (const lane of [...subscriber.lanes]) lane.close()
    this.tell({ _tag: "Close", subscriber })
  }

  /** Why nothing can be asked of this consumer any more. */
  refusal(): StreamError | undefined {
    if (this.dead !== undefined) return this.dead
    if (this.stopping === undefined) return undefined
    return new ConsumerError({ reason: "closed", groupId: this.settings.groupId, description: "it was stopped" })
  }

  /** Goes on from another offset: what is buffered is dropped, what is in hand is not touched. */
  seek(partition: PartitionBuffer, offset: bigint): Effect.Effect<void> {
    return this.ask<void>((reply) => ({ _tag: "Seek", partition, offset, reply }), undefined)
  }

  groupMetadata(): GroupMetadata | undefined {
    return this.session.groupMetadata()
  }

  /** Whether the group has heard of this member, and it of the group, so lately that the session can not be over. */
  get isHeard(): boolean {
    return this.lease.isFresh(this.now())
  }

  /**
   * Whether nothing may be begun for now: the group may have given our partitions away, and we have not heard of it. Ends
   * with the next heartbeat that is answered, or with the loss of the partitions.
   */
  get isHeldBack(): boolean {
    return this.isHeldBackAt(this.now())
  }

  /** The same, for who knows what time it is. */
  isHeldBackAt(now: number): boolean {
    return this.lease.isOver(now)
  }

  private confirmed(millis: number | undefined): void {
    if (!this.lease.confirm(this.now(), millis ?? 0)) return
    for (const subscriber of this.subscribers.all) for (const lane of subscriber.lanes) lane.goOn()
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
      this.tell(command(reply))
      return Effect.ensuring(Deferred.await(reply), Effect.sync(() => this.asking.delete(giveUp)))
    })
  }

  readonly onAssigned = (
    partitions: ReadonlyArray<TopicPartition.TopicPartition>
  ): Effect.Effect<Positions> => this.ask<Positions>((reply) => ({ _tag: "Assigned", partitions, reply }), new Map())

  readonly onRevoked = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): Effect.Effect<void> =>
    this.ask<void>((reply) => ({ _tag: "Revoked", partitions, reply }), undefined)

  readonly onLost = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): Effect.Effect<void> =>
    Effect.sync(() => this.tell({ _tag: "Lost", partitions }))

  readonly onNotice = (notice: ConsumerNotice): void => {
    const { groupId } = this.settings
    switch (notice._tag) {
      case "Heartbeat":
        this.confirmed(notice.millis)
        if (this.emit.enabled) this.emit({ _tag: "Heartbeat", groupId })
        return
      case "Rebalancing":
        this.joined = false
        this.assignments.rebalancingSince ??= this.now()
        if (this.emit.enabled) this.emit({ _tag: "Rebalancing", groupId })
        return
      case "Joined":
        this.joined = true
        this.confirmed(notice.millis)
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
        this.finish(
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
        self.assignments.checkGates(now)
        self.checkEndedStreams(now)
        self.checkStalls(now)
        if (self.dead !== undefined || self.isStopped(now)) return
        yield* self.syncSubscription()
        self.commits.book.release(now, self.assignments.gates.length > 0 || self.stopping !== undefined)
        yield* self.commits.send()
        if (self.commands.length > 0) continue
        const plan = FetchPlanner.plan([...self.fills()], self.settings.prefetch)
        self.withheld = plan.withheld
        if (self.emit.enabled && self.dead === undefined) {
          self.emit({ _tag: "LoopTurned", groupId: self.settings.groupId, ...self.buffered() })
        }
        const fetched = yield* self.session.poll(
          plan.demand,
          Math.max(0, Math.min(MAX_WAIT, self.dueAt() - self.now()))
        )
        self.lastPollAt = self.now()
        for (const one of fetched) yield* self.receive(one)
        // readers first: the rest can wait, and the next demand goes by what they leave
        if (fetched.length > 0) yield* Effect.yieldNow()
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
        for (const one of command.partitions) this.assignments.owned.add(TopicPartition.key(one))
        return this.assignments.assign(command.partitions, command.reply)
      case "Reassign":
        return this.assignments.assign(
          command.partitions.filter((one) => {
            const key = TopicPartition.key(one)
            return this.assignments.owned.has(key) && !this.partitions.has(key)
          }),
          undefined
        )
      case "Positioned":
        return this.assignments.position(command)
      case "Revoked":
        return Effect.sync(() => this.assignments.revoke(command.partitions, command.reply))
      case "Lost":
        return Effect.sync(() => this.assignments.lose(command.partitions))
      case "Subscribed":
        return Effect.sync(() => this.onSubscribed(command.fingerprint, command.exit))
      case "Reset":
        return this.assignments.onReset(command)
      case "Seek":
        return this.assignments.onSeek(command)
      case "CommitEnded":
        return Effect.sync(() => this.commits.onEnded(command.exit))
      case "Stop":
        return Effect.sync(() => this.beginStop())
    }
  }

  /** When something has to be looked at next, in milliseconds. */
  private dueAt(): number {
    let due = Math.min(this.commits.book.dueAt, this.stopping?.deadline ?? Infinity)
    for (const gate of this.assignments.gates) due = Math.min(due, gate.deadline)
    for (const subscriber of this.subscribers.all) {
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
      const lane = this.laneOf(partition)
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
    const lane = this.laneOf(partition)
    if (fetched._tag === "OutOfRange") return this.assignments.reset(partition, fetched.offset)
    if (fetched._tag === "Failed") {
      lane?.finish(Option.some(fetched.error))
      return Effect.void
    }
    partition.append(fetched)
    if (this.emit.enabled) this.emitPolled(partition, fetched)
    lane?.offer(partition)
    return Effect.void
  }

  private emitPolled(partition: PartitionBuffer, chunk: FetchedChunk): void {
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
      ...this.buffered()
    })
  }

  private buffered(): { readonly bufferedRecords: number; readonly bufferedBytes: number } {
    let bufferedRecords = 0
    let bufferedBytes = 0
    for (const one of this.partitions.values()) {
      bufferedRecords += one.bufferedRecords
      bufferedBytes += one.bufferedBytes
    }
    return { bufferedRecords, bufferedBytes }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // streams and the subscription
  // -------------------------------------------------------------------------------------------------------------------

  /** A new stream may read partitions that are here already: from an ended stream that still waited for commits. */
  private adopt(subscriber: Subscriber): void {
    this.subscribers.displace(subscriber)
    const taken = [...this.partitions.values()].filter((one) =>
      one.status === "active" && covers(subscriber.source, one.topicPartition)
    )
    if (taken.length === 0) return
    for (const partition of taken) this.assignments.withdraw(partition)
    this.assignments.gate(
      taken,
      () => this.tell({ _tag: "Reassign", partitions: taken.map((one) => one.topicPartition) })
    )
  }

  private checkEndedStreams(now: number): void {
    for (const subscriber of this.subscribers.all) {
      if (subscriber.closedAt === undefined) continue
      const waiting = now < subscriber.closedAt + LINGER && this.stopping === undefined
      const own = [...this.partitions.values()].filter((one) => covers(subscriber.source, one.topicPartition))
      if (waiting && own.some((one) => !one.isCommitted || this.commits.book.has(one))) continue
      this.subscribers.all.delete(subscriber)
      // nobody takes away what was never a group's to give
      if (subscriber.source._tag === "Manual") { for (const one of own) this.assignments.drop(one) }
    }
  }

  /** Tells the driver what to read, where that has changed. */
  private syncSubscription(): Effect.Effect<void> {
    if (this.subscribing || this.stopping !== undefined) return Effect.void
    const { subscription } = this.subscribers
    const fingerprint = describe(subscription)
    for (const subscriber of this.subscribers.all) {
      if (subscriber.requested) continue
      subscriber.requested = true
      // the driver reads it already
      if (fingerprint === this.subscribed && this.assignments.hasArrivedFor(subscriber)) subscriber.onPositioned()
    }
    if (fingerprint === this.subscribed) return Effect.void
    this.subscribing = true
    return Effect.asVoid(Effect.forkIn(
      Effect.flatMap(
        Effect.exit(Retry.until(this.session.subscribe(subscription), {
          deadline: this.now() + this.settings.unavailableAfter,
          retriable: Retry.isRetriable
        })),
        (exit) => Effect.sync(() => this.tell({ _tag: "Subscribed", fingerprint, exit }))
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
    for (const subscriber of this.subscribers.all) {
      if (!covers(subscriber.source, TopicPartition.make(error.topic, error.partition ?? 0))) continue
      subscriber.finish(error)
      this.subscribers.all.delete(subscriber)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // standing still, stopping, dying
  // -------------------------------------------------------------------------------------------------------------------

  private checkStalls(now: number): void {
    for (const subscriber of this.subscribers.all) {
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
    this.tell({ _tag: "Stop" })
    return Deferred.await(this.ended)
  })

  private beginStop(): void {
    if (this.stopping !== undefined) return
    const startedAt = this.now()
    this.stopping = { startedAt, deadline: startedAt + this.settings.stopTimeout }
    for (const subscriber of this.subscribers.all) subscriber.finish(undefined)
    for (const partition of this.partitions.values()) partition.discard()
  }

  private isStopped(now: number): boolean {
    if (this.stopping === undefined) return false
    const busy = !this.commits.book.isIdle || this.assignments.unsettled(this.partitions.values()).length > 0 ||
      this.subscribers.reading
    if (busy && now < this.stopping.deadline) return false
    if (this.emit.enabled) {
      this.emit({ _tag: "Stopped", groupId: this.settings.groupId, millis: now - this.stopping.startedAt })
    }
    return true
  }

  readonly die = (error: StreamError): void => this.finish(error, true)

  private finish(error: StreamError, loud: boolean): void {
    if (this.dead !== undefined) return
    this.dead = error
    if (loud && this.emit.enabled) this.emit({ _tag: "Died", groupId: this.settings.groupId, error })
    for (const subscriber of this.subscribers.all) subscriber.finish(error)
    this.commits.close(error)
    this.assignments.endAll()
  }

  readonly failureOf = (cause: Cause.Cause<StreamError>, description: string): StreamError =>
    Option.getOrElse(Cause.failureOption(cause), () =>
      new ConsumerError({
        reason: "crashed",
        groupId: this.settings.groupId,
        description,
        cause: Cause.squash(cause)
      }))
}
