/**
 * A member of a group of KIP-848: the coordinator says who reads what, and each member works towards that at its own
 * pace. What is to be given away is told to be given away only when it has settled, and its next owner hears of it only
 * then.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as Crypto from "node:crypto"
import type { ConsumerSessionOptions, GroupMetadata } from "../../KafkaClient.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { FatalError, Member, Membership } from "../consumerSession.ts"
import { Signal } from "../signal.ts"
import type { ConsumerGroupHeartbeatResponse } from "./consumerApis.ts"
import { Coordinator, type Refusal } from "./consumerCoordinator.ts"
import { Held } from "./consumerHolding.ts"
import type { ConsumerRequests } from "./consumerRequests.ts"

/** After a heartbeat that failed, by how many have, in milliseconds. */
const pauses = [50, 100, 200, 500, 1000]

/** Topics that are too new to have been heard of are looked up again, in milliseconds. */
const lookAgainAfter = 1000

/** The epochs of who joins, who leaves, and who leaves for a while and keeps its place. */
const joining = 0
const leaving = -1
const leavingForAWhile = -2

interface OfTopic {
  readonly topicId: string
  readonly partitions: Array<number>
}

export const make = (
  requests: ConsumerRequests,
  options: ConsumerSessionOptions,
  membership: Membership
): Effect.Effect<Member, never, Scope.Scope> =>
  Effect.gen(function*() {
    const death = yield* Deferred.make<never, FatalError>()
    const scope = yield* Effect.scope
    return new ReconcilingMember(requests, options, membership, new Held(membership.holding, scope), death)
  })

class ReconcilingMember implements Member {
  private readonly requests: ConsumerRequests
  private readonly coordinator: Coordinator
  private readonly options: ConsumerSessionOptions
  private readonly membership: Membership
  private readonly held: Held
  private readonly death: Deferred.Deferred<never, FatalError>
  private readonly memberId = Crypto.randomUUID()
  private epoch = joining
  /** Whether the coordinator may count us in: also where we have not heard so. */
  private present = false
  private topics: ReadonlySet<string> = new Set()
  private subscribed = false
  private interval: number
  /** When the last heartbeat was sent that was answered well. */
  private confirmedAt = 0
  /** What is to be ours, as last heard. */
  private target: ReadonlyArray<OfTopic> = []
  /** Whether what we hold was told, be it nothing, since we joined. */
  private settled = false
  private readonly targeted = new Signal()
  /** There is something to tell before the next heartbeat is due. */
  private readonly news = new Signal()
  /** What the coordinator has heard of us; `undefined` where it has to hear all of it. */
  private told: { readonly topics: ReadonlySet<string>; readonly owned: string } | undefined = undefined

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
    this.interval = options.heartbeatInterval
  }

  subscribe(topics: ReadonlySet<string>): void {
    if (this.subscribed && topics.size === this.topics.size && [...topics].every((one) => this.topics.has(one))) return
    this.subscribed = true
    this.topics = new Set(topics)
    this.news.raise()
  }

  get metadata(): GroupMetadata | undefined {
    const { groupId, groupInstanceId } = this.options
    return this.epoch <= joining ? undefined : {
      groupId,
      memberId: this.memberId,
      generation: this.epoch,
      ...(groupInstanceId === undefined ? {} : { groupInstanceId })
    }
  }

  /** The coordinator looks by itself. */
  lookForPartitions(): Effect.Effect<void> {
    return Effect.void
  }

  get run(): Effect.Effect<void, FatalError> {
    return this.belong.pipe(
      Effect.raceFirst(Deferred.await(this.death)),
      Effect.ensuring(this.leave)
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // heartbeats
  // -------------------------------------------------------------------------------------------------------------------

  private get apis() {
    return this.coordinator.cluster.environment.apis
  }

  private get instanceId(): string | null {
    return this.options.groupInstanceId ?? null
  }

  private get belong(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      yield* this.news.wait
      while (true) {
        yield* this.topics.size === 0 ? this.retire : Effect.raceFirst(this.beat, this.reconcile)
      }
    })
  }

  /** Reads nothing, and so is in no group. */
  private get retire(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      this.target = []
      yield* this.held.revoke(this.held.partitions)
      yield* this.leave
      // there is nothing to be had, and that is the assignment
      yield* this.held.assign([], Effect.void)
      yield* this.news.wait
    })
  }

  /** Tells the coordinator how it stands, again and again, until nothing is to be read any more. */
  private get beat(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      const { holding } = this.membership
      for (let failures = 0; this.topics.size > 0;) {
        const { epoch, told, topics } = this
        const owned = this.owned()
        const all = told === undefined
        const sentAt = yield* Clock.currentTimeMillis
        this.present = true
        const answer = yield* Effect.either(
          this.coordinator.prompt(
            "heartbeat",
            this.apis.consumerGroupHeartbeat,
            this.options.groupId,
            this.memberId,
            epoch,
            this.instanceId,
            null,
            all ? this.options.rebalanceTimeout : -1,
            all || told.topics !== topics ? [...topics] : null,
            null,
            null,
            all || told.owned !== JSON.stringify(owned) ? owned : null
          )
        )
        if (Either.isRight(answer)) {
          failures = 0
          this.told = { topics, owned: JSON.stringify(owned) }
          if (epoch === joining) this.settled = false
          this.heard(answer.right)
          this.confirmedAt = sentAt
          const millis = (yield* Clock.currentTimeMillis) - sentAt
          holding.notice(
            epoch === joining
              ? { _tag: "Joined", memberId: this.memberId, generation: this.epoch, millis }
              : { _tag: "Heartbeat", millis }
          )
          yield* Effect.raceFirst(Effect.sleep(this.interval), this.news.wait)
        } else {
          this.told = undefined
          yield* this.learn(answer.left)
          yield* Effect.sleep(pauses[Math.min(failures++, pauses.length - 1)]!)
        }
      }
    })
  }

  private heard({ assignment, heartbeatIntervalMs, memberEpoch }: ConsumerGroupHeartbeatResponse): void {
    this.epoch = memberEpoch
    // the news of a partition that is to be given away comes with the next heartbeat, and others wait for it
    this.interval = Math.min(heartbeatIntervalMs, this.options.heartbeatInterval)
    if (assignment === null) return
    this.target = assignment.topicPartitions
    this.targeted.raise()
  }

  /** Takes from a refused heartbeat what it says about this member. */
  private learn(refusal: Refusal): Effect.Effect<void> {
    switch (refusal.code) {
      case "FENCED_MEMBER_EPOCH":
      case "UNKNOWN_MEMBER_ID":
        this.target = []
        this.epoch = joining
        this.present = false
        this.held.lose()
        return this.held.giveUp
    }
    return Effect.map(this.coordinator.fatal(refusal), (error) => {
      if (error === undefined) return
      // whoever has the instance id now needs no goodbye
      if (error._tag === "ConsumerError" && error.reason === "fenced") this.present = false
      Deferred.unsafeDone(this.death, Effect.fail(error))
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // reconciling
  // -------------------------------------------------------------------------------------------------------------------

  /** Works towards what is to be ours. */
  private get reconcile(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      const { held } = this
      const { holding } = this.membership
      for (let complete = true;;) {
        yield* complete ? this.targeted.wait : Effect.raceFirst(this.targeted.wait, Effect.sleep(lookAgainAfter))
        const { target } = this
        const found = yield* this.named(target)
        complete = found.complete
        const wanted = new Set(found.partitions.map(TopicPartition.key))
        const leaving = held.partitions.filter((tp) => !wanted.has(TopicPartition.key(tp)))
        const coming = found.partitions.filter((tp) => !held.has(tp))
        if (target !== this.target || (this.settled && leaving.length === 0 && coming.length === 0)) continue
        this.settled = false
        holding.notice({ _tag: "Rebalancing" })
        yield* held.revoke(leaving)
        this.news.raise()
        // something else may be to be ours by now, or nothing at all
        if (target !== this.target) continue
        yield* held.assign(coming, this.targeted.wait)
        // the wait beside it has taken the signal for what comes next
        if (target !== this.target) this.targeted.raise()
        this.settled = true
        this.news.raise()
        if (this.epoch > joining) {
          const millis = (yield* Clock.currentTimeMillis) - this.confirmedAt
          holding.notice({ _tag: "Joined", memberId: this.memberId, generation: this.epoch, millis })
        }
      }
    })
  }

  /** Partitions go by the ids of their topics here. What has no name yet is looked up. */
  private named(target: ReadonlyArray<OfTopic>): Effect.Effect<{
    readonly partitions: ReadonlyArray<TopicPartition.TopicPartition>
    readonly complete: boolean
  }> {
    const find = Effect.sync(() => {
      const names = this.names()
      const partitions = target.flatMap(({ partitions, topicId }) => {
        const topic = names.get(topicId)
        return topic === undefined ? [] : partitions.map((partition) => TopicPartition.make(topic, partition))
      })
      return { partitions, complete: target.every(({ topicId }) => names.has(topicId)) }
    })
    return Effect.flatMap(
      find,
      (found) => found.complete ? Effect.succeed(found) : Effect.zipRight(Effect.ignore(this.requests.refresh), find)
    )
  }

  private names(): Map<string, string> {
    const out = new Map<string, string>()
    for (const topic of this.topics) {
      const topicId = this.requests.cluster.known(topic)?.topicId
      if (topicId !== undefined) out.set(topicId, topic)
    }
    return out
  }

  /** What we hold, by the ids of topics. */
  private owned(): Array<OfTopic> {
    const out = new Map<string, OfTopic>()
    for (const { partition, topic } of this.held.partitions) {
      const topicId = this.requests.cluster.known(topic)?.topicId
      if (topicId === undefined) continue
      const of = out.get(topicId)
      if (of === undefined) out.set(topicId, { topicId, partitions: [partition] })
      else of.partitions.push(partition)
    }
    return [...out.values()]
  }

  /** An instance id keeps its place for as long as its session lasts, as it is meant to. */
  private get leave(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { present } = this
      const { groupId, groupInstanceId } = this.options
      this.epoch = joining
      this.present = false
      this.told = undefined
      if (!present) return Effect.void
      return this.coordinator.goodbye(
        this.apis.consumerGroupHeartbeat,
        groupId,
        this.memberId,
        groupInstanceId === undefined ? leaving : leavingForAWhile,
        this.instanceId,
        null,
        -1,
        null,
        null,
        null,
        []
      )
    })
  }
}
