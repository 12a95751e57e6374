/**
 * What it costs to be watched: the same work with `metrics` (`noop` or `prometheus`) and `tracing` (`off` or `on`).
 */
import { Consumer, KafkaHealth, Producer } from "@coffeebuddy/kafka"
import { KafkaMetrics } from "@coffeebuddy/kafka-metrics"
import * as NodeSdk from "@effect/opentelemetry/NodeSdk"
import { BatchSpanProcessor, type SpanExporter } from "@opentelemetry/sdk-trace-base"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { Run, Work } from "../harness/model.ts"
import { Meter } from "../work.ts"
import { cluster, keyed } from "./library.ts"

/** Sends spans nowhere, so that what is measured is what they cost here. */
const nowhere: SpanExporter = { export: (_, done) => done({ code: 0 }), shutdown: () => Promise.resolve() }

/** A consumer and a producer that are watched as the work says; with a scrape every second if it asks for that. */
const watched = ({ groupId, parameters, ...work }: Work) => {
  const metrics = parameters["metrics"] === "prometheus"
    ? Layer.provideMerge(KafkaHealth.layer, KafkaMetrics.layerPrometheus())
    : KafkaMetrics.layerNoop
  const scrapes = Layer.scopedDiscard(Effect.forkScoped(Effect.forever(
    Effect.zipRight(
      Effect.sleep("1 second"),
      Effect.flatMap(KafkaMetrics.KafkaMetrics, (metrics) => metrics.render("prometheus"))
    )
  )))
  const tracer = parameters["tracing"] === "on"
    ? NodeSdk.layer(() => ({ resource: { serviceName: "bench" }, spanProcessor: new BatchSpanProcessor(nowhere) }))
    : Layer.empty
  return Layer.merge(Consumer.layer({ groupId }), Producer.layer()).pipe(
    Layer.provide(cluster({ groupId, parameters, ...work })),
    Layer.provideMerge(parameters["scrapes"] === true ? scrapes : Layer.empty),
    Layer.provideMerge(metrics),
    Layer.provideMerge(tracer)
  )
}

/** `Consumer.stream`, looking at each value's length. */
export const stream: Run = async (work) => {
  const meter = new Meter(work.records)
  let seen = 0
  await Effect.runPromise(
    Consumer.stream(keyed(work.topic)).pipe(
      Stream.chunks,
      Stream.takeWhile((chunk) => {
        meter.begin()
        for (const record of chunk) seen += record.value.length
        return !meter.add(chunk.length)
      }),
      Stream.runDrain,
      Effect.provide(watched(work))
    )
  )
  return { ...await meter.result, seen }
}

/** `Consumer.forEach` with a handler that does nothing, 16 at a time. */
export const forEach: Run = async (work) => {
  const meter = new Meter(work.records)
  const enough = Effect.fail("enough" as const)
  await Effect.runPromise(
    Consumer.forEach(keyed(work.topic), () => {
      meter.begin()
      return meter.add(1) ? enough : Effect.void
    }, { concurrency: 16 }).pipe(
      Effect.catchIf((error) => error === "enough", () => Effect.void),
      Effect.provide(watched(work))
    )
  )
  return meter.result
}

/** `Producer.send` by 1,000 fibers. */
export const send: Run = async (work) => {
  const meter = new Meter(work.records)
  const topic = keyed(work.sink)
  const value = new Uint8Array(work.bytes)
  const caller = (index: number) =>
    Effect.gen(function*() {
      const producer = yield* Producer.Producer
      for (let sent = index; sent < work.records; sent += 1000) {
        meter.begin()
        yield* producer.send(topic, { key: `run-${sent % 1000}`, value })
        meter.add(1)
      }
    })
  await Effect.runPromise(
    Effect.forEach(Array.from({ length: 1000 }, (_, index) => index), caller, {
      concurrency: "unbounded",
      discard: true
    }).pipe(Effect.provide(watched(work)))
  )
  return meter.result
}
