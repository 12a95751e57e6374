/**
 * Metrics for `@coffeebuddy/kafka`.
 *
 * @since 0.1.0
 */
export * as EffectMetrics from "./EffectMetrics.ts"
export * as KafkaMetrics from "./KafkaMetrics.ts"
export * as MetricDefinition from "./MetricDefinition.ts"
export * as MetricsError from "./MetricsError.ts"
export * as MetricsServer from "./MetricsServer.ts"
