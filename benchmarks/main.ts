/**
 * How fast a topic is read and written: raw kafkajs and this library, on the same work with the same settings, in turns.
 *
 *     npm run bench -- --report                    a million records, 5 rounds, a dated report
 *     npm run bench -- --records 20000 --rounds 1 --only bytes
 */
import { Kafka, logLevel } from "kafkajs"
import { execFile } from "node:child_process"
import { mkdir, writeFile } from "node:fs/promises"
import * as os from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs, promisify } from "node:util"
import { startKafka } from "../scripts/kafka/index.ts"

const { values } = parseArgs({
  options: {
    records: { type: "string", default: "1000000" },
    partitions: { type: "string", default: "6" },
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    report: { type: "boolean", default: false }
  }
})
const records = Number(values.records)
const partitions = Number(values.partitions)
const rounds = Number(values.rounds)

/** What is compared with what: the first of each group is the measure. */
const groups: ReadonlyArray<{
  readonly name: string
  readonly contenders: ReadonlyArray<string>
  /** Which part of the records is enough for slow work. */
  readonly share?: number
}> = [
  { name: "bytes", contenders: ["kafkajs eachBatch, bytes", "Consumer.stream, Serde.bytes"] },
  { name: "json", contenders: ["kafkajs eachBatch, JSON by hand", "Consumer.stream, Serde.json"] },
  {
    name: "forEach",
    contenders: [
      "Stream.mapEffect, 16",
      "Consumer.forEach, partition, 16",
      "Consumer.forEach, key, 16",
      "Consumer.forEach, unordered, 16"
    ],
    share: 0.2
  },
  {
    name: "produce",
    contenders: ["kafkajs send, batches of 1,000", "Producer.sendAll, 1,000", "Producer.send, 1,000 fibers"],
    share: 0.3
  },
  {
    name: "single sends",
    contenders: ["kafkajs send, one record, 1,000 callers", "Producer.send, 1,000 fibers"],
    share: 0.05
  },
  {
    name: "lone sends",
    contenders: ["kafkajs send, one after the other", "Producer.send, one after the other"],
    share: 0.003
  }
].filter((group) => values.only === "" || values.only.split(",").includes(group.name))

interface Measured {
  readonly records: number
  readonly seconds: number
  readonly cpuSeconds: number
  readonly peakRssBytes: number
}

const load = async (brokers: ReadonlyArray<string>, topic: string): Promise<void> => {
  const kafka = new Kafka({ clientId: "load", brokers: [...brokers], logLevel: logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({
    topics: [topic, `${topic}-sink`].map((one) => ({ topic: one, numPartitions: partitions, replicationFactor: 1 }))
  })
  await admin.disconnect()
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await producer.connect()
  const note = "x".repeat(110)
  for (let sent = 0; sent < records;) {
    const count = Math.min(5000, records - sent)
    await producer.send({
      topic,
      acks: 1,
      messages: Array.from({ length: count }, (_, index) => ({
        key: `run-${(sent + index) % 1000}`,
        partition: (sent + index) % partitions,
        value: JSON.stringify({
          runId: `run-${(sent + index) % 1000}`,
          type: "ordered",
          barista: `barista-${index % 10}`,
          cups: index % 7,
          note
        })
      }))
    })
    sent += count
  }
  await producer.disconnect()
}

const worker = fileURLToPath(new URL("worker.ts", import.meta.url))
const run = promisify(execFile)
let group = 0

const measure = async (
  name: string,
  brokers: ReadonlyArray<string>,
  topic: string,
  records: number
): Promise<Measured> => {
  const work = {
    brokers,
    topic,
    groupId: `bench-${process.pid}-${group++}`,
    records,
    warmUp: Math.max(1000, Math.floor(records / 5000) * 1000)
  }
  const { stdout } = await run(
    process.execPath,
    ["--conditions=@coffeebuddy/source", "--import", "tsx", worker, name, JSON.stringify(work)],
    { timeout: 300_000 }
  )
  return JSON.parse(stdout.trim().split("\n").at(-1)!) as Measured
}

const median = (numbers: ReadonlyArray<number>): number => {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const thousands = (rate: number): string => rate < 20 ? rate.toFixed(2) : String(Math.round(rate))

const configured = process.env["KAFKA_BOOTSTRAP_SERVERS"]
const cluster = configured === undefined ? await startKafka() : undefined
const brokers = (configured ?? cluster!.bootstrapServers).split(",")
const topic = `bench-${Date.now()}`
const sink = `${topic}-sink`
try {
  console.error(`loading ${records} records into ${partitions} partitions`)
  await load(brokers, topic)
  const lines: Array<string> = []
  for (const { contenders, name, share = 1 } of groups) {
    const wanted = Math.max(1000, Math.floor((records * share) / 1000) * 1000)
    const measured = new Map<string, Array<Measured>>(contenders.map((contender) => [contender, []]))
    for (let round = 0; round < rounds; round++) {
      // in turns, and each goes first as often as the others
      for (let i = 0; i < contenders.length; i++) {
        const contender = contenders[(i + round) % contenders.length]!
        const result = await measure(
          contender,
          brokers,
          name.endsWith("sends") || name === "produce" ? sink : topic,
          wanted
        )
        measured.get(contender)!.push(result)
        console.error(
          `${name} ${round + 1}/${rounds} ${contender}: ${thousands(result.records / result.seconds / 1000)} thousand/s`
        )
      }
    }
    const rates = (contender: string) => measured.get(contender)!.map((one) => one.records / one.seconds / 1000)
    const base = rates(contenders[0]!)
    lines.push(
      `\n### ${name}\n`,
      "| | thousand/s, median (min–max) | ratio to the first, median of rounds | CPU s | peak RSS MB |",
      "| --- | --- | --- | --- | --- |"
    )
    for (const contender of contenders) {
      const own = rates(contender)
      const all = measured.get(contender)!
      lines.push(
        `| ${
          [
            contender,
            `${thousands(median(own))} (${thousands(Math.min(...own))}–${thousands(Math.max(...own))})`,
            median(own.map((rate, round) => rate / base[round]!)).toFixed(2),
            median(all.map((one) => one.cpuSeconds)).toFixed(2),
            Math.round(median(all.map((one) => one.peakRssBytes)) / 1e6)
          ].join(" | ")
        } |`
      )
    }
  }
  const date = new Date().toISOString().slice(0, 10)
  const cpus = os.cpus()
  const report = [
    `# Benchmarks, ${date}`,
    "",
    `${records} records of about 200 bytes over ${partitions} partitions, ${rounds} rounds in turns, each contender in a process of its own with a warm-up of a fifth. Node ${process.version}, ${cpus.length} × ${
      cpus[0]?.model ?? "unknown CPU"
    }, broker on the same machine${cluster === undefined ? "" : `, Kafka ${cluster.version}`}.`,
    ...lines,
    ""
  ].join("\n")
  console.log(report)
  if (values.report) {
    const directory = fileURLToPath(new URL("reports/", import.meta.url))
    await mkdir(directory, { recursive: true })
    await writeFile(`${directory}${date}.md`, report)
  }
} finally {
  await cluster?.close()
}
