/**
 * Fetches what is demanded: one fiber for each broker, one fetch of it under way at a time. Drivers on a real cluster
 * share it; each knows how to ask, and what an answer means.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { isRetriable } from "../engine/consumer/Retry.ts"
import type { ConsumerNotice, FetchedChunk, PartitionFault } from "../KafkaClient.ts"
import type { ClientError, KafkaAuthorizationError, UnknownTopicError } from "../KafkaError.ts"
import type * as TopicPartition from "../TopicPartition.ts"
import type { Lanes, Plan, Wanted } from "./lanes.ts"

/**
 * What came of one partition of a fetch.
 */
export type Answer =
  | { readonly _tag: "Records"; readonly wanted: Wanted; readonly chunk: FetchedChunk }
  | { readonly _tag: "OutOfRange"; readonly wanted: Wanted }
  /** Somebody else may lead it by now, or nobody for a while. */
  | { readonly _tag: "Moved"; readonly wanted: Wanted }
  | { readonly _tag: "Refused"; readonly wanted: Wanted; readonly error: KafkaAuthorizationError }
  /** Nobody can go on with this. */
  | { readonly _tag: "Failed"; readonly error: ClientError }

/**
 * The cluster, as far as fetching is concerned.
 */
export interface Source {
  /** The broker that leads a partition, as far as is known. */
  readonly leaderOf: (topicPartition: TopicPartition.TopicPartition) => number | undefined
  /** Asks the cluster anew who leads what. */
  readonly refresh: Effect.Effect<void, ClientError>
  /** What stands in the way of a topic. */
  readonly problem: (topic: string) => ClientError | UnknownTopicError | undefined
  /** One fetch from one broker. Of a partition that says nothing new there is no answer. */
  readonly fetch: (leader: number, plan: Plan) => Effect.Effect<ReadonlyArray<Answer>, ClientError>
}

export interface Fetching {
  readonly source: Source
  readonly lanes: Lanes
  /** Called when something can be taken. */
  readonly arrived: () => void
  /** Called with each answer of a broker. */
  readonly alive: () => void
  readonly notice: (notice: ConsumerNotice) => void
  /** Runs something for as long as the session lives, which its failure ends. */
  readonly background: (effect: Effect.Effect<void, ClientError>) => Effect.Effect<void>
}

/** Between two tries after a failure, or two looks for a leader, in milliseconds. */
const pauses = [20, 50, 100, 200, 400, 1000]

const pause = (times: number): Effect.Effect<void> => Effect.sleep(pauses[Math.min(times, pauses.length - 1)]!)

/** How often in a row a topic has to be found missing before its partitions are given up. */
const missingLimit = 5

export class Fetcher {
  private readonly self: Fetching
  private readonly clock: Clock.Clock
  private readonly brokers = new Map<number, Effect.Latch>()
  private readonly missing = new Map<string, number>()
  private readonly down = new Set<number>()
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
      const { background, lanes, source } = this.self
      const leaders = lanes.lead((tp) => source.leaderOf(tp))
      this.look()
      const fetches = Effect.forEach([...leaders].filter((leader) => !this.brokers.has(leader)), (leader) => {
        const latch = Effect.unsafeMakeLatch(true)
        this.brokers.set(leader, latch)
        return background(this.loop(leader, latch))
      }, { discard: true })
      return Effect.zipRight(fetches, this.search)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // leaders
  // -------------------------------------------------------------------------------------------------------------------

  /** Looks for the leaders of partitions that have none, until each has one or is given up. */
  private get search(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { background, lanes } = this.self
      if (this.searching || lanes.leaderless().length === 0) return Effect.void
      this.searching = true
      const again = (times: number): Effect.Effect<void> =>
        Effect.suspend(() => {
          this.searching = lanes.leaderless().length > 0
          return this.searching
            ? Effect.zipRight(pause(times), Effect.zipRight(this.relead, again(times + 1)))
            : Effect.void
        })
      return background(again(0))
    })
  }

  /** Asks the cluster who leads what; topics that are gone for good are given up. */
  private get relead(): Effect.Effect<void> {
    return Effect.matchEffect(this.self.source.refresh, {
      onFailure: () => Effect.void,
      onSuccess: () =>
        Effect.zipRight(
          this.lead,
          Effect.sync(() => {
            for (const topic of new Set(this.self.lanes.partitions().map(({ topic }) => topic))) this.judge(topic)
          })
        )
    })
  }

  /** Gives up the partitions of a topic that was found missing too often, or was withdrawn from us. */
  private judge(topic: string): void {
    const { lanes, source } = this.self
    const problem = source.problem(topic)
    if (problem?._tag !== "UnknownTopicError") this.missing.delete(topic)
    if (problem?._tag !== "UnknownTopicError" && problem?._tag !== "KafkaAuthorizationError") return
    const times = (this.missing.get(topic) ?? 0) + 1
    this.missing.set(topic, times)
    if (problem._tag === "UnknownTopicError" && times < missingLimit) return
    for (const topicPartition of lanes.partitions()) {
      if (topicPartition.topic === topic) this.told(lanes.fail(topicPartition, failed(topicPartition, problem)))
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // fetches
  // -------------------------------------------------------------------------------------------------------------------

  private loop(leader: number, latch: Effect.Latch): Effect.Effect<never, ClientError> {
    const { lanes, notice, source } = this.self
    const self = this
    return Effect.gen(function*() {
      let failures = 0
      while (true) {
        latch.unsafeClose()
        const plan = lanes.plan(leader, self.clock.unsafeCurrentTimeMillis())
        if (plan === undefined) {
          yield* latch.await
          continue
        }
        const outcome = yield* Effect.either(source.fetch(leader, plan))
        lanes.done(plan)
        if (Either.isRight(outcome)) {
          failures = 0
          const after = self.received(leader, outcome.right)
          if (after !== undefined) yield* after
          continue
        }
        const error = outcome.left
        if (!isRetriable(error)) return yield* Effect.fail(error)
        if (error._tag === "KafkaConnectionError" && !self.down.has(leader)) {
          self.down.add(leader)
          notice({ _tag: "Disconnected", reason: error.reason })
        }
        yield* pause(failures++)
        yield* self.relead
      }
    })
  }

  /** Takes in what was fetched. Answers what is to be done about it, if anything. */
  private received(leader: number, answers: ReadonlyArray<Answer>): Effect.Effect<void, ClientError> | undefined {
    const { alive, lanes, notice } = this.self
    alive()
    if (this.down.delete(leader)) notice({ _tag: "Reconnected" })
    const now = this.clock.unsafeCurrentTimeMillis()
    let todo: Effect.Effect<void> | undefined = undefined
    for (const answer of answers) {
      // nobody can go on with this
      if (answer._tag === "Failed") return Effect.fail(answer.error)
      const { wanted } = answer
      const { topicPartition } = wanted.lane
      switch (answer._tag) {
        case "Records":
          this.told(lanes.arrived(wanted, answer.chunk, now))
          break
        case "OutOfRange":
          this.told(lanes.failed(wanted, { _tag: "OutOfRange", topicPartition, offset: wanted.position }))
          break
        case "Refused":
          this.told(lanes.failed(wanted, failed(topicPartition, answer.error)))
          break
        case "Moved":
          lanes.orphan(topicPartition)
          todo = this.search
      }
    }
    return todo
  }

  private told(wanted: boolean): void {
    if (wanted) this.self.arrived()
  }
}

const failed = (
  topicPartition: TopicPartition.TopicPartition,
  error: UnknownTopicError | KafkaAuthorizationError
): PartitionFault => ({ _tag: "Failed", topicPartition, error })
