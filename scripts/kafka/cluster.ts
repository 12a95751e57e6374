/**
 * A whole Kafka on this machine, in KRaft mode: every node is broker and controller at once, so that any one of three
 * may die.
 */
import * as crypto from "node:crypto"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { classArchive } from "./archive.ts"
import { type KafkaBroker, makeBroker, waitUntil } from "./broker.ts"
import { type Certificates, makeCertificates } from "./certificates.ts"
import { type Distribution, resolveDistribution } from "./distribution.ts"
import { KafkaFailure } from "./errors.ts"
import { hasSasl, hasTls, type KafkaListener } from "./listeners.ts"
import { aliveBrokers } from "./metadata.ts"
import { freePorts } from "./ports.ts"
import { run } from "./process.ts"
import { type KafkaNode, serverProperties } from "./properties.ts"

export interface KafkaOptions {
  /** `KAFKA_VERSION` from the environment by default, else `"4.1.1"`. */
  readonly version?: string | undefined
  /** How many brokers, 1 by default. With three or more, data is replicated three times and two must be in sync. */
  readonly brokers?: number | undefined
  /** Partitions of a topic that is created without saying how many, 1 by default. */
  readonly partitions?: number | undefined
  /** The doors for clients, `["plaintext"]` by default. The first one is that of `bootstrapServers`. */
  readonly listeners?: ReadonlyArray<KafkaListener> | undefined
  /**
   * Who may come in by the `sasl_…` listeners, names and passwords; `admin` with `admin-secret` and `alice` with
   * `alice-secret` by default. There is a client certificate for each name, too.
   */
  readonly users?: Readonly<Record<string, string>> | undefined
  /**
   * Whether everybody but `admin` (and who comes in by `plaintext` or `ssl`, without a name) needs an ACL for what
   * they do. Not by default.
   */
  readonly acls?: boolean | undefined
  /** The names in the brokers' certificate: `127.0.0.1` and `localhost` by default. */
  readonly certificateNames?: ReadonlyArray<string> | undefined
  /** The port of the first broker's first listener, if it is free. Any free one by default. */
  readonly port?: number | undefined
  /** Further settings for `server.properties`; they win over ours. */
  readonly properties?: Readonly<Record<string, string>> | undefined
  /** The largest heap of each broker, `"512m"` by default. */
  readonly heap?: string | undefined
  /** Further options for each broker's JVM. */
  readonly jvmOptions?: ReadonlyArray<string> | undefined
  /** How long a broker may take to start, 60 seconds by default. */
  readonly startTimeoutMs?: number | undefined
  /** How long a broker may take to stop, 30 seconds by default. */
  readonly stopTimeoutMs?: number | undefined
  /** Where to say what takes time, such as fetching. Silent by default. */
  readonly log?: ((line: string) => void) | undefined
}

export interface KafkaCluster extends AsyncDisposable {
  readonly version: string
  /** What clients connect to: every broker's first listener, `host:port`, separated by commas. */
  readonly bootstrapServers: string
  /** The same for any listener that was asked for. */
  readonly bootstrapServersOf: (listener: KafkaListener) => string
  readonly listeners: ReadonlyArray<KafkaListener>
  /** Names and passwords for the `sasl_…` listeners. */
  readonly users: Readonly<Record<string, string>>
  /** There when a listener has TLS. */
  readonly certificates: Certificates | undefined
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

const placeNodes = async (options: KafkaOptions): Promise<ReadonlyArray<KafkaNode>> => {
  const listeners = options.listeners ?? ["plaintext"]
  const brokers = options.brokers ?? 1
  const each = listeners.length + 2
  const ports = await freePorts(brokers * each, { host, preferred: options.port })
  return Array.from({ length: brokers }, (_, index) => {
    const own = ports.slice(index * each, (index + 1) * each)
    return {
      nodeId: index + 1,
      host,
      clients: listeners.map((listener, at) => ({ listener, port: own[at]! })),
      internalPort: own[each - 2]!,
      controllerPort: own[each - 1]!
    }
  })
}

/** The first compiler is enough for a broker that lives for minutes, and costs far less than the second. */
const quickJvm: ReadonlyArray<string> = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]

const format = async (options: {
  readonly distribution: Distribution
  readonly clusterId: string
  readonly configFile: string
  readonly users: Readonly<Record<string, string>>
  readonly jvmOptions: ReadonlyArray<string>
}): Promise<void> => {
  const scram = Object.entries(options.users).flatMap(([user, password]) =>
    ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((mechanism) => [
      "--add-scram",
      `${mechanism}=[name="${user}",password="${password}"]`
    ])
  )
  const done = await run(options.distribution.java, [
    ...options.jvmOptions,
    ...["-cp", options.distribution.classPath, "kafka.tools.StorageTool", "format"],
    ...["--cluster-id", options.clusterId, "--config", options.configFile, ...scram]
  ])
  if (done.code !== 0) throw new KafkaFailure(`A broker's folder could not be formatted:\n${done.stdout}${done.stderr}`)
}

/** What is settled before the first broker starts. */
interface Jvm {
  readonly distribution: Distribution
  /** How it finds its classes quickly. */
  readonly sharing: ReadonlyArray<string>
}

/** As Kafka makes its own: 16 random bytes in base64, never with a dash in front, which its tools take for an option. */
const makeClusterId = (): string => {
  const id = crypto.randomBytes(16).toString("base64url")
  return id.startsWith("-") ? makeClusterId() : id
}

const startOnce = async (options: KafkaOptions, { distribution, sharing }: Jvm): Promise<KafkaCluster> => {
  const listeners = options.listeners ?? ["plaintext"]
  const users = options.users ?? { admin: "admin-secret", alice: "alice-secret" }
  const clusterId = makeClusterId()
  const root = await fs.mkdtemp(path.join(os.tmpdir(), "coffeebuddy-kafka-"))
  const brokers: Array<KafkaBroker> = []

  const close = async (): Promise<void> => {
    await Promise.all(brokers.map((broker) => broker.kill()))
    await fs.rm(root, { recursive: true, force: true, maxRetries: 5 })
  }

  try {
    const nodes = await placeNodes(options)
    const certificates = !listeners.some(hasTls) ? undefined : await makeCertificates(path.join(root, "certificates"), {
      names: options.certificateNames ?? [host, "localhost"],
      clients: Object.keys(users)
    })
    await Promise.all(nodes.map(async (node) => {
      const directory = path.join(root, `broker-${node.nodeId}`)
      const configFile = path.join(directory, "server.properties")
      const dataDirectory = path.join(directory, "data")
      await fs.mkdir(directory)
      await fs.writeFile(
        configFile,
        serverProperties({
          node,
          nodes,
          dataDirectory,
          partitions: options.partitions ?? 1,
          users,
          acls: options.acls ?? false,
          certificates,
          extra: options.properties ?? {}
        })
      )
      await format({
        distribution,
        clusterId,
        configFile,
        users: listeners.some(hasSasl) ? users : {},
        jvmOptions: [...quickJvm, ...sharing]
      })
      brokers[node.nodeId - 1] = makeBroker({
        distribution,
        nodeId: node.nodeId,
        address: `${host}:${node.clients[0]!.port}`,
        internalAddress: `${host}:${node.internalPort}`,
        directory,
        dataDirectory,
        root,
        jvmOptions: [
          ...quickJvm,
          ...sharing,
          `-Xmx${options.heap ?? "512m"}`,
          "-Dorg.slf4j.simpleLogger.showDateTime=true",
          "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
          // Without the long lists of all settings.
          "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
          ...(options.jvmOptions ?? [])
        ],
        startTimeoutMs: options.startTimeoutMs ?? 60_000,
        stopTimeoutMs: options.stopTimeoutMs ?? 30_000
      })
    }))
    await Promise.all(brokers.map((broker) => broker.start()))
    // Each has started; now each must have heard of the others.
    const startTimeoutMs = options.startTimeoutMs ?? 60_000
    const acquainted = await waitUntil(async () => {
      const known = await Promise.all(nodes.map((node) => aliveBrokers(`${host}:${node.internalPort}`)))
      return known.every((alive) => alive.length === nodes.length)
    }, startTimeoutMs)
    if (!acquainted) throw new KafkaFailure(`The brokers did not find each other within ${startTimeoutMs} ms`)

    const bootstrapServersOf = (listener: KafkaListener): string => {
      const at = listeners.indexOf(listener)
      if (at < 0) throw new KafkaFailure(`This cluster has no listener ${listener}, only ${listeners.join(", ")}`)
      return nodes.map((node) => `${node.host}:${node.clients[at]!.port}`).join(",")
    }
    return {
      version: distribution.version,
      bootstrapServers: bootstrapServersOf(listeners[0]!),
      bootstrapServersOf,
      listeners,
      users,
      certificates,
      brokers,
      broker: (nodeId) => {
        const found = brokers[nodeId - 1]
        if (found === undefined) throw new KafkaFailure(`There is no broker ${nodeId}, only 1 to ${brokers.length}`)
        return found
      },
      distribution,
      directory: root,
      close,
      [Symbol.asyncDispose]: close
    }
  } catch (cause) {
    await close()
    throw cause
  }
}

const startOnFreePorts = async (options: KafkaOptions, jvm: Jvm): Promise<KafkaCluster> => {
  for (let attempt = 1;; attempt++) {
    try {
      return await startOnce(options, jvm)
    } catch (cause) {
      // Somebody took one of our ports between our look and the broker's.
      const taken = cause instanceof KafkaFailure && /BindException|Address already in use/.test(cause.message)
      if (!taken || attempt === 5) throw cause
    }
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
  const sharing = await classArchive(distribution, async (jvmOptions) => {
    options.log?.(`Preparing Kafka ${distribution.version} for quick starts (once)`)
    const cluster = await startOnFreePorts({ jvmOptions }, { distribution, sharing: [] })
    try {
      await cluster.broker(1).stop()
    } finally {
      await cluster.close()
    }
  })
  return startOnFreePorts(options, { distribution, sharing })
}
