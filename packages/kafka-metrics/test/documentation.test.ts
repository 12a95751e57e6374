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

/** The names in an expression of PromQL that are not its functions, keywords or labels. */
const metricsIn = (expression: string): ReadonlyArray<string> => {
  const bare = expression.replaceAll(/"[^"]*"/g, "").replaceAll(/\{[^}]*\}|\[[^\]]*\]/g, "")
    .replaceAll(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, "")
  return [...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\w*\s*\()/g)].map(([name]) => name)
    .filter((name) => !["and", "or", "unless", "bool"].includes(name))
}

/** The labels that an expression asks for or groups by. */
const labelsIn = (expression: string): ReadonlyArray<string> => [
  ...[...expression.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map(([, label]) => label!),
  ...[...expression.matchAll(/\bby\s*\(([^)]*)\)/g)].flatMap(([, list]) => list!.split(",").map((one) => one.trim()))
]

const series = new Map(MetricDefinition.names.flatMap((name): ReadonlyArray<[string, ReadonlyArray<string>]> => {
  const { labels, type }: MetricDefinition.Definition = MetricDefinition.definitions[name]
  return type === "histogram"
    ? ["_bucket", "_sum", "_count"].map((part) => [`kafka_${name}${part}`, [...labels, "le"]])
    : [[`kafka_${name}`, labels]]
}))

/** What in an expression does not exist. */
const unknownIn = (expression: string): ReadonlyArray<string> => {
  const metrics = metricsIn(expression)
  const labels = new Set(metrics.flatMap((name) => series.get(name) ?? []))
  return [...metrics.filter((name) => !series.has(name)), ...labelsIn(expression).filter((label) => !labels.has(label))]
}

describe("dashboards and alerts", () => {
  const dashboard = JSON.parse(read("dashboards/kafka.json")) as {
    readonly panels: ReadonlyArray<{
      readonly id: number
      readonly title: string
      readonly targets?: ReadonlyArray<{ readonly expr: string }>
    }>
    readonly templating: { readonly list: ReadonlyArray<{ readonly query: string | { readonly query: string } }> }
  }
  const alerts = read("dashboards/alerts.yml")
  const rules = [...alerts.matchAll(/- alert: (\w+)\n +expr: (.*)\n/g)].map(([, name, expr]) => ({
    name: name!,
    expr: expr!
  }))

  it("this check finds what does not exist", () => {
    expect(unknownIn("sum by (group) (rate(kafka_consumer_records_total{topic=~\"a\"}[5m])) > 0 or vector(0)")).toEqual(
      []
    )
    expect(unknownIn("max(kafka_consumer_lag)")).toEqual(["kafka_consumer_lag"])
    expect(unknownIn("sum by (member) (kafka_consumer_up{topic=\"a\"})")).toEqual(["topic", "member"])
    expect(unknownIn("rate(kafka_consumer_commit_duration_seconds[5m])")).toHaveLength(1)
  })

  it("every panel of the dashboard shows what is exported", () => {
    const targets = dashboard.panels.flatMap(({ targets = [], title }) => targets.map(({ expr }) => ({ title, expr })))
    expect(targets.length).toBeGreaterThan(20)
    // `instance` is Prometheus' own
    expect(targets.filter(({ expr }) => unknownIn(expr).length > 0)).toEqual([])
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
  })

  it("every variable of the dashboard asks for what is exported", () => {
    const queries = dashboard.templating.list.map(({ query }) => typeof query === "string" ? "" : query.query)
    const mentioned = queries.flatMap((query) => [...query.matchAll(/kafka_\w+/g)].map(([name]) => name))
    expect(mentioned.length).toBeGreaterThan(0)
    expect(mentioned.filter((name) => !series.has(name))).toEqual([])
  })

  it("every alert is on what is exported", () => {
    expect(rules.length).toBe(alerts.match(/- alert:/g)?.length)
    expect(rules.filter(({ expr }) => unknownIn(expr).length > 0)).toEqual([])
    for (const name of ["LagGrowing", "NoProgress", "RebalanceStorm", "DeadLetters", "CommitFailures"]) {
      expect(rules.some((rule) => rule.name.endsWith(name))).toBe(true)
    }
  })

  it("an alert's text names only labels that its expression leaves", () => {
    const kept = rules.map(({ expr, name }) => {
      const text = alerts.slice(alerts.indexOf(`- alert: ${name}\n`)).split("- alert:")[1]!
      const named = [...text.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label!)
      const by = [...expr.matchAll(/\bby\s*\(([^)]*)\)/g)].flatMap(([, list]) =>
        list!.split(",").map((one) => one.trim())
      )
      const left = by.length > 0 ? by : metricsIn(expr).flatMap((metric) => series.get(metric) ?? [])
      return { name, missing: named.filter((label) => !left.includes(label)) }
    })
    expect(kept.filter(({ missing }) => missing.length > 0)).toEqual([])
  })
})
