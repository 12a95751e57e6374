/**
 * Membership of a group through kafkajs, which is kept for that alone: all its partitions are paused, and it joins,
 * sends heartbeats and leaves. The gate decides when it may join; kafkajs asks by its partition assigner.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Assigner, Cluster, Consumer, GroupDescription, PartitionAssigner, PartitionMetadata } from "kafkajs"
import type { ConsumerCallbacks, ConsumerSessionOptions, GroupMetadata } from "../../KafkaClient.ts"
import { type ClientError, ConsumerError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { balanced } from "../inmemory/Assignor.ts"
import * as Connection from "./connection.ts"
import * as Assignor from "./consumerAssignor.ts"
import { isTransient, within } from "./consumerCluster.ts"
import * as Gate from "./consumerGate.ts"
import { clientError, withoutFencing } from "./errors.ts"
import * as Internals from "./internals.ts"

export interface Membership {
  readonly environment: Connection.Environment
  readonly options: ConsumerSessionOptions
  readonly callbacks: Holding
  /** Called with each sign of life of the coordinator. */
  readonly alive: () => void
  /** Says that a member is gone. Takes as long as it likes. */
  readonly leave: (memberId: string) => Effect.Effect<void>
}

/**
 * What becomes of partitions.
 */
export interface Holding {
  /** They are ours: find out where to start, and start. */
  readonly assign: (partitions: Gate.Partitions) => Effect.Effect<void>
  /** Nothing more of them is fetched. */
  readonly halt: (partitions: Gate.Partitions) => void
  readonly revoke: ConsumerCallbacks["onRevoked"]
  readonly lose: ConsumerCallbacks["onLost"]
  readonly notice: ConsumerCallbacks["onNotice"]
}

export type FatalError = ClientError | ConsumerError

/** kafkajs looks around so often while nothing is to be fetched: it bounds how long leaving takes. In milliseconds. */
const tick = 100

/** The longest time between two heartbeats, in milliseconds: by them a rebalance is learnt that others wait for. */
const heartbeatAtMost = 250

/** How often kafkajs asks anew, with growing pauses from 50 ms on, before it is sent back to its heartbeats. */
const quickAsks = 3

/** How long leaving may take, in milliseconds: saying so, and kafkajs's own end. */
const leaveTimeout = { said: 1000, ended: 500 }

/** How long kafkajs may be free to join and not do it, in milliseconds. */
const idleLimit = 10_000

const restartPause = 500

/** Outages are waited out: giving up is decided elsewhere. */
const patience = { retries: 1_000_000, initialRetryTime: 100, maxRetryTime: 1000, factor: 0.2, multiplier: 2 }

/** The generation of who is in no group. */
const notJoined = -1

type End =
  | { readonly _tag: "Fatal"; readonly error: FatalError }
  | { readonly _tag: "Again" }

export class Group {
  private readonly self: Membership
  private readonly actions: Queue.Queue<Exclude<Gate.Action, { readonly _tag: "Inspect" }>>
  private readonly inspections: Queue.Queue<void>
  private readonly wishes: Queue.Queue<void>
  private topics: ReadonlySet<string> = new Set()
  private subscribed = false
  private state: Gate.State = Gate.initial
  private member: Member | undefined = undefined
  private memberId = ""
  /** Who we are to the coordinator as the owner of the partitions that were handed out last. */
  private identity: GroupMetadata | undefined = undefined
  private owned: Assignor.Owned = Assignor.nothingOwned
  private lost: Deferred.Deferred<void> = Deferred.unsafeMake(FiberId.none)
  private released: Deferred.Deferred<void> | undefined = undefined

  static make(self: Membership): Effect.Effect<Group> {
    return Effect.map(
      Effect.all([
        Queue.unbounded<Exclude<Gate.Action, { readonly _tag: "Inspect" }>>(),
        Queue.sliding<void>(1),
        Queue.sliding<void>(1)
      ]),
      ([actions, inspections, wishes]) => new Group(self, actions, inspections, wishes)
    )
  }

  private constructor(
    self: Membership,
    actions: Group["actions"],
    inspections: Group["inspections"],
    wishes: Group["wishes"]
  ) {
    this.self = self
    this.actions = actions
    this.inspections = inspections
    this.wishes = wishes
  }

  /** Joins with these topics, or changes to them, in the background. */
  subscribe(topics: ReadonlySet<string>): void {
    if (this.subscribed && topics.size === this.topics.size && [...topics].every((one) => this.topics.has(one))) return
    this.subscribed = true
    this.topics = topics
    this.wishes.unsafeOffer(undefined)
  }

  get metadata(): GroupMetadata | undefined {
    return this.identity
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the gate
  // -------------------------------------------------------------------------------------------------------------------

  private feed(input: Gate.Input): Gate.Verdict {
    const { actions, state, verdict } = Gate.next(this.state, input)
    this.state = state
    for (const action of actions) {
      if (action._tag === "Inspect") {
        this.inspections.unsafeOffer(undefined)
        continue
      }
      if (action._tag !== "Assign") this.self.callbacks.halt(action.partitions)
      if (action._tag === "Lose") Deferred.unsafeDone(this.lost, Effect.void)
      this.actions.unsafeOffer(action)
    }
    if (this.released !== undefined && Gate.mayJoin(state)) {
      Deferred.unsafeDone(this.released, Effect.void)
      this.released = undefined
    }
    return verdict
  }

  /** Does what the gate said, one after the other. */
  private get perform(): Effect.Effect<never> {
    const { callbacks, options } = this.self
    return Effect.forever(Effect.flatMap(Queue.take(this.actions), (action) => {
      switch (action._tag) {
        case "Assign":
          // until here commits were of the assignment before, for which the coordinator may refuse them
          this.identity = action.generation === notJoined
            ? undefined
            : { groupId: options.groupId, memberId: this.memberId, generation: action.generation }
          this.owned = { owned: action.partitions, generation: action.generation }
          return callbacks.assign(action.partitions)
        case "Revoke": {
          const settle = action.partitions.length === 0
            ? Effect.void
            : Effect.raceFirst(callbacks.revoke(action.partitions), Deferred.await(this.lost))
          return Effect.zipRight(
            Effect.sync(() => callbacks.halt(action.partitions)),
            Effect.zipRight(settle, Effect.sync(() => this.feed({ _tag: "Settled" })))
          )
        }
        case "Lose":
          return Effect.suspend(() => {
            callbacks.halt(action.partitions)
            this.identity = undefined
            this.owned = Assignor.nothingOwned
            this.lost = Deferred.unsafeMake(FiberId.none)
            return action.partitions.length === 0 ? Effect.void : callbacks.lose(action.partitions)
          })
      }
    }))
  }

  /** Asks the coordinator what it is that kafkajs wants to rejoin for. */
  private get inspect(): Effect.Effect<never> {
    return Effect.forever(Effect.zipRight(
      Queue.take(this.inspections),
      Effect.suspend(() => {
        const { member, memberId } = this
        return member === undefined
          ? Effect.succeed("unknown" as const)
          : Effect.tryPromise(() => member.whereabouts(memberId)).pipe(
            Effect.timeout(2000),
            Effect.orElseSucceed(() => "unknown" as const)
          )
      }).pipe(Effect.map((found) => this.feed({ _tag: "Inspected", found })))
    ))
  }

  /** Has the partitions settled, so that we may rejoin or leave. */
  private get release(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const released = this.released ?? Deferred.unsafeMake<void>(FiberId.none)
      this.released = released
      this.feed({ _tag: "Release" })
      return Deferred.await(released)
    })
  }

  /**
   * Rejoins for partitions that kafkajs has not heard of, after those we hold have settled.
   *
   * @param count how many partitions a topic has
   */
  lookForPartitions(count: (topic: string) => number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { member, state } = this
      if (member === undefined || state._tag !== "Open" || !member.hasFewer(this.topics, count)) return Effect.void
      return this.release.pipe(
        Effect.zipRight(Effect.tryPromise(() => member.learnPartitions())),
        Effect.zipRight(Effect.sleep(10 * tick)),
        Effect.ignore,
        Effect.zipRight(Effect.sync(() => void this.feed({ _tag: "Resume" })))
      )
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // as a member
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Is a member from the first subscription on, until it fails. When it ends, it leaves the group.
   */
  get run(): Effect.Effect<never, FatalError> {
    const self = this
    const changed = Effect.zipRight(Queue.take(this.wishes), Effect.as(this.release, undefined))
    return Effect.gen(function*() {
      yield* Queue.take(self.wishes)
      while (true) {
        const end = yield* Effect.raceFirst(Effect.scoped(self.belong(self.topics)), changed)
        self.feed({ _tag: "Ended" })
        if (end === undefined) continue
        if (end._tag === "Fatal") return yield* Effect.fail(end.error)
        yield* Effect.sleep(restartPause)
      }
    }).pipe(Effect.raceFirst(this.perform), Effect.raceFirst(this.inspect))
  }

  /** Is a member with these topics, until something ends it. */
  private belong(topics: ReadonlySet<string>): Effect.Effect<End, never, Scope.Scope> {
    const { environment, options } = this.self
    const self = this
    return Effect.gen(function*() {
      if (topics.size === 0) {
        // there is nothing to be had, and that is the assignment
        self.feed({ _tag: "Joined", partitions: [], generation: notJoined })
        return yield* Effect.never
      }
      const ended = yield* Deferred.make<End>()
      const connection = Connection.make(environment, { clientId: options.clientId, retry: patience })
      const member = new Member(self.self, connection, topics, {
        ask: (why) => self.feed({ _tag: "JoinAsked", why }),
        mayJoin: () => Gate.mayJoin(self.state),
        owned: () => self.owned
      })
      self.member = member
      yield* Effect.addFinalizer(() => Effect.zipRight(member.leave, Effect.sync(() => (self.member = undefined))))
      const end = (error: unknown): void => {
        // one that was told to leave has nothing more to say
        if (member.closing) return
        self.feed({ _tag: "Ended" })
        Deferred.unsafeDone(ended, Effect.succeed(self.endOf(error)))
      }
      self.listen(member, end)
      const started = yield* Effect.either(Effect.tryPromise({ try: () => member.start(), catch: (error) => error }))
      if (started._tag === "Left") end(started.left)
      return yield* Effect.raceFirst(Deferred.await(ended), self.idleness(member))
    })
  }

  private listen(member: Member, end: (error: unknown) => void): void {
    const { consumer } = member
    const { alive, callbacks } = this.self
    const { CRASH, GROUP_JOIN, HEARTBEAT, REBALANCING } = consumer.events
    consumer.on(GROUP_JOIN, ({ payload }) => {
      if (member.closing) return
      alive()
      member.stirred("Joined")
      this.memberId = payload.memberId
      const partitions = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) =>
        partitions.map((partition) => TopicPartition.make(topic, partition))
      )
      callbacks.notice({
        _tag: "Joined",
        memberId: payload.memberId,
        generation: member.generationOf(payload.memberId)
      })
      this.feed({ _tag: "Joined", partitions, generation: member.generationOf(payload.memberId) })
    })
    consumer.on(HEARTBEAT, ({ payload: { groupGenerationId } }) => {
      if (member.closing) return
      alive()
      member.stirred("Heartbeat")
      callbacks.notice({ _tag: "Heartbeat" })
      this.feed({ _tag: "Heartbeat", generation: groupGenerationId })
    })
    consumer.on(REBALANCING, () => {
      if (member.closing) return
      alive()
      if (!member.told) callbacks.notice({ _tag: "Rebalancing" })
      member.stirred("Rebalancing")
    })
    consumer.on(CRASH, ({ payload }) => end(payload.error))
  }

  /** Ends when kafkajs is out of the group and does nothing about it: it lost its place while it was told to go on. */
  private idleness(member: Member): Effect.Effect<End> {
    return Effect.gen(this, function*() {
      for (let idle = 0; idle < idleLimit; idle += tick) {
        yield* Effect.sleep(tick)
        const { state } = this
        const out = state._tag === "Out" || (state._tag === "Closed" && !state.deliberate)
        if (!out || member.joining) idle = 0
      }
      return { _tag: "Again" }
    })
  }

  private endOf(error: unknown): End {
    const { environment, options } = this.self
    const mapped = withoutFencing(
      clientError(error, Connection.attempt(environment, "join group", { group: options.groupId }))
    )
    // kafkajs takes metadata that it has not loaded for topics that do not exist
    if (mapped._tag === "UnknownTopicError" || isTransient(mapped)) return { _tag: "Again" }
    if (mapped._tag === "KafkaRequestError") {
      return {
        _tag: "Fatal",
        error: new ConsumerError({
          reason: "crashed",
          groupId: options.groupId,
          description: mapped.reason,
          cause: mapped
        })
      }
    }
    return { _tag: "Fatal", error: mapped }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// one kafkajs consumer
// ---------------------------------------------------------------------------------------------------------------------

/** A retriable error sends kafkajs back to its loop and its heartbeats. */
class Later extends Error {
  readonly retriable = true
}

/** kafkajs takes this for an answer of the coordinator, and tries to join again after a moment. */
class Wait extends Error {
  readonly retriable = true
  readonly type = "REBALANCE_IN_PROGRESS"
}

class Closing extends Error {
  readonly retriable = false
}

/** Kinds of requests. */
const joinGroup = 11
const heartbeat = 12

const hasMemberId = (u: unknown): u is { readonly memberId: string } =>
  typeof u === "object" && u !== null && "memberId" in u && typeof u.memberId === "string"

const held = "records in hand are being settled"

/** What stands between kafkajs and the group. */
interface Door {
  readonly ask: (why: Gate.Why) => Gate.Verdict
  readonly mayJoin: () => boolean
  readonly owned: () => Assignor.Owned
}

/**
 * A kafkajs consumer, from its start until it has left.
 */
class Member implements Internals.Listener {
  readonly consumer: Consumer
  closing = false
  /** Whether it may have sent a request to join that was not answered yet. */
  joining = true
  private readonly self: Membership
  private readonly connection: Connection.Connection
  private readonly topics: ReadonlyArray<string>
  private cluster!: Internals.OpenCluster
  private memberId: string | undefined = undefined
  private generation: number | undefined = undefined
  /** How often it was answered since it joined a generation whose assignment it has not heard yet. */
  private unsynced = 0
  /** Whether the present rebalance was told of. */
  told = false
  private rebalancing = false
  private quick = 0

  constructor(
    self: Membership,
    connection: Connection.Connection,
    topics: ReadonlySet<string>,
    door: Door
  ) {
    this.self = self
    this.connection = connection
    this.topics = [...topics]
    const { options } = self
    this.consumer = connection.kafka.consumer({
      groupId: options.groupId,
      sessionTimeout: options.sessionTimeout,
      rebalanceTimeout: options.rebalanceTimeout,
      heartbeatInterval: Math.min(options.heartbeatInterval, heartbeatAtMost),
      maxWaitTimeInMs: tick,
      allowAutoTopicCreation: false,
      // new partitions are noticed elsewhere, and settled before
      metadataMaxAge: 2 ** 31 - 1,
      readUncommitted: options.isolationLevel === "read_uncommitted",
      partitionAssigners: [this.assigner(door)],
      retry: {
        initialRetryTime: 50,
        multiplier: 1.5,
        maxRetryTime: 250,
        retries: 1_000_000,
        restartOnFailure: () => Promise.resolve(false)
      }
    })
  }

  private assigner(door: Door): PartitionAssigner {
    return ({ cluster }): Assigner => {
      // kafkajs joins although one of its topics has no leader, and lets us hear the generation
      this.cluster = Internals.opened(cluster, this)
      return this.assignerOf(cluster, door)
    }
  }

  answered(apiKey: number, answer: unknown): void {
    if (apiKey === joinGroup && hasMemberId(answer) && "generationId" in answer) {
      this.memberId = answer.memberId
      this.generation = Number(answer.generationId)
      this.unsynced = 1
    } else if (apiKey === heartbeat && this.unsynced > 0 && this.unsynced++ >= 2) {
      // it was not told its partitions, and goes on as a member of the new generation with those of the old one
      throw new Wait("the rebalance was not completed")
    }
  }

  failed(apiKey: number, error: unknown): void {
    // the coordinator gives a name before it lets a new member in
    if (apiKey === joinGroup && hasMemberId(error)) this.memberId = error.memberId
  }

  private assignerOf(cluster: Cluster, door: Door): Assigner {
    return {
      name: Assignor.name,
      version: Assignor.version,
      protocol: ({ topics }) => {
        if (this.closing) throw new Closing("leaving")
        if (this.quick > 0 && !this.rebalancing && !door.mayJoin()) {
          if (++this.quick <= quickAsks) throw new Wait(held)
          this.quick = 0
          throw new Later(held)
        }
        this.quick = 0
        const why = this.rebalancing ? "rebalancing" : "unexplained"
        this.rebalancing = false
        switch (door.ask(why)) {
          case "go":
            this.joining = true
            return { name: Assignor.name, metadata: Assignor.encodeMember(topics, door.owned()) }
          case "later":
            this.quick = 1
            throw new Wait(held)
          case "wait":
            throw new Wait(held)
        }
      },
      assign: async ({ members }) => {
        const decoded = members.map((member) => Assignor.decodeMember(member.memberId, member.memberMetadata))
        const topics = new Set(decoded.flatMap((member) => [...member.topics]))
        const counts = new Map<string, number>()
        for (const topic of topics) {
          const known = cluster.findTopicPartitionMetadata(topic)
          const metadata = known.length > 0 ? known : await partitionsOf(cluster, topic)
          counts.set(topic, metadata.length)
        }
        return Array.from(balanced(decoded, (topic) => counts.get(topic) ?? 0), ([memberId, held]) => ({
          memberId,
          memberAssignment: Assignor.encodeAssignment(held)
        }))
      }
    }
  }

  async start(): Promise<void> {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [...this.topics] })
    const running = this.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: () => Promise.resolve()
    })
    // in time for the first fetch, and for good: what is paused stays so
    this.consumer.pause(this.topics.map((topic) => ({ topic })))
    await running
  }

  /** The generation that a member has joined, if it was heard. */
  generationOf(memberId: string): number | undefined {
    return this.memberId === memberId ? this.generation : undefined
  }

  /** Something happened, and no request to join is under way. */
  stirred(what: "Joined" | "Heartbeat" | "Rebalancing"): void {
    this.joining = false
    if (what === "Joined") this.unsynced = 0
    this.rebalancing = what === "Rebalancing"
    this.told = what === "Rebalancing"
  }

  /** Whether it knows of fewer partitions than there are. */
  hasFewer(topics: ReadonlySet<string>, count: (topic: string) => number): boolean {
    return [...topics].some((topic) => count(topic) > this.cluster.findTopicPartitionMetadata(topic).length)
  }

  /** Makes it look at the metadata; it rejoins by itself where it finds new partitions. */
  learnPartitions(): Promise<void> {
    return this.cluster.refreshMetadata()
  }

  /** What the coordinator knows of a member. */
  async whereabouts(memberId: string): Promise<"gone" | "stable" | "rebalancing"> {
    const found: GroupDescription | undefined = await this.consumer.describeGroup()
    if (found?.members.some((member) => member.memberId === memberId) !== true) return "gone"
    return found.state === "Stable" ? "stable" : "rebalancing"
  }

  /** Leaves the group, wherever kafkajs is with it, bounded in time. */
  get leave(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.closing = true
      const { memberId } = this
      const said = memberId === undefined ? Effect.void : this.self.leave(memberId)
      return Effect.zipRight(
        Effect.timeoutOption(Effect.disconnect(Effect.interruptible(said)), leaveTimeout.said),
        Effect.zipRight(
          Effect.sync(this.connection.kill),
          within(leaveTimeout.ended, () => this.consumer.disconnect())
        )
      )
    })
  }
}

/** The partitions of a topic that only other members subscribe to. */
const partitionsOf = async (cluster: Cluster, topic: string): Promise<ReadonlyArray<PartitionMetadata>> => {
  const [nodeId] = cluster.getNodeIds()
  const broker = await cluster.findBroker({ nodeId: String(nodeId) })
  const { topicMetadata } = await broker.metadata([topic])
  return topicMetadata.find((found) => found.topic === topic)?.partitionMetadata ?? []
}
