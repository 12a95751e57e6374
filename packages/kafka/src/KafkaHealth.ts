/**
 * Whether the consumers of this process are ready and alive, and which partition is behind and why: for the probes of
 * an orchestrator and for whoever is on call. Everything is derived from the events.
 *
 * @since 0.1.0
 */
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { ConfigProblems, shown } from "./engine/configProblems.ts"
import { millisOf } from "./engine/duration.ts"
import { Tracker } from "./KafkaActivity.ts"
import type * as KafkaActivity from "./KafkaActivity.ts"
import { combine, KafkaObserver } from "./KafkaEvent.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * One partition, as it is now. Ages are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartitionReport {
  readonly topic: string
  readonly partition: number
  /** The offset after the last record that was handed out. */
  readonly position: bigint
  /** What this consumer committed last, where it has. */
  readonly committed: bigint | undefined
  /** The end of the log, as far as it is known. */
  readonly highWatermark: bigint | undefined
  /** Records that were not handed out yet. */
  readonly lag: bigint | undefined
  /** How long ago a record was handed out or committed. */
  readonly progressAge: number
  /** Why nothing moves here although there are records. */
  readonly problem: string | undefined
}

/**
 * One consumer; several of one group are told one by one. Ages are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerReport {
  readonly groupId: string
  readonly status: KafkaActivity.Status
  readonly ready: boolean
  readonly live: boolean
  /** Why it is not ready, or not live. */
  readonly problems: ReadonlyArray<string>
  /** How long ago the run loop last turned. */
  readonly loopAge: number
  readonly commitAge: number | undefined
  readonly heartbeatAge: number | undefined
  readonly partitions: ReadonlyArray<PartitionReport>
}

/**
 * All consumers of this process. Ready and live where each of them is.
 *
 * @since 0.1.0
 * @category models
 */
export interface Report {
  readonly ready: boolean
  readonly live: boolean
  readonly consumers: ReadonlyArray<ConsumerReport>
}

/**
 * Durations without a unit are milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Groups that must have a consumer before this process is ready. None if absent. */
  readonly groups?: ReadonlyArray<string> | undefined
  /** A run loop that has not turned for so long is dead. 30 seconds if absent; a healthy one turns every five. */
  readonly loopTimeout?: Duration.DurationInput | undefined
  /**
   * A partition with records waiting, of which none was handed out or committed for so long, makes the consumer not
   * live. Ten minutes if absent: longer than any handler should take, because an orchestrator answers with a restart.
   */
  readonly progressTimeout?: Duration.DurationInput | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** How it is now. Never fails and never waits. */
  readonly report: Effect.Effect<Report>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class KafkaHealth extends Context.Tag("@coffeebuddy/kafka/KafkaHealth")<KafkaHealth, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Watches the consumers that are built on top of it: `Layer.provideMerge(KafkaHealth.layer)`.
 *
 * Ready is a consumer that has joined its group, was told its partitions and knows where to start in each. Live is one
 * whose run loop turns, and that makes progress where there are records. A process without consumers is both.
 *
 * Fails with a `ConfigError` where a timeout is not above zero.
 *
 * @example
 * ```ts
 * import { Consumer, InMemoryKafka, KafkaHealth, TopicRegistry } from "@coffeebuddy/kafka"
 * import { Effect, Layer } from "effect"
 *
 * const Live = Consumer.layer({ groupId: "kitchen" }).pipe(
 *   Layer.provide(InMemoryKafka.layer),
 *   Layer.provide(TopicRegistry.layerWith({})),
 *   Layer.provideMerge(KafkaHealth.layer)
 * )
 *
 * const ready = KafkaHealth.report.pipe(Effect.map((report) => report.ready), Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<KafkaHealth, ConfigError.ConfigError> =>
  Layer.effectContext(Effect.gen(function*() {
    const clock = yield* Effect.clock
    const before = yield* KafkaObserver
    const tracker = new Tracker()
    const limits = yield* limitsOf(options)
    const health = Context.make(KafkaHealth, {
      report: Effect.sync(() => assess(tracker, limits, clock.unsafeCurrentTimeMillis()))
    })
    return Context.add(
      health,
      KafkaObserver,
      combine(before, {
        enabled: true,
        onEvent: (event, source) => tracker.onEvent(event, clock.unsafeCurrentTimeMillis(), source)
      })
    )
  }))

/**
 * {@link layerWith} its defaults.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<KafkaHealth> = Layer.orDie(layerWith({}))

/**
 * How it is now.
 *
 * @since 0.1.0
 * @category accessors
 */
export const report: Effect.Effect<Report, never, KafkaHealth> = Effect.flatMap(KafkaHealth, (self) => self.report)

// ---------------------------------------------------------------------------------------------------------------------
// judging
// ---------------------------------------------------------------------------------------------------------------------

interface Limits {
  readonly groups: ReadonlyArray<string>
  readonly loopTimeout: number
  readonly progressTimeout: number
}

const limitsOf = (options: Options): Either.Either<Limits, ConfigError.ConfigError> => {
  const problems = new ConfigProblems()
  const millis = (name: "loopTimeout" | "progressTimeout", otherwise: Duration.DurationInput): number => {
    const input = options[name] ?? otherwise
    const out = millisOf(input) ?? 0
    if (!(out > 0)) problems.add(["KafkaHealth", name], `expected a duration above zero, found ${shown(input)}`)
    return out
  }
  const limits: Limits = {
    groups: options.groups ?? [],
    loopTimeout: millis("loopTimeout", "30 seconds"),
    progressTimeout: millis("progressTimeout", "10 minutes")
  }
  return problems.orElse(() => limits)
}

const assess = (tracker: Tracker, limits: Limits, now: number): Report => {
  const consumers = [...tracker.members].map((member) => assessMember(member, limits, now))
  const missing = limits.groups.filter((groupId) => !consumers.some((one) => one.groupId === groupId)).map((
    groupId
  ): ConsumerReport => ({
    groupId,
    status: "joining",
    ready: false,
    live: true,
    problems: ["there is no consumer of this group yet"],
    loopAge: 0,
    commitAge: undefined,
    heartbeatAge: undefined,
    partitions: []
  }))
  const all = [...consumers, ...missing]
  return { ready: all.every((one) => one.ready), live: all.every((one) => one.live), consumers: all }
}

const assessMember = (member: KafkaActivity.Member, limits: Limits, now: number): ConsumerReport => {
  const since = (at: number | undefined) => at === undefined ? undefined : now - at
  const partitions = [...member.partitions.values()].map((partition): PartitionReport => {
    const progressAge = Math.max(0, now - Math.max(partition.progressAt, partition.delayedUntil))
    const stuck = partition.hasWork && progressAge >= limits.progressTimeout
    return {
      topic: partition.topicPartition.topic,
      partition: partition.topicPartition.partition,
      position: partition.position,
      committed: partition.committed,
      highWatermark: partition.highWatermark,
      lag: partition.lag,
      progressAge,
      problem: stuck
        ? `records are waiting, and none was handed out or committed for ${seconds(progressAge)}`
        : partition.stalled && partition.hasWork
        ? "its records are fetched, and the program does not take them"
        : undefined
    }
  })
  const loopAge = now - member.turnedAt
  const dead = member.status === "died"
    ? `it died: ${member.failure?.message}`
    : !member.isOver && loopAge >= limits.loopTimeout
    ? `its run loop has not turned for ${seconds(loopAge)}`
    : undefined
  const stuck = partitions.filter((one) => one.problem !== undefined && one.progressAge >= limits.progressTimeout)
  const notReady = member.status === "running" ? undefined : notReadyBecause[member.status]
  return {
    groupId: member.groupId,
    status: member.status,
    ready: member.status === "running" && dead === undefined,
    live: dead === undefined && stuck.length === 0,
    problems: [
      ...(dead === undefined ? notReady === undefined ? [] : [notReady] : [dead]),
      ...stuck.map((one) => `${one.topic}[${one.partition}]: ${one.problem}`)
    ],
    loopAge,
    commitAge: since(member.committedAt),
    heartbeatAge: since(member.heartbeatAt),
    partitions
  }
}

const notReadyBecause = {
  joining: "it has not been given its partitions yet",
  rebalancing: "its group rebalances",
  stopped: "it was stopped",
  died: "it died"
}

const seconds = (millis: number): string => `${Math.round(millis / 1000)} seconds`
