/**
 * A connection to the cluster for single requests: to any broker, to one by its id, to a coordinator, to whoever leads
 * a partition.
 */
import * as Effect from "effect/Effect"
import { type ClientError, KafkaTimeoutError, UnknownTopicError } from "../../KafkaError.ts"
import type { Leaders } from "../producer/transport.ts"
import * as Connection from "./connection.ts"
import { clientError, withoutFencing, withoutTopic } from "./errors.ts"
import * as Internals from "./internals.ts"

/** Without a name the metadata of all topics would come; whether this one exists does not matter. */
export const anyTopic = "__consumer_offsets"

export type LookupError = ClientError | UnknownTopicError

const coordinatorTypes = { group: 0, transaction: 1 } as const

type CoordinatorType = keyof typeof coordinatorTypes

export class ClusterRequests {
  private readonly environment: Connection.Environment
  private readonly connection: Connection.Connection
  private readonly cluster: Internals.OpenCluster
  private readonly pool: Internals.BrokerPool
  /** kafkajs keeps the last answer alone. */
  private readonly oneLookup = Effect.unsafeMakeSemaphore(1)
  private readonly coordinators = new Map<string, Internals.Broker>()
  /** Those that kafkajs does not look after. */
  private readonly own = new Set<Internals.Broker>()

  constructor(environment: Connection.Environment, connection: Connection.Connection) {
    this.environment = environment
    this.connection = connection
    this.cluster = Internals.open(connection.kafka)
    this.pool = this.cluster.brokerPool
  }

  /** Connects to any broker, and is let in, within the connection timeout. */
  get connect(): Effect.Effect<void, ClientError> {
    const { cluster, environment, pool } = this
    // a listener that asks for SASL lets nobody without it do more than shake hands
    const connect = environment.config.security._tag === "Sasl"
      ? () => cluster.connect()
      : () => cluster.connect().then(() => pool.refreshMetadata([anyTopic]))
    return Connection.establish(environment, this.connection, { connect }, "connect")
  }

  get close(): Effect.Effect<void> {
    return Connection.close(this.connection, {
      disconnect: () => Promise.all([this.cluster, ...this.own].map((one) => one.disconnect()))
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // brokers, connected
  // -------------------------------------------------------------------------------------------------------------------

  any(): Promise<Internals.Broker> {
    return this.pool.findConnectedBroker()
  }

  /** It has to have been seen in some metadata. */
  broker(nodeId: number): Promise<Internals.Broker> {
    return this.pool.findBroker({ nodeId })
  }

  /** The coordinator of a group or of a transactional id. */
  async coordinator(type: CoordinatorType, name: string): Promise<Internals.Broker> {
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
  forgetCoordinator(type: CoordinatorType, name: string): void {
    this.coordinators.delete(`${type} ${name}`)
  }

  /** A broker that no metadata was needed of yet. */
  private async unseen(
    { host, nodeId, port }: { readonly nodeId: number; readonly host: string; readonly port: number }
  ): Promise<Internals.Broker> {
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

  // -------------------------------------------------------------------------------------------------------------------
  // metadata
  // -------------------------------------------------------------------------------------------------------------------

  /** What the cluster says of these topics, of all of them if none is named, and of itself. One request. */
  metadata(operation: string, topics: ReadonlyArray<string>): Effect.Effect<Internals.Metadata, ClientError> {
    const attempt = Connection.attempt(this.environment, operation)
    return Effect.tryPromise({
      try: () => this.pool.refreshMetadata(topics).then(() => this.pool.metadata!),
      catch: (error) => withoutTopic(clientError(error, attempt))
    }).pipe(
      Effect.timeoutFail({
        duration: attempt.millis,
        onTimeout: () => new KafkaTimeoutError({ operation, millis: attempt.millis })
      }),
      this.oneLookup.withPermits(1)
    )
  }

  /** The same by topic, each with its own error. */
  topics(
    operation: string,
    topics: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyMap<string, Internals.TopicMetadata | LookupError>, ClientError> {
    if (topics.length === 0) return Effect.succeed(new Map())
    return Effect.map(this.metadata(operation, topics), ({ topicMetadata }) => {
      const out = new Map<string, Internals.TopicMetadata | LookupError>()
      for (const topic of topics) {
        const found = topicMetadata.find((one) => one.topic === topic)
        out.set(
          topic,
          found === undefined
            ? new UnknownTopicError({ operation, topic })
            : found.error === undefined
            ? found
            : withoutFencing(clientError(found.error, Connection.attempt(this.environment, operation, { topic })))
        )
      }
      return out
    })
  }
}

export const isMetadata = (found: Internals.TopicMetadata | LookupError): found is Internals.TopicMetadata =>
  !("_tag" in found)

export const leadersOf = ({ partitionMetadata }: Internals.TopicMetadata): Leaders =>
  new Map(partitionMetadata.map(({ leader, partitionId }) => [partitionId, leader < 0 ? undefined : leader]))
