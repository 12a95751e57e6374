/**
 * A handler that runs in the background, as a member of a group: each record is handled at least once and in order, a
 * failure is tried again, waits in a retry topic, goes to the dead letters, or ends the worker, and what is committed was
 * settled in one of these ways.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Consumer from "./Consumer.ts"
import { type Handler, type Hooks, HooksId } from "./engine/consumer/forEach.ts"
import * as Observe from "./engine/observe.ts"
import { check } from "./engine/worker/check.ts"
import * as deliver from "./engine/worker/deliver.ts"
import * as failures from "./engine/worker/failures.ts"
import * as forward from "./engine/worker/forward.ts"
import * as Ordered from "./engine/worker/Ordered.ts"
import { type RawRecord, rawSource, type RawTopic, rawTopicOf } from "./engine/worker/raw.ts"
import { KafkaClient } from "./KafkaClient.ts"
import {
  ConsumerError,
  type ForwardError,
  type HandlerDefectError,
  type HandlerTimeoutError,
  type KafkaAuthorizationError,
  TopicMismatchError,
  type UnknownTopicError
} from "./KafkaError.ts"
import * as Producer from "./Producer.ts"
import type { RetryTopics } from "./RetryTopics.ts"
import * as Topic from "./Topic.ts"
import { TopicRegistry } from "./TopicRegistry.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What a handler is told beside its record.
 *
 * @since 0.1.0
 * @category models
 */
export interface Attempt {
  /**
   * Which attempt this is, from 1. Those before it in retry topics count. A restart forgets those in place: a record that
   * was not committed is read again, and begins anew.
   */
  readonly attempt: number
}

/**
 * How a handler can fail: with an error of its own, by taking too long, or by dying.
 *
 * @since 0.1.0
 * @category models
 */
export type HandlerFailure<E> = E | HandlerTimeoutError | HandlerDefectError

/**
 * What ends a worker beside its handler's own errors.
 *
 * @since 0.1.0
 * @category models
 */
export type Failure =
  | Consumer.StreamError
  | Consumer.MakeError
  | HandlerTimeoutError
  | HandlerDefectError
  | ForwardError
  | TopicMismatchError

/**
 * @since 0.1.0
 * @category models
 */
export interface Options<E = never, R = never> extends
  Consumer.Options,
  Pick<
    Consumer.ForEachOptions,
    "concurrency" | "ordering" | "commitCount" | "commitWithin" | "maxAhead" | "gracePeriod"
  >
{
  /** How long a handler may take; then it is interrupted, and has failed with a `HandlerTimeoutError`. No limit if absent. */
  readonly timeout?: Duration.DurationInput | undefined
  /**
   * When a record whose handler failed is tried again, in place: what `ordering` puts behind it waits, and nothing else
   * does. A schedule that never ends keeps it waiting until the worker is stopped. No retries if absent.
   */
  readonly retry?: Schedule.Schedule<unknown, HandlerFailure<E>, R> | undefined
  /** Where a record waits that is to be tried again after `retry` is over. */
  readonly retryTopics?: RetryTopics | undefined
  /**
   * Which failures are tried again. All but `HandlerDefectError` if absent: a handler that died has a fault that does not
   * go away.
   */
  readonly retryWhile?: ((error: HandlerFailure<E>) => boolean) | undefined
  /**
   * Where records go that are not tried again any more, and those that can't be decoded: a topic or its slug, or `true`
   * for the topic's own slug with `.dlt` behind it. See `DeadLetter`. If absent, such a record ends the worker.
   */
  readonly deadLetter?: boolean | string | Topic.Any | undefined
  /** Which failures are for the dead letters; any other ends the worker. All if absent. */
  readonly deadLetterWhen?: ((error: HandlerFailure<E>) => boolean) | undefined
  /**
   * What becomes of a record that can't be decoded. `"dead-letter"` if absent and there is a `deadLetter`, else `"fail"`.
   */
  readonly onDecodeFailure?: "fail" | "skip" | "dead-letter" | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface BatchOptions<E = never, R = never> extends Omit<Options<E, R>, "ordering"> {
  /** Most records that are handled together; there may be fewer. 100 if absent. */
  readonly batchSize?: number | undefined
}

/**
 * How a worker is doing:
 *
 * - `Starting`: it connects, joins its group, and learns where to start.
 * - `Running`: it handles what comes.
 * - `Stopping`: it takes nothing new, and finishes what it has in hand.
 * - `Stopped`: it was stopped, and what it did is committed.
 * - `Failed`: it can't go on. Others of its group take over.
 *
 * @since 0.1.0
 * @category models
 */
export type State<E> =
  | { readonly _tag: "Starting" }
  | { readonly _tag: "Running" }
  | { readonly _tag: "Stopping" }
  | { readonly _tag: "Stopped" }
  | { readonly _tag: "Failed"; readonly cause: Cause.Cause<E | Failure> }

/**
 * A worker whose handler can fail with `E`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Worker<E = never> {
  readonly groupId: string
  readonly state: SubscriptionRef.SubscriptionRef<State<E>>
  /**
   * Ends when the worker has joined its group, was told its partitions, and knows where to start in each. Fails with the
   * worker where it ends before.
   */
  readonly ready: Effect.Effect<void, E | Failure>
  /** Ends with the worker: well where it was stopped, else with what ended it. */
  readonly wait: Effect.Effect<void, E | Failure>
  /**
   * Takes nothing new, lets running handlers finish for `gracePeriod`, commits what is done, leaves the group, and ends
   * then. A record that waits to be tried again is left to the next. Where the handler itself calls it, fork it with
   * `Effect.forkDaemon`: it waits for the handler, and a plain `Effect.fork` would end with it.
   */
  readonly stop: Effect.Effect<void>
}

/**
 * What a handler has failed with, where the type of its error is not known: see {@link layer}.
 *
 * @since 0.1.0
 * @category errors
 */
export class WorkerError extends Schema.TaggedError<WorkerError>("@coffeebuddy/kafka/WorkerError")("WorkerError", {
  groupId: Schema.String,
  /** The handler's own error. */
  cause: Schema.Defect
}) {
  override get message(): string {
    const said = this.cause instanceof Error && this.cause.message !== "" ? this.cause.message : String(this.cause)
    return `the worker of group "${this.groupId}" has failed: ${said}`
  }
}

/**
 * The one worker of a program, as {@link layer} makes it. For several, give each a tag of its own:
 *
 * @example
 * ```ts
 * import { ConsumerWorker, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Context, Effect, Layer } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * class Kitchen extends Context.Tag("Kitchen")<Kitchen, ConsumerWorker.Worker<"no milk">>() {}
 *
 * const KitchenLive = Layer.scoped(
 *   Kitchen,
 *   ConsumerWorker.make(Orders, () => Effect.fail("no milk" as const), { groupId: "kitchen" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category tags
 */
export class ConsumerWorker
  extends Context.Tag("@coffeebuddy/kafka/ConsumerWorker")<ConsumerWorker, Worker<WorkerError>>()
{}

// ---------------------------------------------------------------------------------------------------------------------
// constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What making a worker can fail with. What it finds out later is what `wait` fails with.
 *
 * @since 0.1.0
 * @category models
 */
export type MakeError = Consumer.MakeError | Producer.OpenError

/**
 * A worker, started: it handles each record of a topic, of several, or of those that match a pattern, until it is stopped
 * or its Scope closes. It has a consumer of its own, and a producer where it has dead letters or retry topics.
 *
 * A failure is classified in this order: `retryWhile` says whether it is tried again, by `retry` and then by
 * `retryTopics`, as long as these go on; `deadLetterWhen` says whether it goes to the `deadLetter` topic; otherwise it
 * ends the worker, and the record is not committed. What ends a worker is logged, and health shows it.
 *
 * @example
 * ```ts
 * import { ConsumerWorker, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect, Schedule } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const program = Effect.gen(function*() {
 *   const worker = yield* ConsumerWorker.make(
 *     Orders,
 *     (order, { attempt }) => Effect.log(`attempt ${attempt}: ${order.value}`),
 *     {
 *       groupId: "kitchen",
 *       concurrency: 16,
 *       ordering: "key",
 *       retry: Schedule.intersect(Schedule.exponential("100 millis"), Schedule.recurs(5)),
 *       deadLetter: true
 *     }
 *   )
 *   yield* worker.ready
 *   yield* worker.wait
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <const S extends Consumer.Source, E, R, R2 = never>(
  source: S,
  handler: (record: Consumer.RecordOf<S>, context: Attempt) => Effect.Effect<unknown, E, R>,
  options: Options<NoInfer<E>, R2>
): Effect.Effect<Worker<E>, MakeError, KafkaClient | TopicRegistry | Scope.Scope | R | R2 | Consumer.ContextOf<S>> =>
  start(source, single(handler), options, undefined, identity)

/**
 * {@link make} for a handler that takes several records at once: those of one partition that are there, in order, up to
 * `batchSize`. A batch is tried again and sent on as a whole; what of it can't be decoded is settled before, for itself.
 * `concurrency` is how many partitions are handled at once.
 *
 * @example
 * ```ts
 * import { ConsumerWorker, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const worker = ConsumerWorker.makeBatch(
 *   Orders,
 *   (orders) => Effect.log(`${orders.length} orders, the first by ${orders[0].key}`),
 *   { groupId: "statistics", batchSize: 500 }
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeBatch = <const S extends Consumer.Source, E, R, R2 = never>(
  source: S,
  handler: (
    records: Arr.NonEmptyReadonlyArray<Consumer.RecordOf<S>>,
    context: Attempt
  ) => Effect.Effect<unknown, E, R>,
  options: BatchOptions<NoInfer<E>, R2>
): Effect.Effect<Worker<E>, MakeError, KafkaClient | TopicRegistry | Scope.Scope | R | R2 | Consumer.ContextOf<S>> =>
  start(source, handler as Handle<E, R>, options, options.batchSize ?? 100, identity)

/**
 * {@link make} as a layer. It is built when the worker is started: what needs it finds a worker on its way, and waits for
 * `ready` where it has to. An error of the handler's own is wrapped in a `WorkerError`; a tag of your own keeps its type,
 * as {@link ConsumerWorker} shows.
 *
 * @example
 * ```ts
 * import { ConsumerWorker, KafkaConfig, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
 * import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
 * import { Effect, Layer } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const Live = ConsumerWorker.layer(Orders, (order) => Effect.log(order.value), { groupId: "kitchen" }).pipe(
 *   Layer.provide(KafkaJs.layer),
 *   Layer.provide(TopicRegistry.layer),
 *   Layer.provide(KafkaConfig.layerEnv)
 * )
 *
 * const program = ConsumerWorker.wait.pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <const S extends Consumer.Source, E, R, R2 = never>(
  source: S,
  handler: (record: Consumer.RecordOf<S>, context: Attempt) => Effect.Effect<unknown, E, R>,
  options: Options<NoInfer<E>, R2>
): Layer.Layer<
  ConsumerWorker,
  MakeError,
  KafkaClient | TopicRegistry | Exclude<R | R2 | Consumer.ContextOf<S>, Scope.Scope>
> => Layer.scoped(ConsumerWorker, start(source, single(handler), options, undefined, wrap(options.groupId)))

/**
 * {@link makeBatch} as a layer: see {@link layer}.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerBatch = <const S extends Consumer.Source, E, R, R2 = never>(
  source: S,
  handler: (
    records: Arr.NonEmptyReadonlyArray<Consumer.RecordOf<S>>,
    context: Attempt
  ) => Effect.Effect<unknown, E, R>,
  options: BatchOptions<NoInfer<E>, R2>
): Layer.Layer<
  ConsumerWorker,
  MakeError,
  KafkaClient | TopicRegistry | Exclude<R | R2 | Consumer.ContextOf<S>, Scope.Scope>
> =>
  Layer.scoped(
    ConsumerWorker,
    start(source, handler as Handle<E, R>, options, options.batchSize ?? 100, wrap(options.groupId))
  )

// ---------------------------------------------------------------------------------------------------------------------
// accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Ends when the worker is ready: see {@link Worker}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const ready: Effect.Effect<void, WorkerError | Failure, ConsumerWorker> = Effect.flatMap(
  ConsumerWorker,
  (worker) => worker.ready
)

/**
 * Ends with the worker: see {@link Worker}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const wait: Effect.Effect<void, WorkerError | Failure, ConsumerWorker> = Effect.flatMap(
  ConsumerWorker,
  (worker) => worker.wait
)

/**
 * Stops the worker: see {@link Worker}.
 *
 * @since 0.1.0
 * @category accessors
 */
export const stop: Effect.Effect<void, never, ConsumerWorker> = Effect.flatMap(
  ConsumerWorker,
  (worker) => worker.stop
)

// ---------------------------------------------------------------------------------------------------------------------
// starting
// ---------------------------------------------------------------------------------------------------------------------

type Handle<E, R> = deliver.Settings<E, R>["handle"]

const single = <A, E, R>(
  handler: (record: A, context: Attempt) => Effect.Effect<unknown, E, R>
): Handle<E, R> =>
([record], context) => handler(record as A, context)

const wrap = (groupId: string) => <E>(error: E | Failure): WorkerError | Failure =>
  failures.isOwn(error) ? error : new WorkerError({ groupId, cause: error })

/** Where the dead letters of a topic go, by the slug of the topic. */
const deadLetterOf = (
  deadLetter: boolean | string | Topic.Any | undefined,
  slugOf: (name: string) => string | undefined
): ((slug: string) => RawTopic) | undefined => {
  if (deadLetter === undefined || deadLetter === false) return undefined
  if (deadLetter !== true) {
    const topic = rawTopicOf(typeof deadLetter === "string" ? deadLetter : deadLetter.slug)
    return () => topic
  }
  const topics = new Map<string, RawTopic>()
  return (slug) => {
    let topic = topics.get(slug)
    if (topic === undefined) {
      // what a pattern has matched is known by its physical name
      topic = rawTopicOf(`${slugOf(slug) ?? slug}.dlt`)
      topics.set(slug, topic)
    }
    return topic
  }
}

/** What stops, and how. */
interface Parts<E, R> {
  /** Says where something is amiss that can wait, and ends by itself. */
  readonly notice: Effect.Effect<void>
  readonly run: Effect.Effect<void, E | Failure, R>
  readonly positioned: Effect.Effect<void>
  readonly stop: Effect.Effect<void>
}

/** The consumers and the producer of a worker, and what is to be run with them. */
const prepare = <E, R>(
  source: Consumer.Source,
  handle: Handle<E, R>,
  options: Options<E, R>,
  batchSize: number | undefined
) =>
  Effect.gen(function*() {
    yield* check(source, options, batchSize)
    const registry = yield* TopicRegistry
    const client = yield* KafkaClient
    const clock = yield* Effect.clock
    const emit = yield* Observe.make
    const now = () => clock.unsafeCurrentTimeMillis()
    const { groupId, retryTopics } = options
    const toDeadLetters = deadLetterOf(options.deadLetter, (name) => registry.slug(name))

    const sends = toDeadLetters !== undefined || retryTopics !== undefined
    // how large a record may be is for the brokers to say: what was read must fit again
    const producer = sends ? yield* Producer.make({ maxRequestSize: 32 * 1024 * 1024 }) : undefined
    const consumer = yield* Consumer.make(options)

    const retriesOptions: Consumer.Options = {
      ...options,
      groupId: `${groupId}.retry`,
      // what is sent there before anybody reads it must not be passed over
      autoOffsetReset: "earliest"
    }
    const retries = retryTopics === undefined ? undefined : yield* Consumer.make(retriesOptions)
    const ordered = retryTopics?.order !== "key" || retries === undefined ? undefined : yield* Ordered.make({
      topic: retryTopics.stages[0].topic,
      groupId,
      retries,
      reader: retriesOptions,
      admin: yield* client.openAdmin,
      unavailableAfter: Duration.toMillis(options.unavailableAfter ?? "5 minutes"),
      now
    })

    const serdes = new Map<string, Topic.Any>()
    if (!Topic.isPattern(source)) {
      for (const topic of Topic.isTopic(source) ? [source] : source) serdes.set(topic.slug, topic)
    }
    const delivery = deliver.make<E, R>({
      groupId,
      serdesOf: (slug) => serdes.get(slug) ?? source as Topic.Pattern<unknown, unknown, R>,
      handle,
      timeout: options.timeout === undefined ? undefined : Duration.toMillis(options.timeout),
      retry: options.retry,
      retryWhile: options.retryWhile ?? ((error) => !failures.isDefect(error)),
      retryTopics,
      deadLetterWhen: options.deadLetterWhen ?? (() => true),
      deadLetterOf: toDeadLetters,
      onDecodeFailure: options.onDecodeFailure ?? (toDeadLetters === undefined ? "fail" : "dead-letter"),
      forward: producer === undefined
        ? () => Effect.dieMessage("nothing is sent on without a topic for it")
        : forward.make(producer, registry.resolve),
      ordered,
      resolve: registry.resolve,
      emit,
      now
    })

    const handler = (
      answer: (records: Arr.NonEmptyReadonlyArray<RawRecord>) => Effect.Effect<unknown, deliver.Failed<E>, R>
    ): Handler<deliver.Failed<E>, R> =>
    (record, batch) =>
      // the source is one of bytes, and a batch has at least the record it comes with
      answer((batch ?? [record]) as Arr.NonEmptyReadonlyArray<RawRecord>)

    const latch = yield* Effect.makeLatch()
    const retriesLatch = yield* Effect.makeLatch(retries === undefined)
    const { commitCount, commitWithin, concurrency, gracePeriod, maxAhead } = options
    const common = { commitCount, commitWithin, concurrency, gracePeriod, maxAhead }
    const ordering = batchSize === undefined ? options.ordering : "partition"
    const hooks = (more: Hooks): { readonly [HooksId]: Hooks } => ({ [HooksId]: { batch: batchSize, ...more } })

    const main = consumer.forEach(rawSource(source), handler(delivery.fresh), {
      ...common,
      ordering,
      ...hooks({ onPositioned: () => latch.unsafeOpen() })
    })

    /** The last time each partition was said to wait for. */
    const delayed = new Map<string, number>()
    const notBefore = (record: RawRecord): number => {
      const due = delivery.dueAt(record)
      if (!emit.enabled || due <= now()) return due
      const { partition, topic } = record.topicPartition
      const key = `${topic}:${partition}`
      if (due - (delayed.get(key) ?? 0) >= 1000) {
        delayed.set(key, due)
        emit({ _tag: "Delayed", groupId: retriesOptions.groupId, topicPartition: record.topicPartition, until: due })
      }
      return due
    }
    const second = retries === undefined || retryTopics === undefined
      ? Effect.void
      : retries.forEach(retryTopics.topics, handler(delivery.returned), {
        ...common,
        ordering: retryTopics.order === "key" ? "key" : batchSize === undefined ? "unordered" : "partition",
        ...hooks({
          notBefore: (record) => notBefore(record as RawRecord),
          onPositioned: () => retriesLatch.unsafeOpen()
        })
      })

    const enough = retryTopics?.order === "key" && Topic.isTopic(source)
      ? hasPartitions(client, registry.resolve(source), registry.resolve(retryTopics.stages[0].topic))
      : Effect.void

    const parts: Parts<E, R> = {
      notice: toDeadLetters === undefined || Topic.isPattern(source)
        ? Effect.void
        : noticeMissing(
          client,
          groupId,
          new Set(Array.from(serdes.keys(), (slug) => registry.resolve(toDeadLetters(slug))))
        ),
      run: Effect.zipRight(enough, Effect.all([main, second], { concurrency: "unbounded", discard: true })),
      positioned: Effect.zipRight(latch.await, retriesLatch.await),
      stop: Effect.all([consumer.stop, retries?.stop ?? Effect.void], { concurrency: "unbounded", discard: true })
    }
    return parts
  })

/**
 * Dead letters come when something is wrong already. That they have nowhere to go is said when the worker starts, and
 * ends it with the first of them.
 */
const noticeMissing = (client: KafkaClient["Type"], groupId: string, topics: ReadonlySet<string>) =>
  Effect.scoped(Effect.flatMap(client.openAdmin, (admin) => {
    const warn = (error: UnknownTopicError | KafkaAuthorizationError) =>
      Effect.logWarning(`dead letters of group "${groupId}" have nowhere to go: ${error.message}`)
    return Effect.forEach(
      topics,
      (topic) =>
        Effect.catchTags(Effect.asVoid(admin.describeTopics([topic])), {
          UnknownTopicError: warn,
          KafkaAuthorizationError: warn
        }),
      { discard: true }
    )
  })).pipe(
    Effect.catchAll((error) => Effect.logDebug("the topics of dead letters could not be looked at", error))
  )

/** A key's records go to the partition of the same number: there must be one. */
const hasPartitions = (client: KafkaClient["Type"], topic: string, retryTopic: string) =>
  Effect.scoped(Effect.gen(function*() {
    const admin = yield* client.openAdmin
    const described = yield* admin.describeTopics([topic, retryTopic])
    const count = (name: string) => described.find((one) => one.topic === name)?.partitions.length ?? 0
    if (count(retryTopic) >= count(topic)) return
    return yield* new TopicMismatchError({
      differences: [{
        topic: retryTopic,
        setting: "partitions",
        expected: `at least ${count(topic)}, as many as "${topic}" has`,
        actual: String(count(retryTopic))
      }]
    })
  }))

const start = <E, R, R2, E2>(
  source: Consumer.Source,
  handle: Handle<E, R>,
  options: Options<E, R2>,
  batchSize: number | undefined,
  failure: (error: E | Failure) => E2 | Failure
): Effect.Effect<Worker<E2>, MakeError, KafkaClient | TopicRegistry | Scope.Scope | R | R2> =>
  Effect.gen(function*() {
    const { groupId } = options
    const emit = yield* Observe.make
    const parts = yield* prepare<E, R | R2>(source, handle, options, batchSize)
    const state = yield* SubscriptionRef.make<State<E2>>({ _tag: "Starting" })
    const isReady = yield* Deferred.make<void, E2 | Failure>()
    const ended = yield* Deferred.make<void, E2 | Failure>()
    const ifGoing = (next: State<E2>) =>
      SubscriptionRef.update(state, (now) => now._tag === "Starting" || now._tag === "Running" ? next : now)

    const becomeReady = parts.positioned.pipe(
      Effect.zipRight(ifGoing({ _tag: "Running" })),
      Effect.zipRight(Deferred.succeed(isReady, undefined))
    )

    const end = (exit: Exit.Exit<void, E2 | Failure>): Effect.Effect<void> =>
      Effect.gen(function*() {
        yield* parts.stop
        if (Exit.isFailure(exit)) {
          yield* Effect.logError(`the worker of group "${groupId}" has failed`, exit.cause)
          if (emit.enabled) emit({ _tag: "Died", groupId, error: failures.ofWorker(groupId, exit.cause) })
          yield* SubscriptionRef.set<State<E2>>(state, { _tag: "Failed", cause: exit.cause })
        } else yield* SubscriptionRef.set<State<E2>>(state, { _tag: "Stopped" })
        yield* Deferred.done(
          isReady,
          Exit.zipRight(
            exit,
            Exit.fail(
              new ConsumerError({ reason: "closed", groupId, description: "it was stopped before it was ready" })
            )
          )
        )
        yield* Deferred.done(ended, exit)
      })

    const life = Effect.forkScoped(becomeReady).pipe(
      Effect.zipRight(Effect.forkScoped(parts.notice)),
      Effect.zipRight(parts.run),
      Effect.scoped,
      Effect.mapError(failure),
      Effect.onExit(end)
    )
    const patience = Duration.sum(
      Duration.decode(options.stopTimeout ?? "30 seconds"),
      Duration.decode(options.gracePeriod ?? "10 seconds")
    )
    const stop = Effect.gen(function*() {
      yield* ifGoing({ _tag: "Stopping" })
      yield* parts.stop
      // bounded, whatever a handler does
      const over = yield* Effect.timeoutOption(Effect.interruptible(Effect.exit(Deferred.await(ended))), patience)
      if (Option.isNone(over)) {
        yield* Effect.logWarning(`a handler of group "${groupId}" does not end, and can't be interrupted`)
      }
    })
    yield* Effect.acquireRelease(
      Effect.interruptible(life).pipe(Effect.forkDaemon),
      (fiber) => Effect.zipRight(stop, Fiber.interruptFork(fiber))
    )
    return { groupId, state, ready: Deferred.await(isReady), wait: Deferred.await(ended), stop }
  })
