/**
 * The brokers of a cluster: connections to any of them, to one by its id, to a coordinator; and what the cluster says of
 * itself and its topics.
 *
 * Nothing here asks twice: a failure is typed, and says whether the same may succeed later.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { setMaxListeners } from "node:events"
import { type ClientError, UnknownTopicError } from "../../KafkaError.ts"
import * as Connection from "./connection.ts"
import {
  type Attempt,
  clientError,
  ConnectionProblem,
  meaning,
  Misunderstood,
  type TypedError,
  withoutFencing,
  withoutTopic
} from "./errors.ts"

// ---------------------------------------------------------------------------------------------------------------------
// what is known of topics
// ---------------------------------------------------------------------------------------------------------------------

export interface PartitionMetadata {
  readonly partition: number
  /** Broker id; `undefined` while nobody leads it. */
  readonly leader: number | undefined
  readonly leaderEpoch: number
  readonly replicas: ReadonlyArray<number>
  readonly inSyncReplicas: ReadonlyArray<number>
}

export interface TopicMetadata {
  readonly _tag: "TopicMetadata"
  readonly topic: string
  readonly topicId: string
  readonly isInternal: boolean
  readonly partitions: ReadonlyMap<number, PartitionMetadata>
}

export type LookupError = ClientError | UnknownTopicError

export interface BrokerAddress extends Connection.Address {
  readonly nodeId: number
}

export interface ClusterMetadata {
  readonly clusterId: string
  readonly controller: number | undefined
  readonly brokers: ReadonlyArray<BrokerAddress>
  /** By name. Each topic has its own error. */
  readonly topics: ReadonlyMap<string, TopicMetadata | LookupError>
}

export const isMetadata = (found: TopicMetadata | LookupError): found is TopicMetadata => found._tag === "TopicMetadata"

/** A topic as it was last seen. */
interface Known {
  readonly metadata: TopicMetadata
  /** By this process's clock. */
  readonly at: number
  /** Whether it turned out not to be so any more. */
  stale: boolean
}

// ---------------------------------------------------------------------------------------------------------------------
// the cluster
// ---------------------------------------------------------------------------------------------------------------------

const coordinatorTypes = { group: 0, transaction: 1 } as const

export type CoordinatorType = keyof typeof coordinatorTypes

export interface Options {
  readonly clientId?: string | undefined
  /** Of requests on the shared connections, in milliseconds; that of the configuration if absent. */
  readonly requestTimeout?: number | undefined
}

/** A connection of somebody's own. */
export interface Dedicated {
  /** Tells it from others to the same broker. */
  readonly purpose: string
  /** In milliseconds. */
  readonly requestTimeout: number
}

const parse = (broker: string): Connection.Address => {
  const colon = broker.lastIndexOf(":")
  return { host: broker.slice(0, colon).replace(/^\[(.*)\]$/, "$1"), port: Number(broker.slice(colon + 1)) }
}

const pauseFirst = 50
const pauseMost = 500

export class Cluster {
  readonly environment: Connection.Environment
  private readonly clientId: string
  private readonly requestTimeout: number
  private readonly connectionTimeout: number
  private readonly bootstrap: ReadonlyArray<Connection.Address>
  private readonly brokers = new Map<number, Connection.Address>()
  private readonly coordinators = new Map<string, number>()
  private readonly topics = new Map<string, Known>()
  /** Under way and open, by purpose and address. */
  private readonly opening = new Map<string, Promise<Connection.Connection>>()
  private readonly open = new Map<string, Connection.Connection>()
  private readonly closing = new AbortController()

  constructor(environment: Connection.Environment, options: Options = {}) {
    const { config } = environment
    this.environment = environment
    this.clientId = options.clientId ?? config.clientId
    this.requestTimeout = options.requestTimeout ?? Duration.toMillis(config.requestTimeout)
    this.connectionTimeout = Duration.toMillis(config.connectionTimeout)
    this.bootstrap = config.brokers.map(parse)
    // one for each broker that is being connected to
    setMaxListeners(0, this.closing.signal)
  }

  /**
   * Connects to any broker, and is let in: a listener that asks for SASL lets nobody without it do more than shake
   * hands. Tries again until the connection timeout where none is reachable.
   */
  get connect(): Effect.Effect<void, ClientError> {
    return Effect.suspend(() => {
      let last: ClientError | undefined
      const loop = (pause: number): Effect.Effect<void, ClientError> =>
        Effect.catchAll(Effect.asVoid(this.metadata("connect", [])), (error) => {
          last = error
          return isPassing(error)
            ? Effect.zipRight(Effect.sleep(pause), Effect.suspend(() => loop(Math.min(pauseMost, pause * 2))))
            : Effect.fail(error)
        })
      return Effect.timeoutFail(loop(pauseFirst), {
        duration: this.connectionTimeout,
        onTimeout: () =>
          last ??
            this.clientError("connect", new ConnectionProblem("no broker answers"), { millis: this.connectionTimeout })
      })
    })
  }

  /** Ends all connections, those too that are under way; none is opened after this. */
  readonly close: Effect.Effect<void> = Effect.sync(() => {
    this.closing.abort()
    for (const one of this.open.values()) one.close()
  })

  // -------------------------------------------------------------------------------------------------------------------
  // errors
  // -------------------------------------------------------------------------------------------------------------------

  /** What an error of this operation has to say. */
  attempt(operation: string, about?: Parameters<typeof Connection.attempt>[2]): Attempt {
    return Connection.attempt(this.environment, operation, { millis: this.requestTimeout, ...about })
  }

  /** What was thrown, or a `RequestFailure`, as a typed error. */
  typedError(operation: string, error: unknown, about?: Parameters<typeof Connection.attempt>[2]): TypedError {
    return clientError(
      error instanceof Connection.RequestFailure ? error.error : error,
      this.attempt(operation, about)
    )
  }

  /** The same for what is about no topic and no transaction. */
  clientError(operation: string, error: unknown, about?: Parameters<typeof Connection.attempt>[2]): ClientError {
    return withoutTopic(this.typedError(operation, error, about))
  }

  /** The same for what is about topics, and no transaction. */
  lookupError(operation: string, error: unknown, about?: Parameters<typeof Connection.attempt>[2]): LookupError {
    return withoutFencing(this.typedError(operation, error, about))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // connections
  // -------------------------------------------------------------------------------------------------------------------

  /** To any broker that answers: one that is open already, or else the first that can be reached. */
  any(operation: string): Effect.Effect<Connection.Connection, ClientError> {
    return Effect.tryPromise({ try: () => this.findAny(), catch: (error) => this.connectError(operation, error) })
  }

  /** To one broker, which has to have been seen in some metadata. */
  broker(
    operation: string,
    nodeId: number,
    dedicated?: Dedicated
  ): Effect.Effect<Connection.Connection, ClientError> {
    return Effect.suspend(() => {
      const open = dedicated === undefined ? this.openTo(nodeId) : undefined
      return open === undefined
        ? Effect.tryPromise({
          try: () => this.connectTo(nodeId, dedicated),
          catch: (error) => this.connectError(operation, error)
        })
        : Effect.succeed(open)
    })
  }

  /** The shared connection to a broker, if it is open. */
  openTo(nodeId: number): Connection.Connection | undefined {
    const address = this.brokers.get(nodeId)
    const found = address === undefined ? undefined : this.open.get(nameOf(address, undefined))
    return found?.isOpen === true ? found : undefined
  }

  /** The same as `broker`, as a promise that rejects with what was thrown. */
  connectTo(nodeId: number, dedicated?: Dedicated): Promise<Connection.Connection> {
    const address = this.brokers.get(nodeId)
    return address === undefined
      ? Promise.reject(unseen(nodeId))
      : this.connectToAddress(address, dedicated)
  }

  /** The coordinator of a group or of a transactional id. */
  coordinator(
    operation: string,
    type: CoordinatorType,
    name: string,
    dedicated?: Dedicated
  ): Effect.Effect<Connection.Connection, ClientError> {
    const about = {
      ...(type === "group" ? { group: name } : { transactionalId: name }),
      millis: this.connectionTimeout
    }
    return Effect.tryPromise({
      try: () => this.findCoordinator(type, name, dedicated),
      catch: (error) => this.clientError(operation, error, about)
    })
  }

  /** The same as a promise that rejects with what was thrown. */
  async findCoordinator(
    type: CoordinatorType,
    name: string,
    dedicated?: Dedicated
  ): Promise<Connection.Connection> {
    const key = `${type} ${name}`
    let nodeId = this.coordinators.get(key)
    if (nodeId === undefined) {
      const any = await this.findAny()
      const { coordinators } = await any.call(this.environment.apis.findCoordinator, coordinatorTypes[type], [name])
      const found = coordinators[0]
      if (found === undefined) throw new Misunderstood("MALFORMED_RESPONSE", "the answer names no coordinator")
      nodeId = found.nodeId
      this.brokers.set(nodeId, { host: found.host, port: found.port })
      this.coordinators.set(key, nodeId)
    }
    try {
      return await this.connectTo(nodeId, dedicated)
    } catch (error) {
      this.forgetCoordinator(type, name)
      throw error
    }
  }

  /** It may be another one by now. */
  forgetCoordinator(type: CoordinatorType, name: string): void {
    this.coordinators.delete(`${type} ${name}`)
  }

  private connectError(operation: string, error: unknown): ClientError {
    return this.clientError(operation, error, { millis: this.connectionTimeout })
  }

  /** The same as `any`, as a promise that rejects with what was thrown. */
  async findAny(): Promise<Connection.Connection> {
    let idle: Connection.Connection | undefined
    for (const [name, one] of this.open) {
      // a broker that is slow to answer others is no help
      if (one.isOpen && isShared(name) && (idle === undefined || one.underWay < idle.underWay)) idle = one
    }
    if (idle !== undefined) return idle
    let last: unknown
    const seen = new Set<string>()
    for (const address of [...this.brokers.values(), ...this.bootstrap]) {
      const name = nameOf(address, undefined)
      if (seen.has(name)) continue
      seen.add(name)
      try {
        return await this.connectToAddress(address)
      } catch (error) {
        last = error
        // the others would say the same
        if (meaning(error)._tag === "Authentication") break
      }
    }
    throw last
  }

  private connectToAddress(address: Connection.Address, dedicated?: Dedicated): Promise<Connection.Connection> {
    const name = nameOf(address, dedicated)
    const open = this.open.get(name)
    if (open?.isOpen === true) return Promise.resolve(open)
    const under = this.opening.get(name)
    if (under !== undefined) return under
    const opening = this.openNew(name, address, dedicated).finally(() => this.opening.delete(name))
    this.opening.set(name, opening)
    return opening
  }

  private async openNew(
    name: string,
    address: Connection.Address,
    dedicated: Dedicated | undefined
  ): Promise<Connection.Connection> {
    const { signal } = this.closing
    if (signal.aborted) throw new ConnectionProblem("this connection was closed")
    const count = this.bootstrap.length
    const connection = await Connection.Connection.open(this.environment, address, {
      clientId: this.clientId,
      requestTimeout: dedicated?.requestTimeout ?? this.requestTimeout,
      // each broker of the list gets its share of the time in which one has to be reached
      connectTimeout: Math.min(this.connectionTimeout, Math.max(1000, Math.floor(this.connectionTimeout / count))),
      signal
    })
    if (signal.aborted) {
      connection.close()
      throw new ConnectionProblem("this connection was closed")
    }
    this.open.set(name, connection)
    connection.onClose(() => {
      if (this.open.get(name) === connection) this.open.delete(name)
    })
    return connection
  }

  // -------------------------------------------------------------------------------------------------------------------
  // metadata
  // -------------------------------------------------------------------------------------------------------------------

  /** What the cluster says of itself and of these topics, or of all. One request to any broker. */
  metadata(operation: string, topics: ReadonlyArray<string> | "all"): Effect.Effect<ClusterMetadata, ClientError> {
    const { apis } = this.environment
    return Effect.flatMap(
      this.any(operation),
      (connection) =>
        connection.ask(apis.metadata, topics === "all" ? null : [...topics], false, false).pipe(
          Effect.mapError((failure) => this.clientError(operation, failure)),
          Effect.map((answer) => {
            this.brokers.clear()
            for (const { host, nodeId, port } of answer.brokers) this.brokers.set(nodeId, { host, port })
            const at = Date.now()
            const found = new Map<string, TopicMetadata | LookupError>()
            for (const one of answer.topics) {
              const topic = one.name ?? ""
              const error = Connection.answeredError(this.environment, one.errorCode)
              if (error !== undefined) {
                const typed = this.lookupError(operation, error, { topic })
                found.set(topic, typed)
                if (typed._tag === "UnknownTopicError") this.topics.delete(topic)
                continue
              }
              const metadata = newer(topicMetadata(topic, one), this.topics.get(topic)?.metadata)
              found.set(topic, metadata)
              this.topics.set(topic, { metadata, at, stale: false })
            }
            if (topics !== "all") {
              for (const topic of topics) {
                if (!found.has(topic)) found.set(topic, new UnknownTopicError({ operation, topic }))
              }
            }
            return {
              clusterId: answer.clusterId ?? "",
              controller: answer.controllerId < 0 ? undefined : answer.controllerId,
              brokers: answer.brokers.map(({ host, nodeId, port }) => ({ nodeId, host, port })),
              topics: found
            }
          })
        )
    )
  }

  /** Topics as they are now, or were at most `age` milliseconds ago; each has its own error. */
  lookUp(
    operation: string,
    topics: ReadonlyArray<string>,
    age = 0
  ): Effect.Effect<ReadonlyMap<string, TopicMetadata | LookupError>, ClientError> {
    return Effect.suspend(() => {
      const out = new Map<string, TopicMetadata | LookupError>()
      const missing: Array<string> = []
      const now = Date.now()
      for (const topic of topics) {
        const known = this.topics.get(topic)
        if (known !== undefined && !known.stale && now - known.at < age) out.set(topic, known.metadata)
        else missing.push(topic)
      }
      if (missing.length === 0) return Effect.succeed(out)
      return Effect.map(this.metadata(operation, missing), (found) => {
        for (const [topic, one] of found.topics) out.set(topic, one)
        return out
      })
    })
  }

  /** A topic as it was last seen, however long ago. */
  known(topic: string): TopicMetadata | undefined {
    return this.topics.get(topic)?.metadata
  }

  /** Who leads a partition, as far as is known. */
  leader(topic: string, partition: number): number | undefined {
    return this.topics.get(topic)?.metadata.partitions.get(partition)?.leader
  }

  /** What is known of the topic is not so any more. */
  doubt(topic: string): void {
    const known = this.topics.get(topic)
    if (known !== undefined) known.stale = true
  }

  /** Whether the topic has to be asked about: nothing is known of it, or it is in doubt. */
  isUnclear(topic: string): boolean {
    return this.topics.get(topic)?.stale !== false
  }
}

const nameOf = ({ host, port }: Connection.Address, dedicated: Dedicated | undefined): string =>
  `${dedicated?.purpose ?? ""} ${host}:${port}`

const isShared = (name: string): boolean => name.startsWith(" ")

const unseen = (nodeId: number): Error =>
  new ConnectionProblem(`broker ${nodeId} is not among those that the cluster knows just now`)

/** Whether the same request may be answered differently later. */
export const isPassing = (error: ClientError | UnknownTopicError): boolean =>
  error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
  (error._tag === "KafkaRequestError" && error.retriable)

/** A topic as the library reads it. */
interface AnsweredTopic {
  readonly topicId: string
  readonly isInternal: boolean
  readonly partitions: ReadonlyArray<{
    readonly partitionIndex: number
    readonly leaderId: number
    readonly leaderEpoch: number
    readonly replicaNodes: ReadonlyArray<number>
    readonly isrNodes: ReadonlyArray<number>
  }>
}

const topicMetadata = (topic: string, one: AnsweredTopic): TopicMetadata => ({
  _tag: "TopicMetadata",
  topic,
  topicId: one.topicId,
  isInternal: one.isInternal,
  partitions: new Map(
    one.partitions.map((partition) => [partition.partitionIndex, {
      partition: partition.partitionIndex,
      leader: partition.leaderId < 0 ? undefined : partition.leaderId,
      leaderEpoch: partition.leaderEpoch,
      replicas: partition.replicaNodes,
      inSyncReplicas: partition.isrNodes
    }])
  )
})

/** Brokers hear of a new leader at different times: what one of them said before is not taken back by another. */
const newer = (found: TopicMetadata, before: TopicMetadata | undefined): TopicMetadata => {
  if (before === undefined || before.topicId !== found.topicId) return found
  const partitions = new Map(found.partitions)
  for (const [partition, one] of found.partitions) {
    const known = before.partitions.get(partition)
    if (known !== undefined && known.leaderEpoch > one.leaderEpoch) partitions.set(partition, known)
  }
  return { ...found, partitions }
}
