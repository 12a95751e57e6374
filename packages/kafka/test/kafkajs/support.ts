/**
 * For tests of the kafkajs driver: faults between kafkajs and the broker, and what the log really holds.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Kafka, logLevel, type ProducerConfig } from "kafkajs"
import * as Crypto from "node:crypto"
import * as Net from "node:net"
import * as Connection from "../../src/drivers/kafkajs/connection.ts"
import * as Internals from "../../src/drivers/kafkajs/internals.ts"
import * as Producer from "../../src/drivers/kafkajs/producer.ts"
import type * as KafkaClient from "../../src/KafkaClient.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"

// ---------------------------------------------------------------------------------------------------------------------
// faults
// ---------------------------------------------------------------------------------------------------------------------

const produce = 0
const endTransaction = 26
export const apiKeys = {
  produce,
  initProducerId: 22,
  addPartitions: 24,
  addOffsets: 25,
  endTransaction,
  commitOffsets: 28
} as const

/** What to do to the next requests of one kind. */
export interface Fault {
  /**
   * - `"cut"`: the connection breaks before the request is sent.
   * - `"lose"`: the broker does what it is asked, and the connection breaks before its answer is read.
   * - `"hold"`: the request is sent when `release` is called, and others before it.
   * - `"defer"`: the broker does what it is asked, and its answer, with all that follows, arrives when `release` is
   *   called.
   */
  readonly kind: "cut" | "lose" | "hold" | "defer"
  readonly times: number
  /** Only to the broker that listens there. */
  readonly port?: number
  readonly apiKey?: number
}

/** As the operating system says it. */
const cut = (): Error => Object.assign(new Error("cut by the test"), { code: "ECONNRESET" })

/** Stands between kafkajs and its sockets. */
export class Faults {
  private armed: Array<{ fault: Fault; left: number }> = []
  private held: Array<() => void> = []
  /** How often the fault fired. */
  fired = 0
  /** How many requests of each kind were sent, those that were cut or held left out. */
  readonly sent = new Map<number, number>()
  readonly open = new Set<Net.Socket>()

  /** Beside those that are armed already. */
  arm(fault: Fault): void {
    this.armed.push({ fault, left: fault.times })
  }
  disarm(): void {
    this.armed = []
  }
  release(): void {
    for (const one of this.held.splice(0)) one()
  }
  /** What waits for `release`. */
  get waiting(): number {
    return this.held.length
  }
  /** Forgets what is held: it is never sent. */
  drop(): void {
    this.held = []
  }
  requests(apiKey: number): number {
    return this.sent.get(apiKey) ?? 0
  }

  /** Until every connection that is open now is closed. */
  async allClosed(): Promise<void> {
    await Promise.all([...this.open].map((socket) => new Promise((resolve) => socket.once("close", resolve))))
  }
  /** Breaks every connection. */
  async cutAll(): Promise<void> {
    const closed = this.allClosed()
    for (const socket of this.open) socket.destroy(cut())
    await closed
  }

  readonly intercept = (socket: Net.Socket, { port }: { readonly port: number }): Net.Socket => {
    this.open.add(socket)
    socket.once("close", () => this.open.delete(socket))
    const write = socket.write.bind(socket) as (chunk: unknown, ...rest: Array<unknown>) => boolean
    const emit = socket.emit.bind(socket) as (event: string | symbol, ...args: Array<unknown>) => boolean
    let losing = false
    let deferring = false
    socket.write = (chunk: unknown, ...rest: Array<unknown>): boolean => {
      const apiKey = Buffer.isBuffer(chunk) && chunk.length > 6 ? chunk.readInt16BE(4) : -1
      const armed = this.armed.find(({ fault, left }) =>
        left > 0 && apiKey === (fault.apiKey ?? produce) && (fault.port === undefined || fault.port === port)
      )
      if (armed !== undefined) {
        armed.left--
        this.fired++
        if (armed.fault.kind === "cut") {
          setImmediate(() => socket.destroy(cut()))
          return true
        }
        losing = armed.fault.kind === "lose"
        deferring = armed.fault.kind === "defer"
        if (armed.fault.kind === "hold") {
          this.held.push(() => write(chunk, ...rest))
          return true
        }
      }
      this.sent.set(apiKey, this.requests(apiKey) + 1)
      return write(chunk, ...rest)
    }
    socket.emit = (event: string | symbol, ...args: Array<unknown>): boolean => {
      if (event === "data" && deferring) {
        this.held.push(() => {
          deferring = false
          emit(event, ...args)
        })
        return true
      }
      if (event !== "data" || !losing) return emit(event, ...args)
      losing = false
      socket.destroy(cut())
      return true
    }
    return socket
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// a session
// ---------------------------------------------------------------------------------------------------------------------

export const defaults: KafkaClient.ProducerSessionOptions = {
  acks: "all",
  idempotent: true,
  compression: "none",
  transactionTimeout: 30_000,
  requestTimeout: 5000,
  deliveryTimeout: 10_000
}

export const environment = (
  brokers: string,
  faults?: Faults,
  options?: Partial<KafkaConfig.Options>
): Effect.Effect<Connection.Environment> =>
  Connection.environment(faults?.intercept).pipe(
    Effect.provide(
      KafkaConfig.layer({ connectionTimeout: "5 seconds", requestTimeout: "10 seconds", ...options, brokers })
    ),
    Effect.orDie
  )

export const open = (
  brokers: string,
  options: Partial<KafkaClient.ProducerSessionOptions> = {},
  faults?: Faults
): Effect.Effect<KafkaClient.ProducerSession, never, Scope.Scope> =>
  environment(brokers, faults).pipe(
    Effect.flatMap((environment) => Producer.open(environment, KafkaJs.capabilities, { ...defaults, ...options })),
    Effect.orDie
  )

export const record = (
  value: string | null,
  more: Partial<KafkaClient.RawProducerRecord> = {}
): KafkaClient.RawProducerRecord => ({
  key: null,
  value: value === null ? null : new TextEncoder().encode(value),
  headers: [],
  timestamp: BigInt(Date.now()),
  ...more
})

export const batch = (
  topic: string,
  partition: number,
  ...values: ReadonlyArray<string>
): KafkaClient.ProducerBatch => ({
  topic,
  partition,
  records: values.map((value) => record(value))
})

/** Sends, and what is to be sent again or asked about again: as the engine does. */
export const send = (
  session: KafkaClient.ProducerSession,
  batches: ReadonlyArray<KafkaClient.ProducerBatch>
): Effect.Effect<ReadonlyArray<KafkaClient.BatchResult>> =>
  Effect.gen(function*() {
    const results = [...yield* session.send(batches)]
    for (let round = 0; round < 200; round++) {
      const left = results.flatMap((one, i) =>
        one._tag === "Failed" && (one.outcome === "retry" || one.outcome === "pending") ? [i] : []
      )
      if (left.length === 0) break
      yield* Effect.sleep(100)
      const again = yield* session.send(left.map((i) => batches[i]!))
      left.forEach((i, j) => {
        results[i] = again[j]!
      })
    }
    return results
  })

/** What became of each, as short as it can be said. */
export const summary = (results: ReadonlyArray<KafkaClient.BatchResult>): ReadonlyArray<string> =>
  results.map((result) =>
    result._tag === "Stored" ? `stored@${result.baseOffset}` : `${result.outcome}: ${result.error._tag}`
  )

// ---------------------------------------------------------------------------------------------------------------------
// plain kafkajs
// ---------------------------------------------------------------------------------------------------------------------

/** Plain kafkajs, as an application would use it. */
export const plain = (brokers: string, faults?: Faults): Kafka =>
  new Kafka({
    brokers: brokers.split(","),
    clientId: "plain",
    logLevel: logLevel.NOTHING,
    retry: { retries: 5, initialRetryTime: 100 },
    ...(faults === undefined ? {} : {
      socketFactory: ({ host, onConnect, port }) => faults.intercept(Net.connect({ host, port }, onConnect), { port })
    })
  })

export const plainProducer = (brokers: string, options: ProducerConfig, faults?: Faults) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const producer = plain(brokers, faults).producer(options)
      await producer.connect()
      return producer
    }),
    (producer) => Effect.promise(() => producer.disconnect())
  )

/** A topic of one's own; `leaders` says which broker leads each partition. */
export const makeTopic = (
  brokers: string,
  options: {
    readonly partitions?: number
    readonly replicas?: number
    readonly leaders?: ReadonlyArray<number>
    readonly config?: Readonly<Record<string, string>>
  } = {}
): Effect.Effect<string> =>
  Effect.promise(async () => {
    const admin = plain(brokers).admin()
    await admin.connect()
    const topic = `kafkajs-${Crypto.randomUUID()}`
    const numPartitions = options.leaders?.length ?? options.partitions ?? 1
    await admin.createTopics({
      waitForLeaders: false,
      topics: [{
        topic,
        configEntries: Object.entries(options.config ?? {}).map(([name, value]) => ({ name, value })),
        ...(options.leaders === undefined
          ? { numPartitions, replicationFactor: options.replicas ?? 1 }
          : { replicaAssignment: options.leaders.map((leader, partition) => ({ partition, replicas: [leader] })) })
      }]
    })
    await admin.disconnect()
    await knownEverywhere(plain(brokers), topic, numPartitions)
    return topic
  })

/** Brokers hear of a topic one after the other: each is asked until it names a leader for every partition. */
const knownEverywhere = async (kafka: Kafka, topic: string, partitions: number): Promise<void> => {
  const cluster = Internals.open(kafka)
  const { brokerPool } = cluster
  await cluster.connect()
  await brokerPool.refreshMetadata([topic])
  for (const { nodeId } of brokerPool.metadata?.brokers ?? []) {
    // metadata is asked of whom it finds
    brokerPool.findConnectedBroker = () => brokerPool.findBroker({ nodeId })
    const isKnown = (): boolean => {
      const found = brokerPool.metadata?.topicMetadata.find((one) => one.topic === topic)
      return found?.partitionMetadata.filter(({ leader }) => leader >= 0).length === partitions
    }
    do await brokerPool.refreshMetadata([topic])
    while (!isKnown())
  }
  await cluster.disconnect()
}

export interface Logged {
  readonly partition: number
  readonly offset: bigint
  readonly key: string | undefined
  readonly value: string | undefined
}

/** Everything that readers of committed records find in a topic, in order for each partition. */
export const readLog = (brokers: string, topic: string): Effect.Effect<ReadonlyArray<Logged>> =>
  Effect.promise(async () => {
    const kafka = plain(brokers)
    const admin = kafka.admin()
    await admin.connect()
    const ends = new Map((await admin.fetchTopicOffsets(topic)).map((one) => [one.partition, BigInt(one.high)]))
    await admin.disconnect()
    const out: Array<Logged> = []
    const left = new Set([...ends].filter(([, end]) => end > 0n).map(([partition]) => partition))
    if (left.size === 0) return out
    const consumer = kafka.consumer({ groupId: `read-${topic}-${Crypto.randomUUID()}`, maxWaitTimeInMs: 50 })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await new Promise<void>((resolve, reject) => {
      consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: true,
        eachBatch: async ({ batch }) => {
          for (const { key, offset, value } of batch.messages) {
            out.push({
              partition: batch.partition,
              offset: BigInt(offset),
              key: key?.toString(),
              value: value?.toString()
            })
          }
          if (BigInt(batch.lastOffset()) + 1n >= ends.get(batch.partition)!) left.delete(batch.partition)
          if (left.size === 0) resolve()
        }
      }).catch(reject)
    })
    await consumer.disconnect()
    return out.sort((a, b) => a.partition - b.partition || Number(a.offset - b.offset))
  })

export const values = (log: ReadonlyArray<Logged>): ReadonlyArray<string | undefined> => log.map((one) => one.value)
