/**
 * A service as it is deployed: a worker, metrics and health on a port. Several processes of it share the partitions of one
 * group, and take over from each other.
 */
import { ConsumerWorker, KafkaHealth } from "@coffeebuddy/kafka"
import { KafkaMetrics, MetricsServer } from "@coffeebuddy/kafka-metrics"
import { Effect, Layer } from "effect"
import { RUN_EVENTS_TOPIC } from "../run-events/topic.ts"

/** Tells each host how many cups to carry. */
const WorkerLive = ConsumerWorker.layer(
  RUN_EVENTS_TOPIC,
  ({ partition, value }) =>
    value.type === "run_completed"
      ? Effect.log(`${value.cups} cups for ${value.runId}`).pipe(Effect.annotateLogs({ partition }))
      : Effect.void,
  { groupId: "cup-carriers", concurrency: 16, ordering: "key" }
)

/** The service, on a Kafka. Port 0 takes any that is free. */
export const serviceLive = (port: number) =>
  WorkerLive.pipe(
    Layer.provideMerge(MetricsServer.serve()),
    Layer.provideMerge(MetricsServer.layerServer({ port })),
    Layer.provideMerge(KafkaHealth.layerWith({ groups: ["cup-carriers"] })),
    Layer.provideMerge(KafkaMetrics.layerPrometheus({ defaultLabels: { service: "cup-carriers" } }))
  )
