/**
 * Topics as streams of typed records, and their offsets.
 *
 * A consumer is one member of a group. Its streams never lose a record, never hang and never flood: what is committed
 * was processed, whatever ends the consumer fails every stream with the reason, and what is fetched ahead is bounded.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as ConsumerRecord from "./ConsumerRecord.ts"
import type { Entry } from "./engine/consumer/Decoder.ts"
import * as EndOffsets from "./engine/consumer/EndOffsets.ts"
import { type Handler, type Hooks, HooksId, run as runForEach } from "./engine/consumer/forEach.ts"
import type { Lane } from "./engine/consumer/Lane.ts"
import type { PartitionBuffer } from "./engine/consumer/PartitionBuffer.ts"
import * as Retry from "./engine/consumer/Retry.ts"
import { RunLoop } from "./engine/consumer/RunLoop.ts"
import * as Settings from "./engine/consumer/Settings.ts"
import * as streams from "./engine/consumer/streams.ts"
import type * as Subscriber from "./engine/consumer/Subscriber.ts"
import { check as checkTransform, run as runTransform } from "./engine/consumer/transform.ts"
import * as Observe from "./engine/observe.ts"
import * as Reading from "./engine/reading.ts"
import { notBefore } from "./engine/timestamp.ts"
import * as Tracing from "./engine/tracing.ts"
import { type ConsumerSession, KafkaClient } from "./KafkaClient.ts"
import {
  type ClientError,
  type CommitError,
  ConsumerError,
  type DeserializationError,
  type StreamError as StreamError_,
  type TransactionError,
  type UnsupportedFeatureError
} from "./KafkaError.ts"
import * as OffsetBatch from "./OffsetBatch.ts"
import * as Producer from "./Producer.ts"
import type { ProducerRecord } from "./ProducerRecord.ts"
import * as Topic from "./Topic.ts"
import * as TopicPartition from "./TopicPartition.ts"
import { TopicRegistry } from "./TopicRegistry.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What a consumer is made with. Durations without a unit are milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Settings.Options {}

/**
 * What a stream of records can fail with. It ends without an error only where it was stopped, or has reached its bound.
 *
 * @since 0.1.0
 * @category models
 */
export type StreamError = StreamError_

/**
 * What a stream reads: a topic, several, or all that match a pattern.
 *
 * @since 0.1.0
 * @category models
 */
export type Source = Topic.Any | ReadonlyArray<Topic.Any> | AnyPattern

// oxlint-disable-next-line no-explicit-any -- the one way to write "of any type" for an invariant parameter
type AnyPattern = Topic.Pattern<any, any, any>

type Member<S> = S extends ReadonlyArray<infer T> ? T : S

/**
 * The records of a topic, or of several as a union that `topic` discriminates.
 *
 * @since 0.1.0
 * @category types
 */
export type RecordOf<S> = Member<S> extends infer T
  ? T extends Topic.Topic<infer Slug, infer K, infer V, infer _R> ? ConsumerRecord.ConsumerRecord<K, V, Slug>
  : T extends Topic.Pattern<infer K, infer V, infer _R> ? ConsumerRecord.ConsumerRecord<K, V>
  : never
  : never

/**
 * What the serdes of a source need.
 *
 * @since 0.1.0
 * @category types
 */
export type ContextOf<S> = Member<S> extends infer T ? T extends Topic.Topic<infer _S, infer _K, infer _V, infer R> ? R
  : T extends Topic.Pattern<infer _K, infer _V, infer R> ? R
  : never
  : never

/**
 * @since 0.1.0
 * @category models
 */
export interface StreamOptions<E = never, R = never> {
  /**
   * What becomes of a record that can't be decoded:
   *
   * - `"fail"`, the default: the stream fails with a `DeserializationError`, after the records before it.
   * - `"skip"`: it is left out, and an event says so.
   * - `"either"`: the stream is one of `Either<record, DeserializationError>`.
   * - a handler: it is run, and the record is left out; where the handler fails, so does the stream.
   */
  readonly onDecodeFailure?:
    | "fail"
    | "skip"
    | "either"
    | ((error: DeserializationError) => Effect.Effect<void, E, R>)
    | undefined
  /**
   * Reads exactly these partitions of the one topic given, without the group moving any. A partition starts at its
   * `offset` if given, else where the group has committed, else by `autoOffsetReset`.
   */
  readonly partitions?:
    | ReadonlyArray<
      number | { readonly partition: number; readonly offset?: bigint | "earliest" | "latest" | undefined }
    >
    | undefined
}

// oxlint-disable-next-line no-explicit-any -- any failure and any requirement of a handler
type AnyStreamOptions = StreamOptions<any, any>

type ElementOf<S, O> = O extends { readonly onDecodeFailure: "either" }
  ? Either.Either<RecordOf<S>, DeserializationError>
  : RecordOf<S>
type ErrorOf<O> = O extends { readonly onDecodeFailure: (error: never) => Effect.Effect<infer _A, infer E, infer _R> } ?
  E
  : never
type RequirementOf<O> = O extends
  { readonly onDecodeFailure: (error: never) => Effect.Effect<infer _A, infer _E, infer R> } ? R
  : never

/**
 * Where a bounded stream ends in each partition: at the end as it is when the stream starts, before an offset, or
 * before the first record that is not older than a time (milliseconds since 1970).
 *
 * @since 0.1.0
 * @category models
 */
export type Bound =
  | "end"
  | { readonly offset: bigint }
  | { readonly offsets: ReadonlyMap<number, bigint> }
  | { readonly timestamp: bigint | number | Date }

/**
 * @since 0.1.0
 * @category models
 */
export interface ForEachOptions<E = never, R = never> {
  /** How many records are handled at once at most. 1 by default. */
  readonly concurrency?: number | undefined
  /**
   * Which records wait for each other:
   *
   * - `"partition"`, the default: a partition's records are handled one after the other.
   * - `"key"`: records of a partition with the same key are; others need not wait. Records without a key have no order.
   * - `"unordered"`: none.
   */
  readonly ordering?: "partition" | "key" | "unordered" | undefined
  /** A commit is sent after so many records. 1,000 by default. */
  readonly commitCount?: number | undefined
  /** A commit is sent so long after the first record it speaks for. 1 second by default. */
  readonly commitWithin?: Duration.DurationInput | undefined
  /**
   * How many records of a partition may be under way or done ahead of the first that is not done: what a crash would
   * repeat at most. 10,000 by default.
   */
  readonly maxAhead?: number | undefined
  /** How long running handlers may go on once the consumer is stopped; then they are interrupted. 10 seconds by default. */
  readonly gracePeriod?: Duration.DurationInput | undefined
  /** As for {@link StreamOptions}: `"fail"` by default. */
  readonly onDecodeFailure?: "fail" | "skip" | ((error: DeserializationError) => Effect.Effect<void, E, R>) | undefined
  /** As for {@link StreamOptions}. */
  readonly partitions?: StreamOptions["partitions"]
}

// oxlint-disable-next-line no-explicit-any -- any failure and any requirement of a handler
type AnyForEachOptions = ForEachOptions<any, any>

/**
 * @since 0.1.0
 * @category models
 */
export interface TransformOptions {
  /** How many records are transformed at once at most; what is written keeps their order. 1 by default. */
  readonly concurrency?: number | undefined
  /** Most records read in one transaction, soft by `maxPollRecords`. 5,000 by default. */
  readonly maxRecords?: number | undefined
}

/**
 * What becomes of a record: another, several, or none.
 *
 * @since 0.1.0
 * @category models
 */
export type Transformed<K, V> = ProducerRecord<K, V> | ReadonlyArray<ProducerRecord<K, V>> | void

/**
 * What {@link transform} can fail with beside what reading can.
 *
 * @since 0.1.0
 * @category models
 */
export type TransformError = Producer.ProduceError | CommitError | TransactionError

/**
 * A topic's partition, and the stream of its records: until the partition is revoked.
 *
 * @since 0.1.0
 * @category models
 */
export type PartitionStream<S, O = StreamOptions, R = never> = readonly [
  TopicPartition.TopicPartition,
  Stream.Stream<ElementOf<S, O>, StreamError | ErrorOf<O>, ContextOf<S> | RequirementOf<O> | R>
]

/**
 * How far behind a partition is.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lag {
  readonly topicPartition: TopicPartition.TopicPartition
  /** What the group has committed. */
  readonly committed: bigint | undefined
  /** The next offset this consumer hands out. */
  readonly position: bigint
  /** The end of the log. */
  readonly end: bigint
  /** `end` minus `committed`, or minus `position` as long as nothing is committed: in offsets. */
  readonly lag: bigint
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly groupId: string
  /** See the function of the same name. */
  readonly stream: <const S extends Source, const O extends AnyStreamOptions = StreamOptions>(
    source: S,
    options?: O
  ) => Stream.Stream<ElementOf<S, O>, StreamError | ErrorOf<O>, ContextOf<S> | RequirementOf<O>>
  /** See the function of the same name. */
  readonly partitionedStream: <const S extends Source, const O extends AnyStreamOptions = StreamOptions>(
    source: S,
    options?: O
  ) => Stream.Stream<PartitionStream<S, O>, StreamError>
  /** See the function of the same name. */
  readonly streamUntil: <const T extends Topic.Any, const O extends AnyStreamOptions = StreamOptions>(
    topic: T,
    bound: Bound,
    options?: O
  ) => Stream.Stream<ElementOf<T, O>, StreamError | ErrorOf<O>, ContextOf<T> | RequirementOf<O>>
  /** See the function of the same name. */
  readonly commit: (
    records: ConsumerRecord.Any | Iterable<ConsumerRecord.Any> | OffsetBatch.OffsetBatch
  ) => Effect.Effect<void, CommitError>
  /** See the function of the same name. */
  readonly commitWithin: (
    count: number,
    within: Duration.DurationInput
  ) => <A extends ConsumerRecord.Any, E, R>(
    self: Stream.Stream<A, E, R>
  ) => Stream.Stream<A, E | CommitError | ConsumerError, R>
  /** See the function of the same name. */
  readonly forEach: <const S extends Source, E, R, const O extends AnyForEachOptions = ForEachOptions>(
    source: S,
    handler: (record: RecordOf<S>) => Effect.Effect<unknown, E, R>,
    options?: O
  ) => Effect.Effect<void, E | StreamError | ErrorOf<O>, R | ContextOf<S> | RequirementOf<O>>
  /** See the function of the same name. */
  readonly transform: <const S extends Source, Slug extends string, K, V, R2, E, R>(
    source: S,
    f: (record: RecordOf<S>) => Effect.Effect<Transformed<K, V>, E, R>,
    target: Topic.Topic<Slug, K, V, R2>,
    options?: TransformOptions
  ) => Effect.Effect<void, E | StreamError | TransformError, Producer.Producer | R | R2 | ContextOf<S>>
  /** The partitions this consumer owns now. */
  readonly assignment: Effect.Effect<ReadonlyArray<TopicPartition.TopicPartition>>
  /** The next offset of a partition to be handed out; `None` where it is not assigned. */
  readonly position: (topicPartition: TopicPartition.TopicPartition) => Effect.Effect<Option.Option<bigint>>
  /** What the group has committed, asked from the broker; a partition without a commit is absent. */
  readonly committed: (
    partitions: Iterable<TopicPartition.TopicPartition>
  ) => Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, StreamError>
  /** See the function of the same name. */
  readonly seek: (
    topicPartition: TopicPartition.TopicPartition,
    to: bigint | "earliest" | "latest" | { readonly timestamp: bigint | number | Date }
  ) => Effect.Effect<void, StreamError>
  /** How far behind each assigned partition is. */
  readonly lag: Effect.Effect<ReadonlyArray<Lag>, StreamError>
  /** See the function of the same name. */
  readonly stop: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Consumer extends Context.Tag("@coffeebuddy/kafka/Consumer")<Consumer, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What making a consumer can fail with.
 *
 * @since 0.1.0
 * @category models
 */
export type MakeError = ConfigError.ConfigError | ClientError | UnsupportedFeatureError

/**
 * A consumer that lives as long as its Scope. It connects now, and joins its group with its first stream.
 *
 * When the Scope closes, no more records are handed out, streams end, what was processed is committed, and the group is
 * left at once: within `stopTimeout`, whatever happens.
 *
 * Fails with a `ConfigError` that lists every contradiction between the options, and with the driver's error where the
 * cluster can't be reached within the connection timeout.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options
): Effect.Effect<Service, MakeError, KafkaClient | TopicRegistry | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* KafkaClient
    const registry = yield* TopicRegistry
    const emit = yield* Observe.make
    const clock = yield* Effect.clock
    // the variable that names the group may not be set, which types don't see: that is no name, as an empty one
    const settings = yield* Settings.make({ ...options, groupId: options.groupId ?? "" }, client.capabilities)
    const ended = yield* Deferred.make<void>()

    const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    // the driver asks for something only after it was told what to read, when the loop has long been there
    let notify: RunLoop["onNotice"] = () => {}
    const session: ConsumerSession = yield* Scope.extend(
      client.openConsumer({
        groupId: settings.groupId,
        groupInstanceId: settings.groupInstanceId,
        isolationLevel: settings.isolationLevel,
        assignment: settings.rebalanceProtocol,
        groupProtocol: settings.groupProtocol,
        sessionTimeout: settings.sessionTimeout,
        heartbeatInterval: settings.heartbeatInterval,
        rebalanceTimeout: settings.rebalanceTimeout,
        fetchMaxBytesPerPartition: settings.fetchMaxBytesPerPartition,
        fetchMaxBytes: settings.fetchMaxBytes,
        fetchMinBytes: settings.fetchMinBytes,
        fetchMaxWait: settings.fetchMaxWait,
        unavailableAfter: settings.unavailableAfter,
        callbacks: {
          onAssigned: (partitions) => loop.onAssigned(partitions),
          onRevoked: (partitions) => loop.onRevoked(partitions),
          onLost: (partitions) => loop.onLost(partitions),
          onNotice: (notice) => notify(notice)
        }
      }),
      scope
    )
    const loop: RunLoop = new RunLoop(settings, session, scope, clock, emit, ended)
    notify = loop.onNotice
    yield* Effect.forkIn(Effect.interruptible(loop.run), scope)
    if (emit.enabled) yield* Effect.forkIn(Effect.interruptible(EndOffsets.watch(loop)), scope)
    const close = yield* Effect.cached(Effect.uninterruptible(
      Effect.zipRight(loop.stop, Scope.close(scope, Exit.void))
    ))
    yield* Effect.addFinalizer(() =>
      Effect.zipRight(
        close,
        Effect.sync(() => {
          if (emit.enabled) emit({ _tag: "ConsumerClosed", groupId: settings.groupId })
        })
      )
    )
    return makeService(loop, session, (topic) => registry.resolve(topic), emit, close)
  })

/**
 * A {@link Consumer} as a layer: see {@link make}.
 *
 * @example
 * ```ts
 * import { Consumer, KafkaConfig, TopicRegistry } from "@coffeebuddy/kafka"
 * import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
 * import { Layer } from "effect"
 *
 * const Live = Consumer.layer({ groupId: "run-projector" }).pipe(
 *   Layer.provide(KafkaJs.layer),
 *   Layer.provide(TopicRegistry.layer),
 *   Layer.provide(KafkaConfig.layerEnv)
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<Consumer, MakeError, KafkaClient | TopicRegistry> =>
  Layer.scoped(Consumer, make(options))

/**
 * A {@link Consumer} whose options come from `Config`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<Consumer, MakeError, KafkaClient | TopicRegistry> =>
  Layer.scoped(Consumer, Effect.flatMap(Config.unwrap(config), make))

const makeService = (
  loop: RunLoop,
  session: ConsumerSession,
  resolve: (topic: Topic.Any) => string,
  emit: Observe.Emit,
  close: Effect.Effect<void>
): Service => {
  const { groupId, unavailableAfter } = loop.settings

  const ask = <A, E extends StreamError>(effect: Effect.Effect<A, E>): Effect.Effect<A, StreamError> =>
    Effect.suspend(() => {
      const refusal = loop.refusal()
      if (refusal !== undefined) return Effect.fail<StreamError>(refusal)
      return Retry.until(effect, { deadline: loop.now() + unavailableAfter, retriable: Retry.isRetriable })
    })

  /** The source by physical names, and the serdes of each topic. */
  const read = (source: Source, options: AnyStreamOptions | undefined) => {
    const entries = new Map<string, Entry<unknown>>()
    const topics = (Topic.isPattern(source) ? [] : Topic.isTopic(source) ? [source] : source) as ReadonlyArray<
      Topic.Any
    >
    for (const topic of topics) entries.set(resolve(topic), topic)
    const entryOf = ({ topic }: TopicPartition.TopicPartition): Entry<unknown> =>
      entries.get(topic) ?? { slug: topic, key: (source as AnyPattern).key, value: (source as AnyPattern).value }
    let from: Subscriber.Source = { _tag: "Topics", topics: new Set(entries.keys()) }
    if (Topic.isPattern(source)) from = { _tag: "Pattern", pattern: source.pattern }
    else if (options?.partitions !== undefined && topics[0] !== undefined) {
      from = {
        _tag: "Manual",
        topic: resolve(topics[0]),
        partitions: new Map(
          options.partitions.map((one) => typeof one === "number" ? [one, undefined] : [one.partition, one.offset])
        )
      }
    }
    const readOptions: streams.ReadOptions<unknown, unknown> = {
      groupId,
      maxRecords: loop.settings.maxPollRecords,
      entryOf,
      onDecodeFailure: options?.onDecodeFailure ?? "fail",
      emit
    }
    return { from, topics, readOptions }
  }

  /** That the topics exist, and the partitions asked for: before the group is joined for them. */
  const check = (from: Subscriber.Source): Effect.Effect<void, StreamError> => {
    const names = from._tag === "Topics" ? [...from.topics] : from._tag === "Manual" ? [from.topic] : []
    return Effect.forEach(names, (name) => ask(session.partitionsFor(name)), { discard: true })
  }

  const refuse = (description: string) => new ConsumerError({ reason: "subscription", groupId, description })

  /** That it makes sense, before anything is asked for it. */
  const sensible = (source: Source, partitions: StreamOptions["partitions"]): Effect.Effect<void, ConsumerError> => {
    const problem = Reading.ofSource(source, partitions)
    return problem === undefined ? Effect.void : refuse(problem)
  }

  const noProblem = (what: string, problems: ReadonlyArray<Reading.Problem>): Effect.Effect<void, ConsumerError> =>
    problems.length === 0
      ? Effect.void
      : refuse(`${what}: ${problems.map(({ option, reason }) => `${option} ${reason}`).join("; ")}`)

  const readable = (source: Source, options: AnyStreamOptions | undefined): Effect.Effect<void, ConsumerError> =>
    Effect.zipRight(
      sensible(source, options?.partitions),
      noProblem("a stream", Reading.ofDecodeFailure(options?.onDecodeFailure, ["fail", "skip", "either"]))
    )

  const open = (subscriber: Subscriber.Subscriber): Effect.Effect<void, StreamError, Scope.Scope> =>
    Effect.acquireRelease(
      Effect.suspend(() => {
        const refusal = loop.open(subscriber)
        return refusal === undefined ? Effect.void : Effect.fail(refusal)
      }),
      () => Effect.sync(() => loop.close(subscriber))
    )

  /** A subscriber all whose partitions flow into one lane. */
  const readInto = (
    from: Subscriber.Source,
    lane: Lane<StreamError>,
    ends?: ReadonlyMap<TopicPartition.Key, bigint>
  ): Subscriber.Subscriber => ({
    source: from,
    laneFor: () => lane,
    ends,
    lanes: new Set([lane]),
    finish: (error) => lane.finish(Option.fromNullable(error)),
    onPositioned: () => lane.setPositioned(),
    requested: false,
    closedAt: undefined
  })

  const merged = (
    source: Source,
    options: AnyStreamOptions | undefined,
    ends: (from: Subscriber.Source) => Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint> | undefined, StreamError>
  ): Stream.Stream<streams.Element, unknown, unknown> =>
    Stream.unwrapScoped(Effect.gen(function*() {
      yield* readable(source, options)
      const { from, readOptions } = read(source, options)
      yield* check(from)
      const lane = loop.makeLane()
      const bounds = yield* ends(from)
      lane.bounded = bounds !== undefined
      yield* open(readInto(from, lane, bounds))
      return streams.fromLane(lane, readOptions)
    }))

  const partitioned = (
    source: Source,
    options: AnyStreamOptions | undefined
  ): Stream.Stream<
    readonly [TopicPartition.TopicPartition, Stream.Stream<streams.Element, unknown, unknown>],
    unknown
  > =>
    Stream.unwrapScoped(Effect.gen(function*() {
      yield* readable(source, options)
      const { from, readOptions } = read(source, options)
      yield* check(from)
      const queue = yield* Queue.unbounded<
        Exit.Exit<readonly [PartitionBuffer, Lane<StreamError>], Option.Option<StreamError>>
      >()
      const lanes = new Set<Lane<StreamError>>()
      yield* open({
        source: from,
        laneFor: (partition) => {
          const lane = loop.makeLane()
          lane.onRemoved = () => lane.finish(Option.none())
          lane.onClosed = () => lanes.delete(lane)
          lanes.add(lane)
          queue.unsafeOffer(Exit.succeed([partition, lane]))
          return lane
        },
        ends: undefined,
        lanes,
        finish: (error) => {
          for (const lane of lanes) lane.finish(Option.fromNullable(error))
          queue.unsafeOffer(Exit.fail(Option.fromNullable(error)))
        },
        onPositioned: () => {},
        requested: false,
        closedAt: undefined
      })
      const next = Effect.flatMap(Queue.take(queue), (exit) =>
        Exit.map(exit, ([partition, lane]) =>
          [partition.topicPartition, streams.fromLane(lane, readOptions)] as const))
      return Stream.repeatEffectOption(next)
    }))

  const forEach = (
    source: Source,
    handler: (record: never) => Effect.Effect<unknown, unknown, unknown>,
    options: AnyForEachOptions & { readonly [HooksId]?: Hooks } | undefined
  ): Effect.Effect<void, unknown, unknown> =>
    Effect.scoped(Effect.gen(function*() {
      yield* sensible(source, options?.partitions)
      yield* noProblem("forEach", [
        ...Reading.ofForEach(options ?? {}),
        ...Reading.ofDecodeFailure(options?.onDecodeFailure, ["fail", "skip"])
      ])
      const { from, readOptions } = read(source, options)
      const hooks = options?.[HooksId]
      yield* check(from)
      const lane = loop.makeLane()
      const subscriber = readInto(from, lane)
      yield* open({
        ...subscriber,
        onPositioned: () => {
          subscriber.onPositioned()
          hooks?.onPositioned?.()
        }
      })
      yield* runForEach(
        loop,
        lane,
        streams.makePull(lane, readOptions),
        yield* Tracing.handler(groupId, handler as Handler<unknown, unknown>),
        {
          hooks,
          concurrency: options?.concurrency ?? 1,
          ordering: options?.ordering ?? "partition",
          commitCount: options?.commitCount ?? 1000,
          commitWithin: Duration.toMillis(options?.commitWithin ?? "1 second"),
          maxAhead: options?.maxAhead ?? 10_000,
          gracePeriod: Duration.toMillis(options?.gracePeriod ?? "10 seconds")
        }
      )
    }))

  const transform = (
    source: Source,
    f: (record: never) => Effect.Effect<Transformed<unknown, unknown>, unknown, unknown>,
    target: Topic.Any,
    options: TransformOptions | undefined
  ): Effect.Effect<void, unknown, unknown> =>
    Effect.scoped(Effect.gen(function*() {
      const producer = yield* Producer.Producer
      yield* checkTransform(producer, loop.settings.sessionTimeout)
      yield* sensible(source, undefined)
      yield* noProblem("transform", Reading.ofTransform(options ?? {}))
      const { from, readOptions } = read(source, undefined)
      yield* check(from)
      const lane = loop.makeLane()
      yield* open(readInto(from, lane))
      const handle = yield* Tracing.transformer(groupId, f as (record: ConsumerRecord.Any) => ReturnType<typeof f>)
      yield* runTransform(loop, lane, streams.makePull(lane, readOptions), {
        write: (records) =>
          Effect.flatMap(
            Effect.forEach(records, handle, {
              concurrency: options?.concurrency ?? 1
            }),
            (all) => {
              const out = all.flatMap((one) => one === undefined ? [] : one as ProducerRecord<unknown, unknown>)
              return out.length === 0 ? Effect.void : Effect.asVoid(producer.sendAll(target, out))
            }
          ),
        transact: producer.transaction,
        maxRecords: options?.maxRecords ?? 5000
      })
    }))

  const specOf = (position: { readonly timestamp: bigint | number | Date }) => {
    const timestamp = notBefore(position.timestamp)
    return timestamp !== undefined
      ? Effect.succeed({ timestamp })
      : Effect.fail(refuse(`${String(position.timestamp)} is not a time`))
  }

  const endsOf = (bound: Bound) => (from: Subscriber.Source) =>
    Effect.gen(function*() {
      const topic = from._tag === "Topics" ? [...from.topics][0]! : from._tag === "Manual" ? from.topic : ""
      const all = yield* ask(session.partitionsFor(topic))
      const partitions = all.map((partition) => TopicPartition.make(topic, partition))
      if (typeof bound === "object" && "offset" in bound) {
        return new Map(partitions.map((one) => [TopicPartition.key(one), bound.offset]))
      }
      if (typeof bound === "object" && "offsets" in bound) {
        return new Map([...bound.offsets].map(([partition, offset]) =>
          [TopicPartition.key(TopicPartition.make(topic, partition)), offset] as const
        ))
      }
      return yield* ask(session.offsets(partitions, bound === "end" ? "latest" : yield* specOf(bound)))
    })

  const commit: Service["commit"] = (records) =>
    Effect.suspend(() => {
      const batch = OffsetBatch.isOffsetBatch(records)
        ? records
        : OffsetBatch.make(Symbol.iterator in records ? records : [records])
      return loop.commits.commit(batch.offsets)
    })

  const commitWithin: Service["commitWithin"] = (count, within) => (self) =>
    Stream.unwrapScoped(Effect.map(
      Effect.acquireRelease(
        Effect.map(
          noProblem("commitWithin", Reading.ofCommitWithin(count, within)),
          () => loop.commits.makeDeferred(count, Duration.toMillis(within))
        ),
        // what has flowed through is committed, however the stream ends; the loop has said where it could not
        (deferred) =>
          Effect.zipRight(
            Effect.ignore(loop.commits.flush(deferred)),
            Effect.sync(() => loop.commits.dropDeferred(deferred))
          )
      ),
      (deferred) =>
        Stream.concat(
          Stream.mapChunks(self, (chunk) => {
            let run: ConsumerRecord.Any | undefined = undefined
            let length = 0
            for (const record of chunk) {
              if (run !== undefined && run.assignment !== record.assignment) {
                loop.commits.defer(deferred, run.assignment, run.nextOffset, length)
                length = 0
              }
              run = record
              length++
            }
            if (run !== undefined) loop.commits.defer(deferred, run.assignment, run.nextOffset, length)
            return chunk
          }),
          Stream.execute(loop.commits.flush(deferred))
        )
    ))

  const assigned = Effect.sync(() => [...loop.partitions.values()].filter((one) => one.status === "active"))

  // the types of elements and requirements follow from the source and the options, which only the signatures know
  return {
    groupId,
    stream:
      ((source: Source, options?: AnyStreamOptions) =>
        merged(source, options, () => Effect.succeed(undefined))) as Service["stream"],
    partitionedStream: partitioned as Service["partitionedStream"],
    streamUntil: ((topic: Topic.Any, bound: Bound, options?: AnyStreamOptions) => {
      const problem = Reading.ofBound(bound)
      return problem === undefined
        ? merged(topic, options, endsOf(bound))
        : Stream.fail(refuse(`streamUntil: ${problem}`))
    }) as Service["streamUntil"],
    commit,
    commitWithin,
    forEach: forEach as Service["forEach"],
    transform: transform as Service["transform"],
    assignment: Effect.map(assigned, (all) => all.map((one) => one.topicPartition)),
    position: (topicPartition) =>
      Effect.sync(() =>
        Option.map(
          Option.fromNullable(loop.partitions.get(TopicPartition.key(topicPartition))),
          (one) => one.position
        )
      ),
    committed: (partitions) =>
      Effect.map(
        ask(session.committed([...partitions])),
        (found) => new Map([...found].map(([key, one]) => [key, one.offset]))
      ),
    seek: (topicPartition, to) =>
      Effect.gen(function*() {
        if (typeof to === "bigint" && !Reading.isOffset(to)) return yield* refuse(`seek: ${to} is no offset`)
        const key = TopicPartition.key(topicPartition)
        const offset = typeof to === "bigint"
          ? to
          : (yield* ask(session.offsets([topicPartition], typeof to === "string" ? to : yield* specOf(to)))).get(key)
        const partition = loop.partitions.get(key)
        if (partition === undefined || offset === undefined) {
          return yield* refuse(`seek: ${TopicPartition.format(topicPartition)} is not assigned to this consumer`)
        }
        yield* loop.seek(partition, offset)
      }),
    lag: Effect.gen(function*() {
      const all = yield* assigned
      const partitions = all.map((one) => one.topicPartition)
      if (partitions.length === 0) return []
      const committed = yield* ask(session.committed(partitions))
      const ends = yield* ask(session.offsets(partitions, "latest"))
      return all.map((one): Lag => {
        const mark = committed.get(one.key)?.offset
        const end = ends.get(one.key) ?? one.position
        const behind = end - (mark ?? one.position)
        return {
          topicPartition: one.topicPartition,
          committed: mark,
          position: one.position,
          end,
          lag: behind > 0n ? behind : 0n
        }
      })
    }),
    stop: close
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// streams
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The records of a topic, of several, or of all topics that match a pattern, as long as the stream is run.
 *
 * Records of a partition come in order. A stream takes part in the group from its start to its end; several streams of
 * one consumer each see their own topics.
 *
 * @example
 * ```ts
 * import { Consumer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect, Stream } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const program = Consumer.stream(Orders).pipe(
 *   Stream.tap((record) => Effect.log(record.value)),
 *   Consumer.commitWithin(1000, "1 second"),
 *   Stream.runDrain
 * )
 * ```
 *
 * @since 0.1.0
 * @category streams
 */
export const stream = <const S extends Source, const O extends AnyStreamOptions = StreamOptions>(
  source: S,
  options?: O
): Stream.Stream<ElementOf<S, O>, StreamError | ErrorOf<O>, Consumer | ContextOf<S> | RequirementOf<O>> =>
  Stream.unwrap(Effect.map(Consumer, (consumer) => consumer.stream(source, options)))

/**
 * A stream for each assigned partition, as they are assigned. An inner stream ends when its partition is revoked: what
 * it still has in hand may be finished and committed within `revokeTimeout`.
 *
 * @since 0.1.0
 * @category streams
 */
export const partitionedStream = <const S extends Source, const O extends AnyStreamOptions = StreamOptions>(
  source: S,
  options?: O
): Stream.Stream<PartitionStream<S, O>, StreamError, Consumer> =>
  Stream.unwrap(Effect.map(Consumer, (consumer) => consumer.partitionedStream(source, options)))

/**
 * The records of a topic up to a bound, then the end. It ends on position and not on a record, so that transaction
 * markers, compacted gaps and empty partitions do not keep it waiting.
 *
 * Where other members of the group own some of the partitions, it ends with the ones that this consumer owns.
 *
 * Fails with a `ConsumerError` where the bound is none: a negative offset, or what is no time.
 *
 * @since 0.1.0
 * @category streams
 */
export const streamUntil = <const T extends Topic.Any, const O extends AnyStreamOptions = StreamOptions>(
  topic: T,
  bound: Bound,
  options?: O
): Stream.Stream<ElementOf<T, O>, StreamError | ErrorOf<O>, Consumer | ContextOf<T> | RequirementOf<O>> =>
  Stream.unwrap(Effect.map(Consumer, (consumer) => consumer.streamUntil(topic, bound, options)))

// ---------------------------------------------------------------------------------------------------------------------
// offsets
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Commits that a record, several, or a batch of offsets, and everything before them in their partitions, is processed.
 * Ends when the broker has confirmed it. Commits asked for at the same time travel in one request.
 *
 * Never moves a committed offset backwards. Fails with `CommitError`; its reason `"stale"` means that the partition has
 * moved on, and its new owner reads the records again.
 *
 * @since 0.1.0
 * @category offsets
 */
export const commit = (
  records: ConsumerRecord.Any | Iterable<ConsumerRecord.Any> | OffsetBatch.OffsetBatch
): Effect.Effect<void, CommitError, Consumer> => Effect.flatMap(Consumer, (consumer) => consumer.commit(records))

/**
 * Commits what has flowed through it: once `count` records have, or `within` after the first of them, and at the end,
 * however the stream ends. Put it behind what processes the records. Records pass unchanged and at once.
 *
 * A commit that comes too late, after its partition has moved on, is reported as an event and does not fail the
 * stream: the records are read again by the new owner. Any other failure of a commit fails the stream.
 *
 * `count` is a whole number above zero, or `Infinity` where time alone decides; `within` is a duration of at least zero.
 * Anything else fails the stream with a `ConsumerError` before it reads.
 *
 * @since 0.1.0
 * @category offsets
 */
export const commitWithin = (count: number, within: Duration.DurationInput) =>
<A extends ConsumerRecord.Any, E, R>(
  self: Stream.Stream<A, E, R>
): Stream.Stream<A, E | CommitError | ConsumerError, R | Consumer> =>
  Stream.unwrap(Effect.map(Consumer, (consumer) => consumer.commitWithin(count, within)(self)))

/**
 * Runs a handler for each record until the consumer is stopped: at least once, as many at a time as `concurrency` says,
 * in the order that `ordering` says. What is committed is the contiguous low watermark: everything before the first
 * record whose handler has not succeeded.
 *
 * A handler that fails ends it with its error, after what was done has been committed; the record is read again by
 * whoever reads next. On a rebalance, handlers that run may finish; records that have not begun are left to the next
 * owner.
 *
 * @example
 * ```ts
 * import { Consumer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const program = Consumer.forEach(Orders, (record) => Effect.log(record.value), {
 *   concurrency: 16,
 *   ordering: "key"
 * })
 * ```
 *
 * @since 0.1.0
 * @category processing
 */
export const forEach = <const S extends Source, E, R, const O extends AnyForEachOptions = ForEachOptions>(
  source: S,
  handler: (record: RecordOf<S>) => Effect.Effect<unknown, E, R>,
  options?: O
): Effect.Effect<void, E | StreamError | ErrorOf<O>, Consumer | R | ContextOf<S> | RequirementOf<O>> =>
  Effect.flatMap(Consumer, (consumer) => consumer.forEach(source, handler, options))

/**
 * Consumes, transforms and produces exactly once, until the consumer is stopped: what is written and the offsets of what
 * was read are committed in one transaction of the producer, which needs a `transactionalId`. Read the target with
 * `isolationLevel: "read_committed"`, the default.
 *
 * A transaction that learns that its partitions are taken away is aborted, and the new owner reads the records again. A
 * failure of `f`, or of writing, aborts the transaction and ends this with its error. The producer's
 * `transactionTimeout` has to be below the consumer's `sessionTimeout`, or it is refused with a `TransactionError`. What
 * a driver without `transactionalGroupMetadata` can not promise is said in docs/guarantees.md.
 *
 * @example
 * ```ts
 * import { Consumer, Producer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect, Layer } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 * const Bills = Topic.make("bills", { key: Serde.string, value: Serde.string })
 *
 * const program = Consumer.transform(
 *   Orders,
 *   (order) => Effect.succeed({ key: order.key, value: `to pay: ${order.value}` }),
 *   Bills
 * )
 *
 * const Live = Layer.merge(
 *   Producer.layer({ transactionalId: "billing-1", transactionTimeout: "20 seconds" }),
 *   Consumer.layer({ groupId: "billing" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category processing
 */
export const transform = <const S extends Source, Slug extends string, K, V, R2, E, R>(
  source: S,
  f: (record: RecordOf<S>) => Effect.Effect<Transformed<K, V>, E, R>,
  target: Topic.Topic<Slug, K, V, R2>,
  options?: TransformOptions
): Effect.Effect<
  void,
  E | StreamError | TransformError,
  Consumer | Producer.Producer | R | R2 | ContextOf<S>
> => Effect.flatMap(Consumer, (consumer) => consumer.transform(source, f, target, options))

/**
 * The partitions this consumer owns now.
 *
 * @since 0.1.0
 * @category offsets
 */
export const assignment: Effect.Effect<ReadonlyArray<TopicPartition.TopicPartition>, never, Consumer> = Effect.flatMap(
  Consumer,
  (consumer) => consumer.assignment
)

/**
 * The next offset of a partition to be handed out; `None` where it is not assigned to this consumer.
 *
 * @since 0.1.0
 * @category offsets
 */
export const position = (
  topicPartition: TopicPartition.TopicPartition
): Effect.Effect<Option.Option<bigint>, never, Consumer> =>
  Effect.flatMap(Consumer, (consumer) => consumer.position(topicPartition))

/**
 * What the group has committed, asked from the broker; a partition without a commit is absent.
 *
 * @since 0.1.0
 * @category offsets
 */
export const committed = (
  partitions: Iterable<TopicPartition.TopicPartition>
): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, StreamError, Consumer> =>
  Effect.flatMap(Consumer, (consumer) => consumer.committed(partitions))

/**
 * Goes on from another offset of an assigned partition: one given, an end of the log, or the first record not older
 * than a time. What was fetched ahead is dropped; records in hand are not called back.
 *
 * @since 0.1.0
 * @category offsets
 */
export const seek = (
  topicPartition: TopicPartition.TopicPartition,
  to: bigint | "earliest" | "latest" | { readonly timestamp: bigint | number | Date }
): Effect.Effect<void, StreamError, Consumer> =>
  Effect.flatMap(Consumer, (consumer) => consumer.seek(topicPartition, to))

/**
 * How far behind each assigned partition is.
 *
 * @since 0.1.0
 * @category offsets
 */
export const lag: Effect.Effect<ReadonlyArray<Lag>, StreamError, Consumer> = Effect.flatMap(
  Consumer,
  (consumer) => consumer.lag
)

/**
 * Stops the consumer: no new records, streams end, what was processed is committed, the group is left at once. Ends
 * when all of that is done, within `stopTimeout`. Inside a stream or handler that it stops, fork it with
 * `Effect.forkDaemon`: it waits for whoever calls it there, and a plain `Effect.fork` would end with the caller.
 *
 * @since 0.1.0
 * @category lifecycle
 */
export const stop: Effect.Effect<void, never, Consumer> = Effect.flatMap(Consumer, (consumer) => consumer.stop)
