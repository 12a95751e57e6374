/**
 * Kafka's own command line tools, run from the broker's jars, with their output read. Kafka 4 has some of them in
 * other packages than Kafka 3.
 */
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import type { KafkaBroker } from "./broker.ts"
import type { Distribution } from "./distribution.ts"
import { KafkaFailure } from "./errors.ts"
import { type JavaTarget, shortLivedJvm } from "./java.ts"
import { run } from "./process.ts"

const classes = {
  "kafka-acls": { 3: "kafka.admin.AclCommand", 4: "org.apache.kafka.tools.AclCommand" },
  "kafka-configs": "kafka.admin.ConfigCommand",
  "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
  "kafka-console-producer": { 3: "kafka.tools.ConsoleProducer", 4: "org.apache.kafka.tools.ConsoleProducer" },
  "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
  "kafka-consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
  "kafka-dump-log": "kafka.tools.DumpLogSegments",
  "kafka-get-offsets": "org.apache.kafka.tools.GetOffsetShell",
  "kafka-producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
  "kafka-topics": "org.apache.kafka.tools.TopicCommand",
  "kafka-transactions": "org.apache.kafka.tools.TransactionsCommand"
} as const

/** The tools, by the names of their scripts in Kafka's distribution. */
export type KafkaTool = keyof typeof classes

const classOf = (distribution: Distribution, tool: KafkaTool): string => {
  const found = classes[tool]
  return typeof found === "string" ? found : found[distribution.version.startsWith("3.") ? 3 : 4]
}

/**
 * Runs a tool with arguments as on the command line, and answers with its standard output. Rejects with `KafkaFailure`
 * when it does not end well.
 */
export const runTool = async (
  distribution: Distribution,
  tool: KafkaTool,
  args: ReadonlyArray<string>,
  options: {
    readonly input?: string | undefined
    /** `"short"` (by default) starts quickly; `"full"` has both compilers and a large heap, for measuring. */
    readonly jvm?: "short" | "full" | undefined
  } = {}
): Promise<string> => {
  const jvm = options.jvm === "full" ?
    ["-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", distribution.classPath] :
    await shortLivedJvm(distribution)
  const done = await run(distribution.java, [...jvm, classOf(distribution, tool), ...args], { input: options.input })
  // The console producer ends with 0 even when every record was refused.
  if (done.code !== 0 || /^\[.*\] ERROR /m.test(done.stderr)) {
    throw new KafkaFailure(`${tool} ended with code ${done.code}:\n${done.stdout}${done.stderr}`)
  }
  return done.stdout
}

/** The rows of a table in a tool's output, by its headings; lines before the table are passed over. */
export const table = (
  output: string,
  firstHeading: string
): ReadonlyArray<Readonly<Record<string, string>>> => {
  const lines = output.split("\n").map((line) => line.trim().split(/\s+/))
  const at = lines.findIndex((cells) => cells[0] === firstHeading)
  const headings = lines[at]
  if (headings === undefined) return []
  return lines.slice(at + 1)
    .filter((cells) => cells.length >= headings.length)
    .map((cells) => Object.fromEntries(headings.map((heading, index) => [heading, cells[index]!])))
}

/** A topic with its partitions. */
export interface TopicDescription {
  readonly configs: Readonly<Record<string, string>>
  readonly partitions: ReadonlyArray<{
    readonly partition: number
    /** The node id, `undefined` while there is none. */
    readonly leader: number | undefined
    readonly replicas: ReadonlyArray<number>
    readonly inSync: ReadonlyArray<number>
  }>
}

/** Where a group is in one partition. */
export interface GroupPosition {
  readonly topic: string
  readonly partition: number
  /** `undefined` where nothing is committed. */
  readonly committed: bigint | undefined
  readonly end: bigint
  readonly lag: bigint | undefined
  /** Of the member that has the partition, `undefined` where none has it. */
  readonly memberId: string | undefined
  readonly clientId: string | undefined
}

/** A record of the console tools, whose parts are text. */
export interface ConsoleRecord {
  readonly key: string | null
  readonly value: string | null
  readonly headers: ReadonlyArray<readonly [name: string, value: string | null]>
}

/** A record as the console consumer prints it. */
export interface ConsoleConsumerRecord extends ConsoleRecord {
  readonly partition: number
  readonly offset: bigint
  readonly timestamp: bigint
  readonly timestampType: "CreateTime" | "LogAppendTime" | "NoTimestampType"
}

/** What a performance test measured. */
export interface Performance {
  readonly records: number
  readonly recordsPerSecond: number
  readonly megabytesPerSecond: number
}

/** What no text in a test is likely to have in it. */
const marks = { field: "\u001f", header: "\u001d", nothing: "\u001c", record: "\u001e\n" } as const

/** The tools against one cluster. */
export const javaTools = (target: JavaTarget) => {
  const { bootstrapServers, distribution } = target
  const clientProperties = Object.entries(target.clientProperties ?? {})
  const at = ["--bootstrap-server", bootstrapServers]

  /** Some tools take a client's settings only from a file. */
  const withConfigFile = async <A>(option: string, use: (args: ReadonlyArray<string>) => Promise<A>): Promise<A> => {
    if (clientProperties.length === 0) return use([])
    const directory = await fs.mkdtemp(path.join(os.tmpdir(), "coffeebuddy-kafka-tool-"))
    try {
      const file = path.join(directory, "client.properties")
      await fs.writeFile(file, clientProperties.map(([key, value]) => `${key}=${value}\n`).join(""))
      return await use([option, file])
    } finally {
      await fs.rm(directory, { recursive: true, force: true })
    }
  }

  /** Runs an administrative tool with the address and the settings of this cluster. */
  const admin = (tool: KafkaTool, args: ReadonlyArray<string>): Promise<string> =>
    withConfigFile("--command-config", (config) => runTool(distribution, tool, [...at, ...config, ...args]))

  const describeTopic = async (topic: string): Promise<TopicDescription> => {
    const output = await admin("kafka-topics", ["--describe", "--topic", topic])
    const fields = output.split("\n").map((line) =>
      Object.fromEntries(
        line.trim().split("\t").map((field) => /^(\w+):\s*(.*)$/.exec(field)).filter((found) => found !== null)
          .map(([, name, value]) => [name!, value!])
      )
    )
    const numbers = (text = ""): ReadonlyArray<number> => text.split(",").filter((_) => _.trim() !== "").map(Number)
    return {
      configs: Object.fromEntries(
        (fields.find((_) => _["Configs"] !== undefined)?.["Configs"] ?? "").split(/,(?=[\w.]+=)/)
          .filter((_) => _.includes("="))
          .map((setting) => [setting.slice(0, setting.indexOf("=")), setting.slice(setting.indexOf("=") + 1)])
      ),
      partitions: fields.filter((_) => _["Partition"] !== undefined).map((_) => ({
        partition: Number(_["Partition"]),
        leader: /^\d+$/.test(_["Leader"] ?? "") ? Number(_["Leader"]) : undefined,
        replicas: numbers(_["Replicas"]),
        inSync: numbers(_["Isr"])
      }))
    }
  }

  const describeGroup = async (groupId: string): Promise<ReadonlyArray<GroupPosition>> => {
    const output = await admin("kafka-consumer-groups", ["--describe", "--group", groupId])
    const known = (text: string | undefined): string | undefined => text === "-" ? undefined : text
    const count = (text: string | undefined): bigint | undefined => {
      const found = known(text)
      return found === undefined ? undefined : BigInt(found)
    }
    return table(output, "GROUP").map((row) => ({
      topic: row["TOPIC"]!,
      partition: Number(row["PARTITION"]),
      committed: count(row["CURRENT-OFFSET"]),
      end: count(row["LOG-END-OFFSET"]) ?? 0n,
      lag: count(row["LAG"]),
      memberId: known(row["CONSUMER-ID"]),
      clientId: known(row["CLIENT-ID"])
    }))
  }

  const consoleProduce = async (topic: string, records: ReadonlyArray<ConsoleRecord>): Promise<void> => {
    const lines = records.map(({ headers, key, value }) =>
      [
        headers.length === 0
          ? marks.nothing
          : headers.map(([name, text]) => `${name}:${text ?? marks.nothing}`).join(marks.header),
        key ?? marks.nothing,
        value ?? marks.nothing
      ].join(marks.field)
    )
    const properties = {
      "parse.key": "true",
      "key.separator": marks.field,
      "parse.headers": "true",
      "headers.delimiter": marks.field,
      "headers.separator": marks.header,
      "headers.key.separator": ":",
      "null.marker": marks.nothing
    }
    await runTool(distribution, "kafka-console-producer", [
      ...at,
      ...["--topic", topic],
      ...Object.entries(properties).flatMap(([key, value]) => ["--property", `${key}=${value}`]),
      ...clientProperties.flatMap(([key, value]) => ["--producer-property", `${key}=${value}`])
    ], { input: lines.map((line) => `${line}\n`).join("") })
  }

  const consoleConsume = async (topic: string, options: {
    /** It reads from the beginning and ends after so many. */
    readonly records: number
    /** It gives up, with what it has, when nothing comes for so long; 10 seconds by default. */
    readonly timeoutMs?: number | undefined
    readonly isolationLevel?: "read_committed" | "read_uncommitted" | undefined
  }): Promise<ReadonlyArray<ConsoleConsumerRecord>> => {
    const properties = {
      "print.timestamp": "true",
      "print.partition": "true",
      "print.offset": "true",
      "print.headers": "true",
      "print.key": "true",
      "print.value": "true",
      "key.separator": marks.field,
      "line.separator": marks.record,
      "headers.separator": marks.header,
      "null.literal": marks.nothing
    }
    const output = await runTool(distribution, "kafka-console-consumer", [
      ...at,
      ...["--topic", topic, "--from-beginning", "--max-messages", String(options.records)],
      ...["--timeout-ms", String(options.timeoutMs ?? 10_000)],
      ...["--isolation-level", options.isolationLevel ?? "read_uncommitted"],
      ...Object.entries(properties).flatMap(([key, value]) => ["--property", `${key}=${value}`]),
      ...clientProperties.flatMap(([key, value]) => ["--consumer-property", `${key}=${value}`])
    ])
    const orNull = (text: string): string | null => text === marks.nothing ? null : text
    return output.split(marks.record).filter((line) => line.includes(marks.field)).map((line) => {
      const [timestamp, partition, offset, headers, key, value] = line.split(marks.field) as [
        string,
        string,
        string,
        string,
        string,
        string
      ]
      const [timestampType, time] = timestamp.split(":") as [ConsoleConsumerRecord["timestampType"], string | undefined]
      return {
        timestampType,
        timestamp: BigInt(time ?? -1),
        partition: Number(partition.replace("Partition:", "")),
        offset: BigInt(offset.replace("Offset:", "")),
        headers: headers === "NO_HEADERS" ? [] : headers.split(marks.header).map((header) => {
          const at = header.indexOf(":")
          return [header.slice(0, at), orNull(header.slice(at + 1))] as const
        }),
        key: orNull(key),
        value: orNull(value)
      }
    })
  }

  const perfProduce = async (options: {
    readonly topic: string
    readonly records: number
    /** In bytes. */
    readonly recordSize: number
    readonly properties?: Readonly<Record<string, string>> | undefined
    readonly jvm?: "short" | "full" | undefined
  }): Promise<Performance & { readonly averageLatencyMs: number; readonly maxLatencyMs: number }> => {
    const properties = { "bootstrap.servers": bootstrapServers, ...options.properties }
    const output = await withConfigFile(
      "--producer.config",
      (config) =>
        runTool(distribution, "kafka-producer-perf-test", [
          ...config,
          ...["--topic", options.topic, "--num-records", String(options.records)],
          ...["--record-size", String(options.recordSize), "--throughput", "-1"],
          ...["--producer-props", ...Object.entries(properties).map(([key, value]) => `${key}=${value}`)]
        ], { jvm: options.jvm })
    )
    const last = output.trimEnd().split("\n").findLast((line) => line.includes("50th")) ?? ""
    const found =
      /^(\d+) records sent, ([\d.]+) records\/sec \(([\d.]+) MB\/sec\), ([\d.]+) ms avg latency, ([\d.]+) ms max/.exec(
        last
      )
    if (found === null) throw new KafkaFailure(`kafka-producer-perf-test said what is not understood:\n${output}`)
    const [records, recordsPerSecond, megabytesPerSecond, averageLatencyMs, maxLatencyMs] = found.slice(1).map(Number)
    return {
      records: records!,
      recordsPerSecond: recordsPerSecond!,
      megabytesPerSecond: megabytesPerSecond!,
      averageLatencyMs: averageLatencyMs!,
      maxLatencyMs: maxLatencyMs!
    }
  }

  const perfConsume = async (options: {
    readonly topic: string
    readonly records: number
    readonly groupId?: string | undefined
    readonly jvm?: "short" | "full" | undefined
  }): Promise<
    Performance & { /** Without the time that joining the group took. */ readonly fetchRecordsPerSecond: number }
  > => {
    const output = await withConfigFile(
      "--consumer.config",
      (config) =>
        runTool(distribution, "kafka-consumer-perf-test", [
          ...at,
          ...config,
          ...["--topic", options.topic, "--messages", String(options.records)],
          ...(options.groupId === undefined ? [] : ["--group", options.groupId])
        ], { jvm: options.jvm })
    )
    const [headings, values] = output.split("\n").filter((line) => line.includes(", ")).slice(-2)
      .map((line) => line.split(",").map((cell) => cell.trim()))
    const value = (heading: string): number => Number(values?.[headings?.indexOf(heading) ?? -1])
    const measured = {
      records: value("data.consumed.in.nMsg"),
      recordsPerSecond: value("nMsg.sec"),
      megabytesPerSecond: value("MB.sec"),
      fetchRecordsPerSecond: value("fetch.nMsg.sec")
    }
    if (Object.values(measured).some(Number.isNaN)) {
      throw new KafkaFailure(`kafka-consumer-perf-test said what is not understood:\n${output}`)
    }
    return measured
  }

  return { admin, describeTopic, describeGroup, consoleProduce, consoleConsume, perfProduce, perfConsume }
}

/**
 * The batches of a partition as they lie on a broker's disk, each with the fields that `kafka-dump-log` names:
 * `baseOffset`, `lastOffset`, `count`, `baseSequence`, `producerId`, `isTransactional`, `isControl`, `compresscodec`…
 */
export const dumpLog = async (
  distribution: Distribution,
  broker: KafkaBroker,
  topic: string,
  partition: number
): Promise<ReadonlyArray<Readonly<Record<string, string>>>> => {
  const directory = path.join(broker.dataDirectory, `${topic}-${partition}`)
  const segments = (await fs.readdir(directory)).filter((file) => file.endsWith(".log")).toSorted()
  const output = await runTool(distribution, "kafka-dump-log", [
    "--files",
    segments.map((file) => path.join(directory, file)).join(",")
  ])
  return output.split("\n").filter((line) => line.startsWith("baseOffset:")).map((line) =>
    Object.fromEntries([...line.matchAll(/(\w+): (\S+)/g)].map(([, name, value]) => [name!, value!]))
  )
}
