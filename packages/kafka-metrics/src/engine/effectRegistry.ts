/**
 * Effect's registry of metrics, read into one of prom-client.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as MetricKeyType from "effect/MetricKeyType"
import type * as MetricPair from "effect/MetricPair"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Prom from "prom-client"
import { histogramSamples, publish, type Published, type Sample } from "./registry.ts"

export const publishTo = (registry: Prom.Registry<Prom.RegistryContentType>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(Effect.acquireRelease(
    Effect.sync(() => {
      const published = new Set<string>()
      const sync = (): void => {
        for (const [name, pairs] of families()) {
          if (published.has(name) || registry.getSingleMetric(name) !== undefined) continue
          published.add(name)
          publish(registry, toPublished(name, pairs[0]!))
        }
      }
      sync()
      // Which metrics Effect has is known only at a scrape, and this is what a registry asks itself first then.
      const before = registry.getMetricsAsArray
      const withEffects: typeof before = function(this: typeof registry) {
        sync()
        return before.call(this)
      }
      registry.getMetricsAsArray = withEffects
      return { published, before, withEffects }
    }),
    ({ before, published, withEffects }) =>
      Effect.sync(() => {
        if (registry.getMetricsAsArray === withEffects) registry.getMetricsAsArray = before
        for (const name of published) registry.removeSingleMetric(name)
      })
  ))

type Pair = MetricPair.MetricPair.Untyped

/** All pairs by the name they are published under; those of another type than the first are left out. */
const families = (): Map<string, Array<Pair>> => {
  const all = new Map<string, Array<Pair>>()
  for (const pair of Metric.unsafeSnapshot()) {
    const name = nameOf(pair)
    const same = all.get(name)
    if (same === undefined) all.set(name, [pair])
    else if (typeOf(same[0]!) === typeOf(pair)) same.push(pair)
  }
  return all
}

const isIncremental = ({ metricKey: { keyType } }: Pair): boolean =>
  MetricKeyType.isCounterKey(keyType) && (keyType as MetricKeyType.MetricKeyType.Counter<number>).incremental

const typeOf = (pair: Pair): Published["type"] => {
  const { keyType } = pair.metricKey
  if (MetricKeyType.isHistogramKey(keyType)) return "histogram"
  if (MetricKeyType.isSummaryKey(keyType)) return "summary"
  return MetricKeyType.isFrequencyKey(keyType) || isIncremental(pair) ? "counter" : "gauge"
}

const nameOf = (pair: Pair): string => {
  const name = pair.metricKey.name.replace(/[^a-zA-Z0-9_:]/g, "_").replace(/^(?=\d)/, "_")
  return typeOf(pair) === "counter" && !name.endsWith("_total") ? `${name}_total` : name
}

const toPublished = (name: string, first: Pair): Published => ({
  name,
  help: Option.getOrElse(first.metricKey.description, () => name),
  type: typeOf(first),
  samples: () => (families().get(name) ?? []).flatMap((pair) => samplesOf(name, pair))
})

const samplesOf = (name: string, { metricKey, metricState }: Pair): ReadonlyArray<Sample> => {
  const labels = Object.fromEntries(
    metricKey.tags.map(({ key, value }) => [key.replace(/[^a-zA-Z0-9_]/g, "_").replace(/^(?=\d)/, "_"), value])
  )
  if (MetricState.isCounterState(metricState)) return [{ labels, value: Number(metricState.count) }]
  if (MetricState.isGaugeState(metricState)) {
    const value = Number(metricState.value)
    return Number.isNaN(value) ? [] : [{ labels, value }]
  }
  if (MetricState.isFrequencyState(metricState)) {
    return [...metricState.occurrences].map(([key, value]) => ({ labels: { ...labels, key }, value }))
  }
  if (MetricState.isHistogramState(metricState)) {
    const finite = metricState.buckets.filter(([bound]) => Number.isFinite(bound))
    return histogramSamples(name, labels, {
      bounds: finite.map(([bound]) => bound),
      cumulative: finite.map(([, count]) => count),
      sum: metricState.sum,
      count: metricState.count
    })
  }
  if (MetricState.isSummaryState(metricState)) {
    return [
      ...metricState.quantiles.map(([quantile, value]) => ({
        labels: { ...labels, quantile },
        value: Option.getOrElse(value, () => Number.NaN)
      })),
      { labels, value: metricState.sum, metricName: `${name}_sum` },
      { labels, value: metricState.count, metricName: `${name}_count` }
    ]
  }
  return []
}
