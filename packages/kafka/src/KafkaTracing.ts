/**
 * Traces across Kafka, by OpenTelemetry's conventions for messaging. With a tracer in place, that of
 * `@effect/opentelemetry` for instance, there is nothing else to do:
 *
 * - Sending is a span `send {topic}`. Its context travels in the record's headers `traceparent` and `tracestate`.
 * - `Consumer.forEach`, `transform` and workers handle each record in a span `process {topic}`, whose parent is the span
 *   the record was sent in: one trace from service to service.
 * - A stream has a span `poll {topic}` for each chunk that it hands out, linked to the spans of its records. Use
 *   {@link withSpan} where they are worked on.
 *
 * Without a tracer no span is made and no header is written. Effect's own tracer, which is always there and collects
 * nothing, counts as none. No span ever has a record's value in it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import type * as ConsumerRecord from "./ConsumerRecord.ts"
import * as traceContext from "./engine/traceContext.ts"
import * as tracing from "./engine/tracing.ts"
import type { ProducerRecord } from "./ProducerRecord.ts"
import type { RecordHeaders } from "./RecordHeaders.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Whether there are spans of Kafka and headers for them, where there is a tracer. `true` if absent. */
  readonly enabled?: boolean | undefined
  /**
   * What a record's `process` span is to the span it was sent in:
   *
   * - `"parent"`, if absent: its child, so that one trace shows all services. The conventions allow it for single
   *   records, and it is what most people look for.
   * - `"link"`: the beginning of a trace, with a link. For topics that are read long after they were written, or by very
   *   many.
   *
   * Spans of several records always have links.
   */
  readonly process?: "parent" | "link" | undefined
  /** Whether spans say the keys of records that are text or numbers. `true` if absent: set it where keys are personal. */
  readonly keys?: boolean | undefined
}

export {
  /**
   * The options, a `Context.Reference`: nobody has to provide them. They are read where a program sends or reads.
   *
   * @since 0.1.0
   * @category references
   */
  KafkaTracing
} from "./engine/tracing.ts"

/**
 * @example
 * ```ts
 * import { KafkaTracing } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const program = Effect.log("records are read here").pipe(
 *   Effect.provide(KafkaTracing.layer({ process: "link", keys: false }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<never> => Layer.succeed(tracing.KafkaTracing, options)

/**
 * The span that a record was sent in: `None` where its headers have no valid `traceparent`.
 *
 * @since 0.1.0
 * @category getters
 */
export const spanOf = (record: { readonly headers: RecordHeaders }): Option.Option<Tracer.ExternalSpan> =>
  Option.fromNullable(traceContext.read(record.headers))

/**
 * Runs what is done with a record, or with several, in a span `process {topic}`: for streams, where the library can't
 * know when work on a record begins and ends. Continues the record's trace, or is linked to those of several.
 *
 * @example
 * ```ts
 * import { Consumer, KafkaTracing, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect, Stream } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const program = Consumer.stream(Orders).pipe(
 *   Stream.tap((record) => Effect.log(record.value).pipe(KafkaTracing.withSpan(record))),
 *   Consumer.commitWithin(1000, "1 second"),
 *   Stream.runDrain
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withSpan: {
  (
    records: ConsumerRecord.Any | Iterable<ConsumerRecord.Any>,
    options?: { readonly groupId?: string | undefined }
  ): <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    records: ConsumerRecord.Any | Iterable<ConsumerRecord.Any>,
    options?: { readonly groupId?: string | undefined }
  ): Effect.Effect<A, E, R>
} = dual((args) => Effect.isEffect(args[0]), <A, E, R>(
  self: Effect.Effect<A, E, R>,
  records: ConsumerRecord.Any | Iterable<ConsumerRecord.Any>,
  options?: { readonly groupId?: string | undefined }
): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber) => {
    const on = tracing.of(fiber)
    if (on === undefined) return self
    return tracing.process(on, options?.groupId, Symbol.iterator in records ? [...records] : [records], self)
  }))

/**
 * A record that carries the span it is made in, for records that are sent later or many at a time: sending keeps the
 * headers `traceparent` and `tracestate` that a record has.
 *
 * @since 0.1.0
 * @category combinators
 */
export const inject = <K, V>(record: ProducerRecord<K, V>): Effect.Effect<ProducerRecord<K, V>> =>
  Effect.withFiberRuntime((fiber) => Effect.sync(() => tracing.inject(record, tracing.of(fiber))))
