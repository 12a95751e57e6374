/**
 * Where the program's metrics are: a page for Prometheus, and the health for an orchestrator.
 */
import { KafkaHealth } from "@coffeebuddy/kafka"
import { EffectMetrics, KafkaMetrics, MetricsServer } from "@coffeebuddy/kafka-metrics"
import * as HttpServer from "@effect/platform/HttpServer"
import { Context, Effect, Layer, Option } from "effect"

/** The address of the page, for people; nothing where nobody serves it. */
export class MetricsPage extends Context.Reference<MetricsPage>()("run-events/MetricsPage", {
  defaultValue: (): Option.Option<string> => Option.none()
}) {}

const page = Layer.effect(
  MetricsPage,
  HttpServer.addressWith((address) =>
    Effect.succeed(
      address._tag === "TcpAddress" ? Option.some(`http://localhost:${address.port}/metrics`) : Option.none()
    )
  )
)

/** Counts what is built on top of it, and serves that on a port: 0 takes any that is free. */
export const layer = (port: number) =>
  Layer.merge(page, MetricsServer.serve()).pipe(
    Layer.provide(MetricsServer.layerServer({ port })),
    Layer.provideMerge(Layer.merge(EffectMetrics.layer, KafkaHealth.layer)),
    Layer.provideMerge(KafkaMetrics.layerPrometheus({ defaultLabels: { service: "run-events" } }))
  )
