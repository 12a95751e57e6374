/**
 * Kafka's Java client as a counterpart in tests: it writes and reads records exact to the byte, says where its
 * partitioner puts keys, leaves transactions in every state, and is a member of a group.
 */
import * as readline from "node:readline"
import type { Distribution } from "./distribution.ts"
import { KafkaFailure } from "./errors.ts"
import { compile, type JavaTarget, shortLivedJvm } from "./java.ts"
import { run, spawnBound } from "./process.ts"

export type JavaHeader = readonly [name: string, value: Uint8Array | null]

/** A record for the Java producer. What is left out, the producer chooses. */
export interface JavaProducerRecord {
  readonly topic: string
  readonly partition?: number | undefined
  readonly timestamp?: bigint | undefined
  readonly key?: Uint8Array | null | undefined
  readonly value: Uint8Array | null
  readonly headers?: ReadonlyArray<JavaHeader> | undefined
}

/** Where a record was stored. */
export interface JavaMetadata {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly timestamp: bigint
}

/** A record as the Java consumer sees it. */
export interface JavaConsumerRecord extends JavaMetadata {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: ReadonlyArray<JavaHeader>
}

type Partitions = ReadonlyArray<{ readonly topic: string; readonly partition: number }>

export type JavaMemberEvent =
  | { readonly event: "assigned" | "revoked" | "lost" | "committed"; readonly partitions: Partitions }
  | { readonly event: "record"; readonly record: JavaConsumerRecord }

export interface JavaMember {
  /** Commits its positions; `committed` tells that it is done. */
  readonly commit: () => void
  /** Leaves the group and ends. */
  readonly stop: () => Promise<void>
  /** SIGKILL: the group misses it only after its session timeout. */
  readonly kill: () => Promise<void>
  /** SIGSTOP and SIGCONT. */
  readonly pause: () => void
  readonly resume: () => void
}

type Properties = Readonly<Record<string, string>>

interface WireRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly timestamp: string
  readonly key: string | null
  readonly value: string | null
  readonly headers: ReadonlyArray<readonly [string, string | null]>
}

const toText = (bytes: Uint8Array | null | undefined): string | null =>
  bytes === null || bytes === undefined ? null : Buffer.from(bytes).toString("base64")

const toBytes = (text: string | null): Uint8Array | null => text === null ? null : Buffer.from(text, "base64")

const toMetadata = ({ offset, partition, timestamp, topic }: Omit<WireRecord, "key" | "value" | "headers">) => ({
  topic,
  partition,
  offset: BigInt(offset),
  timestamp: BigInt(timestamp)
})

const toRecord = (record: WireRecord): JavaConsumerRecord => ({
  ...toMetadata(record),
  key: toBytes(record.key),
  value: toBytes(record.value),
  headers: record.headers.map(([name, value]) => [name, toBytes(value)])
})

const propertiesOf = (target: JavaTarget, more: Properties | undefined): Properties => ({
  "bootstrap.servers": target.bootstrapServers,
  ...target.clientProperties,
  ...more
})

/**
 * Compiles what the functions here run; otherwise the first of them does. Rejects with `KafkaUnavailable` where Java
 * comes without its compiler.
 */
export const prepareJava = async (distribution: Distribution): Promise<void> => {
  await compile(distribution, "Interop")
}

const ask = async (
  target: Pick<JavaTarget, "distribution">,
  command: string,
  request: unknown,
  lines: ReadonlyArray<unknown> = []
): Promise<ReadonlyArray<string>> => {
  const { distribution } = target
  const classes = await compile(distribution, "Interop")
  const input = [request, ...lines].map((line) => `${JSON.stringify(line)}\n`).join("")
  const done = await run(
    distribution.java,
    [...(await shortLivedJvm(distribution, classes)), "Interop", command],
    { input }
  )
  if (done.code !== 0) throw new KafkaFailure(`The Java client failed to ${command}:\n${done.stdout}${done.stderr}`)
  return done.stdout.split("\n").filter((line) => line !== "")
}

/** Sends records in order with the Java producer. */
export const javaProduce = async (
  target: JavaTarget,
  records: ReadonlyArray<JavaProducerRecord>,
  options: {
    readonly properties?: Properties | undefined
    /**
     * Sends them in a transaction that is committed, aborted, or left open by a producer that dies. Needs the property
     * `transactional.id`; `transaction.timeout.ms` says how long an open one lasts.
     */
    readonly transaction?: "commit" | "abort" | "leave" | undefined
  } = {}
): Promise<ReadonlyArray<JavaMetadata>> => {
  const request = { properties: propertiesOf(target, options.properties), transaction: options.transaction }
  const answers = await ask(
    target,
    "produce",
    request,
    records.map((record) => ({
      ...record,
      timestamp: record.timestamp?.toString(),
      key: toText(record.key),
      value: toText(record.value),
      headers: (record.headers ?? []).map(([name, value]) => [name, toText(value)])
    }))
  )
  return answers.map((answer) => toMetadata(JSON.parse(answer) as WireRecord))
}

/** Reads a topic with the Java consumer, from its beginning to where it ends now, each partition in order. */
export const javaConsume = async (
  target: JavaTarget,
  topic: string,
  options: {
    /** For instance `isolation.level`, which Java has at `read_uncommitted`. */
    readonly properties?: Properties | undefined
  } = {}
): Promise<ReadonlyArray<JavaConsumerRecord>> => {
  const answers = await ask(target, "consume", { topic, properties: propertiesOf(target, options.properties) })
  return answers.map((answer) => toRecord(JSON.parse(answer) as WireRecord))
}

/** The partitions that the Java producer's default partitioner gives to keys. Needs no cluster. */
export const javaPartitions = async (
  target: Pick<JavaTarget, "distribution">,
  partitions: number,
  keys: ReadonlyArray<Uint8Array>
): Promise<ReadonlyArray<number>> => (await ask(target, "partitions", { partitions }, keys.map(toText))).map(Number)

/** A Java consumer that joins a group and tells what happens to it. Resolves when it runs, not yet when it joined. */
export const javaMember = async (
  target: JavaTarget,
  options: {
    readonly topics: ReadonlyArray<string>
    readonly groupId: string
    /** For instance `partition.assignment.strategy`, `group.protocol` or `session.timeout.ms`. */
    readonly properties?: Properties | undefined
    readonly onEvent: (event: JavaMemberEvent) => void
  }
): Promise<JavaMember> => {
  const { distribution } = target
  const classes = await compile(distribution, "Interop")
  const child = spawnBound(
    distribution.java,
    [...(await shortLivedJvm(distribution, classes)), "Interop", "member"],
    { stdio: ["pipe", "pipe", "pipe"] }
  )
  const input = child.stdin!
  let said = ""
  let asked = false
  input.on("error", () => undefined)
  child.stderr!.on("data", (chunk: Buffer) => {
    said = `${said}${chunk.toString("utf8")}`.slice(-10_000)
  })
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject)
    child.once("close", (code) => {
      if (asked || code === 0) resolve()
      else reject(new KafkaFailure(`The Java consumer ended with code ${code}:\n${said}`))
    })
  })
  // Whoever stops it is told.
  ended.catch(() => undefined)
  readline.createInterface({ input: child.stdout! }).on("line", (line) => {
    const told = JSON.parse(line) as JavaMemberEvent | (WireRecord & { readonly event: "record" })
    options.onEvent("partitions" in told ? told : { event: "record", record: toRecord(told as WireRecord) })
  })
  const request = {
    topics: options.topics,
    properties: propertiesOf(target, {
      "group.id": options.groupId,
      "auto.offset.reset": "earliest",
      "enable.auto.commit": "false",
      ...options.properties
    })
  }
  input.write(`${JSON.stringify(request)}\n`)
  return {
    commit: () => void input.write("commit\n"),
    stop: () => {
      if (!input.writableEnded) input.end("stop\n")
      return ended
    },
    kill: () => {
      asked = true
      child.kill("SIGKILL")
      return ended
    },
    pause: () => void child.kill("SIGSTOP"),
    resume: () => void child.kill("SIGCONT")
  }
}
