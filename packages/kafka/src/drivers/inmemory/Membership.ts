/**
 * A consumer as a member of its group: joins, keeps its session alive, gives partitions away and gets new ones.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { ConsumerSessionOptions } from "../../KafkaClient.ts"
import { ConsumerError } from "../../KafkaError.ts"
import type { Key } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import { Signal } from "../signal.ts"
import * as Assignor from "./Assignor.ts"
import type { Cluster } from "./Cluster.ts"
import type { Fetcher } from "./Fetcher.ts"
import type { Group, Identity, JoinReply, Partitions } from "./Group.ts"
import { backoff, type Lifeline } from "./Lifeline.ts"
import type { Link, Network } from "./Network.ts"
import { clientError, type Failure, type Reply } from "./Protocol.ts"

const isRebalancing = (failure: Failure): boolean =>
  failure._tag === "Refused" && failure.refusal.code === "REBALANCE_IN_PROGRESS"

export interface MembershipOptions extends ConsumerSessionOptions {
  /** Whether a member without topics leaves its group. */
  readonly leaveWhenEmpty: () => boolean
  readonly onDeath: (error: ConsumerError | ReturnType<typeof clientError>) => void
}

export class Membership {
  private readonly cluster: Cluster
  private readonly network: Network
  private readonly link: Link
  private readonly lifeline: Lifeline
  private readonly fetcher: Fetcher
  private readonly options: MembershipOptions

  private topics: ReadonlySet<string> = new Set()
  private memberId = ""
  /** -1 while it is no member. */
  private generation = -1
  /** Whether it is in a generation, and so has to send heartbeats. */
  private beating = false
  /** It waits for the others, and what its heartbeats are answered is no news. */
  private joining = false
  /** The group has given its partitions away. */
  private lost = false
  private dead = false
  /** The partition counts that the last assignment was made from, while it leads. */
  private led: ReadonlyMap<string, number> = new Map()
  private readonly rejoin = new Signal()

  constructor(
    cluster: Cluster,
    network: Network,
    link: Link,
    lifeline: Lifeline,
    fetcher: Fetcher,
    options: MembershipOptions
  ) {
    this.cluster = cluster
    this.network = network
    this.link = link
    this.lifeline = lifeline
    this.fetcher = fetcher
    this.options = options
  }

  get identity(): Identity {
    return { memberId: this.memberId, generation: this.generation, instanceId: this.options.groupInstanceId }
  }

  get subscribed(): ReadonlySet<string> {
    return this.topics
  }

  /** Takes part with these topics from the next generation on. */
  subscribe(topics: ReadonlySet<string>): void {
    this.topics = topics
    this.rejoin.raise()
  }

  /** As leader, asks for a new assignment where topics have got more partitions. */
  checkPartitions(): void {
    for (const [topic, count] of this.led) if (this.cluster.partitionCount(topic) !== count) this.rejoin.raise()
  }

  /** Nothing can be done any more. */
  end(): void {
    this.dead = true
    this.beating = false
    this.rejoin.raise()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // requests
  // -------------------------------------------------------------------------------------------------------------------

  private readonly coordinator = (): number | undefined => this.cluster.coordinator(this.options.groupId)

  private inGroup<A>(use: (group: Group) => Reply<A>): () => Reply<A> {
    return () => Either.flatMap(this.cluster.group(this.options.groupId), use)
  }

  private readonly join = Effect.suspend(() => {
    const { assignment, groupId, groupInstanceId, rebalanceTimeout, sessionTimeout } = this.options
    return this.network.wait<JoinReply>(this.link, this.coordinator, "join-group", (reply) => {
      const found = this.cluster.group(groupId)
      if (Either.isLeft(found)) return reply(Either.left(found.left))
      const group = found.right
      if (this.memberId === "" && groupInstanceId === undefined) this.memberId = group.reserve(this.link.clientId)
      group.join({
        memberId: this.memberId,
        instanceId: groupInstanceId,
        clientId: this.link.clientId,
        sessionTimeout,
        rebalanceTimeout,
        protocol: assignment === "cooperative" ? "cooperative-sticky" : "range",
        metadata: {
          topics: this.topics,
          owned: assignment === "cooperative" ? this.fetcher.owned : [],
          generation: this.generation
        }
      }, reply)
    })
  })

  private readonly sync = (assignment: ReadonlyMap<string, Partitions>) =>
    this.network.wait<Partitions>(this.link, this.coordinator, "sync-group", (reply) => {
      const found = this.cluster.group(this.options.groupId)
      if (Either.isLeft(found)) reply(Either.left(found.left))
      else found.right.sync(this.identity, assignment, reply)
    })

  /** The leader's part: who gets what. */
  private distribute({ members }: JoinReply): ReadonlyMap<string, Partitions> {
    const subscribers = members.map(({ memberId, metadata }) => ({ memberId, ...metadata }))
    const topics = new Set(subscribers.flatMap((subscriber) => [...subscriber.topics]))
    const count = (topic: string): number => this.cluster.partitionCount(topic)
    this.led = new Map([...topics].map((topic) => [topic, count(topic)] as const))
    return this.options.assignment === "cooperative"
      ? Assignor.cooperative(subscribers, count)
      : Assignor.balanced(subscribers, count)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what the coordinator's answers mean
  // -------------------------------------------------------------------------------------------------------------------

  private lose(forgetId: boolean): void {
    this.lost = true
    this.generation = -1
    this.beating = false
    if (forgetId) this.memberId = ""
    this.rejoin.raise()
  }

  private die(error: ConsumerError | ReturnType<typeof clientError>): void {
    this.end()
    this.options.onDeath(error)
  }

  /** Takes from a refused request what it says about this member. */
  learn(failure: Failure): void {
    if (failure._tag !== "Refused") return
    const { groupId, groupInstanceId } = this.options
    const { code, reason = code } = failure.refusal
    switch (code) {
      case "REBALANCE_IN_PROGRESS":
        return this.rejoin.raise()
      case "ILLEGAL_GENERATION":
        return this.lose(false)
      case "UNKNOWN_MEMBER_ID":
        return this.lose(true)
      case "FENCED_INSTANCE_ID": {
        const description = `another member has instance id "${groupInstanceId}" now`
        this.lost = true
        return this.die(new ConsumerError({ reason: "fenced", groupId, description }))
      }
      case "GROUP_AUTHORIZATION_FAILED":
        return this.die(clientError("join group", this.cluster.addresses, failure))
      case "INCONSISTENT_GROUP_PROTOCOL":
      case "INVALID_GROUP_ID":
      case "INVALID_SESSION_TIMEOUT": {
        const cause = clientError("join group", this.cluster.addresses, failure)
        return this.die(new ConsumerError({ reason: "crashed", groupId, description: reason, cause }))
      }
    }
  }

  /** As `learn`, unless what was asked about has passed. */
  learnAs(sentAs: Identity, failure: Failure): void {
    if (sentAs.generation === this.generation && sentAs.memberId === this.memberId) this.learn(failure)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // partitions come and go
  // -------------------------------------------------------------------------------------------------------------------

  private revoke(partitions: Partitions): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (partitions.length === 0) return Effect.void
      this.fetcher.stopFetching(partitions)
      return Effect.zipRight(
        this.options.callbacks.onRevoked(partitions),
        Effect.sync(() => this.fetcher.remove(partitions))
      )
    })
  }

  private readonly giveUp = Effect.suspend(() => {
    const partitions = this.fetcher.owned
    if (partitions.length === 0) return Effect.void
    this.fetcher.remove(partitions)
    return this.options.callbacks.onLost(partitions)
  })

  /** These are ours: whoever uses them says from where. */
  assign(partitions: Partitions): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.fetcher.add(partitions)
      return Effect.map(this.options.callbacks.onAssigned(partitions), (starts: ReadonlyMap<Key, bigint>) => {
        for (const [k, offset] of starts) this.fetcher.seek(k, offset)
      })
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // fibers
  // -------------------------------------------------------------------------------------------------------------------

  /** One attempt to get into the next generation. Whether it succeeded. */
  private readonly round: Effect.Effect<boolean> = Effect.gen(this, function*() {
    const { assignment, callbacks } = this.options
    callbacks.onNotice({ _tag: "Rebalancing" })
    if (!this.lost) {
      const owned = this.fetcher.owned
      yield* this.revoke(assignment === "eager" ? owned : owned.filter(({ topic }) => !this.topics.has(topic)))
    }
    // perhaps only since then
    if (this.lost) yield* this.giveUp
    this.lost = false
    this.rejoin.take()

    this.joining = true
    const joined = yield* Effect.either(this.lifeline.noted(this.join))
    this.joining = false
    this.beating = false
    if (Either.isLeft(joined)) {
      this.learn(joined.left)
      return false
    }
    this.memberId = joined.right.memberId
    this.link.memberId = this.memberId
    this.generation = joined.right.generation
    this.beating = true
    this.led = new Map()
    const synced = yield* Effect.either(this.lifeline.noted(this.sync(this.distribute(joined.right))))
    if (Either.isLeft(synced)) {
      this.learn(synced.left)
      return false
    }
    callbacks.onNotice({ _tag: "Joined", memberId: this.memberId, generation: this.generation })

    const assigned = new Set(synced.right.map(key))
    const moved = this.fetcher.owned.filter((tp) => !assigned.has(key(tp)))
    if (moved.length > 0) {
      yield* this.revoke(moved)
      // its next owner gets it in the next generation
      this.rejoin.raise()
    }
    if (!this.lost) yield* this.assign(synced.right.filter((tp) => !this.fetcher.has(tp)))
    return true
  })

  private readonly membership = Effect.gen(this, function*() {
    for (let failures = 0; !this.dead;) {
      if (this.topics.size === 0 && this.options.leaveWhenEmpty()) {
        yield* this.revoke(this.fetcher.owned)
        yield* this.leave
        yield* this.rejoin.wait
      } else if (yield* this.round) {
        failures = 0
        yield* this.rejoin.wait
      } else if (!this.dead && (!this.rejoin.take() || ++failures > 2)) yield* Clock.sleep(backoff(failures++))
    }
    yield* this.giveUp
  })

  private readonly heartbeats = Effect.gen(this, function*() {
    while (!this.dead) {
      yield* Clock.sleep(this.options.heartbeatInterval)
      if (!this.beating) continue
      const sentAs = this.identity
      const sentAt = yield* Clock.currentTimeMillis
      const answer = yield* Effect.either(this.lifeline.noted(this.network.call(
        this.link,
        this.coordinator,
        "heartbeat",
        this.inGroup((group) => group.heartbeat(sentAs))
      )))
      // a member is heard as well while its group rebalances
      if (Either.isRight(answer) || isRebalancing(answer.left)) {
        const millis = (yield* Clock.currentTimeMillis) - sentAt
        this.options.callbacks.onNotice({ _tag: "Heartbeat", millis })
      }
      // what joining comes to will say more
      if (Either.isLeft(answer) && this.beating && !this.joining) this.learnAs(sentAs, answer.left)
    }
  })

  /** An instance id keeps its place for as long as its session lasts, as it is meant to. */
  readonly leave: Effect.Effect<void> = Effect.suspend(() => {
    const { memberId } = this
    this.memberId = ""
    this.generation = -1
    this.beating = false
    if (memberId === "" || this.options.groupInstanceId !== undefined) return Effect.void
    const request = this.inGroup((group) => group.leave(memberId))
    return Effect.ignore(this.network.call(this.link, this.coordinator, "leave-group", request, leaveTimeout))
  })

  /** What it does by itself, side by side. */
  readonly activities: ReadonlyArray<Effect.Effect<void>> = [this.membership, this.heartbeats]
}

/** Whoever leaves does not wait for long, in milliseconds. */
const leaveTimeout = 5000
