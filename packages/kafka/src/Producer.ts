/**
 * Sending records. Concurrent `send`s are gathered into batches; each caller gets its own record's result.
 *
 * By default a record is acknowledged when all in-sync replicas have it, is stored once, and keeps its place among the
 * records of its partition, through retries and broker restarts.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import * as engine from "./engine/producer/engine.ts"
import { sendFrom } from "./engine/producer/sendFrom.ts"
import * as settings from "./engine/producer/settings.ts"
import type { CompressionType, KafkaClient, SendError } from "./KafkaClient.ts"
import type {
  BufferFullError,
  ClientError,
  CommitError,
  ProducerFencedError,
  SerializationError,
  TransactionError,
  UnsupportedFeatureError
} from "./KafkaError.ts"
import type { Partitioner } from "./Partitioner.ts"
import type { ProducerRecord, RecordMetadata } from "./ProducerRecord.ts"
import type * as Topic from "./Topic.ts"
import type { TopicRegistry } from "./TopicRegistry.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What may be set; every default is a safe one. What contradicts itself is refused with a `ConfigError`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The name that brokers know this producer by; that of `KafkaConfig` if absent. */
  readonly clientId?: string | undefined
  /** Who has to have a record before it counts as stored: all in-sync replicas, the leader, or nobody. `"all"` if absent. */
  readonly acks?: "all" | "leader" | "none" | undefined
  /** Stores a record once, and keeps the order, when a request is repeated. `true` if absent and `acks` is `"all"`. */
  readonly idempotent?: boolean | undefined
  /** `"none"` if absent. Others than gzip need an optional package, which the error names if it is missing. */
  readonly compression?: CompressionType | undefined
  /**
   * How long a record waits for company. Zero if absent: what comes while a request is under way goes together with the
   * next one, which is enough for full speed under load and costs nothing without.
   */
  readonly linger?: Duration.DurationInput | undefined
  /** The most bytes of one partition in one request, unless a single record is larger. 1,000,000 if absent. */
  readonly batchSize?: number | undefined
  /** The most bytes of a record, and of a request. 1 MiB if absent, as brokers and topics have it by default. */
  readonly maxRequestSize?: number | undefined
  /** How many bytes may be waiting or under way. 32 MiB if absent. */
  readonly bufferMemory?: number | undefined
  /** Whether a send waits while the buffer is full, at most for `deliveryTimeout`, or fails. `"wait"` if absent. */
  readonly onBufferFull?: "wait" | "fail" | undefined
  /**
   * What to do with a batch that was sent and may or may not have been stored: fail it, or send it again at the risk
   * of storing it twice. `"fail"` if absent. Mostly the driver finds out by itself, and this does not arise.
   */
  readonly onUnknownOutcome?: "fail" | "resend" | undefined
  /** How long a record may take from `send` until it is acknowledged, retries included. Two minutes if absent. */
  readonly deliveryTimeout?: Duration.DurationInput | undefined
  /** How long one request may take before its answer counts as lost. 30 seconds if absent. */
  readonly requestTimeout?: Duration.DurationInput | undefined
  /** How long closing waits for what is buffered. Ten seconds if absent. */
  readonly closeTimeout?: Duration.DurationInput | undefined
  /** Makes this a transactional producer. Of two producers with one id the newer fences the older. */
  readonly transactionalId?: string | undefined
  /**
   * When the broker aborts a transaction that was neither committed nor aborted. 20 seconds if absent. For
   * `Consumer.transform` it has to be below the consumer's `sessionTimeout`.
   */
  readonly transactionTimeout?: Duration.DurationInput | undefined
  /** Which partition a record goes to that names none. `Partitioner.java` if absent. */
  readonly partitioner?: Partitioner | undefined
}

/**
 * What sending a record can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type ProduceError = SendError | BufferFullError | SerializationError

/**
 * What opening a producer can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type OpenError = ConfigError.ConfigError | ClientError | ProducerFencedError | UnsupportedFeatureError

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** See {@link send}. */
  readonly send: <Slug extends string, K, V, R>(
    topic: Topic.Topic<Slug, K, V, R>,
    record: ProducerRecord<NoInfer<K>, NoInfer<V>>
  ) => Effect.Effect<RecordMetadata, ProduceError, R>
  /** See {@link sendAll}. */
  readonly sendAll: <Slug extends string, K, V, R>(
    topic: Topic.Topic<Slug, K, V, R>,
    records: Iterable<ProducerRecord<NoInfer<K>, NoInfer<V>>>
  ) => Effect.Effect<ReadonlyArray<RecordMetadata>, ProduceError, R>
  /** See {@link enqueue}. */
  readonly enqueue: <Slug extends string, K, V, R>(
    topic: Topic.Topic<Slug, K, V, R>,
    record: ProducerRecord<NoInfer<K>, NoInfer<V>>
  ) => Effect.Effect<Effect.Effect<RecordMetadata, SendError>, ProduceError, R>
  /** See {@link enqueueAll}. */
  readonly enqueueAll: <Slug extends string, K, V, R>(
    topic: Topic.Topic<Slug, K, V, R>,
    records: Iterable<ProducerRecord<NoInfer<K>, NoInfer<V>>>
  ) => Effect.Effect<Effect.Effect<ReadonlyArray<RecordMetadata>, SendError>, ProduceError, R>
  /** See {@link flush}. */
  readonly flush: Effect.Effect<void>
  /** See {@link transaction}. */
  readonly transaction: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SendError | CommitError | TransactionError, R>
}

/**
 * A producer.
 *
 * @since 0.1.0
 * @category tags
 */
export class Producer extends Context.Tag("@coffeebuddy/kafka/Producer")<Producer, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// constructors and layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A producer, connected. Closing its scope refuses further records, waits up to `closeTimeout` for what is buffered, and
 * fails the rest with a `ProducerError` whose reason is `"closed"`. A transaction that is being committed may be; one
 * whose effect still runs is aborted, and fails in that way too.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options = {}
): Effect.Effect<Service, OpenError, KafkaClient | TopicRegistry | Scope.Scope> =>
  Effect.flatMap(settings.check(options), engine.make)

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Producer, OpenError, KafkaClient | TopicRegistry> =>
  Layer.scoped(Producer, make(options))

/**
 * A producer whose options are read from the configuration.
 *
 * @example
 * ```ts
 * import { Producer } from "@coffeebuddy/kafka"
 * import { Config } from "effect"
 *
 * const ProducerLive = Producer.layerConfig({
 *   linger: Config.duration("PRODUCER_LINGER").pipe(Config.withDefault("5 millis"))
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  options: Config.Config.Wrap<Options>
): Layer.Layer<Producer, OpenError, KafkaClient | TopicRegistry> =>
  Layer.scoped(Producer, Effect.flatMap(Config.unwrap(options), make))

// ---------------------------------------------------------------------------------------------------------------------
// operations
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Sends a record, and ends with its place once it is acknowledged. Records that are sent at the same time go together.
 *
 * Interrupting it takes the record back as long as it is not on its way.
 *
 * @example
 * ```ts
 * import { Producer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const order = Producer.send(Orders, { key: "table-4", value: "two espressi" }).pipe(
 *   Effect.tap(({ offset, partition }) => Effect.log(`stored at ${partition}/${offset}`))
 * )
 * ```
 *
 * @since 0.1.0
 * @category operations
 */
export const send = <Slug extends string, K, V, R>(
  topic: Topic.Topic<Slug, K, V, R>,
  record: ProducerRecord<NoInfer<K>, NoInfer<V>>
): Effect.Effect<RecordMetadata, ProduceError, Producer | R> =>
  // what `Effect.flatMap(Producer, …)` does, in fewer steps of Effect: each is some percent of what a record costs
  Effect.withFiberRuntime((fiber, { runtimeFlags }) => {
    const producer = Context.unsafeGet(fiber.currentContext, Producer)
    const from = sendFrom(producer.send)
    return from === undefined ? producer.send(topic, record) : from(fiber, runtimeFlags, topic, record)
  })

/**
 * Sends records, in order within each partition, and ends with their places in the order they were given.
 *
 * Where one of them can not be serialized, or is too large, nothing is sent, and the error's `records` says which it is.
 * Otherwise each record stands for itself: if some are refused the others are stored all the same, and
 * `ProducerError.records` says which were not. Use {@link transaction} for all or nothing. There may be more of them
 * than the buffer holds.
 *
 * @since 0.1.0
 * @category operations
 */
export const sendAll = <Slug extends string, K, V, R>(
  topic: Topic.Topic<Slug, K, V, R>,
  records: Iterable<ProducerRecord<NoInfer<K>, NoInfer<V>>>
): Effect.Effect<ReadonlyArray<RecordMetadata>, ProduceError, Producer | R> =>
  Effect.flatMap(Producer, (producer) => producer.sendAll(topic, records))

/**
 * Hands a record over, and ends when it is in the buffer. The effect it answers ends when the record is acknowledged.
 * What is in the buffer is sent, whether or not anybody waits for it.
 *
 * @example
 * ```ts
 * import { Producer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const program = Effect.gen(function*() {
 *   const first = yield* Producer.enqueue(Orders, { key: "table-4", value: "two espressi" })
 *   const second = yield* Producer.enqueue(Orders, { key: "table-4", value: "the bill" })
 *   yield* Effect.all([first, second]) // both are stored, in this order
 * })
 * ```
 *
 * @since 0.1.0
 * @category operations
 */
export const enqueue = <Slug extends string, K, V, R>(
  topic: Topic.Topic<Slug, K, V, R>,
  record: ProducerRecord<NoInfer<K>, NoInfer<V>>
): Effect.Effect<Effect.Effect<RecordMetadata, SendError>, ProduceError, Producer | R> =>
  Effect.flatMap(Producer, (producer) => producer.enqueue(topic, record))

/**
 * {@link enqueue} for many records: what {@link sendAll} does, in two steps.
 *
 * @since 0.1.0
 * @category operations
 */
export const enqueueAll = <Slug extends string, K, V, R>(
  topic: Topic.Topic<Slug, K, V, R>,
  records: Iterable<ProducerRecord<NoInfer<K>, NoInfer<V>>>
): Effect.Effect<Effect.Effect<ReadonlyArray<RecordMetadata>, SendError>, ProduceError, Producer | R> =>
  Effect.flatMap(Producer, (producer) => producer.enqueueAll(topic, records))

/**
 * Sends what is buffered without lingering, and ends when everything that was handed over before is settled, well or
 * not: each caller hears of its own records.
 *
 * @since 0.1.0
 * @category operations
 */
export const flush: Effect.Effect<void, never, Producer> = Effect.flatMap(Producer, (producer) => producer.flush)

/**
 * Runs an effect whose records are committed together, or not at all: if the effect fails or is interrupted, or one of
 * its records does, no reader that reads committed records ever sees any of them.
 *
 * A record that could not be sent in the first place is none of them: it is too large, can't be serialized, or has no
 * partition to go to. Its `send` fails, and so does the transaction, unless the program handles the error; it may then
 * send something else in its place. Whoever forks a `send` has to join it, or nobody hears of that.
 *
 * Needs a `transactionalId`. A producer has one transaction at a time; others wait. There are no nested ones, and a
 * producer with a `transactionalId` sends nothing outside.
 *
 * @example
 * ```ts
 * import { Producer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const Debits = Topic.make("debits", { key: Serde.string, value: Serde.int64 })
 * const Credits = Topic.make("credits", { key: Serde.string, value: Serde.int64 })
 *
 * const transfer = (from: string, to: string, cents: bigint) =>
 *   Producer.transaction(
 *     Producer.send(Debits, { key: from, value: cents }).pipe(
 *       Effect.zipRight(Producer.send(Credits, { key: to, value: cents }))
 *     )
 *   )
 * ```
 *
 * @since 0.1.0
 * @category operations
 */
export const transaction = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SendError | CommitError | TransactionError, Producer | R> =>
  Effect.flatMap(Producer, (producer) => producer.transaction(effect))

// ---------------------------------------------------------------------------------------------------------------------
// streams
// ---------------------------------------------------------------------------------------------------------------------

/** How many chunks may be waiting for their acknowledgement. The buffer of the producer bounds their bytes. */
const chunksInFlight = 64

/**
 * Sends what a stream of records brings, and answers where each of them is, in the same order and in the same chunks.
 * Chunks follow each other without waiting for acknowledgements, as far as the producer's buffer has room and at most
 * 64 of them.
 *
 * The first record that is refused fails the stream, after everything before it has come out.
 *
 * @example
 * ```ts
 * import { Producer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Stream } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const program = Stream.range(1, 1000).pipe(
 *   Stream.map((table) => ({ key: `table-${table}`, value: "two espressi" })),
 *   Producer.produce(Orders),
 *   Stream.runCount
 * )
 * ```
 *
 * @since 0.1.0
 * @category streams
 */
export const produce = <Slug extends string, K, V, RT>(topic: Topic.Topic<Slug, K, V, RT>) =>
<E, R>(
  records: Stream.Stream<ProducerRecord<NoInfer<K>, NoInfer<V>>, E, R>
): Stream.Stream<RecordMetadata, E | ProduceError, Producer | R | RT> =>
  Stream.mapChunks(through(topic, records, identity), Chunk.map(([, metadata]) => metadata))

/**
 * {@link produce} for a stream of anything: each element becomes a record, and comes out again with the place of its
 * record. So a consumed record can be committed once what was made of it is acknowledged.
 *
 * @example
 * ```ts
 * import { Consumer, Producer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Stream } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 * const Receipts = Topic.make("receipts", { key: Serde.string, value: Serde.string })
 *
 * const program = Consumer.stream(Orders).pipe(
 *   Producer.produceMap(Receipts, (order) => ({ key: order.key, value: `received: ${order.value}` })),
 *   Stream.map(([order]) => order),
 *   Consumer.commitWithin(1000, "1 second"),
 *   Stream.runDrain
 * )
 * ```
 *
 * @since 0.1.0
 * @category streams
 */
export const produceMap = <A, Slug extends string, K, V, RT>(
  topic: Topic.Topic<Slug, K, V, RT>,
  toRecord: (element: A) => ProducerRecord<NoInfer<K>, NoInfer<V>>
) =>
<E, R>(
  elements: Stream.Stream<A, E, R>
): Stream.Stream<readonly [element: A, metadata: RecordMetadata], E | ProduceError, Producer | R | RT> =>
  through(topic, elements, toRecord)

const through = <A, Slug extends string, K, V, RT, E, R>(
  topic: Topic.Topic<Slug, K, V, RT>,
  elements: Stream.Stream<A, E, R>,
  toRecord: (element: A) => ProducerRecord<K, V>
): Stream.Stream<readonly [A, RecordMetadata], E | ProduceError, Producer | R | RT> =>
  Stream.unwrap(Effect.map(Producer, (producer) =>
    elements.pipe(
      Stream.chunks,
      Stream.mapEffect((chunk) =>
        Effect.map(
          producer.enqueueAll(topic, Chunk.map(chunk, toRecord)),
          Effect.map((metadata) => Chunk.zip(chunk, Chunk.unsafeFromArray(metadata)))
        )
      ),
      Stream.buffer({ capacity: chunksInFlight }),
      Stream.mapEffect(identity),
      Stream.flattenChunks
    )))

/**
 * Sends what it is given, and ends when all of it is acknowledged. It does not wait for the one before it sends the
 * next, as far as the producer's buffer has room and at most 64 chunks are on their way.
 *
 * @example
 * ```ts
 * import { Producer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Stream } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const program = Stream.make({ key: "table-4", value: "two espressi" }).pipe(Stream.run(Producer.sink(Orders)))
 * ```
 *
 * @since 0.1.0
 * @category streams
 */
export const sink = <Slug extends string, K, V, R>(
  topic: Topic.Topic<Slug, K, V, R>
): Sink.Sink<void, ProducerRecord<K, V>, never, ProduceError, Producer | R> =>
  Sink.unwrap(Effect.map(Producer, (producer) => {
    const pending: Array<Effect.Effect<unknown, SendError>> = []
    const settleDownTo = (most: number): Effect.Effect<void, SendError> =>
      Effect.whileLoop({
        while: () => pending.length > most,
        body: () => pending.shift()!,
        step: () => {}
      })
    return Sink.forEachChunk((chunk: Chunk.Chunk<ProducerRecord<K, V>>) =>
      producer.enqueueAll(topic, chunk).pipe(
        Effect.flatMap((acknowledged) => {
          pending.push(acknowledged)
          return settleDownTo(chunksInFlight - 1)
        })
      )
    ).pipe(Sink.mapEffect(() => settleDownTo(0)))
  }))
