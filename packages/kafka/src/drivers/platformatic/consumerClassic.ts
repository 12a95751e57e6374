/**
 * A member of a classic group: joins, keeps its session alive, gives partitions away and gets new ones. The leader of
 * the group says who reads what.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { ConsumerSessionOptions, GroupMetadata } from "../../KafkaClient.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { FatalError, Member, Membership } from "../consumerSession.ts"
import { Signal } from "../signal.ts"
import type { JoinGroupResponse } from "./consumerApis.ts"
import { Coordinator, malformed, type Refusal } from "./consumerCoordinator.ts"
import { Held } from "./consumerHolding.ts"
import * as Protocol from "./consumerProtocol.ts"
import type { ConsumerRequests } from "./consumerRequests.ts"

/** Before another attempt to join, by how many have failed, in milliseconds. */
const pauses = [0, 50, 100, 200, 500, 1000]

const protocolType = "consumer"

/** The generation of who is in no group. */
const notJoined = -1

const nothing: { readonly partitions: ReadonlyArray<TopicPartition.TopicPartition>; readonly generation: number } = {
  partitions: [],
  generation: notJoined
}

export const make = (
  requests: ConsumerRequests,
  options: ConsumerSessionOptions,
  membership: Membership
): Effect.Effect<Member, never, Scope.Scope> =>
  Effect.gen(function*() {
    const death = yield* Deferred.make<never, FatalError>()
    const held = new Held(membership.holding, yield* Effect.scope)
    return new ClassicMember(requests, options, membership, held, death)
  })

class ClassicMember implements Member {
  private readonly requests: ConsumerRequests
  private readonly coordinator: Coordinator
  private readonly options: ConsumerSessionOptions
  private readonly membership: Membership
  private readonly held: Held
  private readonly death: Deferred.Deferred<never, FatalError>
  private topics: ReadonlySet<string> = new Set()
  private subscribed = false
  private memberId = ""
  private generation = notJoined
  /** What it was given last, and in which generation. */
  private last = nothing
  /** Whether it is in a generation, and so has to send heartbeats. */
  private beating = false
  /** Whether it is on its way to the next one. */
  private joining = false
  /**
   * The request for a member id. Once the coordinator has answered it, the group waits for that member: who leaves has to
   * know by then who it is.
   */
  private asking: Fiber.Fiber<unknown, unknown> | undefined
  /** The numbers of partitions that the last assignment was made from, while it leads. */
  private led: ReadonlyMap<string, number> = new Map()
  private readonly rejoin = new Signal()

  constructor(
    requests: ConsumerRequests,
    options: ConsumerSessionOptions,
    membership: Membership,
    held: Held,
    death: Deferred.Deferred<never, FatalError>
  ) {
    this.requests = requests
    this.coordinator = new Coordinator(requests, options, membership)
    this.options = options
    this.membership = membership
    this.held = held
    this.death = death
  }

  subscribe(topics: ReadonlySet<string>): void {
    if (this.subscribed && topics.size === this.topics.size && [...topics].every((one) => this.topics.has(one))) return
    this.subscribed = true
    this.topics = new Set(topics)
    this.rejoin.raise()
  }

  get metadata(): GroupMetadata | undefined {
    const { groupId, groupInstanceId } = this.options
    const { generation, memberId } = this
    return generation === notJoined
      ? undefined
      : { groupId, memberId, generation, ...(groupInstanceId === undefined ? {} : { groupInstanceId }) }
  }

  lookForPartitions(count: (topic: string) => number): Effect.Effect<void> {
    return Effect.sync(() => {
      for (const [topic, known] of this.led) if (count(topic) !== known) this.rejoin.raise()
    })
  }

  get run(): Effect.Effect<void, FatalError> {
    return this.belong.pipe(
      Effect.raceFirst(this.heartbeats),
      Effect.raceFirst(Deferred.await(this.death)),
      Effect.ensuring(this.leave)
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what the coordinator's answers mean
  // -------------------------------------------------------------------------------------------------------------------

  private get apis() {
    return this.coordinator.cluster.environment.apis
  }

  private get library() {
    return this.coordinator.cluster.environment.library
  }

  private get instanceId(): string | null {
    return this.options.groupInstanceId ?? null
  }

  private lose(forgetId: boolean): void {
    this.held.lose()
    this.last = nothing
    this.generation = notJoined
    this.beating = false
    if (forgetId) this.memberId = ""
    this.rejoin.raise()
  }

  /** Takes from a refused request what it says about this member. */
  private learn(refusal: Refusal): Effect.Effect<void> {
    return Effect.suspend(() => {
      switch (refusal.code) {
        case "REBALANCE_IN_PROGRESS":
          return Effect.sync(() => this.rejoin.raise())
        case "ILLEGAL_GENERATION":
          return Effect.sync(() => this.lose(false))
        case "UNKNOWN_MEMBER_ID":
          return Effect.sync(() => this.lose(true))
      }
      return Effect.map(this.coordinator.fatal(refusal), (error) => {
        if (error === undefined) return
        // whoever has the instance id now needs no goodbye
        if (error._tag === "ConsumerError" && error.reason === "fenced") this.memberId = ""
        this.beating = false
        Deferred.unsafeDone(this.death, Effect.fail(error))
      })
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // joining
  // -------------------------------------------------------------------------------------------------------------------

  private readonly join: Effect.Effect<JoinGroupResponse, Refusal> = Effect.suspend(() => {
    const { assignment, groupId, rebalanceTimeout, sessionTimeout } = this.options
    const metadata = Protocol.encodeSubscription(
      this.library,
      this.topics,
      assignment === "cooperative" ? this.held.partitions : this.last.partitions,
      this.last.generation
    )
    const { instanceId, memberId } = this
    const request = this.coordinator.request(
      "join group",
      this.apis.joinGroup,
      groupId,
      sessionTimeout,
      rebalanceTimeout,
      memberId,
      instanceId,
      protocolType,
      Protocol.strategies[assignment].map((name) => ({ name, metadata })),
      null
    )
    if (memberId !== "" || instanceId !== null) return request
    const learning = Effect.tapError(request, ({ answer, code }) =>
      Effect.sync(() => {
        if (code === "MEMBER_ID_REQUIRED" && answer !== undefined) this.memberId = answer.memberId
      }))
    return Effect.flatMap(Effect.forkDaemon(learning), (asking) => {
      this.asking = asking
      return Fiber.join(asking)
    })
  }).pipe(
    Effect.catchIf(
      ({ code }) => code === "MEMBER_ID_REQUIRED" && this.memberId !== "",
      () => this.join
    )
  )

  /** The leader's part: who gets what. */
  private distribute(
    { leader, memberId, members, protocolName, skipAssignment }: JoinGroupResponse
  ): Effect.Effect<Array<{ memberId: string; assignment: Buffer }>> {
    if (leader !== memberId) return Effect.succeed([])
    const { library } = this
    const peers = members.map((one) => Protocol.decodePeer(library, one.memberId, one.groupInstanceId, one.metadata))
    const topics = new Set(peers.flatMap((peer) => [...peer.topics]))
    // a topic that can't be looked up has no partitions for now
    return Effect.forEach(topics, (topic) => Effect.ignore(this.requests.load([topic], "join group")), {
      concurrency: "unbounded",
      discard: true
    }).pipe(Effect.map(() => {
      const count = (topic: string): number => this.requests.partitionsOf(topic).length
      this.led = new Map([...topics].map((topic) => [topic, count(topic)]))
      if (skipAssignment) return []
      const assignment = Protocol.assign(protocolName ?? "", peers, count)
      return Array.from(assignment, ([memberId, partitions]) => ({
        memberId,
        assignment: Protocol.encodeAssignment(library, partitions)
      }))
    }))
  }

  private sync(
    { protocolName }: JoinGroupResponse,
    assignments: Array<{ memberId: string; assignment: Buffer }>
  ): Effect.Effect<ReadonlyArray<TopicPartition.TopicPartition>, Refusal> {
    const { groupId } = this.options
    return this.coordinator.request(
      "join group",
      this.apis.syncGroup,
      groupId,
      this.generation,
      this.memberId,
      this.instanceId,
      protocolType,
      protocolName,
      assignments
    ).pipe(Effect.flatMap(({ assignment }) =>
      Effect.try({
        try: () => Protocol.decodeAssignment(this.library, assignment),
        catch: (error) => malformed(error)
      })
    ))
  }

  /** One attempt to get into the next generation. Whether it succeeded. */
  private round(first: boolean): Effect.Effect<boolean> {
    return Effect.gen(this, function*() {
      const { held } = this
      const { assignment } = this.options
      const { holding } = this.membership
      if (first) holding.notice({ _tag: "Rebalancing" })
      const { partitions } = held
      yield* held.revoke(
        assignment === "eager" ? partitions : partitions.filter(({ topic }) => !this.topics.has(topic))
      )
      yield* held.giveUp
      this.rejoin.take()
      this.joining = true

      const joined = yield* Effect.either(this.join)
      if (Either.isLeft(joined)) {
        this.joining = false
        yield* this.learn(joined.left)
        return false
      }
      // no heartbeat before it knows what it has
      this.beating = false
      this.memberId = joined.right.memberId
      this.generation = joined.right.generationId
      this.led = new Map()
      const assignments = yield* this.distribute(joined.right)
      const sentAt = yield* Clock.currentTimeMillis
      const synced = yield* Effect.either(this.sync(joined.right, assignments))
      this.joining = false
      if (Either.isLeft(synced)) {
        yield* this.learn(synced.left)
        return false
      }
      this.beating = true
      this.last = { partitions: synced.right, generation: this.generation }
      holding.notice({
        _tag: "Joined",
        memberId: this.memberId,
        generation: this.generation,
        millis: (yield* Clock.currentTimeMillis) - sentAt
      })

      const assigned = new Set(synced.right.map(TopicPartition.key))
      const leaving = held.partitions.filter((tp) => !assigned.has(TopicPartition.key(tp)))
      if (leaving.length > 0) {
        yield* held.revoke(leaving)
        // its next owner gets it in the next generation
        this.rejoin.raise()
      }
      if (!held.isLost) yield* held.assign(synced.right.filter((tp) => !held.has(tp)), this.wanted)
      return true
    })
  }

  /** Waits until there is a reason to rejoin, and leaves it in place. */
  private get wanted(): Effect.Effect<void> {
    return Effect.zipRight(this.rejoin.wait, Effect.sync(() => this.rejoin.raise()))
  }

  private get belong(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      yield* this.rejoin.wait
      for (let failures = 0;;) {
        if (this.topics.size === 0) {
          yield* this.held.revoke(this.held.partitions)
          yield* this.held.giveUp
          yield* this.leave
          // there is nothing to be had, and that is the assignment
          yield* this.held.assign([], this.wanted)
          yield* this.rejoin.wait
        } else if (yield* this.round(failures === 0)) {
          failures = 0
          yield* this.rejoin.wait
        } else yield* Effect.sleep(pauses[Math.min(failures++, pauses.length - 1)]!)
      }
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // staying, and leaving
  // -------------------------------------------------------------------------------------------------------------------

  /** They go on while it joins: until then, what it holds is its own. */
  private get heartbeats(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      while (true) {
        yield* Effect.sleep(this.options.heartbeatInterval)
        if (!this.beating) continue
        const { generation, memberId } = this
        const sentAt = yield* Clock.currentTimeMillis
        const answer = yield* Effect.either(
          this.coordinator.prompt(
            "heartbeat",
            this.apis.heartbeat,
            this.options.groupId,
            generation,
            memberId,
            this.instanceId
          )
        )
        // what was asked about may have passed
        if (!this.beating || generation !== this.generation || memberId !== this.memberId) continue
        // a member is heard as well while the group rebalances
        if (Either.isRight(answer) || answer.left.code === "REBALANCE_IN_PROGRESS") {
          const millis = (yield* Clock.currentTimeMillis) - sentAt
          this.membership.holding.notice({ _tag: "Heartbeat", millis })
        }
        // what joining comes to will say more
        if (Either.isLeft(answer) && !this.joining) yield* this.learn(answer.left)
      }
    })
  }

  /** An instance id keeps its place for as long as its session lasts, as it is meant to. */
  private get leave(): Effect.Effect<void> {
    return Effect.suspend(() => this.asking === undefined ? Effect.void : this.coordinator.heard(this.asking)).pipe(
      Effect.zipRight(this.goodbye)
    )
  }

  private get goodbye(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { memberId } = this
      const { groupId, groupInstanceId } = this.options
      this.memberId = ""
      this.asking = undefined
      this.generation = notJoined
      this.last = nothing
      this.beating = false
      if (memberId === "" || groupInstanceId !== undefined) return Effect.void
      return this.coordinator.goodbye(this.apis.leaveGroup, groupId, [{
        memberId,
        groupInstanceId: null,
        reason: null
      }])
    })
  }
}
