/**
 * kafkajs beyond its types: single requests to single brokers.
 *
 * kafkajs hands its cluster to partition assigners, and the cluster its brokers; they send one request each and retry
 * nothing. A consumer is made for that alone, and is never run. What of them is used here is written down as
 * interfaces; kafkajs is pinned to one version, and the tests on a real broker hold it to them.
 *
 * Three things are changed on the way. Where an answer is about several topics or partitions, kafkajs throws the first
 * error in it and drops the rest: here each part is put to kafkajs by itself, and has its own error. Brokers that have
 * yet to answer something else are not asked for metadata. And an idle connection is left in peace.
 */
import { type Cluster, type Kafka, PartitionAssigners, type PartitionMetadata } from "kafkajs"
import type { EncodedTopic } from "./producerRecords.ts"

// ---------------------------------------------------------------------------------------------------------------------
// requests
// ---------------------------------------------------------------------------------------------------------------------

export interface ProducerIdentity {
  /** An int64 as text. */
  readonly producerId: string
  readonly producerEpoch: number
}

interface InTransaction extends ProducerIdentity {
  readonly transactionalId: string
}

interface OfTopic<A> {
  readonly topic: string
  readonly partitions: ReadonlyArray<A>
}

interface CommittedOffset {
  readonly partition: number
  readonly offset: string
  readonly metadata?: string | undefined
}

/** Part of an answer. */
interface Part {
  readonly error?: unknown
}

export interface ProducedPartition extends Part {
  readonly partition: number
  readonly baseOffset: string
  readonly logAppendTime: string
}

/** A record as kafkajs decodes it. */
export interface RawRecord {
  readonly offset: string
  readonly timestamp?: string | undefined
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers?: Readonly<Record<string, Buffer | null | ReadonlyArray<Buffer | null>>> | undefined
  readonly isControlRecord?: boolean | undefined
  /** Absent for message formats before Kafka 0.11. */
  readonly batchContext?: {
    readonly firstOffset: string
    readonly lastOffsetDelta: number
    readonly producerId: string
    readonly inTransaction: boolean
  } | undefined
}

export interface FetchedPartition extends Part {
  readonly partition: number
  readonly highWatermark: string
  readonly lastStableOffset?: string | undefined
  readonly abortedTransactions?:
    | ReadonlyArray<{ readonly producerId: string; readonly firstOffset: string }>
    | null
    | undefined
  readonly messages: ReadonlyArray<RawRecord>
}

export interface FetchResponse {
  readonly responses: ReadonlyArray<{
    readonly topicName: string
    readonly partitions: ReadonlyArray<FetchedPartition>
  }>
}

export interface TopicMetadata extends Part {
  readonly topic: string
  readonly isInternal: boolean
  readonly partitionMetadata: ReadonlyArray<PartitionMetadata>
}

export interface Metadata {
  readonly brokers: ReadonlyArray<{ readonly nodeId: number; readonly host: string; readonly port: number }>
  readonly clusterId: string
  readonly controllerId: number
  readonly topicMetadata: ReadonlyArray<TopicMetadata>
}

export interface DescribedGroup {
  readonly groupId: string
  readonly state: string
  readonly protocolType: string
  readonly members: ReadonlyArray<{
    readonly memberId: string
    readonly clientId: string
    readonly clientHost: string
    readonly memberAssignment: Buffer
  }>
}

export interface Broker {
  readonly nodeId: number | null
  readonly connectionPool: ConnectionPool
  readonly isConnected: () => boolean
  readonly connect: () => Promise<void>
  readonly disconnect: () => Promise<void>

  readonly produce: (
    request: {
      readonly topicData: ReadonlyArray<EncodedTopic>
      readonly transactionalId: string | undefined
      readonly producerId: string | undefined
      readonly producerEpoch: number | undefined
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

  readonly findGroupCoordinator: (request: {
    readonly groupId: string
    readonly coordinatorType: number
  }) => Promise<{ readonly coordinator: { readonly nodeId: number; readonly host: string; readonly port: number } }>
  readonly initProducerId: (request: {
    readonly transactionalId: string | undefined
    readonly transactionTimeout: number
  }) => Promise<ProducerIdentity>
  readonly addPartitionsToTxn: (
    request: InTransaction & { readonly topics: ReadonlyArray<OfTopic<number>> }
  ) => Promise<{
    readonly errors: ReadonlyArray<{
      readonly topic: string
      readonly partitionErrors: ReadonlyArray<Part & { readonly partition: number }>
    }>
  }>
  readonly addOffsetsToTxn: (request: InTransaction & { readonly groupId: string }) => Promise<unknown>
  readonly txnOffsetCommit: (
    request: InTransaction & { readonly groupId: string; readonly topics: ReadonlyArray<OfTopic<CommittedOffset>> }
  ) => Promise<unknown>
  readonly endTxn: (request: InTransaction & { readonly transactionResult: boolean }) => Promise<unknown>

  readonly fetch: (request: {
    readonly isolationLevel: number
    readonly maxWaitTime: number
    readonly minBytes: number
    readonly maxBytes: number
    readonly topics: ReadonlyArray<
      OfTopic<{ readonly partition: number; readonly fetchOffset: string; readonly maxBytes: number }>
    >
  }) => Promise<FetchResponse>
  readonly listOffsets: (request: {
    readonly isolationLevel: number
    readonly topics: ReadonlyArray<OfTopic<{ readonly partition: number; readonly timestamp: number | bigint }>>
  }) => Promise<{
    readonly responses: ReadonlyArray<OfTopic<Part & { readonly partition: number; readonly offset: string }>>
  }>
  readonly deleteRecords: (request: {
    readonly topics: ReadonlyArray<OfTopic<{ readonly partition: number; readonly offset: string }>>
  }) => Promise<unknown>

  readonly createTopics: (request: {
    readonly timeout: number
    readonly topics: ReadonlyArray<{
      readonly topic: string
      readonly numPartitions: number
      readonly replicationFactor: number
      readonly configEntries: ReadonlyArray<{ readonly name: string; readonly value: string }>
    }>
  }) => Promise<{ readonly topicErrors: ReadonlyArray<Part & { readonly topic: string }> }>
  readonly deleteTopics: (request: {
    readonly timeout: number
    readonly topics: ReadonlyArray<string>
  }) => Promise<{ readonly topicErrors: ReadonlyArray<Part & { readonly topic: string }> }>
  readonly createPartitions: (request: {
    readonly timeout: number
    readonly topicPartitions: ReadonlyArray<{ readonly topic: string; readonly count: number }>
  }) => Promise<{ readonly topicErrors: ReadonlyArray<Part & { readonly topic: string }> }>
  readonly describeConfigs: (request: {
    readonly includeSynonyms: boolean
    readonly resources: ReadonlyArray<{
      readonly type: number
      readonly name: string
      /** All of them if absent. */
      readonly configNames?: ReadonlyArray<string>
    }>
  }) => Promise<{
    readonly resources: ReadonlyArray<
      Part & {
        readonly resourceName: string
        readonly configEntries: ReadonlyArray<{
          readonly configName: string
          readonly configValue: string | null
          readonly configSource: number
        }>
      }
    >
  }>
  readonly alterConfigs: (request: {
    readonly resources: ReadonlyArray<{
      readonly type: number
      readonly name: string
      readonly configEntries: ReadonlyArray<{ readonly name: string; readonly value: string }>
    }>
  }) => Promise<{ readonly resources: ReadonlyArray<Part> }>

  readonly listGroups: () => Promise<{
    readonly groups: ReadonlyArray<{ readonly groupId: string; readonly protocolType: string }>
  }>
  readonly describeGroups: (request: { readonly groupIds: ReadonlyArray<string> }) => Promise<{
    readonly groups: ReadonlyArray<DescribedGroup>
  }>
  readonly deleteGroups: (groupIds: ReadonlyArray<string>) => Promise<{ readonly results: ReadonlyArray<Part> }>
  readonly leaveGroup: (member: { readonly groupId: string; readonly memberId: string }) => Promise<unknown>
  readonly offsetFetch: (request: {
    readonly groupId: string
    /** All of them, if empty. */
    readonly topics: ReadonlyArray<OfTopic<{ readonly partition: number }>>
  }) => Promise<{ readonly responses: ReadonlyArray<OfTopic<CommittedOffset>> }>
  readonly offsetCommit: (request: {
    readonly groupId: string
    readonly memberId: string
    readonly groupGenerationId: number
    readonly topics: ReadonlyArray<OfTopic<CommittedOffset>>
  }) => Promise<unknown>
}

// ---------------------------------------------------------------------------------------------------------------------
// what is around them
// ---------------------------------------------------------------------------------------------------------------------

interface Response {
  readonly decode: (raw: unknown) => Promise<unknown>
  readonly parse: (data: unknown) => Promise<unknown>
}

interface Call {
  readonly request: { readonly apiKey: number }
  readonly response: Response
}

interface RequestQueue {
  readonly pending: ReadonlyArray<unknown>
  scheduleCheckPendingRequests: () => void
}

interface ConnectionPool {
  readonly host: string
  readonly port: number
  /** Two: one for fetches, one for the rest. */
  readonly pool: ReadonlyArray<{ readonly requestQueue: RequestQueue }>
  send: (call: Call) => Promise<unknown>
}

export interface BrokerPool {
  /** The last answer, whoever asked for it. */
  readonly metadata: Metadata | null
  readonly brokers: Readonly<Record<string, Broker>>
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
  }) => Broker
  /** Who is connected, or can be; needs no metadata. Metadata is asked of whom it finds. */
  findConnectedBroker: () => Promise<Broker>
  /** Connected; fails where the node is in no metadata yet. */
  readonly findBroker: (node: { readonly nodeId: number }) => Promise<Broker>
  /** Of all topics, if none is named. */
  readonly refreshMetadata: (topics: ReadonlyArray<string>) => Promise<void>
}

/** The cluster as it is, not as its types say. */
export type OpenCluster = Cluster & { readonly brokerPool: BrokerPool }

// ---------------------------------------------------------------------------------------------------------------------
// each part its own error
// ---------------------------------------------------------------------------------------------------------------------

type Data = Readonly<Record<string, unknown>>

/** Where an answer has its parts: in a list, or in lists in a list. */
const partsOf: Readonly<Record<number, readonly [outer: string, inner?: string]>> = {
  0: ["topics", "partitions"], // Produce
  1: ["responses", "partitions"], // Fetch
  2: ["responses", "partitions"], // ListOffsets
  3: ["topicMetadata"], // Metadata
  19: ["topicErrors"], // CreateTopics
  20: ["topicErrors"], // DeleteTopics
  24: ["errors", "partitionErrors"], // AddPartitionsToTxn
  32: ["resources"], // DescribeConfigs
  33: ["resources"], // AlterConfigs
  37: ["topicErrors"] // CreatePartitions
}

const listIn = (data: Data, name: string): ReadonlyArray<Data> => data[name] as ReadonlyArray<Data>

/** A partition without a leader is no reason to forget the others of its topic. */
const withoutPartitions = (part: Data): Data => "partitionMetadata" in part ? { ...part, partitionMetadata: [] } : part

const hasErrors = (thrown: unknown): thrown is { readonly errors: ReadonlyArray<unknown> } =>
  thrown instanceof Error && "errors" in thrown && Array.isArray(thrown.errors)

const judged = async (response: Response, part: Data, alone: (part: Data) => Data): Promise<Data> => {
  try {
    await response.parse(alone(withoutPartitions(part)))
    return part
  } catch (thrown) {
    const error: unknown = hasErrors(thrown) ? thrown.errors[0] : thrown
    // kafkajs drops what the broker says in words
    const { errorMessage } = part
    if (error instanceof Error && typeof errorMessage === "string") Object.assign(error, { errorMessage })
    return { ...part, error }
  }
}

const apart = async (response: Response, data: Data, [outer, inner]: readonly [string, string?]): Promise<Data> => ({
  ...data,
  [outer]: await Promise.all(
    listIn(data, outer).map(async (one) =>
      inner === undefined
        ? await judged(response, one, (part) => ({ ...data, [outer]: [part] }))
        : {
          ...one,
          [inner]: await Promise.all(
            listIn(one, inner).map((part) =>
              judged(response, part, (part) => ({ ...data, [outer]: [{ ...one, [inner]: [part] }] }))
            )
          )
        }
    )
  )
})

const withPartsApart = (call: Call): Call => {
  const { request, response } = call
  const parts = partsOf[request.apiKey]
  if (parts === undefined) return call
  return {
    ...call,
    response: {
      decode: response.decode,
      // most answers are without any error
      parse: (data) => response.parse(data).catch(() => apart(response, data as Data, parts))
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// a cluster
// ---------------------------------------------------------------------------------------------------------------------

/**
 * kafkajs looks a thousand times a second whether a request is waiting to be sent, once there has been one, for as long
 * as the connection lasts. Here it looks while one is.
 */
const calm = ({ requestQueue }: { readonly requestQueue: RequestQueue }): void => {
  const schedule = requestQueue.scheduleCheckPendingRequests.bind(requestQueue)
  requestQueue.scheduleCheckPendingRequests = () => {
    if (requestQueue.pending.length > 0) schedule()
  }
}

const fetch = 1

/** Hears what comes of requests, by their kind. */
export interface Listener {
  /** What it throws, the request fails with. It was sent at that time, in milliseconds since 1970, or a little later. */
  readonly answered: (apiKey: number, answer: unknown, sentAt: number) => void
  readonly failed: (apiKey: number, error: unknown, sentAt: number) => void
}

const deaf: Listener = { answered: () => {}, failed: () => {} }

/**
 * Changes a cluster that is not connected yet as is told above.
 */
export const opened = (cluster: Cluster, listener: Listener = deaf): OpenCluster => {
  const open = cluster as OpenCluster
  const pool = open.brokerPool
  const waiting = new Map<Broker, number>()
  /** Those that have not answered the last time. */
  const silent = new Set<Broker>()
  const { createBroker, findConnectedBroker } = pool
  pool.createBroker = (options) => {
    const broker = createBroker(options)
    const { connectionPool } = broker
    for (const connection of connectionPool.pool) calm(connection)
    const send = connectionPool.send.bind(connectionPool)
    connectionPool.send = async (call) => {
      const { apiKey } = call.request
      // fetches have a connection of their own, and are meant to wait
      const count = (by: 1 | -1): void =>
        void (apiKey !== fetch && waiting.set(broker, (waiting.get(broker) ?? 0) + by))
      count(1)
      const sentAt = Date.now()
      try {
        const answer = await send(withPartsApart(call))
        silent.delete(broker)
        listener.answered(apiKey, answer, sentAt)
        return answer
      } catch (error) {
        if (error instanceof Error && error.name === "KafkaJSRequestTimeoutError") silent.add(broker)
        listener.failed(apiKey, error, sentAt)
        throw error
      } finally {
        count(-1)
      }
    }
    return broker
  }
  // a broker answers in order, and one that is slow or frozen would hold up what any other can tell
  pool.findConnectedBroker = () => {
    const idle = Object.values(pool.brokers).filter((one) =>
      one.isConnected() && (waiting.get(one) ?? 0) === 0 && !silent.has(one)
    )
    const one = idle[Math.floor(Math.random() * idle.length)]
    return one === undefined ? findConnectedBroker.call(pool) : Promise.resolve(one)
  }
  return open
}

export const open = (kafka: Kafka): OpenCluster => {
  let captured: Cluster | undefined
  kafka.consumer({
    groupId: "never joined",
    allowAutoTopicCreation: false,
    partitionAssigners: [(config) => {
      captured = config.cluster
      return PartitionAssigners.roundRobin(config)
    }]
  })
  if (captured === undefined) throw new Error("kafkajs has not given its cluster to the partition assigner")
  return opened(captured)
}
