/**
 * Requests to single brokers, for what kafkajs's own producer and admin do not do well enough.
 *
 * kafkajs hands its cluster to partition assigners, and the cluster its brokers; they send one request each and retry
 * nothing. A consumer is made for that alone, and is never run. What is used here beyond kafkajs's types is written
 * down as interfaces; kafkajs is pinned to one version, and the tests on a real broker hold it to them.
 *
 * Where a response is about several topics or partitions, kafkajs throws the first error in it and drops the rest.
 * Here each part is put to kafkajs by itself, and has its own error.
 */
import * as Effect from "effect/Effect"
import { type Cluster, type Kafka, type Message, PartitionAssigners, type PartitionMetadata } from "kafkajs"
import { type ClientError, KafkaTimeoutError, UnknownTopicError } from "../../KafkaError.ts"
import * as Connection from "./connection.ts"
import { clientError, withoutFencing, withoutTopic } from "./errors.ts"

// ---------------------------------------------------------------------------------------------------------------------
// kafkajs, beyond its types
// ---------------------------------------------------------------------------------------------------------------------

export interface ProducerIdentity {
  /** An int64 as text. */
  readonly producerId: string
  readonly producerEpoch: number
}

export interface ProducedPartition {
  readonly partition: number
  readonly baseOffset: string
  readonly logAppendTime: string
  readonly error?: unknown
}

interface InTransaction extends ProducerIdentity {
  readonly transactionalId: string
}

interface Partitions<A> {
  readonly topic: string
  readonly partitions: ReadonlyArray<A>
}

export interface BrokerRequests {
  readonly nodeId: number | null
  readonly isConnected: () => boolean
  readonly findGroupCoordinator: (request: {
    readonly groupId: string
    readonly coordinatorType: number
  }) => Promise<{ readonly coordinator: { readonly nodeId: number; readonly host: string; readonly port: number } }>
  readonly initProducerId: (request: {
    readonly transactionalId: string | undefined
    readonly transactionTimeout: number
  }) => Promise<ProducerIdentity>
  readonly produce: (
    request: Partial<ProducerIdentity> & {
      readonly topicData: ReadonlyArray<
        Partitions<{ readonly partition: number; readonly firstSequence?: number; readonly messages: Array<Message> }>
      >
      readonly transactionalId?: string | undefined
      readonly acks: number
      readonly timeout: number
      readonly compression: number
    }
  ) => Promise<
    {
      readonly topics: ReadonlyArray<
        { readonly topicName: string; readonly partitions: ReadonlyArray<ProducedPartition> }
      >
    } | undefined
  >
  readonly addPartitionsToTxn: (
    request: InTransaction & { readonly topics: ReadonlyArray<Partitions<number>> }
  ) => Promise<{
    readonly errors: ReadonlyArray<{
      readonly topic: string
      readonly partitionErrors: ReadonlyArray<{ readonly partition: number; readonly error?: unknown }>
    }>
  }>
  readonly addOffsetsToTxn: (request: InTransaction & { readonly groupId: string }) => Promise<unknown>
  readonly txnOffsetCommit: (
    request: InTransaction & {
      readonly groupId: string
      readonly topics: ReadonlyArray<
        Partitions<{ readonly partition: number; readonly offset: string; readonly metadata?: string | undefined }>
      >
    }
  ) => Promise<unknown>
  readonly endTxn: (request: InTransaction & { readonly transactionResult: boolean }) => Promise<unknown>
  readonly offsetCommit: (request: {
    readonly groupId: string
    readonly memberId: string
    readonly groupGenerationId: number
    readonly topics: ReadonlyArray<
      Partitions<{ readonly partition: number; readonly offset: string; readonly metadata?: string | undefined }>
    >
  }) => Promise<unknown>
}

interface TopicMetadata {
  readonly topic: string
  readonly partitionMetadata: ReadonlyArray<PartitionMetadata>
  readonly error?: unknown
}

interface Response {
  readonly decode: (raw: unknown) => Promise<unknown>
  readonly parse: (data: unknown) => Promise<unknown>
}

interface ConnectionPool {
  readonly host: string
  readonly port: number
  send: (
    call: { readonly request: { readonly apiKey: number }; readonly response: Response }
  ) => Promise<unknown>
}

interface PooledBroker extends BrokerRequests {
  readonly connectionPool: ConnectionPool
  readonly connect: () => Promise<void>
  readonly disconnect: () => Promise<void>
}

interface BrokerPool {
  readonly metadata: { readonly topicMetadata: ReadonlyArray<TopicMetadata> } | null
  readonly brokers: Readonly<Record<string, PooledBroker>>
  readonly rootLogger: unknown
  readonly versions: unknown
  readonly connectionPoolBuilder: {
    readonly build: (to: { readonly host: string; readonly port: number }) => Promise<ConnectionPool>
  }
  createBroker: (options: {
    readonly connectionPool: ConnectionPool
    readonly logger: unknown
    readonly nodeId?: number
    readonly versions?: unknown
  }) => PooledBroker
  /** Who is connected, or can be; needs no metadata. Metadata is asked of whom it finds. */
  findConnectedBroker: () => Promise<PooledBroker>
  /** Fails where the node is in no metadata yet. */
  readonly findBroker: (node: { readonly nodeId: number }) => Promise<PooledBroker>
  readonly refreshMetadata: (topics: ReadonlyArray<string>) => Promise<void>
}

/** The cluster as it is, not as its types say. */
type OpenCluster = Cluster & { readonly brokerPool: BrokerPool }

// ---------------------------------------------------------------------------------------------------------------------
// each part its own error
// ---------------------------------------------------------------------------------------------------------------------

const produce = 0
const metadata = 3
const addPartitionsToTxn = 24

const errorOf = (response: Response, part: unknown): Promise<{ readonly error?: unknown }> =>
  response.parse(part).then(() => ({}), (error: unknown) => ({ error }))

const partsOf = <A, B>(all: ReadonlyArray<A>, f: (one: A) => Promise<B>): Promise<Array<B>> => Promise.all(all.map(f))

const apart = (apiKey: number, response: Response): Response["parse"] => {
  switch (apiKey) {
    case produce:
      return async (answer) => {
        const data = answer as { readonly topics: ReadonlyArray<Partitions<object>> }
        return {
          ...data,
          topics: await partsOf(data.topics, async (topic) => ({
            ...topic,
            partitions: await partsOf(topic.partitions, async (partition) => ({
              ...partition,
              ...await errorOf(response, { ...data, topics: [{ ...topic, partitions: [partition] }] })
            }))
          }))
        }
      }
    case metadata:
      return async (answer) => {
        const data = answer as { readonly topicMetadata: ReadonlyArray<TopicMetadata> }
        return {
          ...data,
          topicMetadata: await partsOf(data.topicMetadata, async (topic) => ({
            ...topic,
            // a partition without a leader is no reason to forget the others
            ...await errorOf(response, { ...data, topicMetadata: [{ ...topic, partitionMetadata: [] }] })
          }))
        }
      }
    case addPartitionsToTxn:
      return async (answer) => {
        const data = answer as {
          readonly errors: ReadonlyArray<{ readonly partitionErrors: ReadonlyArray<object> }>
        }
        return {
          ...data,
          errors: await partsOf(data.errors, async (topic) => ({
            ...topic,
            partitionErrors: await partsOf(topic.partitionErrors, async (partition) => ({
              ...partition,
              ...await errorOf(response, { ...data, errors: [{ ...topic, partitionErrors: [partition] }] })
            }))
          }))
        }
      }
    default:
      return response.parse
  }
}

const withPartsApart = (call: Parameters<ConnectionPool["send"]>[0]): typeof call => {
  const { request, response } = call
  const parse = apart(request.apiKey, response)
  return {
    ...call,
    response: {
      decode: response.decode,
      // most answers are without any error
      parse: (data) => response.parse(data).catch(() => parse(data))
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// a cluster
// ---------------------------------------------------------------------------------------------------------------------

const open = (kafka: Kafka): OpenCluster => {
  let captured: Cluster | undefined
  kafka.consumer({
    groupId: "never joined",
    allowAutoTopicCreation: false,
    partitionAssigners: [(config) => {
      captured = config.cluster
      return PartitionAssigners.roundRobin(config)
    }]
  })
  const cluster = captured as OpenCluster | undefined
  if (cluster === undefined) throw new Error("kafkajs has not given its cluster to the partition assigner")
  const pool = cluster.brokerPool
  const waiting = new Map<PooledBroker, number>()
  const { createBroker, findConnectedBroker } = pool
  pool.createBroker = (options) => {
    const broker = createBroker(options)
    const { connectionPool } = broker
    const send = connectionPool.send.bind(connectionPool)
    const count = (by: 1 | -1): void => void waiting.set(broker, (waiting.get(broker) ?? 0) + by)
    connectionPool.send = (call) => {
      count(1)
      return send(withPartsApart(call)).finally(() => count(-1))
    }
    return broker
  }
  // a broker answers in order, and one that is slow or frozen would hold up what any other can tell
  pool.findConnectedBroker = () => {
    const idle = Object.values(pool.brokers).filter((one) => one.isConnected() && (waiting.get(one) ?? 0) === 0)
    const one = idle[Math.floor(Math.random() * idle.length)]
    return one === undefined ? findConnectedBroker.call(pool) : Promise.resolve(one)
  }
  return cluster
}

// ---------------------------------------------------------------------------------------------------------------------
// requests
// ---------------------------------------------------------------------------------------------------------------------

/** The broker that leads each partition of a topic, by partition. A partition without a leader has -1. */
export type Leaders = ReadonlyMap<number, number>

export type LookupError = ClientError | UnknownTopicError

const coordinatorTypes = { group: 0, transaction: 1 } as const

export class ClusterRequests {
  private readonly environment: Connection.Environment
  private readonly pool: BrokerPool
  private readonly connection: Connection.Connection
  private readonly cluster: OpenCluster
  /** kafkajs keeps the last answer alone. */
  private readonly oneLookup = Effect.unsafeMakeSemaphore(1)
  private readonly coordinators = new Map<string, PooledBroker>()
  private readonly own = new Set<PooledBroker>()

  constructor(environment: Connection.Environment, connection: Connection.Connection) {
    this.environment = environment
    this.connection = connection
    this.cluster = open(connection.kafka)
    this.pool = this.cluster.brokerPool
  }

  /** Connects to any broker, within the connection timeout. */
  get connect(): Effect.Effect<void, ClientError> {
    return Connection.establish(this.environment, this.connection, this.cluster, "connect")
  }

  get close(): Effect.Effect<void> {
    return Connection.close(this.connection, {
      disconnect: () => Promise.all([this.cluster, ...this.own].map((one) => one.disconnect()))
    })
  }

  /** Any broker. */
  any(): Promise<BrokerRequests> {
    return this.pool.findConnectedBroker()
  }

  /** A broker by its id, connected. It has to have been seen in some metadata. */
  broker(nodeId: number): Promise<BrokerRequests> {
    return this.pool.findBroker({ nodeId })
  }

  /** The coordinator of a group or of a transactional id, connected. */
  async coordinator(type: keyof typeof coordinatorTypes, name: string): Promise<BrokerRequests> {
    const known = this.coordinators.get(`${type} ${name}`)
    if (known?.isConnected() === true) return known
    const any = await this.pool.findConnectedBroker()
    const { coordinator } = await any.findGroupCoordinator({
      groupId: name,
      coordinatorType: coordinatorTypes[type]
    })
    const found = this.pool.brokers[coordinator.nodeId] ?? await this.unseen(coordinator)
    await found.connect()
    this.coordinators.set(`${type} ${name}`, found)
    return found
  }

  /** It may be another one by now. */
  forgetCoordinator(type: keyof typeof coordinatorTypes, name: string): void {
    this.coordinators.delete(`${type} ${name}`)
  }

  /** A broker that no metadata was needed of yet. */
  private async unseen(
    { host, nodeId, port }: { readonly nodeId: number; readonly host: string; readonly port: number }
  ): Promise<PooledBroker> {
    for (const broker of this.own) {
      const { connectionPool } = broker
      if (broker.nodeId === nodeId && connectionPool.host === host && connectionPool.port === port) return broker
    }
    const broker = this.pool.createBroker({
      connectionPool: await this.pool.connectionPoolBuilder.build({ host, port }),
      logger: this.pool.rootLogger,
      nodeId,
      versions: this.pool.versions
    })
    this.own.add(broker)
    return broker
  }

  /** Who leads the partitions of these topics, each topic with its own error. One request. */
  leaders(
    operation: string,
    topics: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyMap<string, Leaders | LookupError>, ClientError> {
    const attempt = Connection.attempt(this.environment, operation)
    return Effect.tryPromise({
      try: () => this.pool.refreshMetadata(topics).then(() => this.pool.metadata?.topicMetadata ?? []),
      catch: (error) => withoutTopic(clientError(error, attempt))
    }).pipe(
      Effect.timeoutFail({
        duration: attempt.millis,
        onTimeout: () => new KafkaTimeoutError({ operation, millis: attempt.millis })
      }),
      this.oneLookup.withPermits(1),
      Effect.map((found: ReadonlyArray<TopicMetadata>) => {
        const out = new Map<string, Leaders | LookupError>()
        for (const topic of topics) {
          const one = found.find((one) => one.topic === topic)
          out.set(
            topic,
            one === undefined
              ? new UnknownTopicError({ operation, topic })
              : one.error === undefined
              ? new Map(one.partitionMetadata.map(({ leader, partitionId }) => [partitionId, leader]))
              : withoutFencing(clientError(one.error, { ...attempt, topic }))
          )
        }
        return out
      })
    )
  }
}
