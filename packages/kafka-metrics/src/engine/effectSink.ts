/**
 * The same metrics as Effect's own.
 */
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricLabel from "effect/MetricLabel"
import { type Definition, definitions, type Name, names } from "../MetricDefinition.ts"
import type { GaugeSample, LabelValues, Sink } from "./recorder.ts"
import type { Settings } from "./settings.ts"

export interface EffectSink extends Sink {
  /** Sets the gauges. One that is no longer there becomes NaN, because Effect's registry forgets nothing. */
  readonly refresh: (gauges: ReadonlyArray<GaugeSample>) => void
}

type Update = (value: number, labels: ReadonlyArray<MetricLabel.MetricLabel>) => void

export const make = (settings: Settings): EffectSink => {
  const boundaries = MetricBoundaries.fromIterable(settings.buckets)
  const updates = new Map<Name, Update>(names.map((name) => {
    const { help, type }: Definition = definitions[name]
    const full = settings.prefix + name
    const metric = type === "counter"
      ? Metric.counter(full, { description: help, incremental: true })
      : type === "gauge"
      ? Metric.gauge(full, { description: help })
      : Metric.histogram(full, boundaries, help)
    return [name, (value, labels) => metric.unsafeUpdate(value, labels)]
  }))
  const defaults = Object.entries(settings.labels).map(([key, value]) => MetricLabel.make(key, value))
  const toLabels = (name: Name, values: LabelValues) => [
    ...defaults,
    ...definitions[name].labels.map((label, index) => MetricLabel.make(label, values[index] ?? ""))
  ]
  let before = new Map<string, GaugeSample>()
  return {
    count: (name, labels, by) => updates.get(name)?.(by, toLabels(name, labels)),
    observe: (name, labels, millis) => {
      const tags = toLabels(name, labels)
      const update = updates.get(name)
      for (const one of millis) update?.(one / 1000, tags)
    },
    refresh: (gauges) => {
      const now = new Map(gauges.map((one) => [[one.name, ...one.labels].join("\u0000"), one]))
      for (const [key, one] of before) {
        if (!now.has(key)) updates.get(one.name)?.(Number.NaN, toLabels(one.name, one.labels))
      }
      for (const one of gauges) updates.get(one.name)?.(one.value, toLabels(one.name, one.labels))
      before = now
    }
  }
}
