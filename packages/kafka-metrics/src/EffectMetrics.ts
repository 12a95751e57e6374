/**
 * Effect's own metrics, those of the runtime and those of the program, in a prom-client registry.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Prom from "prom-client"
import * as effectRegistry from "./engine/effectRegistry.ts"
import { KafkaMetrics } from "./KafkaMetrics.ts"

/**
 * Publishes Effect's metrics in a registry until the scope is closed. Nothing is copied: they are read at each scrape,
 * and one that is used for the first time later is there at the next.
 *
 * Counters that only grow get a `_total`, where they have none; characters that Prometheus does not know become `_`; a
 * gauge that is NaN is left out. A name that the registry has already is not touched. Where one name is used for two
 * types, the first is published.
 *
 * @example
 * ```ts
 * import { EffectMetrics } from "@coffeebuddy/kafka-metrics"
 * import { Effect } from "effect"
 * import { Registry } from "prom-client"
 *
 * const program = Effect.gen(function*() {
 *   const registry = new Registry()
 *   yield* EffectMetrics.publishTo(registry)
 *   return yield* Effect.promise(() => registry.metrics())
 * })
 *
 * Effect.runPromise(Effect.scoped(program))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const publishTo = (registry: Prom.Registry<Prom.RegistryContentType>): Effect.Effect<void, never, Scope.Scope> =>
  effectRegistry.publishTo(registry)

/**
 * Effect's metrics beside those of Kafka: in the registry of {@link KafkaMetrics}, and so at the same `/metrics`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<never, never, KafkaMetrics> = Layer.scopedDiscard(
  Effect.flatMap(KafkaMetrics, (metrics) => publishTo(metrics.registry))
)
