/**
 * What a process does with Kafka, counted. Each layer provides the service and watches whatever is built on top of it,
 * so that changing one for another changes no line of a program.
 *
 * @since 0.1.0
 */
import { combine, KafkaObserver } from "@coffeebuddy/kafka/KafkaEvent"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Prom from "prom-client"
import * as effectRegistry from "./engine/effectRegistry.ts"
import * as effectSink from "./engine/effectSink.ts"
import { Recorder, type Sink } from "./engine/recorder.ts"
import * as registries from "./engine/registry.ts"
import * as settings from "./engine/settings.ts"
import * as store from "./engine/Store.ts"
import { type Name, names } from "./MetricDefinition.ts"
import { MetricsError } from "./MetricsError.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A metric with all its series.
 *
 * @since 0.1.0
 * @category models
 */
export interface Family extends store.Family {}

/**
 * `prometheus` is the text format 0.0.4, which every scraper reads; `openmetrics` is OpenMetrics 1.0.
 *
 * @since 0.1.0
 * @category models
 */
export type Format = "prometheus" | "openmetrics"

/**
 * A page to be scraped.
 *
 * @since 0.1.0
 * @category models
 */
export interface Rendered {
  readonly contentType: string
  readonly body: string
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * The sum of all series of a metric that carry these labels: 0 where there are none. For a histogram it is how often
   * something was observed. The name is without its prefix, so that it does not change with it.
   */
  readonly value: (name: Name, labels?: Readonly<Record<string, string>>) => Effect.Effect<number>
  /** Every metric as it is now, in the order of the table. */
  readonly snapshot: Effect.Effect<ReadonlyArray<Family>>
  /** Everything in the registry, ours or not, as text. Fails with the reason `scrape` where a metric of others throws. */
  readonly render: (format: Format) => Effect.Effect<Rendered, MetricsError>
  /** Where to put metrics of your own, such as prom-client's `collectDefaultMetrics`. */
  readonly registry: Prom.Registry<Prom.RegistryContentType>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** What each name begins with, `kafka` if absent: `kafka_consumer_records_total`. */
  readonly prefix?: string | undefined
  /** Labels on every series, such as the name of the service. None if absent. */
  readonly defaultLabels?: Readonly<Record<string, string>> | undefined
  /** The upper bounds of the buckets of all durations, in seconds, ascending. From 1 ms to a minute if absent. */
  readonly buckets?: ReadonlyArray<number> | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PrometheusOptions extends Options {
  /** A registry of prom-client to publish in. One of its own if absent, so that two never collide. */
  readonly registry?: Prom.Registry<Prom.RegistryContentType> | undefined
}

/**
 * @since 0.1.0
 * @category tags
 */
export class KafkaMetrics extends Context.Tag("@coffeebuddy/kafka-metrics/KafkaMetrics")<KafkaMetrics, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Metrics in a prom-client registry, from which they are taken again when the layer is released.
 *
 * Fails with a `MetricsError`: `prefix`, `labels` or `buckets` where an option is not valid, `registered` where the
 * registry given has one of the names already. In that case nothing was published.
 *
 * @example
 * ```ts
 * import { Consumer, InMemoryKafka, TopicRegistry } from "@coffeebuddy/kafka"
 * import { KafkaMetrics } from "@coffeebuddy/kafka-metrics"
 * import { Layer } from "effect"
 * import { collectDefaultMetrics, Registry } from "prom-client"
 *
 * const registry = new Registry()
 * collectDefaultMetrics({ register: registry })
 *
 * const Live = Consumer.layer({ groupId: "kitchen" }).pipe(
 *   Layer.provide(InMemoryKafka.layer),
 *   Layer.provide(TopicRegistry.layerWith({})),
 *   Layer.provideMerge(KafkaMetrics.layerPrometheus({ registry, defaultLabels: { service: "kitchen" } }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerPrometheus = (options: PrometheusOptions = {}): Layer.Layer<KafkaMetrics, MetricsError> =>
  Layer.scopedContext(Effect.gen(function*() {
    const { buckets, labels, prefix } = yield* settings.make(options)
    const registry = options.registry ?? new Prom.Registry<Prom.RegistryContentType>()
    const clock = yield* Effect.clock
    const counted = new store.Store(buckets)
    const recorder = new Recorder(counted)
    const { context, service } = yield* watch({ clock, recorder, counted, registry })
    yield* publish({ clock, recorder, counted, registry, prefix, labels })
    return Context.add(context, KafkaMetrics, service)
  }))

/**
 * Metrics for a test to read, by name and labels.
 *
 * @example
 * ```ts
 * import { InMemoryKafka, Producer, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
 * import { KafkaMetrics } from "@coffeebuddy/kafka-metrics"
 * import { Effect, Layer } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const test = Effect.gen(function*() {
 *   const metrics = yield* KafkaMetrics.KafkaMetrics
 *   yield* Producer.send(Orders, { key: "table-7", value: "cortado" })
 *   return yield* metrics.value("producer_records_total", { topic: "orders" }) // 1
 * })
 *
 * const Test = Producer.layer().pipe(
 *   Layer.provide(InMemoryKafka.layer),
 *   Layer.provide(TopicRegistry.layerWith({})),
 *   Layer.provideMerge(KafkaMetrics.layerInMemory)
 * )
 *
 * Effect.runPromise(Effect.provide(test, Test))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerInMemory: Layer.Layer<KafkaMetrics> = Layer.orDie(layerPrometheus())

/**
 * Counts nothing and costs nothing. Observers that were there before are left alone.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerNoop: Layer.Layer<KafkaMetrics> = Layer.sync(KafkaMetrics, () => {
  const registry = new Prom.Registry<Prom.RegistryContentType>()
  return {
    value: () => Effect.succeed(0),
    snapshot: Effect.succeed([]),
    render: (format) => registries.render(registry, format),
    registry
  }
})

/**
 * The same metrics as Effect's own, for whoever exports those already. The registry of the service shows all of Effect's
 * metrics, not only Kafka's.
 *
 * Effect's metrics belong to the whole process and are never forgotten: what two layers count is added up, and the gauge
 * of a partition that was revoked becomes NaN. Gauges are refreshed every five seconds, and at a scrape.
 *
 * Fails with a `MetricsError` where an option is not valid.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerEffectWith = (options: Options): Layer.Layer<KafkaMetrics, MetricsError> =>
  Layer.scopedContext(Effect.gen(function*() {
    const checked = yield* settings.make(options)
    const registry = new Prom.Registry<Prom.RegistryContentType>()
    const clock = yield* Effect.clock
    const counted = new store.Store(checked.buckets)
    const mirror = effectSink.make(checked)
    const recorder = new Recorder(both(counted, mirror))
    const { context, service } = yield* watch({ clock, recorder, counted, registry })
    const refresh = Effect.sync(() => mirror.refresh(recorder.gauges(clock.unsafeCurrentTimeMillis())))
    yield* Effect.addFinalizer(() => Effect.sync(() => mirror.refresh([])))
    yield* Effect.forkScoped(Effect.repeat(refresh, Schedule.spaced("5 seconds")))
    yield* effectRegistry.publishTo(registry)
    return Context.add(context, KafkaMetrics, {
      ...service,
      render: (format) => Effect.zipRight(refresh, service.render(format))
    })
  }))

/**
 * {@link layerEffectWith} its defaults.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerEffect: Layer.Layer<KafkaMetrics> = Layer.orDie(layerEffectWith({}))

// ---------------------------------------------------------------------------------------------------------------------
// internal
// ---------------------------------------------------------------------------------------------------------------------

interface Parts {
  readonly clock: Clock.Clock
  readonly recorder: Recorder
  readonly counted: store.Store
  readonly registry: Prom.Registry<Prom.RegistryContentType>
}

/** The service, and a context in which everything is observed: also by whoever did so before. */
const watch = ({ clock, counted, recorder, registry }: Parts) =>
  Effect.map(KafkaObserver, (before) => {
    const now = () => clock.unsafeCurrentTimeMillis()
    const snapshot = Effect.sync(() => counted.families(recorder.gauges(now())))
    const service: Service = {
      snapshot,
      value: (name, labels = {}) =>
        Effect.map(snapshot, (families) => total(families.find((one) => one.name === name), labels)),
      render: (format) => registries.render(registry, format),
      registry
    }
    const context = Context.make(
      KafkaObserver,
      combine(before, { enabled: true, onEvent: (event, source) => recorder.onEvent(event, now(), source) })
    )
    return { service, context }
  })

const total = (family: Family | undefined, labels: Readonly<Record<string, string>>): number => {
  let sum = 0
  for (const series of family?.series ?? []) {
    if (Object.entries(labels).some(([label, value]) => series.labels[label] !== value)) continue
    sum += typeof series.value === "number" ? series.value : series.value.count
  }
  return sum
}

const publish = (
  { clock, counted, labels, prefix, recorder, registry }: Parts & Pick<settings.Settings, "prefix" | "labels">
): Effect.Effect<void, MetricsError, Scope.Scope> =>
  Effect.gen(function*() {
    const taken = names.map((name) => prefix + name).filter((name) => registry.getSingleMetric(name) !== undefined)
    if (taken.length > 0) {
      return yield* new MetricsError({
        reason: "registered",
        description: `the registry already has ${taken.length} of these metrics, the first is ${taken[0]}: ` +
          "give each layer a registry or a prefix of its own"
      })
    }
    // a scrape asks one metric after the other, and all in one go: what was read for the first serves the rest
    let families: ReadonlyMap<Name, Family> | undefined
    const read = (): ReadonlyMap<Name, Family> => {
      if (families === undefined) {
        families = new Map(
          counted.families(recorder.gauges(clock.unsafeCurrentTimeMillis())).map((one) => [one.name, one])
        )
        queueMicrotask(() => families = undefined)
      }
      return families
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        for (const one of counted.families([])) {
          registries.publish(registry, {
            name: prefix + one.name,
            help: one.help,
            type: one.type,
            samples: () => {
              const family = read().get(one.name)
              return family === undefined ? [] : registries.samplesOf(prefix + one.name, family, labels)
            }
          })
        }
      }),
      () => Effect.sync(() => names.forEach((name) => registry.removeSingleMetric(prefix + name)))
    )
  })

const both = (one: Sink, other: Sink): Sink => ({
  count: (name, labels, by) => {
    one.count(name, labels, by)
    other.count(name, labels, by)
  },
  observe: (name, labels, millis) => {
    one.observe(name, labels, millis)
    other.observe(name, labels, millis)
  }
})
