/**
 * Counters and histograms in memory: one object for each series, found once per event and not once per record.
 */
import { type Definition, definitions, type Name, names } from "../MetricDefinition.ts"
import type { GaugeSample, LabelValues, Sink } from "./recorder.ts"

/** A histogram's content. Counts are cumulative, one for each bound; `count` is that of the bound at infinity. */
export interface Distribution {
  readonly bounds: ReadonlyArray<number>
  readonly cumulative: ReadonlyArray<number>
  readonly sum: number
  readonly count: number
}

export interface Series {
  readonly labels: Readonly<Record<string, string>>
  readonly value: number | Distribution
}

export interface Family extends Definition {
  readonly name: Name
  readonly series: ReadonlyArray<Series>
}

class Histogram {
  readonly counts: Array<number>
  sum = 0
  count = 0
  constructor(buckets: number) {
    this.counts = Array.from({ length: buckets }, () => 0)
  }
}

interface Held<A> {
  readonly labels: LabelValues
  readonly value: A
}

export class Store implements Sink {
  private readonly counters = new Map<Name, Map<string, Held<{ sum: number }>>>()
  private readonly histograms = new Map<Name, Map<string, Held<Histogram>>>()
  private readonly buckets: ReadonlyArray<number>

  constructor(buckets: ReadonlyArray<number>) {
    this.buckets = buckets
  }

  readonly count: Sink["count"] = (name, labels, by) => {
    held(this.counters, name, labels, () => ({ sum: 0 })).sum += by
  }

  readonly observe: Sink["observe"] = (name, labels, millis) => {
    const { buckets } = this
    const histogram = held(this.histograms, name, labels, () => new Histogram(buckets.length))
    for (const one of millis) {
      const value = one / 1000
      histogram.sum += value
      histogram.count++
      let index = 0
      while (index < buckets.length && value > buckets[index]!) index++
      if (index < buckets.length) histogram.counts[index]!++
    }
  }

  /** Everything, in the order of the table. `gauges` are those of this moment. */
  families(gauges: ReadonlyArray<GaugeSample>): Array<Family> {
    const byName = new Map<Name, Array<GaugeSample>>()
    for (const one of gauges) {
      const same = byName.get(one.name)
      if (same === undefined) byName.set(one.name, [one])
      else same.push(one)
    }
    return names.map((name) => {
      const definition: Definition = definitions[name]
      const series: Array<Series> = []
      const add = (labels: LabelValues, value: Series["value"]) =>
        series.push({
          labels: Object.fromEntries(definition.labels.map((label, i) => [label, labels[i] ?? ""])),
          value
        })
      for (const one of byName.get(name) ?? []) add(one.labels, one.value)
      for (const one of this.counters.get(name)?.values() ?? []) add(one.labels, one.value.sum)
      for (const one of this.histograms.get(name)?.values() ?? []) add(one.labels, this.distribution(one.value))
      // without labels there is nothing to wait for: it is there from the start, at zero
      if (definition.type === "counter" && definition.labels.length === 0 && series.length === 0) add([], 0)
      return { ...definition, name, series }
    })
  }

  private distribution(histogram: Histogram): Distribution {
    let sum = 0
    const cumulative = histogram.counts.map((count) => sum += count)
    return { bounds: this.buckets, cumulative, sum: histogram.sum, count: histogram.count }
  }
}

const held = <A>(all: Map<Name, Map<string, Held<A>>>, name: Name, labels: LabelValues, make: () => A): A => {
  let series = all.get(name)
  if (series === undefined) all.set(name, series = new Map())
  const key = labels.join("\u0000")
  let found = series.get(key)
  if (found === undefined) series.set(key, found = { labels, value: make() })
  return found.value
}
