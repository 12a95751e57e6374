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
import { type ClientError, ConsumerError, type UnknownTopicError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import * as Connection from "./connection.ts"
import * as Assignor from "./consumerAssignor.ts"
import { isTransient, within } from "./consumerCluster.ts"
import * as Gate from "./consumerGate.ts"
import { clientError, withoutFencing } from "./errors.ts"

export interface Membership {
  readonly environment: Connection.Environment
  readonly options: ConsumerSessionOptions
  readonly callbacks: Holding
  /** Called with each sign of life of the coordinator. */
  readonly alive: () => void
  /** Whether the cluster answered lately: if not, nobody is told goodbye. */
  readonly reachable: () => boolean
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

export type FatalError = ClientError | ConsumerError | UnknownTopicError

/** kafkajs looks around so often while nothing is to be fetched: it bounds how long leaving takes. In milliseconds. */
const tick = 100

/** More often than this, no heartbeats: the generation is known by the first one. In milliseconds. */
const heartbeatAtMost = 500

/** How long a goodbye may take, in milliseconds. */
const leaveTimeout = 2000

/** How long kafkajs may be free to join and not do it, in milliseconds. */
const idleLimit = 5000

const restartPause = 500

/** How often a topic may be missing at a join before it counts as gone. */
const missingLimit = 5

/** Outages are waited out: giving up is decided elsewhere. */
const patience = { retries: 1_000_000, initialRetryTime: 100, maxRetryTime: 1000, factor: 0.2, multiplier: 2 }

/** Who we are in the current assignment. */
interface Identity {
  readonly memberId: string
  /** `undefined` if it was never learnt and is over. */
  readonly generation: Deferred.Deferred<number | undefined>
  known: number | undefined
}

const makeIdentity = (memberId: string): Identity => ({
  memberId,
  generation: Deferred.unsafeMake(FiberId.none),
  known: undefined
})

const learn = (identity: Identity | undefined, generation: number | undefined): void => {
  if (identity === undefined || identity.known !== undefined) return
  identity.known = generation
  Deferred.unsafeDone(identity.generation, Effect.succeed(generation))
}

type End =
  | { readonly _tag: "Fatal"; readonly error: FatalError }
  | { readonly _tag: "Again"; readonly missing: UnknownTopicError | undefined }

export class Group {
  private readonly self: Membership
  private readonly actions: Queue.Queue<Exclude<Gate.Action, { readonly _tag: "Inspect" }>>
  private readonly inspections: Queue.Queue<void>
  private readonly wishes: Queue.Queue<void>
  private topics: ReadonlySet<string> = new Set()
  private subscribed = false
  private state: Gate.State = Gate.initial
  private member: Member | undefined = undefined
  /** The last one kafkajs joined as. */
  private joined: Identity | undefined = undefined
  /** The one that partitions were handed out under. */
  private identity: Identity | undefined = undefined
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

  // -------------------------------------------------------------------------------------------------------------------
  // who we are
  // -------------------------------------------------------------------------------------------------------------------

  get metadata(): GroupMetadata | undefined {
    const { identity } = this
    return identity?.known === undefined
      ? undefined
      : { groupId: this.self.options.groupId, memberId: identity.memberId, generation: identity.known }
  }

  /** Who commits, as soon as that is known; `undefined` if nobody may any more. */
  get committer(): Effect.Effect<Pick<GroupMetadata, "memberId" | "generation"> | undefined> {
    return Effect.suspend(() => {
      const { identity } = this
      if (identity === undefined) return Effect.succeed(undefined)
      return Effect.map(
        Deferred.await(identity.generation),
        (generation) => generation === undefined ? undefined : { memberId: identity.memberId, generation }
      )
    })
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
    if (this.released !== undefined && (state._tag === "Closed" || state._tag === "Out")) {
      Deferred.unsafeDone(this.released, Effect.void)
      this.released = undefined
    }
    return verdict
  }

  /** Does what the gate said, one after the other. */
  private get perform(): Effect.Effect<never> {
    const { callbacks } = this.self
    return Effect.forever(Effect.flatMap(Queue.take(this.actions), (action) => {
      switch (action._tag) {
        case "Assign":
          this.identity = this.joined
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
            learn(this.identity, undefined)
            this.identity = undefined
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
        const { joined, member } = this
        return member === undefined || joined === undefined
          ? Effect.succeed("unknown" as const)
          : Effect.tryPromise(() => member.whereabouts(joined.memberId)).pipe(
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
      yield* Effect.forkScoped(self.perform)
      yield* Effect.forkScoped(self.inspect)
      yield* Queue.take(self.wishes)
      let missing = 0
      while (true) {
        const end = yield* Effect.raceFirst(Effect.scoped(self.belong(self.topics)), changed)
        self.feed({ _tag: "Ended" })
        if (end === undefined) continue
        if (end._tag === "Fatal") return yield* Effect.fail(end.error)
        missing = end.missing === undefined ? 0 : missing + 1
        if (end.missing !== undefined && missing >= missingLimit) return yield* Effect.fail(end.missing)
        yield* Effect.sleep(restartPause)
      }
    }).pipe(Effect.scoped)
  }

  /** Is a member with these topics, until something ends it. */
  private belong(topics: ReadonlySet<string>): Effect.Effect<End, never, Scope.Scope> {
    const { environment, options } = this.self
    const self = this
    return Effect.gen(function*() {
      if (topics.size === 0) {
        // there is nothing to be had, and that is the assignment
        self.feed({ _tag: "Joined", partitions: [] })
        return yield* Effect.never
      }
      const ended = yield* Deferred.make<End>()
      const connection = Connection.make(environment, { clientId: options.clientId, retry: patience })
      const member = new Member(self.self, connection, topics, (input) => self.feed(input), () => self.owned)
      self.member = member
      yield* Effect.addFinalizer(() => Effect.zipRight(member.leave, Effect.sync(() => (self.member = undefined))))
      const end = (error: unknown): void => {
        self.feed({ _tag: "Ended" })
        Deferred.unsafeDone(ended, Effect.succeed(self.endOf(error, topics)))
      }
      self.listen(member, end)
      const started = yield* Effect.either(Effect.tryPromise({ try: () => member.start(), catch: (error) => error }))
      if (started._tag === "Left") end(started.left)
      return yield* Effect.raceFirst(Deferred.await(ended), self.idleness(member))
    })
  }

  private get owned(): Pick<Assignor.Member, "owned" | "generation"> {
    const { state } = this
    return state._tag === "Out"
      ? { owned: [], generation: -1 }
      : { owned: state.partitions, generation: state.generation ?? -1 }
  }

  private listen(member: Member, end: (error: unknown) => void): void {
    const { consumer } = member
    const { alive, callbacks } = this.self
    const { CRASH, GROUP_JOIN, HEARTBEAT, REBALANCING } = consumer.events
    consumer.on(GROUP_JOIN, ({ payload }) => {
      if (member.closing) return
      alive()
      member.stirred("Joined")
      learn(this.joined, undefined)
      this.joined = makeIdentity(payload.memberId)
      const partitions = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) =>
        partitions.map((partition) => TopicPartition.make(topic, partition))
      )
      callbacks.notice({ _tag: "Joined", memberId: payload.memberId, generation: undefined })
      this.feed({ _tag: "Joined", partitions })
    })
    consumer.on(HEARTBEAT, ({ payload: { groupGenerationId } }) => {
      if (member.closing) return
      alive()
      member.stirred("Heartbeat")
      callbacks.notice({ _tag: "Heartbeat" })
      this.feed({ _tag: "Heartbeat", generation: groupGenerationId })
      // between two generations it may be one of the next already, until the gate says that it is not
      if (this.state._tag === "Open") member.joining = false
      if (!member.joining) learn(this.joined, groupGenerationId)
    })
    consumer.on(REBALANCING, () => {
      alive()
      if (!member.told) callbacks.notice({ _tag: "Rebalancing" })
      member.stirred("Rebalancing")
    })
    consumer.on(CRASH, ({ payload }) => end(payload.error))
  }

  /** Ends when kafkajs may join and does not: it lost its place while it was told to go on with heartbeats. */
  private idleness(member: Member): Effect.Effect<End> {
    return Effect.gen(this, function*() {
      let idle = 0
      while (idle * tick < idleLimit) {
        yield* Effect.sleep(tick)
        const waiting = (this.state._tag === "Out" || this.state._tag === "Closed") && !member.joining
        idle = waiting && !member.takeStir() ? idle + 1 : 0
      }
      return { _tag: "Again", missing: undefined }
    })
  }

  private endOf(error: unknown, topics: ReadonlySet<string>): End {
    const { environment, options } = this.self
    const [topic] = topics
    const mapped = withoutFencing(
      clientError(error, Connection.attempt(environment, "join group", { group: options.groupId, topic }))
    )
    if (mapped._tag === "UnknownTopicError") return { _tag: "Again", missing: mapped }
    if (isTransient(mapped)) return { _tag: "Again", missing: undefined }
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

/**
 * A kafkajs consumer, from its start until it has left.
 */
class Member {
  readonly consumer: Consumer
  closing = false
  /** Whether it may have sent a request to join that was not answered yet. */
  joining = true
  private readonly self: Membership
  private readonly connection: Connection.Connection
  private readonly topics: ReadonlyArray<string>
  private cluster!: Cluster
  private running: Promise<void> | undefined = undefined
  /** Whether the present rebalance was told of. */
  told = false
  private rebalancing = false
  private stir = false

  constructor(
    self: Membership,
    connection: Connection.Connection,
    topics: ReadonlySet<string>,
    feed: (input: Gate.Input) => Gate.Verdict,
    owned: () => Pick<Assignor.Member, "owned" | "generation">
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
      partitionAssigners: [this.assigner(feed, owned)],
      retry: {
        initialRetryTime: 50,
        multiplier: 1.5,
        maxRetryTime: 250,
        retries: 1_000_000,
        restartOnFailure: () => Promise.resolve(false)
      }
    })
  }

  private assigner(
    feed: (input: Gate.Input) => Gate.Verdict,
    owned: () => Pick<Assignor.Member, "owned" | "generation">
  ): PartitionAssigner {
    return ({ cluster }): Assigner => {
      this.cluster = cluster
      return this.assignerOf(cluster, feed, owned)
    }
  }

  private assignerOf(
    cluster: Cluster,
    feed: (input: Gate.Input) => Gate.Verdict,
    owned: () => Pick<Assignor.Member, "owned" | "generation">
  ): Assigner {
    return {
      name: Assignor.name,
      version: Assignor.version,
      protocol: ({ topics }) => {
        if (this.closing) throw new Closing("leaving")
        const why = this.rebalancing ? "rebalancing" : "unexplained"
        this.rebalancing = false
        this.stir = true
        // before the answer: a member that lost everything owns nothing
        const verdict = feed({ _tag: "JoinAsked", why })
        switch (verdict) {
          case "go":
            this.joining = true
            return { name: Assignor.name, metadata: Assignor.encodeMember({ topics, ...owned() }) }
          case "later":
            throw new Later("records in hand are being settled")
          case "wait":
            throw new Wait("records in hand are being settled")
        }
      },
      assign: async ({ members }) => {
        const decoded = members.map((member) => Assignor.decodeMember(member.memberId, member.memberMetadata))
        const topics = new Set(decoded.flatMap((member) => [...member.topics]))
        const partitions = new Map<string, ReadonlyArray<number>>()
        for (const topic of topics) {
          const known = cluster.findTopicPartitionMetadata(topic)
          const metadata = known.length > 0 ? known : await partitionsOf(cluster, topic)
          partitions.set(topic, metadata.map(({ partitionId }) => partitionId))
        }
        return Array.from(Assignor.assign(decoded, partitions), ([memberId, held]) => ({
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
    this.running = running
    // in time for the first fetch, and for good: what is paused stays so
    this.consumer.pause(this.topics.map((topic) => ({ topic })))
    await running
  }

  /** Something happened. */
  stirred(what: "Joined" | "Heartbeat" | "Rebalancing"): void {
    this.stir = true
    this.rebalancing = what === "Rebalancing"
    this.told = what === "Rebalancing"
    if (what === "Joined" || what === "Rebalancing") this.joining = false
  }

  takeStir(): boolean {
    const { stir } = this
    this.stir = false
    return stir
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

  /** Leaves the group, bounded in time. */
  get leave(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.closing = true
      const goodbye = async (): Promise<void> => {
        // kafkajs forgets to leave when it is stopped before it has joined
        await this.running
        await this.consumer.disconnect()
      }
      return Effect.ensuring(
        this.self.reachable() ? within(leaveTimeout, goodbye) : Effect.void,
        Effect.sync(this.connection.kill)
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
