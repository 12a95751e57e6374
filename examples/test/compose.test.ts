/**
 * `compose.yaml`, for those with a container engine: there is none here, so it is read and held against what it names.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import { fileURLToPath } from "node:url"
import { parse } from "yaml"
import { parse as parseArguments } from "../run-events/settings.ts"

const root = fileURLToPath(new URL("../../", import.meta.url))
const read = (path: string): unknown => parse(Fs.readFileSync(`${root}${path}`, "utf8"))

interface Service {
  readonly image: string
  readonly profiles?: ReadonlyArray<string>
  readonly ports?: ReadonlyArray<string>
  readonly volumes?: ReadonlyArray<string>
  readonly command?: ReadonlyArray<string>
  readonly environment?: Readonly<Record<string, string | number>>
  readonly depends_on?: Readonly<Record<string, unknown>>
}

const compose = read("compose.yaml") as {
  readonly services: Readonly<Record<"kafka" | "example" | "prometheus" | "grafana", Service>>
  readonly volumes: Readonly<Record<string, unknown>>
}
const { example, grafana, kafka, prometheus } = compose.services

/** The mounts of a service: what is mounted, by the place where it is. */
const mounts = ({ volumes = [] }: Service): ReadonlyMap<string, string> =>
  new Map(volumes.map((volume) => {
    const [source, target] = volume.split(":")
    return [target!, source!]
  }))

/** The file of this repository that a service finds at a place. */
const mounted = (service: Service, place: string): string => {
  const source = mounts(service).get(place)
  assert(source !== undefined, `nothing is mounted at ${place}`)
  return source.replace(/^\.\//, "")
}

const scraping = read(mounted(prometheus, "/etc/prometheus/prometheus.yml")) as {
  readonly rule_files: ReadonlyArray<string>
  readonly scrape_configs: ReadonlyArray<{
    readonly metrics_path?: string
    readonly static_configs: ReadonlyArray<{ readonly targets: ReadonlyArray<string> }>
  }>
}

describe("compose.yaml", () => {
  it("is Kafka alone, unless watching is asked for", () => {
    assert.deepStrictEqual(Object.entries(compose.services).map(([name, { profiles = [] }]) => [name, profiles]), [
      ["kafka", []],
      ["example", ["watch"]],
      ["prometheus", ["watch"]],
      ["grafana", ["watch"]]
    ])
  })

  it("names only files that are there, and volumes that it has", () => {
    for (const service of Object.values(compose.services)) {
      for (const source of mounts(service).values()) {
        if (source.startsWith(".")) assert.isTrue(Fs.existsSync(root + source), source)
        else assert.property(compose.volumes, source)
      }
      for (const needed of Object.keys(service.depends_on ?? {})) assert.property(compose.services, needed)
    }
  })

  it("gives each service a port of its own", () => {
    const ports = Object.values(compose.services).flatMap(({ ports = [] }) => ports.map((one) => one.split(":")[0]))
    assert.strictEqual(new Set(ports).size, ports.length)
    assert.includeMembers(ports, ["9092", "9464", "9090", "3000"])
  })

  it.effect("Prometheus scrapes where the example serves, which reads from this Kafka", () =>
    Effect.gen(function*() {
      const command = example.command?.at(-1) ?? ""
      const { "metrics-port": port } = yield* parseArguments(command.split(" npm start -- ")[1]!.split(" "))
      assert.deepStrictEqual(
        scraping.scrape_configs.map((job) => [job.metrics_path ?? "/metrics", job.static_configs]),
        [["/metrics", [{ targets: [`example:${port}`] }]]]
      )
      const brokers = String(example.environment?.["KAFKA_BOOTSTRAP_SERVERS"])
      assert.include(String(kafka.environment?.["KAFKA_ADVERTISED_LISTENERS"]), `INTERNAL://${brokers}`)
    }))

  it("Prometheus has the alert rules, and Grafana the dashboard and where to ask", () => {
    for (const file of scraping.rule_files) {
      const rules = read(mounted(prometheus, file)) as { readonly groups: ReadonlyArray<{ readonly name: string }> }
      assert.deepStrictEqual(rules.groups.map(({ name }) => name), ["coffeebuddy-kafka"])
    }
    const provisioning = "/etc/grafana/provisioning"
    const sources = read(mounted(grafana, `${provisioning}/datasources/datasources.yml`)) as {
      readonly datasources: ReadonlyArray<{ readonly type: string; readonly url: string }>
    }
    assert.deepInclude(sources.datasources[0], { type: "prometheus", url: "http://prometheus:9090" })
    const { providers: [provider] } = read(mounted(grafana, `${provisioning}/dashboards/dashboards.yml`)) as {
      readonly providers: ReadonlyArray<{ readonly options: { readonly path: string } }>
    }
    const dashboard = mounted(grafana, `${provider?.options.path}/kafka.json`)
    assert.strictEqual(
      grafana.environment?.["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"],
      `${provider?.options.path}/kafka.json`
    )
    assert.isArray((JSON.parse(Fs.readFileSync(root + dashboard, "utf8")) as { readonly panels: unknown }).panels)
  })
})
