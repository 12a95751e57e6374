/**
 * Everything a user would pick, on the same work with the same settings, in turns.
 *
 *     npm run bench                                 everything, with a report
 *     npm run bench -- --only bytes,json            some of it
 *     npm run bench -- --with KafkaJs               some contenders, beside the first of each bench
 *     npm run bench -- --short                      does everything run? No time is looked at
 */
import { execFile } from "node:child_process"
import { mkdir, writeFile } from "node:fs/promises"
import * as os from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs, promisify } from "node:util"
import { startKafka } from "../scripts/kafka/index.ts"
import { withUsage } from "../scripts/usage.ts"
import { chart } from "./harness/chart.ts"
import { type Bench, type Contender, type Measured, Unavailable } from "./harness/model.ts"
import { measure } from "./harness/processes.ts"
import { type Compared, type Outcome, ratio, section } from "./harness/report.ts"
import { load, sinkOf } from "./harness/topics.ts"
import { benches } from "./works/index.ts"

const values = withUsage(import.meta.url, () =>
  parseArgs({
    options: {
      records: { type: "string" },
      rounds: { type: "string" },
      /** Names of benches, or how they begin, with commas between them. */
      only: { type: "string", default: "" },
      /** Parts of contenders' names, likewise. The first of a bench, which is the measure of the others, always runs. */
      with: { type: "string", default: "" },
      short: { type: "boolean", default: false },
      report: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h" }
    }
  }))
const records = Number(values.records ?? (values.short ? 2000 : 1_000_000))
const rounds = Number(values.rounds ?? (values.short ? 1 : 5))
const names = (list: string) => list.split(",").map((name) => name.trim()).filter((name) => name !== "")
const wanted = names(values.only)
const parts = names(values.with)
const chosen = benches.filter(({ name }) => wanted.length === 0 || wanted.some((begin) => name.startsWith(begin))).map(
  (bench): Bench => ({
    ...bench,
    contenders: bench.contenders.filter(({ name }, i) =>
      i === 0 || parts.length === 0 || parts.some((part) => name.includes(part))
    )
  })
)
if (chosen.length === 0) {
  console.error(`There is no such bench. There are: ${benches.map(({ name }) => name).join(", ")}`)
  process.exit(2)
}
if (values.list) {
  for (const { contenders, name } of chosen) console.log(`${name}: ${contenders.map(({ name }) => name).join("; ")}`)
  process.exit(0)
}

const root = fileURLToPath(new URL("..", import.meta.url))
console.error("building the packages: what is measured is what users get")
await promisify(execFile)("npm", ["run", "build"], { cwd: root })

const configured = process.env["KAFKA_BOOTSTRAP_SERVERS"]
const cluster = configured === undefined ? await startKafka() : undefined
const brokers = (configured ?? cluster!.bootstrapServers).split(",")
const id = `bench-${Date.now().toString(36)}`

const topics = new Map<string, Promise<string>>()
/** One topic for all benches of a shape. */
const topicOf = (partitions: number, bytes: number): Promise<string> => {
  // no more than a gigabyte of a kind, and never more than is asked for
  const count = Math.max(partitions, Math.min(records, Math.ceil(1_000_000_000 / bytes)))
  const topic = `${id}-${partitions}x${bytes}`
  const made = topics.get(topic) ?? (async () => {
    console.error(`loading ${count} records of ${bytes} bytes into ${partitions} partitions`)
    await load(brokers, topic, { partitions, bytes, records: count })
    return topic
  })()
  topics.set(topic, made)
  return made
}

let groups = 0
const once = async (bench: Bench, contender: Contender): Promise<Measured> => {
  const partitions = bench.partitions ?? 6
  const bytes = bench.bytes ?? 190
  const topic = await topicOf(partitions, bytes)
  const most = Math.min(records, Math.ceil(1_000_000_000 / bytes))
  const count = Math.max(Math.min(most, 1000), Math.floor(most * (bench.share ?? 1)))
  return measure(contender, {
    brokers,
    topic,
    sink: sinkOf(topic),
    groupId: `${id}-${groups++}`,
    partitions,
    bytes,
    records: count,
    warmUp: values.short || bench.compares === "seconds" || bench.compares === "memory" ? 0 : count,
    parameters: {}
  }, 300_000)
}

const compare = async (bench: Bench): Promise<Compared> => {
  const outcomes = new Map<string, Outcome>(
    bench.contenders.map(({ name }) => [name, { _tag: "Ran", rounds: [] }])
  )
  for (let round = 0; round < rounds; round++) {
    // in turns, and each goes first as often as the others
    for (let i = 0; i < bench.contenders.length; i++) {
      const contender = bench.contenders[(i + round) % bench.contenders.length]!
      const before = outcomes.get(contender.name)!
      if (before._tag !== "Ran") continue
      try {
        const measured = await once(bench, contender)
        outcomes.set(contender.name, { _tag: "Ran", rounds: [...before.rounds, measured] })
        console.error(
          `${bench.name} ${round + 1}/${rounds} ${contender.name}: ${
            measured.percentiles === undefined
              ? `${(measured.records / measured.seconds / 1000).toPrecision(3)} thousand/s`
              : `p99 ${measured.percentiles.p99.toPrecision(3)} ms`
          }`
        )
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        outcomes.set(contender.name, { _tag: error instanceof Unavailable ? "Unavailable" : "Failed", reason })
        console.error(`${bench.name} ${contender.name} did not run: ${reason}`)
      }
    }
  }
  return { bench, outcomes: [...outcomes] }
}

const commit = async (): Promise<string> => {
  const { stdout } = await promisify(execFile)("git", ["describe", "--always", "--dirty"]).catch(() => ({
    stdout: "unknown"
  }))
  return stdout.trim()
}

const head = async (load: number): Promise<ReadonlyArray<string>> => {
  const cpus = os.cpus()
  return [
    `# Benchmarks, ${new Date().toISOString().slice(0, 10)}`,
    "",
    `- Machine: ${cpus.length} × ${cpus[0]?.model ?? "unknown CPU"}, ${
      Math.round(os.totalmem() / 2 ** 30)
    } GiB, the broker on the same machine; load average ${load.toFixed(1)} before the start.`,
    `- Versions: Node ${process.version}, Kafka ${cluster?.version ?? "as configured"}, commit ${await commit()}.`,
    `- Up to ${records} records, ${rounds} ${
      rounds === 1 ? "round" : "rounds"
    } in turns, each contender in a process of its own with a warm-up of the same length. A ratio is the median of the ratios of each round.`
  ]
}

let failed = 0
try {
  const opening = await head(os.loadavg()[0]!)
  const all: Array<Compared> = []
  for (const bench of chosen) all.push(await compare(bench))
  const date = new Date().toISOString().slice(0, 10)
  const pictured = values.report ? ["", `![Ratios to the first of each](${date}.svg)`] : []
  const report = [...opening, ...pictured, "", all.map(section).join("\n\n"), ""].join("\n")
  console.log(report)
  if (values.report) {
    const directory = fileURLToPath(new URL("reports/", import.meta.url))
    await mkdir(directory, { recursive: true })
    await writeFile(`${directory}${date}.md`, report)
    await writeFile(`${directory}${date}.svg`, chart(all, `Ratios to the first of each, ${date}`))
  }
  for (const compared of all) {
    for (const [contender, outcome] of compared.outcomes) {
      if (outcome._tag === "Unavailable") console.error(`could not run here: ${contender}: ${outcome.reason}`)
      if (outcome._tag === "Failed" || (outcome._tag === "Ran" && ratio(compared, outcome) === undefined)) {
        if (compared.bench.contenders.find(({ name }) => name === contender)?.foreign !== true) failed++
        console.error(
          `FAILED ${compared.bench.name}, ${contender}${outcome._tag === "Failed" ? `: ${outcome.reason}` : ""}`
        )
      }
    }
  }
} finally {
  await cluster?.close()
  await promisify(execFile)(process.execPath, ["scripts/clean.mjs"], { cwd: root })
}
process.exitCode = failed === 0 ? 0 : 1
