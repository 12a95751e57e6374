/**
 * What is written about the metrics, in docs and dashboards, is what is exported.
 */
import { KafkaMetrics, MetricDefinition } from "@coffeebuddy/kafka-metrics"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"

const read = (path: string): string => Fs.readFileSync(new URL(`../${path}`, import.meta.url), "utf8")

const exported = Effect.gen(function*() {
  const metrics = yield* KafkaMetrics.KafkaMetrics
  const { body } = yield* metrics.render("prometheus")
  return [...body.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)$/gm)].map(([, name, help, type]) => ({
    name,
    help,
    type
  }))
}).pipe(Effect.provide(KafkaMetrics.layerPrometheus()))

describe("docs/metrics.md", () => {
  const rows = [...read("../../docs/metrics.md").matchAll(/^\| `(kafka_\w+)` *\| (.*) \|$/gm)].map(([, name, rest]) => {
    const [type, unit, labels, help] = rest!.split("|").map((cell) => cell.trim())
    return { name: name!, type, unit, labels: [...labels!.matchAll(/`(\w+)`/g)].map(([, label]) => label), help }
  })

  it.effect("has each metric that is exported, with its type and meaning, and no other", () =>
    Effect.gen(function*() {
      expect(rows.map(({ help, name, type }) => ({ name, help, type }))).toEqual(yield* exported)
    }))

  it("has the labels and units of each metric", () => {
    const table = MetricDefinition.names.map((name) => {
      const { labels, unit } = MetricDefinition.definitions[name]
      return { name: `kafka_${name}`, unit, labels }
    })
    expect(rows.map(({ labels, name, unit }) => ({ name, unit, labels }))).toEqual(table)
  })
})

describe("the table", () => {
  it("follows Prometheus' conventions", () => {
    for (const name of MetricDefinition.names) {
      const { help, labels, type, unit }: MetricDefinition.Definition = MetricDefinition.definitions[name]
      expect(name).toMatch(/^[a-z][a-z_]*$/)
      expect([name, name.endsWith("_total")]).toEqual([name, type === "counter"])
      expect([name, unit]).toEqual([name, /_(seconds|bytes)(?=_|$)/.exec(name)?.[1] ?? unit])
      expect(labels).not.toContain("le")
      expect(help).toMatch(/^\S.*[^.]$/)
    }
  })
})
