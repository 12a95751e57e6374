/**
 * Into a prom-client registry, and out of it as text.
 */
import * as Effect from "effect/Effect"
import * as Prom from "prom-client"
import { MetricsError } from "../MetricsError.ts"
import type { Family } from "./Store.ts"

export type Labels = Readonly<Record<string, string | number>>

export interface Sample {
  readonly labels: Labels
  readonly value: number
  /** Where it is not that of the family: the parts of a histogram. */
  readonly metricName?: string
}

/** What prom-client asks of a metric that is not one of its own. */
export interface Published {
  /** prom-client writes to it where the registry speaks OpenMetrics. */
  name: string
  readonly help: string
  readonly type: "counter" | "gauge" | "histogram" | "summary"
  readonly samples: () => ReadonlyArray<Sample>
}

export const publish = (registry: Prom.Registry<Prom.RegistryContentType>, published: Published): void => {
  const metric = {
    name: published.name,
    help: published.help,
    type: published.type,
    aggregator: "sum",
    get: () =>
      Promise.resolve({
        name: metric.name,
        help: metric.help,
        type: metric.type,
        aggregator: metric.aggregator,
        values: published.samples()
      }),
    // what is counted here is not prom-client's to reset
    reset: () => {}
  }
  // a registry takes any object with these members, and its types know only prom-client's own classes
  registry.registerMetric(metric as unknown as Prom.Metric)
}

/** A family's samples by Prometheus' rules, with these labels on each. */
export const samplesOf = (name: string, family: Family, labels: Labels): Array<Sample> =>
  family.series.flatMap((series): ReadonlyArray<Sample> => {
    const own: Labels = { ...labels, ...series.labels }
    return typeof series.value === "number"
      ? [{ labels: own, value: series.value }]
      : histogramSamples(name, own, series.value)
  })

export const histogramSamples = (
  name: string,
  labels: Labels,
  content: {
    readonly bounds: ReadonlyArray<number>
    readonly cumulative: ReadonlyArray<number>
    readonly sum: number
    readonly count: number
  }
): Array<Sample> => [
  ...content.bounds.map((le, index) => ({
    labels: { ...labels, le },
    value: content.cumulative[index]!,
    metricName: `${name}_bucket`
  })),
  { labels: { ...labels, le: "+Inf" }, value: content.count, metricName: `${name}_bucket` },
  { labels, value: content.sum, metricName: `${name}_sum` },
  { labels, value: content.count, metricName: `${name}_count` }
]

export interface Rendered {
  readonly contentType: string
  readonly body: string
}

/**
 * The whole registry as text. prom-client renames counters in place where it speaks OpenMetrics, so that one registry
 * could not serve both formats: it is read once, and written by a registry of the moment.
 */
export const render = (
  registry: Prom.Registry<Prom.RegistryContentType>,
  format: "prometheus" | "openmetrics"
): Effect.Effect<Rendered, MetricsError> =>
  Effect.tryPromise({
    try: async () => {
      const open = format === "openmetrics"
      const page = new Prom.Registry<Prom.RegistryContentType>()
      page.setContentType(open ? Prom.Registry.OPENMETRICS_CONTENT_TYPE : Prom.Registry.PROMETHEUS_CONTENT_TYPE)
      for (const family of await registry.getMetricsAsJSON()) {
        const renamed = registry.contentType === Prom.Registry.OPENMETRICS_CONTENT_TYPE
        // its types say it is a number of an enum; it is a string
        const type = String(family.type) as Published["type"]
        const name = type === "counter" ? counterName(family.name, open, renamed) : family.name
        const values = family.values as ReadonlyArray<Sample>
        publish(page, {
          name,
          help: family.help,
          type,
          samples: () => open ? values.map(withCanonicalBounds) : values
        })
      }
      return { contentType: page.contentType, body: await page.metrics() }
    },
    catch: (cause) => new MetricsError({ reason: "scrape", description: "a metric could not be read", cause })
  })

const counterName = (name: string, open: boolean, renamed: boolean): string => {
  const bare = name.replace(/_total$/, "")
  return open ? bare : renamed ? `${bare}_total` : name
}

/** OpenMetrics writes the bounds of buckets as floats. */
const withCanonicalBounds = (sample: Sample): Sample => {
  const { le } = sample.labels
  return typeof le === "number" && Number.isInteger(le)
    ? { ...sample, labels: { ...sample.labels, le: le.toFixed(1) } }
    : sample
}
