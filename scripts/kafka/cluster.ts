/**
 * A whole Kafka on this machine, in KRaft mode: every node is broker and controller at once, so that any one of three
 * may die.
 */
import * as crypto from "node:crypto"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { type KafkaBroker, makeBroker } from "./broker.ts"
import { type Distribution, resolveDistribution } from "./distribution.ts"
import { KafkaFailure } from "./errors.ts"
import { freePorts } from "./ports.ts"
import { run } from "./process.ts"
import { type NodePorts, serverProperties } from "./properties.ts"

export interface KafkaOptions {
  /** `KAFKA_VERSION` from the environment by default, else `"4.1.1"`. */
  readonly version?: string | undefined
  /** How many brokers, 1 by default. With three or more, data is replicated three times and two must be in sync. */
  readonly brokers?: number | undefined
  /** Partitions of a topic that is created without saying how many, 1 by default. */
  readonly partitions?: number | undefined
  /** The port of the first broker's first listener, if it is free. Any free one by default. */
  readonly port?: number | undefined
  /** Further settings for `server.properties`; they win over ours. */
  readonly properties?: Readonly<Record<string, string>> | undefined
  /** The largest heap of each broker, `"512m"` by default. */
  readonly heap?: string | undefined
  /** How long a broker may take to start, 60 seconds by default. */
  readonly startTimeoutMs?: number | undefined
  /** How long a broker may take to stop, 30 seconds by default. */
  readonly stopTimeoutMs?: number | undefined
  /** Where to say what takes time (fetching, starting). Silent by default. */
  readonly log?: ((line: string) => void) | undefined
}

export interface KafkaCluster extends AsyncDisposable {
  readonly version: string
  /** What clients connect to: every broker, `host:port`, separated by commas. */
  readonly bootstrapServers: string
  readonly brokers: ReadonlyArray<KafkaBroker>
  /** The broker with this node id; they count from 1. */
  readonly broker: (nodeId: number) => KafkaBroker
  readonly distribution: Distribution
  /** The folder of this cluster. It is gone after `close`. */
  readonly directory: string
  /** Ends every broker at once and removes its data. */
  readonly close: () => Promise<void>
}

const host = "127.0.0.1"

const startOnce = async (options: KafkaOptions, distribution: Distribution): Promise<KafkaCluster> => {
  const count = options.brokers ?? 1
  const root = await fs.mkdtemp(path.join(os.tmpdir(), "coffeebuddy-kafka-"))
  const clusterId = crypto.randomBytes(16).toString("base64url")
  const preferred = options.port === undefined ? undefined : [options.port]
  const ports = await freePorts(count * 2, { host, preferred })
  const nodes = Array.from({ length: count }, (_, index): NodePorts => ({
    nodeId: index + 1,
    host,
    client: ports[index]!,
    controller: ports[count + index]!
  }))
  const jvmOptions = [
    `-Xmx${options.heap ?? "512m"}`,
    "-Xms128m",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn"
  ]
  const brokers: Array<KafkaBroker> = []

  const close = async (): Promise<void> => {
    await Promise.all(brokers.map((broker) => broker.kill()))
    await fs.rm(root, { recursive: true, force: true, maxRetries: 5 })
  }

  try {
    for (const node of nodes) {
      const directory = path.join(root, `broker-${node.nodeId}`)
      await fs.mkdir(directory)
      await fs.writeFile(
        path.join(directory, "server.properties"),
        serverProperties({ node, nodes, directory, partitions: options.partitions ?? 1, extra: options.properties })
      )
      brokers.push(makeBroker({
        distribution,
        nodeId: node.nodeId,
        address: `${node.host}:${node.client}`,
        directory,
        root,
        jvmOptions,
        startTimeoutMs: options.startTimeoutMs ?? 60_000,
        stopTimeoutMs: options.stopTimeoutMs ?? 30_000
      }))
    }
    await Promise.all(nodes.map(async (node) => {
      const formatted = await run(distribution.java, [
        "-XX:TieredStopAtLevel=1",
        "-cp",
        distribution.classPath,
        "kafka.tools.StorageTool",
        "format",
        "--cluster-id",
        clusterId,
        "--config",
        path.join(root, `broker-${node.nodeId}`, "server.properties")
      ])
      if (formatted.code !== 0) {
        throw new KafkaFailure(
          `The folder of broker ${node.nodeId} could not be formatted:\n${formatted.stdout}${formatted.stderr}`
        )
      }
    }))
    await Promise.all(brokers.map((broker) => broker.start()))
  } catch (cause) {
    await close()
    throw cause
  }

  return {
    version: distribution.version,
    bootstrapServers: brokers.map((broker) => broker.address).join(","),
    brokers,
    broker: (nodeId) => {
      const found = brokers.find((broker) => broker.nodeId === nodeId)
      if (found === undefined) throw new KafkaFailure(`There is no broker ${nodeId}: they are 1 to ${brokers.length}`)
      return found
    },
    distribution,
    directory: root,
    close,
    [Symbol.asyncDispose]: close
  }
}

/**
 * Starts a Kafka of its own and resolves when every broker serves requests.
 *
 * Rejects with `KafkaUnavailable` where none can run (no Java, no Maven and nothing in the cache), with `KafkaFailure`
 * when one could but did not. Its processes end with ours, however ours ends.
 */
export const startKafka = async (options: KafkaOptions = {}): Promise<KafkaCluster> => {
  const distribution = await resolveDistribution(options)
  for (let attempt = 1;; attempt++) {
    try {
      return await startOnce(options, distribution)
    } catch (cause) {
      // Somebody took one of our ports between our look and the broker's.
      const taken = cause instanceof KafkaFailure && /BindException|Address already in use/.test(cause.message)
      if (!taken || attempt === 5) throw cause
    }
  }
}
