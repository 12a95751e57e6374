/**
 * Spans by OpenTelemetry's conventions for messaging, and not even a thought of them where no tracer is.
 *
 * Effect always has a tracer: its own, whose spans nobody collects. That one counts as none.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import type * as ConsumerRecord from "../ConsumerRecord.ts"
import type { Options } from "../KafkaTracing.ts"
import type { ProducerRecord, RecordMetadata } from "../ProducerRecord.ts"
import * as RecordHeaders from "../RecordHeaders.ts"
import type { Slice } from "./consumer/PartitionBuffer.ts"
import * as traceContext from "./traceContext.ts"

export class KafkaTracing extends Context.Reference<KafkaTracing>()("@coffeebuddy/kafka/KafkaTracing", {
  defaultValue: (): Options => ({})
}) {}

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

const nobody = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** The most links of one span: OpenTelemetry's SDKs drop what is beyond. */
const mostLinks = 128

/** Where this fiber's spans go; `undefined` where nobody looks. */
export interface Tracing {
  readonly tracer: Tracer.Tracer
  readonly clock: Clock.Clock
  readonly options: Options
  readonly annotations: Iterable<readonly [string, unknown]>
  /** The span that the fiber is in. */
  readonly current: Tracer.AnySpan | undefined
}

export const of = (fiber: AnyFiber): Tracing | undefined => {
  const tracer = fiber.currentTracer
  if (tracer === nobody || !fiber.getFiberRef(FiberRef.currentTracerEnabled)) return undefined
  const options = Context.get(fiber.currentContext, KafkaTracing)
  if (options.enabled === false) return undefined
  return {
    tracer,
    clock: Context.get(fiber.currentDefaultServices, Clock.Clock),
    options,
    annotations: fiber.getFiberRef(FiberRef.currentTracerSpanAnnotations),
    current: propagated(fiber.currentSpan)
  }
}

/** A span that asks not to be continued gives way to the one around it. */
const propagated = (span: Tracer.AnySpan | undefined): Tracer.AnySpan | undefined => {
  let current = span
  while (current !== undefined && Context.get(current.context, Tracer.DisablePropagation)) {
    current = current._tag === "Span" ? Option.getOrUndefined(current.parent) : undefined
  }
  return current
}

const start = (
  { annotations, clock, tracer }: Tracing,
  options: {
    readonly operation: "send" | "poll" | "process"
    readonly type: "send" | "receive" | "process"
    readonly kind: Tracer.SpanKind
    readonly topic: string | undefined
    readonly parent: Tracer.AnySpan | undefined
    readonly links: ReadonlyArray<Tracer.SpanLink>
  }
): Tracer.Span => {
  const { kind, links, operation, parent, topic, type } = options
  const name = topic === undefined ? operation : `${operation} ${topic}`
  const span = tracer.span(
    name,
    Option.fromNullable(parent),
    Context.empty(),
    links,
    clock.unsafeCurrentTimeNanos(),
    kind,
    parent === undefined ? { root: true } : {}
  )
  for (const [key, value] of annotations) span.attribute(key, value)
  span.attribute("messaging.system", "kafka")
  span.attribute("messaging.operation.name", operation)
  span.attribute("messaging.operation.type", type)
  if (topic !== undefined) span.attribute("messaging.destination.name", topic)
  return span
}

const end = ({ clock }: Tracing, span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): void => {
  if (Exit.isFailure(exit)) {
    const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
    if (failure !== undefined) span.attribute("error.type", tagOf(failure))
  }
  span.end(clock.unsafeCurrentTimeNanos(), exit)
}

const tagOf = (failure: unknown): string => {
  if (typeof failure !== "object" || failure === null) return "_OTHER"
  if ("_tag" in failure && typeof failure._tag === "string") return failure._tag
  return failure instanceof Error ? failure.name : "_OTHER"
}

/**
 * Our own failures as a span may show them: what a serde says has the record's value in it, and a cause may have
 * anything.
 */
const reported = (exit: Exit.Exit<unknown, unknown>): Exit.Exit<unknown, unknown> =>
  Exit.isSuccess(exit) ? Exit.void : Exit.failCause(Cause.map(exit.cause, (failure) => {
    const name = tagOf(failure)
    const error = new Error(
      name === "SerializationError" || name === "DeserializationError"
        ? "a record could not be turned into bytes, or back"
        : failure instanceof Error
        ? failure.message
        : name
    )
    error.name = name
    error.stack = `${name}: ${error.message}`
    return error
  }))

const linkTo = (span: Tracer.AnySpan): Tracer.SpanLink => ({ _tag: "SpanLink", span, attributes: {} })

/** A key as text, where it has one that says the same. */
const keyOf = (key: unknown): string | undefined =>
  typeof key === "string" || typeof key === "bigint" || typeof key === "number" ? String(key) : undefined

/** The spans that records came from: each once, since a batch may share one. */
class Contexts {
  private readonly seen = new Set<string>()
  readonly links: Array<Tracer.SpanLink> = []
  add(headers: RecordHeaders.RecordHeaders): void {
    if (this.links.length >= mostLinks) return
    const context = traceContext.read(headers)
    if (context === undefined || this.seen.has(context.spanId)) return
    this.seen.add(context.spanId)
    this.links.push(linkTo(context))
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// producing
// ---------------------------------------------------------------------------------------------------------------------

export interface SendingOptions {
  readonly clientId: string
  readonly topic: string
  /** How many: `undefined` for one record that is not given as a batch. */
  readonly records: number | undefined
  /** That one record. */
  readonly record: ProducerRecord<unknown, unknown> | undefined
}

type Inject = (headers: RecordHeaders.RecordHeaders) => RecordHeaders.RecordHeaders

/** The span of one call that sends, from being asked to the acknowledgement. */
class Sending {
  readonly span: Tracer.Span
  private readonly tracing: Tracing
  private readonly own: RecordHeaders.RecordHeaders
  private readonly brought = new Contexts()

  constructor(tracing: Tracing, of: SendingOptions) {
    this.tracing = tracing
    const span = start(tracing, {
      operation: "send",
      type: "send",
      kind: "producer",
      topic: of.topic,
      parent: tracing.current,
      links: []
    })
    this.span = span
    this.own = traceContext.write(span)
    span.attribute("messaging.client.id", of.clientId)
    if (of.records !== undefined) span.attribute("messaging.batch.message_count", of.records)
    if (of.record !== undefined) describe(span, tracing, of.record)
  }

  /** The headers to send: with the span's context, unless the record brings one of its own, which is linked to. */
  readonly inject: Inject = (headers) => {
    if (!traceContext.has(headers)) return this.own.length === 0 ? headers : [...headers, ...this.own]
    this.brought.add(headers)
    return headers
  }

  readonly end = (exit: Exit.Exit<Stored, unknown>): Effect.Effect<void> =>
    Effect.sync(() => {
      const { span } = this
      if (this.brought.links.length > 0) span.addLinks(this.brought.links)
      const only = Exit.isFailure(exit) ? undefined : "offset" in exit.value ? exit.value : alone(exit.value)
      if (only !== undefined) {
        span.attribute("messaging.destination.partition.id", String(only.partition))
        // -1 where nobody acknowledges
        if (only.offset >= 0n) span.attribute("messaging.kafka.offset", Number(only.offset))
      }
      end(this.tracing, span, reported(exit))
    })
}

type Stored = RecordMetadata | ReadonlyArray<RecordMetadata>

const alone = (all: ReadonlyArray<RecordMetadata>): RecordMetadata | undefined => all.length === 1 ? all[0] : undefined

/** Sends in a span, until all is acknowledged. */
export const sending = <A extends Stored, E, R>(
  tracing: Tracing,
  options: SendingOptions,
  send: (inject: Inject) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const one = new Sending(tracing, options)
    return Effect.onExit(inSpan(Effect.suspend(() => send(one.inject)), one.span), one.end)
  })

/** Hands over in a span that lasts until all is acknowledged, whether or not anybody waits for it. */
export const enqueueing = <A extends Stored, E, E2, R>(
  tracing: Tracing,
  options: SendingOptions,
  enqueue: (inject: Inject) => Effect.Effect<Effect.Effect<A, E2>, E, R>
): Effect.Effect<Effect.Effect<A, E2>, E, R> =>
  Effect.suspend(() => {
    const one = new Sending(tracing, options)
    return Effect.onExit(
      inSpan(Effect.suspend(() => enqueue(one.inject)), one.span),
      Exit.match({
        onFailure: (cause) => one.end(Exit.failCause(cause)),
        onSuccess: (acknowledged) => Effect.forkDaemon(Effect.exit(Effect.onExit(acknowledged, one.end)))
      })
    )
  })

const describe = (
  span: Tracer.Span,
  { options }: Tracing,
  { key, value }: { readonly key: unknown; readonly value: unknown }
): void => {
  const text = options.keys === false ? undefined : keyOf(key)
  if (text !== undefined) span.attribute("messaging.kafka.message.key", text)
  if (value === null) span.attribute("messaging.kafka.message.tombstone", true)
}

/** A record that carries the fiber's span, unless it carries one already. */
export const inject = <K, V>(
  record: ProducerRecord<K, V>,
  tracing: Tracing | undefined
): ProducerRecord<K, V> => {
  if (tracing?.current === undefined) return record
  const headers = RecordHeaders.make(record.headers ?? [])
  return traceContext.has(headers)
    ? record
    : { ...record, headers: [...headers, ...traceContext.write(tracing.current)] }
}

// ---------------------------------------------------------------------------------------------------------------------
// consuming
// ---------------------------------------------------------------------------------------------------------------------

/** Runs the decoding of a chunk in a span that is linked to the spans its records were sent in. */
export const receive = <A, E, R>(
  tracing: Tracing,
  groupId: string,
  { chunk, from, partition, to }: Slice,
  decode: () => A | Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const { partition: number, topic } = partition.topicPartition
    const contexts = new Contexts()
    for (let index = from; index < to; index++) contexts.add(chunk.view.headers(chunk.records[index]))
    const span = start(tracing, {
      operation: "poll",
      type: "receive",
      kind: "client",
      topic,
      parent: tracing.current,
      links: contexts.links
    })
    span.attribute("messaging.consumer.group.name", groupId)
    span.attribute("messaging.destination.partition.id", String(number))
    span.attribute("messaging.batch.message_count", to - from)
    const decoded = Effect.suspend(() => {
      const answer = decode()
      return Effect.isEffect(answer) ? answer : Effect.succeed(answer)
    })
    return Effect.onExit(inSpan(decoded, span), (exit) => Effect.sync(() => end(tracing, span, reported(exit))))
  })

/** Runs what is done with some records in a span of its own. */
export const process = <A, E, R>(
  tracing: Tracing,
  groupId: string | undefined,
  records: ReadonlyArray<ConsumerRecord.Any>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const [first] = records
    if (first === undefined) return effect
    const { partition, topic } = first.topicPartition
    const single = records.length === 1
    const contexts = new Contexts()
    for (const record of records) contexts.add(record.headers)
    const [link] = contexts.links
    const continued = single && tracing.options.process !== "link" ? link?.span : undefined
    const span = start(tracing, {
      operation: "process",
      type: "process",
      kind: "consumer",
      topic: records.every((one) => one.topicPartition.topic === topic) ? topic : undefined,
      parent: continued,
      links: continued === undefined ? contexts.links : []
    })
    if (groupId !== undefined) span.attribute("messaging.consumer.group.name", groupId)
    if (
      records.every(({ topicPartition }) => topicPartition.topic === topic && topicPartition.partition === partition)
    ) {
      span.attribute("messaging.destination.partition.id", String(partition))
    }
    if (single) {
      span.attribute("messaging.kafka.offset", Number(first.offset))
      describe(span, tracing, { key: first.key, value: first.rawValue })
    } else {
      span.attribute("messaging.batch.message_count", records.length)
    }
    return Effect.onExit(inSpan(effect, span), (exit) => Effect.sync(() => end(tracing, span, exit)))
  })

/** `Effect.withParentSpan` takes a requirement away that nobody has. */
const inSpan = <A, E, R>(effect: Effect.Effect<A, E, R>, span: Tracer.Span): Effect.Effect<A, E, R> =>
  Effect.mapInputContext(effect, (context: Context.Context<R>) => Context.add(context, Tracer.ParentSpan, span))

/** A handler each of whose runs has a span; the handler itself where nobody looks. */
export const handler = <A, E, R>(
  groupId: string,
  handle: Handler<A, E, R>
): Effect.Effect<Handler<A, E, R>> =>
  Effect.withFiberRuntime((fiber) => {
    const tracing = of(fiber)
    return Effect.succeed(
      tracing === undefined
        ? handle
        : (record, batch) => process(tracing, groupId, batch ?? [record], Effect.suspend(() => handle(record, batch)))
    )
  })

/** Several records that are handled together come as `batch`. */
type Handler<A, E, R> = (
  record: ConsumerRecord.Any,
  batch?: ReadonlyArray<ConsumerRecord.Any>
) => Effect.Effect<A, E, R>

/** {@link handler} for what makes records of a record: they carry the span of what they were made of. */
export const transformer = <A, E, R>(
  groupId: string,
  transform: (record: ConsumerRecord.Any) => Effect.Effect<A, E, R>
): Effect.Effect<(record: ConsumerRecord.Any) => Effect.Effect<A, E, R>> =>
  Effect.withFiberRuntime((fiber) => {
    if (of(fiber) === undefined) return Effect.succeed(transform)
    return Effect.map(
      handler(groupId, (record) => Effect.flatMap(transform(record), carrying)),
      (handle) => (record) => handle(record)
    )
  })

/** The same records, with the span of the fiber in their headers. */
const carrying = <A>(made: A): Effect.Effect<A> =>
  Effect.withFiberRuntime((fiber) => {
    const tracing = of(fiber)
    const one = (record: unknown) => inject(record as ProducerRecord<unknown, unknown>, tracing)
    // a record, several or none, which only the signature of `Consumer.transform` knows
    return Effect.succeed((made === undefined ? made : Array.isArray(made) ? made.map(one) : one(made)) as A)
  })
