/**
 * Kafka in this process: a faithful broker for tests and for trying things out. Swap it for `KafkaJs.layer` and the
 * same program talks to a cluster.
 *
 * Logs with offsets, groups that rebalance, transactions, retention: it is all there, and time is Effect's Clock, so
 * that a `TestClock` drives it. What is in it is gone when its layer is closed.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as AdminSession from "./drivers/inmemory/AdminSession.ts"
import { Cluster } from "./drivers/inmemory/Cluster.ts"
import * as ConsumerSession from "./drivers/inmemory/ConsumerSession.ts"
import { Network } from "./drivers/inmemory/Network.ts"
import * as ProducerSession from "./drivers/inmemory/ProducerSession.ts"
import { Signal } from "./drivers/inmemory/Signal.ts"
import { KafkaClient, type Service } from "./KafkaClient.ts"
import type { RecordHeaders } from "./RecordHeaders.ts"
import { fromKey, type TopicPartition } from "./TopicPartition.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** How many brokers there are; leaders are spread over them in turn. 1 by default. */
  readonly brokers?: number | undefined
  /** Whether a topic comes into being when it is first used, as `auto.create.topics.enable` does. `false` by default. */
  readonly autoCreateTopics?: boolean | undefined
  /** Partitions of a topic that is created without saying how many. 1 by default. */
  readonly defaultPartitions?: number | undefined
  /** How long an empty group waits for more members, as `group.initial.rebalance.delay.ms`. 0 by default. */
  readonly initialRebalanceDelay?: Duration.DurationInput | undefined
  /** How long a group without members keeps its offsets. 7 days by default. */
  readonly offsetsRetention?: Duration.DurationInput | undefined
  /** The longest transaction timeout a producer may ask for. 15 minutes by default. */
  readonly maxTransactionTimeout?: Duration.DurationInput | undefined
  /** How often consumers look for new topics and partitions. 5 minutes by default, as `metadata.max.age.ms`. */
  readonly metadataRefresh?: Duration.DurationInput | undefined
}

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
  readonly headers: RecordHeaders
  /** `"commit"` and `"abort"` are transaction markers, which no consumer is ever given. */
  readonly kind: "data" | "commit" | "abort"
  /** Whether its transaction was aborted. */
  readonly aborted: boolean
}

/**
 * The brokers, as a test sees them.
 *
 * @since 0.1.0
 * @category models
 */
export interface Broker {
  /** Everything in a partition's log, oldest first; empty where there is no such partition. */
  readonly log: (topicPartition: TopicPartition) => Effect.Effect<ReadonlyArray<LogRecord>>
  /** What a group has committed. */
  readonly committed: (
    groupId: string
  ) => Effect.Effect<ReadonlyArray<TopicPartition & { readonly offset: bigint }>>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class InMemoryBroker extends Context.Tag("@coffeebuddy/kafka/InMemoryBroker")<InMemoryBroker, Broker>() {}

const make = (
  options: Options
): Effect.Effect<Context.Context<KafkaClient | InMemoryBroker>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const cluster = new Cluster({
      brokers: options.brokers ?? 1,
      autoCreateTopics: options.autoCreateTopics ?? false,
      defaultPartitions: options.defaultPartitions ?? 1,
      initialRebalanceDelay: Duration.toMillis(options.initialRebalanceDelay ?? 0),
      offsetsRetention: Duration.toMillis(options.offsetsRetention ?? "7 days"),
      maxTransactionTimeout: Duration.toMillis(options.maxTransactionTimeout ?? "15 minutes")
    }, () => clock.unsafeCurrentTimeMillis())
    const network = new Network(cluster, scope)
    const metadataRefresh = Duration.toMillis(options.metadataRefresh ?? "5 minutes")
    yield* Effect.forkScoped(timekeeper(cluster))

    const client: Service = {
      driver: "in-memory",
      capabilities: ConsumerSession.capabilities,
      openConsumer: (options) => ConsumerSession.open(cluster, network, metadataRefresh, options),
      openProducer: (options) => ProducerSession.open(cluster, network, options),
      openAdmin: Effect.sync(() => AdminSession.open(cluster, network))
    }
    const broker: Broker = {
      log: (tp) => Effect.sync(() => cluster.topics.get(tp.topic)?.partitions[tp.partition]?.all() ?? []),
      committed: (groupId) =>
        Effect.sync(() =>
          [...cluster.groups.get(groupId)?.offsets ?? []].map(([k, { offset }]) => ({ ...fromKey(k), offset }))
        )
    }
    return Context.make(KafkaClient, client).pipe(Context.add(InMemoryBroker, broker))
  })

/** Lets the brokers do what is due. */
const timekeeper = (cluster: Cluster): Effect.Effect<never> => {
  const { timers } = cluster
  const earlier = new Signal()
  timers.onEarlier = () => earlier.raise()
  return Effect.forever(Effect.suspend(() => {
    timers.runDue()
    earlier.take()
    const next = timers.next()
    if (next === undefined) return earlier.wait
    return Effect.race(Clock.sleep(next - timers.now()), earlier.wait)
  }))
}

/**
 * An in-process Kafka with its own settings: the driver, and the brokers' controls for tests.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<KafkaClient | InMemoryBroker> =>
  Layer.scopedContext(make(options))

/**
 * An in-process Kafka: one broker, no topics. Each time it is built it is a new one.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<KafkaClient | InMemoryBroker> = layerWith({})
