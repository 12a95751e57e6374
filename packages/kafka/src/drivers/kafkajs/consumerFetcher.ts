/**
 * Fetches what is demanded: one fiber for each broker, one fetch of it under way at a time.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { ConsumerNotice, ConsumerSessionOptions } from "../../KafkaClient.ts"
import { type ClientError, KafkaAuthorizationError, UnknownTopicError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import * as Connection from "./connection.ts"
import { type ClusterRequests, isTransient } from "./consumerCluster.ts"
import type { Lanes, Plan, Wanted } from "./consumerLanes.ts"
import { chunk, type RawResponse } from "./consumerRecords.ts"
import { clientError, DriverError, meaning, protocolCode, withoutTopic } from "./errors.ts"

export interface Fetching {
  readonly environment: Connection.Environment
  readonly options: ConsumerSessionOptions
  readonly cluster: ClusterRequests
  readonly lanes: Lanes
  /** Called when something can be taken. */
  readonly arrived: () => void
  /** Called with each answer of a broker. */
  readonly alive: () => void
  readonly notice: (notice: ConsumerNotice) => void
  /** Runs something for as long as the session lives, which its failure ends. */
  readonly background: (effect: Effect.Effect<void, ClientError>) => Effect.Effect<void>
}

/** Between two tries after a failure, in milliseconds. */
const pauses = [20, 50, 100, 200, 400, 1000]

/** Between two looks for the leader of a partition that has none, in milliseconds. */
const searchPause = 200

/** How often a topic has to be found missing before its partitions are given up. */
const missingLimit = 5

/** Answers after which somebody else may lead the partition. */
const movedCodes: ReadonlySet<string> = new Set([
  "NOT_LEADER_OR_FOLLOWER",
  "LEADER_NOT_AVAILABLE",
  "REPLICA_NOT_AVAILABLE",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "UNKNOWN_TOPIC_OR_PARTITION",
  "UNKNOWN_TOPIC_ID",
  "KAFKA_STORAGE_ERROR",
  "OFFSET_NOT_AVAILABLE"
])

export class Fetcher {
  private readonly self: Fetching
  private readonly clock: Clock.Clock
  private readonly brokers = new Map<string, Effect.Latch>()
  private readonly missing = new Map<string, number>()
  private readonly down = new Set<string>()
  private searching = false

  constructor(self: Fetching, clock: Clock.Clock) {
    this.self = self
    this.clock = clock
  }

  /** Something changed: demand, positions. */
  look(): void {
    for (const latch of this.brokers.values()) latch.unsafeOpen()
  }

  /** Learns from the metadata who leads what, and sees that each leader is fetched from. */
  get lead(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { cluster, lanes } = this.self
      const leaders = lanes.lead((tp) => cluster.leaderOf(tp))
      this.look()
      const search = this.searching || lanes.leaderless().length === 0 ? Effect.void : this.search
      return Effect.zipRight(
        search,
        Effect.forEach(
          [...leaders].filter((leader) => !this.brokers.has(leader)),
          (leader) => {
            const latch = Effect.unsafeMakeLatch(true)
            this.brokers.set(leader, latch)
            return this.self.background(this.loop(leader, latch))
          },
          { discard: true }
        )
      )
    })
  }

  /** While the leader of a partition is not known. */
  private get search(): Effect.Effect<void> {
    this.searching = true
    const again: Effect.Effect<void> = Effect.suspend(() =>
      this.self.lanes.leaderless().length === 0
        ? Effect.void
        : Effect.zipRight(Effect.sleep(searchPause), Effect.zipRight(this.relead, again))
    )
    const found = Effect.sync(() => {
      this.searching = false
    })
    return this.self.background(Effect.ensuring(again, found))
  }

  /** Asks the cluster who leads what; topics that are gone for good are given up. */
  private get relead(): Effect.Effect<void> {
    const { cluster, lanes } = this.self
    return cluster.refresh.pipe(
      Effect.either,
      Effect.zipRight(this.lead),
      Effect.zipRight(Effect.suspend(() => {
        const topics = new Set(lanes.partitions().map(({ topic }) => topic))
        return Effect.forEach(topics, (topic) => this.checkTopic(topic), { discard: true })
      }))
    )
  }

  /** Gives up the partitions of a topic that was found missing too often, and welcomes back one that was made anew. */
  private checkTopic(topic: string): Effect.Effect<void> {
    const { cluster, lanes } = this.self
    const orphans = lanes.leaderless().filter((tp) => tp.topic === topic)
    if (orphans.length === 0) {
      this.missing.delete(topic)
      return Effect.void
    }
    return Effect.matchEffect(cluster.exists(topic), {
      onFailure: (error) => {
        if (error._tag === "KafkaAuthorizationError") {
          for (const tp of orphans) this.give(lanes.fail(tp, { _tag: "Failed", topicPartition: tp, error }))
        }
        return Effect.void
      },
      onSuccess: (exists) => {
        if (exists) {
          this.missing.delete(topic)
          return Effect.zipRight(Effect.ignore(cluster.topics([topic], "fetch")), this.lead)
        }
        const times = (this.missing.get(topic) ?? 0) + 1
        this.missing.set(topic, times)
        if (times < missingLimit) return Effect.void
        for (const tp of orphans) {
          const error = new UnknownTopicError({ operation: "fetch", topic })
          this.give(lanes.fail(tp, { _tag: "Failed", topicPartition: tp, error }))
        }
        return Effect.void
      }
    })
  }

  private give(wanted: boolean): void {
    if (wanted) this.self.arrived()
  }

  private loop(leader: string, latch: Effect.Latch): Effect.Effect<never, ClientError> {
    const { cluster, lanes } = this.self
    const self = this
    return Effect.gen(function*() {
      let failures = 0
      let alone: ReadonlyArray<string> = []
      while (true) {
        latch.unsafeClose()
        const only = alone[0]
        const plan = lanes.plan(leader, self.clock.unsafeCurrentTimeMillis(), only)
        if (plan === undefined) {
          if (only === undefined) yield* latch.await
          else alone = alone.slice(1)
          continue
        }
        const outcome = yield* Effect.tryPromise({ try: () => cluster.fetch(leader, plan), catch: (error) => error })
          .pipe(
            Effect.either,
            Effect.onExit(() => Effect.sync(() => lanes.done(plan)))
          )
        if (Either.isRight(outcome)) {
          failures = 0
          alone = alone.slice(1)
          self.received(leader, plan, outcome.right)
          continue
        }
        const next = self.failed(leader, plan, outcome.left)
        switch (next._tag) {
          case "GoOn":
            alone = alone.slice(1)
            continue
          case "OneByOne":
            alone = next.topics
            continue
          case "Retry":
            yield* Effect.sleep(pauses[Math.min(failures++, pauses.length - 1)]!)
            yield* self.relead
            continue
          case "End":
            return yield* Effect.fail(next.error)
        }
      }
    })
  }

  private received(leader: string, plan: Plan, response: RawResponse): void {
    const { alive, lanes, notice, options } = this.self
    alive()
    if (this.down.delete(leader)) notice({ _tag: "Reconnected" })
    const now = this.clock.unsafeCurrentTimeMillis()
    const wanted = new Map<TopicPartition.Key, Wanted>()
    for (const one of plan.wanted) wanted.set(TopicPartition.key(one), one)
    const committedOnly = options.isolationLevel === "read_committed"
    for (const { partitions, topicName } of response.responses) {
      for (const data of partitions) {
        const one = wanted.get(`${topicName}:${data.partition}`)
        if (one === undefined) continue
        const found = chunk(TopicPartition.make(topicName, data.partition), one.position, data, committedOnly)
        if (found !== undefined) this.give(lanes.arrived(one, found, now))
      }
    }
  }

  private failed(leader: string, plan: Plan, error: unknown): Next {
    const { environment, lanes, notice } = this.self
    const code = protocolCode(error)?.code
    if (code !== undefined) this.self.alive()
    if (code === "OFFSET_OUT_OF_RANGE") {
      const at = outOfRange(plan, error)
      if (at === undefined) return { _tag: "Retry" }
      const topicPartition = TopicPartition.make(at.topic, at.partition)
      this.give(lanes.failed(at, { _tag: "OutOfRange", topicPartition, offset: at.position }))
      return { _tag: "GoOn" }
    }
    if (code === "TOPIC_AUTHORIZATION_FAILED") {
      const topics = [...new Set(plan.wanted.map(({ topic }) => topic))]
      // kafkajs does not say which topic it was
      if (topics.length > 1) return { _tag: "OneByOne", topics }
      for (const one of plan.wanted) {
        this.give(lanes.failed(one, {
          _tag: "Failed",
          topicPartition: TopicPartition.make(one.topic, one.partition),
          error: new KafkaAuthorizationError({
            operation: "fetch",
            resource: "topic",
            resourceName: one.topic,
            cause: new DriverError(error, environment.secrets)
          })
        }))
      }
      return { _tag: "GoOn" }
    }
    if (code !== undefined && movedCodes.has(code)) return { _tag: "Retry" }
    const mapped = withoutTopic(clientError(error, Connection.attempt(environment, "fetch")))
    if (isTransient(mapped) || meaning(error)._tag === "UnknownTopic") {
      if (mapped._tag === "KafkaConnectionError" && !this.down.has(leader)) {
        this.down.add(leader)
        notice({ _tag: "Disconnected", reason: mapped.reason })
      }
      return { _tag: "Retry" }
    }
    return { _tag: "End", error: mapped }
  }
}

type Next =
  | { readonly _tag: "GoOn" }
  | { readonly _tag: "OneByOne"; readonly topics: ReadonlyArray<string> }
  | { readonly _tag: "Retry" }
  | { readonly _tag: "End"; readonly error: ClientError }

/** Which partition of a fetch was out of range: kafkajs tells for this error alone. */
const outOfRange = (plan: Plan, error: unknown): Wanted | undefined =>
  typeof error === "object" && error !== null && "topic" in error && "partition" in error
    ? plan.wanted.find((one) => one.topic === error.topic && one.partition === error.partition)
    : undefined
