/**
 * Kafka in this process: a faithful broker for tests and for trying things out. Swap it for `KafkaJs.layer` and the
 * same program talks to a cluster.
 *
 * Logs, groups that rebalance, transactions, retention: it is all there, and it is Kafka's own rules that decide. Time
 * is Effect's Clock, so that a `TestClock` drives it. The layer's end is the end of everything in it.
 *
 * {@link InMemoryBroker} is the other side: what a test may do to the brokers, and see of them.
 *
 * What it does not have: the group protocol of KIP-848, replicas that lag behind, log segments (retention and compaction
 * happen when a test says so), compression and security. A batch is as large as its records, whatever its compression.
 *
 * @since 0.1.0
 */
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Alarm from "./drivers/alarm.ts"
import * as AdminSession from "./drivers/inmemory/AdminSession.ts"
import { Cluster } from "./drivers/inmemory/Cluster.ts"
import * as ConsumerSession from "./drivers/inmemory/ConsumerSession.ts"
import * as Controls from "./drivers/inmemory/Controls.ts"
import * as Network from "./drivers/inmemory/Network.ts"
import * as ProducerSession from "./drivers/inmemory/ProducerSession.ts"
import * as Settings from "./drivers/inmemory/Settings.ts"
import { KafkaClient, type OffsetAndMetadata, type Service } from "./KafkaClient.ts"
import type { ClientError, ConsumerError, UnknownTopicError } from "./KafkaError.ts"
import type * as RecordHeaders from "./RecordHeaders.ts"
import type { TopicPartition } from "./TopicPartition.ts"

// ---------------------------------------------------------------------------------------------------------------------
// options
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** How many brokers there are; leaders are spread over them in turn. 1 by default. */
  readonly brokers?: number | undefined
  /** Whether a topic comes into being when it is first asked for, as `auto.create.topics.enable`. `false` by default. */
  readonly autoCreateTopics?: boolean | undefined
  /** Partitions of a topic that is created without saying how many, as `num.partitions`. 1 by default. */
  readonly defaultPartitions?: number | undefined
  /**
   * How long an empty group waits for more members, as `group.initial.rebalance.delay.ms`. 0 by default, where Kafka's
   * own default is 3 seconds.
   */
  readonly initialRebalanceDelay?: Duration.DurationInput | undefined
  /** The shortest session timeout of a member, as `group.min.session.timeout.ms`. 6 seconds by default. */
  readonly minSessionTimeout?: Duration.DurationInput | undefined
  /** The longest session timeout of a member, as `group.max.session.timeout.ms`. 30 minutes by default. */
  readonly maxSessionTimeout?: Duration.DurationInput | undefined
  /** How long a group without members keeps its offsets, as `offsets.retention.minutes`. 7 days by default. */
  readonly offsetsRetention?: Duration.DurationInput | undefined
  /** The longest timeout of a transaction, as `transaction.max.timeout.ms`. 15 minutes by default. */
  readonly maxTransactionTimeout?: Duration.DurationInput | undefined
  /** How long a client that is opened looks for a broker. 10 seconds by default. */
  readonly connectionTimeout?: Duration.DurationInput | undefined
  /** How often consumers look for new topics and partitions, as `metadata.max.age.ms`. 5 minutes by default. */
  readonly metadataRefresh?: Duration.DurationInput | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// what a test sees
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A record in a partition's log, transaction markers included.
 *
 * @since 0.1.0
 * @category models
 */
export interface LogRecord {
  readonly offset: bigint
  /** Milliseconds since 1970. */
  readonly timestamp: bigint
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: RecordHeaders.RecordHeaders
  /** `"commit"` and `"abort"` are transaction markers, which no consumer is ever given. */
  readonly kind: "data" | "commit" | "abort"
  /** Whether its transaction was aborted. */
  readonly aborted: boolean
}

/**
 * @since 0.1.0
 * @category models
 */
export interface GroupState {
  /** `"Empty"`, `"PreparingRebalance"`, `"CompletingRebalance"` or `"Stable"`. */
  readonly state: string
  readonly generation: number
  readonly members: ReadonlyArray<{
    readonly memberId: string
    readonly clientId: string
    readonly instanceId: string | undefined
    /** Known while the group is stable. */
    readonly assignment: ReadonlyArray<TopicPartition>
  }>
}

/**
 * One client's connection.
 *
 * @since 0.1.0
 * @category models
 */
export interface Session {
  /** Counts up from 1. */
  readonly id: number
  readonly kind: "consumer" | "producer" | "admin"
  readonly clientId: string
  /** Of a consumer. */
  readonly groupId: string | undefined
  /** Of a consumer that has joined. */
  readonly memberId: string | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// faults
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What a client may ask of a broker. `"fetch-offsets"` asks for committed offsets, `"list-offsets"` for those of a log.
 *
 * @since 0.1.0
 * @category models
 */
export type RequestKind = Network.RequestKind

/**
 * What happens to a request:
 *
 * - `"connection-refused"`: it is never sent, and its sender knows.
 * - `"request-lost"`: the connection breaks before it arrives. Its sender can not know whether it did.
 * - `"response-lost"`: it is carried out, and the connection breaks before the answer. Its sender can not know either.
 * - the protocol's name of an error, for instance `"NOT_LEADER_OR_FOLLOWER"`: the broker answers that.
 *
 * @since 0.1.0
 * @category models
 */
export type Fault = Network.Fault

/**
 * Which requests are meant; all of a kind where nothing is said.
 *
 * @since 0.1.0
 * @category models
 */
export interface Only {
  readonly session?: ((session: Session) => boolean) | undefined
  /** The id of the broker that is asked. */
  readonly broker?: number | undefined
}

/**
 * Something set by the test that waits for its requests.
 *
 * @since 0.1.0
 * @category models
 */
export interface Armed {
  /** How many requests have met it so far. */
  readonly fired: Effect.Effect<number>
  /** Takes it away. Answers how many requests have met it. */
  readonly disarm: Effect.Effect<number>
}

/**
 * What somebody else produces. Text is UTF-8.
 *
 * @since 0.1.0
 * @category models
 */
export interface ForeignRecord {
  readonly key?: RecordHeaders.Value | undefined
  readonly value?: RecordHeaders.Value | undefined
  readonly headers?: RecordHeaders.Input | undefined
  /** Milliseconds since 1970; now if absent. */
  readonly timestamp?: bigint | undefined
}

/**
 * How somebody else is a member of a group. The group's members must agree on `assignment`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ForeignMemberOptions {
  /** `"eager"` by default. */
  readonly assignment?: "eager" | "cooperative" | undefined
  readonly groupInstanceId?: string | undefined
  /** 45 seconds by default. */
  readonly sessionTimeout?: Duration.DurationInput | undefined
  /** 3 seconds by default. */
  readonly heartbeatInterval?: Duration.DurationInput | undefined
  /** 5 minutes by default. */
  readonly rebalanceTimeout?: Duration.DurationInput | undefined
}

/**
 * A member that is not the program under test. It takes what it is given, reads nothing and commits nothing. Where it is
 * to die rather than to leave, `isolate` it.
 *
 * @since 0.1.0
 * @category models
 */
export interface ForeignMember {
  /** `undefined` while it has not joined. */
  readonly memberId: Effect.Effect<string | undefined>
  readonly assignment: Effect.Effect<ReadonlyArray<TopicPartition>>
  /** Leaves the group in good order. */
  readonly leave: Effect.Effect<void>
}

// ---------------------------------------------------------------------------------------------------------------------
// the controls
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The brokers as a test sees them and disturbs them. What does something answers whether there was anything to do it to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Broker {
  // looking

  /** Everything in a partition's log, markers included, oldest first. Empty where there is no such partition. */
  readonly log: (topicPartition: TopicPartition) => Effect.Effect<ReadonlyArray<LogRecord>>
  /** What a group has committed. */
  readonly committed: (groupId: string) => Effect.Effect<ReadonlyArray<OffsetAndMetadata>>
  /** `undefined` where there is no such group. */
  readonly group: (groupId: string) => Effect.Effect<GroupState | undefined>
  /** Who is connected. */
  readonly sessions: Effect.Effect<ReadonlyArray<Session>>
  /** The transactional ids that have a transaction under way. */
  readonly openTransactions: Effect.Effect<ReadonlyArray<string>>

  // taking part

  /** Appends records as some other producer would. Answers the offset of the first. */
  readonly produce: (
    topicPartition: TopicPartition,
    records: ReadonlyArray<ForeignRecord>
  ) => Effect.Effect<bigint, ClientError | UnknownTopicError>
  /** Lets somebody else join a group. Ends when it has begun to; it is a member after the next rebalance. */
  readonly join: (
    groupId: string,
    topics: Iterable<string>,
    options?: ForeignMemberOptions
  ) => Effect.Effect<ForeignMember, ClientError | ConsumerError | UnknownTopicError>

  // groups

  /** Ends a member's session as if it had not been heard of for too long. Whether there was such a member. */
  readonly expireSession: (groupId: string, memberId: string) => Effect.Effect<boolean>
  /** Makes a stable group rebalance. Whether it was stable. */
  readonly rebalance: (groupId: string) => Effect.Effect<boolean>

  // logs

  /** Deletes the records before an offset, as `retention.ms` would. Whether anything was deleted. */
  readonly deleteBefore: (topicPartition: TopicPartition, offset: bigint) => Effect.Effect<boolean>
  /** Applies `retention.ms` and `retention.bytes` now: nothing does by itself. Answers how many records are gone. */
  readonly applyRetention: (topic: string) => Effect.Effect<number>
  /**
   * Compacts a partition now, whatever its `cleanup.policy`: the last record of each key stays, and what was aborted goes.
   * Tombstones stay unless `dropTombstones`. The very last record always stays. Answers how many records are gone; their
   * offsets are gaps.
   */
  readonly compact: (
    topicPartition: TopicPartition,
    options?: { readonly dropTombstones?: boolean | undefined }
  ) => Effect.Effect<number>
  /** Makes the next record get this offset: a gap before it. Whether that is ahead of the end. */
  readonly skipTo: (topicPartition: TopicPartition, offset: bigint) => Effect.Effect<boolean>

  // faults

  /** The next `times` requests of a kind meet a fault. A client that tries again meets the next one. */
  readonly failNext: (kind: RequestKind, times: number, fault: Fault, only?: Only) => Effect.Effect<Armed>
  /** Requests of a kind take this long to arrive, until disarmed. */
  readonly delay: (
    kind: RequestKind,
    duration: Duration.DurationInput,
    only?: Pick<Only, "session">
  ) => Effect.Effect<Armed>
  /**
   * Stops a broker, or all of them. Connections break; what is stored is kept; partitions with another replica and the
   * groups move to other brokers. Whether one was up.
   */
  readonly kill: (broker?: number) => Effect.Effect<boolean>
  /** Starts a broker, or all of them. Whether one was down. */
  readonly restart: (broker?: number) => Effect.Effect<boolean>
  /** Cuts clients off from every broker. Answers how many. */
  readonly isolate: (which: (session: Session) => boolean) => Effect.Effect<number>
  /** Lets clients that were cut off through again. Answers how many. */
  readonly reconnect: (which: (session: Session) => boolean) => Effect.Effect<number>
  /** Takes a permission away. Whether it was there. */
  readonly deny: (resource: "topic" | "group" | "transactional-id", name: string) => Effect.Effect<boolean>
  /** Gives a permission back. Whether it was missing. */
  readonly allow: (resource: "topic" | "group" | "transactional-id", name: string) => Effect.Effect<boolean>
}

/**
 * The brokers as a test sees them and disturbs them.
 *
 * @example
 * ```ts
 * import { InMemoryKafka } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const test = Effect.gen(function*() {
 *   const broker = yield* InMemoryKafka.InMemoryBroker
 *   const lost = yield* broker.failNext("produce", 1, "response-lost")
 *   // … produce something …
 *   console.log(yield* lost.fired)
 * }).pipe(Effect.provide(InMemoryKafka.layer))
 * ```
 *
 * @since 0.1.0
 * @category tags
 */
export class InMemoryBroker extends Context.Tag("@coffeebuddy/kafka/InMemoryBroker")<InMemoryBroker, Broker>() {}

/** Lets the brokers do what is due, while there are any. */
const keepTime = (cluster: Cluster, alarm: Alarm.Alarm): Effect.Effect<never> => {
  const { timers } = cluster
  return Effect.forever(Effect.suspend(() => {
    alarm.silence()
    if (cluster.anyBroker === undefined) return alarm.sleep(Infinity)
    timers.runDue()
    return alarm.sleep(timers.next() ?? Infinity)
  }))
}

const make = (
  options: Options
): Effect.Effect<Context.Context<KafkaClient | InMemoryBroker>, ConfigError.ConfigError, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const settings = yield* Settings.make(options)
    const { timings } = settings
    const cluster = new Cluster(settings.cluster, () => clock.unsafeCurrentTimeMillis())
    const network = new Network.Network(cluster, scope)
    const alarm = yield* Alarm.make
    cluster.timers.onEarlier = alarm.ring
    yield* Effect.forkScoped(keepTime(cluster, alarm))

    const client: Service = {
      driver: "in-memory",
      capabilities: ConsumerSession.capabilities,
      openConsumer: (options) => ConsumerSession.open(cluster, network, timings, options),
      openProducer: (options) => ProducerSession.open(cluster, network, timings, options),
      openAdmin: AdminSession.open(cluster, network, timings)
    }
    const broker = Controls.make(cluster, network, scope, timings, alarm.ring)
    return Context.make(KafkaClient, client).pipe(Context.add(InMemoryBroker, broker))
  })

/**
 * An in-process Kafka with its own settings: the driver, and the brokers' controls for tests. Each time it is built it
 * is a new one; share the layer to share the brokers.
 *
 * Fails with a `ConfigError` that lists every option that is none: no broker at all, a duration below zero.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<KafkaClient | InMemoryBroker, ConfigError.ConfigError> =>
  Layer.scopedContext(make(options))

/**
 * An in-process Kafka: one broker, no topics.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<KafkaClient | InMemoryBroker> = Layer.orDie(layerWith({}))
