/**
 * The contract between the engine and a driver: bytes in, bytes out, pull-shaped. Nothing above it knows a Kafka
 * client, nothing below it knows a user's types. `KafkaJs.layer` and `InMemoryKafka.layer` provide it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type {
  ClientError,
  CommitError,
  ConsumerError,
  KafkaAuthorizationError,
  ProducerError,
  ProducerFencedError,
  UnknownTopicError,
  UnsupportedFeatureError
} from "./KafkaError.ts"
import type { RecordHeaders } from "./RecordHeaders.ts"
import type * as TopicPartition from "./TopicPartition.ts"

// ---------------------------------------------------------------------------------------------------------------------
// what a driver can do
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What a driver can do. What it can't is refused where it is asked for, never done more weakly in silence.
 *
 * @since 0.1.0
 * @category models
 */
export interface Capabilities {
  /** `onRevoked` is awaited before the group goes on. */
  readonly awaitedRevoke: boolean
  /** Incremental rebalancing: only the partitions that move are revoked. */
  readonly cooperative: boolean
  /** A partition without demand is not fetched, and does not delay others. */
  readonly perPartitionDemand: boolean
  /** Offsets of a transaction are fenced by member and generation. */
  readonly transactionalGroupMetadata: boolean
  /** A member with an instance id keeps its partitions over a restart. */
  readonly staticMembership: boolean
  /** The group protocol of KIP-848. */
  readonly consumerProtocol: boolean
}

// ---------------------------------------------------------------------------------------------------------------------
// consuming
// ---------------------------------------------------------------------------------------------------------------------

/**
 * How to read the driver's own record objects. The engine passes them on as they are, so that what is never looked at
 * (a timestamp, headers) is never computed.
 *
 * Keys and values may be views into a larger buffer: copy what is kept for long.
 *
 * @since 0.1.0
 * @category models
 */
export interface RecordView<Raw = unknown> {
  offset(raw: Raw): bigint
  /** Milliseconds since 1970, exact. */
  timestamp(raw: Raw): bigint
  key(raw: Raw): Uint8Array | null
  value(raw: Raw): Uint8Array | null
  headers(raw: Raw): RecordHeaders
}

/**
 * Records of one partition, in order, none of them a control record.
 *
 * @since 0.1.0
 * @category models
 */
export interface FetchedChunk<Raw = unknown> {
  readonly _tag: "Chunk"
  readonly topicPartition: TopicPartition.TopicPartition
  /** May be empty: a fetch can consist of transaction markers or compacted gaps alone, and the position moves on. */
  readonly records: ReadonlyArray<Raw>
  readonly view: RecordView<Raw>
  /** The size of the records in bytes, as far as the driver knows: keys, values and headers. */
  readonly bytes: number
  /** The position after this chunk, past control records and gaps. */
  readonly nextOffset: bigint
  /** The end of the log as this reader may see it (the last stable offset when reading committed). */
  readonly highWatermark: bigint
}

/**
 * What went wrong with one partition, while others go on.
 *
 * @since 0.1.0
 * @category models
 */
export type PartitionFault =
  | { readonly _tag: "OutOfRange"; readonly topicPartition: TopicPartition.TopicPartition; readonly offset: bigint }
  | {
    readonly _tag: "Failed"
    readonly topicPartition: TopicPartition.TopicPartition
    readonly error: UnknownTopicError | KafkaAuthorizationError
  }

/**
 * @since 0.1.0
 * @category models
 */
export type Fetched = FetchedChunk | PartitionFault

/**
 * What a session reads: topics by name or by pattern as a member of the group, or given partitions without a group.
 *
 * @since 0.1.0
 * @category models
 */
export type Subscription =
  | { readonly _tag: "Topics"; readonly topics: ReadonlySet<string> }
  | { readonly _tag: "Pattern"; readonly pattern: RegExp }
  | { readonly _tag: "Manual"; readonly partitions: ReadonlyArray<TopicPartition.TopicPartition> }

/**
 * Called by the driver, and awaited by it.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerCallbacks {
  /**
   * These partitions are ours from now on. Answers the offset to start from for each; fetching of a partition starts
   * only afterwards. With an eager protocol every rebalance revokes all and assigns anew.
   */
  readonly onAssigned: (
    partitions: ReadonlyArray<TopicPartition.TopicPartition>
  ) => Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>>
  /**
   * These partitions are about to be taken away. The driver keeps the session alive and holds the rejoin until this
   * ends (where it has `awaitedRevoke`); commits still count meanwhile. Bounded in time by the engine.
   */
  readonly onRevoked: (partitions: ReadonlyArray<TopicPartition.TopicPartition>) => Effect.Effect<void>
  /** These partitions are somebody else's already: no commit is possible any more. */
  readonly onLost: (partitions: ReadonlyArray<TopicPartition.TopicPartition>) => Effect.Effect<void>
  /** Anything worth telling that changes nothing: a rebalance began, a broker was lost and found. */
  readonly onNotice: (notice: ConsumerNotice) => void
}

/**
 * @since 0.1.0
 * @category models
 */
export type ConsumerNotice =
  /** `generation` is `undefined` where a driver learns it only later. `millis` as with a heartbeat. */
  | {
    readonly _tag: "Joined"
    readonly memberId: string
    readonly generation: number | undefined
    readonly millis?: number | undefined
  }
  | { readonly _tag: "Rebalancing" }
  /**
   * One was answered as to a member: well, or with the news that the group rebalances. `millis` is how long ago its request was sent: in a process that was frozen an answer may
   * have lain about for longer than the session lasted. After `Joined`, the engine hands nothing out once the session
   * timeout is over without one.
   */
  | { readonly _tag: "Heartbeat"; readonly millis?: number | undefined }
  | { readonly _tag: "Disconnected"; readonly reason: string }
  | { readonly _tag: "Reconnected" }

/**
 * Durations are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerSessionOptions {
  readonly groupId: string
  readonly clientId?: string | undefined
  readonly groupInstanceId?: string | undefined
  readonly isolationLevel: "read_committed" | "read_uncommitted"
  readonly assignment: "eager" | "cooperative"
  /** `"consumer"` is the protocol of KIP-848; `"classic"` if absent. */
  readonly groupProtocol?: "classic" | "consumer" | undefined
  readonly sessionTimeout: number
  readonly heartbeatInterval: number
  readonly rebalanceTimeout: number
  /** Most bytes of one partition in one fetch response. */
  readonly fetchMaxBytesPerPartition: number
  /** Most bytes of one fetch response. */
  readonly fetchMaxBytes: number
  readonly fetchMinBytes: number
  /** How long the broker may hold a fetch that has nothing to return. */
  readonly fetchMaxWait: number
  /** How long the cluster may be out of reach before the session fails. */
  readonly unavailableAfter: number
  readonly callbacks: ConsumerCallbacks
}

/**
 * How much more of a partition may be delivered.
 *
 * @since 0.1.0
 * @category models
 */
export interface Demand {
  /** Upper bound in bytes, soft by one fetch response. */
  readonly maxBytes: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface OffsetAndMetadata {
  readonly topic: string
  readonly partition: number
  /** The next offset to be read. */
  readonly offset: bigint
  readonly metadata?: string | undefined
}

/**
 * Where in a log: its ends, or the first record not older than a time (milliseconds since 1970).
 *
 * @since 0.1.0
 * @category models
 */
export type OffsetSpec = "earliest" | "latest" | { readonly timestamp: bigint }

/**
 * Who a member is to its group's coordinator: the fence of a transaction's offsets.
 *
 * @since 0.1.0
 * @category models
 */
export interface GroupMetadata {
  readonly groupId: string
  readonly memberId: string
  readonly generation: number
  readonly groupInstanceId?: string | undefined
}

/**
 * One consumer's conversation with the cluster. All of it is used by the run loop's fiber alone, but for `wake`.
 * The Scope it was opened in closes it: it leaves the group, bounded in time.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerSession {
  readonly capabilities: Capabilities
  /**
   * Joins the group, or changes what is read. Ends when the driver has taken it up, before the assignment comes.
   * An empty set of topics leaves the group (after `onRevoked`), and a later call joins again.
   */
  readonly subscribe: (
    subscription: Subscription
  ) => Effect.Effect<void, ClientError | ConsumerError | UnknownTopicError | UnsupportedFeatureError>
  /**
   * What has arrived. `demand` is a level that replaces the one before: a partition that is not in it is not fetched.
   * Waits up to `maxWait` milliseconds for something to arrive, or until `wake`; answers `[]` then.
   * Fails when the session can not go on; it is dead then.
   */
  readonly poll: (
    demand: ReadonlyMap<TopicPartition.Key, Demand>,
    maxWait: number
  ) => Effect.Effect<ReadonlyArray<Fetched>, ClientError | ConsumerError | UnknownTopicError>
  /** Ends a waiting `poll` at once, or the next one. Safe from anywhere. */
  readonly wake: () => void
  /**
   * One commit request for all of them, once: the caller retries. The engine gives only offsets of the current
   * assignment. `retriable` says whether the same request may succeed later.
   */
  readonly commit: (
    offsets: ReadonlyArray<OffsetAndMetadata>
  ) => Effect.Effect<void, { readonly error: CommitError | ClientError; readonly retriable: boolean }>
  /** Fetches go on from there. What was fetched before and not yet delivered is dropped. */
  readonly seek: (topicPartition: TopicPartition.TopicPartition, offset: bigint) => Effect.Effect<void>
  /** What the group has committed; a partition without a commit is absent. */
  readonly committed: (
    partitions: ReadonlyArray<TopicPartition.TopicPartition>
  ) => Effect.Effect<ReadonlyMap<TopicPartition.Key, OffsetAndMetadata>, ClientError>
  /**
   * Offsets of the log. `"latest"` is the end as this session's isolation level may see it. A timestamp after the last
   * record answers the end.
   */
  readonly offsets: (
    partitions: ReadonlyArray<TopicPartition.TopicPartition>,
    spec: OffsetSpec
  ) => Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, ClientError | UnknownTopicError>
  /** The partitions of a topic, by number. */
  readonly partitionsFor: (topic: string) => Effect.Effect<ReadonlyArray<number>, ClientError | UnknownTopicError>
  /** `undefined` while not joined. */
  readonly groupMetadata: () => GroupMetadata | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// producing
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A record on its way out, its partition chosen.
 *
 * @since 0.1.0
 * @category models
 */
export interface RawProducerRecord {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: RecordHeaders
  /** Milliseconds since 1970. */
  readonly timestamp: bigint
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ProducerBatch {
  readonly topic: string
  readonly partition: number
  readonly records: ReadonlyArray<RawProducerRecord>
}

/**
 * @since 0.1.0
 * @category models
 */
export type SendError = ProducerError | ProducerFencedError | UnknownTopicError | ClientError

/**
 * What became of one batch.
 *
 * @since 0.1.0
 * @category models
 */
export type BatchResult =
  | {
    readonly _tag: "Stored"
    readonly baseOffset: bigint
    /** Set where the topic stamps records by the broker's clock. */
    readonly logAppendTime?: bigint | undefined
  }
  | {
    readonly _tag: "Failed"
    readonly error: SendError
    /**
     * - `"retry"`: certainly not stored; sending it again, before later batches of the partition, keeps all promises.
     * - `"pending"`: perhaps stored, and the session goes on to find out. Sending the very same batch again, with the
     *   same `records` array, asks what has become of it and can't store it twice. Nothing later of its partition is
     *   sent before; batches of other partitions need not wait.
     * - `"unknown"`: perhaps stored; sending it again may store it twice.
     * - `"refuse"`: not stored, and would not be if sent again.
     */
    readonly outcome: "retry" | "pending" | "unknown" | "refuse"
  }

/**
 * @since 0.1.0
 * @category models
 */
export type CompressionType = "none" | "gzip" | "snappy" | "lz4" | "zstd"

/**
 * Durations are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProducerSessionOptions {
  readonly clientId?: string | undefined
  readonly acks: "all" | "leader" | "none"
  readonly idempotent: boolean
  readonly compression: CompressionType
  readonly transactionalId?: string | undefined
  readonly transactionTimeout: number
  /** How long one request may take before it counts as lost. */
  readonly requestTimeout: number
  /** How long the driver itself may go on retrying one `send`. */
  readonly deliveryTimeout: number
}

/**
 * One producer's conversation with the cluster. `send` is not called again before it has ended, unless
 * `maxInFlight` is above one.
 *
 * @since 0.1.0
 * @category models
 */
export interface ProducerSession {
  readonly capabilities: Capabilities
  /** How many `send`s may be under way at once without harm to order or to exactly-once storing. */
  readonly maxInFlight: number
  /** One result for each batch, in order. At most one batch for a partition. Never fails as a whole. */
  readonly send: (batches: ReadonlyArray<ProducerBatch>) => Effect.Effect<ReadonlyArray<BatchResult>>
  /** How many partitions a topic has, from the driver's cache of metadata. */
  readonly partitionCount: (topic: string) => Effect.Effect<number, ClientError | UnknownTopicError>
  readonly begin: Effect.Effect<void, SendError>
  readonly sendOffsets: (
    offsets: ReadonlyArray<OffsetAndMetadata>,
    group: GroupMetadata
  ) => Effect.Effect<void, SendError | CommitError>
  readonly commit: Effect.Effect<void, SendError>
  readonly abort: Effect.Effect<void, SendError>
}

// ---------------------------------------------------------------------------------------------------------------------
// administration
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category models
 */
export interface NewTopic {
  readonly topic: string
  /** `-1`: the broker's default. */
  readonly partitions: number
  /** `-1`: the broker's default. */
  readonly replicationFactor: number
  readonly config: Readonly<Record<string, string>>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PartitionDescription {
  readonly partition: number
  /** Broker id; `undefined` while the partition has no leader. */
  readonly leader: number | undefined
  readonly replicas: ReadonlyArray<number>
  readonly inSyncReplicas: ReadonlyArray<number>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface TopicDescription {
  readonly topic: string
  readonly partitions: ReadonlyArray<PartitionDescription>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ConfigEntry {
  readonly value: string | null
  /** Whether nobody set it: the broker's default. */
  readonly isDefault: boolean
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ClusterDescription {
  readonly clusterId: string
  readonly controller: number | undefined
  readonly brokers: ReadonlyArray<{ readonly id: number; readonly host: string; readonly port: number }>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface GroupDescription {
  readonly groupId: string
  /** `"Empty"`, `"Stable"`, `"PreparingRebalance"`, `"CompletingRebalance"`, `"Dead"`, as the broker names them. */
  readonly state: string
  readonly protocolType: string
  readonly members: ReadonlyArray<{
    readonly memberId: string
    readonly clientId: string
    readonly host: string
    readonly assignment: ReadonlyArray<TopicPartition.TopicPartition>
  }>
}

/**
 * Requests that concern the cluster rather than one producer or consumer.
 *
 * @since 0.1.0
 * @category models
 */
export interface AdminSession {
  readonly listTopics: Effect.Effect<ReadonlyArray<string>, ClientError>
  readonly describeTopics: (
    topics: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<TopicDescription>, ClientError | UnknownTopicError>
  /** Answers which were created: a topic that exists already is not an error, and is not among them. */
  readonly createTopics: (topics: ReadonlyArray<NewTopic>) => Effect.Effect<ReadonlyArray<string>, ClientError>
  readonly deleteTopics: (topics: ReadonlyArray<string>) => Effect.Effect<void, ClientError | UnknownTopicError>
  /** Sets the number of partitions, which can only grow. */
  readonly createPartitions: (
    topic: string,
    total: number
  ) => Effect.Effect<void, ClientError | UnknownTopicError>
  readonly describeTopicConfigs: (
    topics: ReadonlyArray<string>
  ) => Effect.Effect<
    ReadonlyMap<string, Readonly<Record<string, ConfigEntry>>>,
    ClientError | UnknownTopicError
  >
  readonly alterTopicConfig: (
    topic: string,
    entries: Readonly<Record<string, string>>
  ) => Effect.Effect<void, ClientError | UnknownTopicError>
  readonly listOffsets: (
    partitions: ReadonlyArray<TopicPartition.TopicPartition>,
    spec: OffsetSpec
  ) => Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, ClientError | UnknownTopicError>
  /** Deletes the records before the offset given for each partition. */
  readonly deleteRecords: (
    offsets: ReadonlyMap<TopicPartition.Key, bigint>
  ) => Effect.Effect<void, ClientError | UnknownTopicError>
  readonly listGroups: Effect.Effect<
    ReadonlyArray<{ readonly groupId: string; readonly protocolType: string }>,
    ClientError
  >
  readonly describeGroups: (
    groupIds: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<GroupDescription>, ClientError>
  readonly deleteGroups: (groupIds: ReadonlyArray<string>) => Effect.Effect<void, ClientError>
  /** All the group has committed. */
  readonly groupOffsets: (
    groupId: string
  ) => Effect.Effect<ReadonlyMap<TopicPartition.Key, OffsetAndMetadata>, ClientError>
  /** Sets committed offsets of a group without members; refused by the broker while it has some. */
  readonly alterGroupOffsets: (
    groupId: string,
    offsets: ReadonlyArray<OffsetAndMetadata>
  ) => Effect.Effect<void, ClientError>
  readonly describeCluster: Effect.Effect<ClusterDescription, ClientError>
}

// ---------------------------------------------------------------------------------------------------------------------
// the service
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** `"kafkajs"`, `"in-memory"`. */
  readonly driver: string
  readonly capabilities: Capabilities
  /** Connects, and fails within the connection timeout where it can't; joins no group before `subscribe`. */
  readonly openConsumer: (
    options: ConsumerSessionOptions
  ) => Effect.Effect<ConsumerSession, ClientError | UnsupportedFeatureError, Scope.Scope>
  readonly openProducer: (
    options: ProducerSessionOptions
  ) => Effect.Effect<
    ProducerSession,
    ClientError | ProducerFencedError | UnsupportedFeatureError,
    Scope.Scope
  >
  readonly openAdmin: Effect.Effect<AdminSession, ClientError, Scope.Scope>
}

/**
 * A driver.
 *
 * @since 0.1.0
 * @category tags
 */
export class KafkaClient extends Context.Tag("@coffeebuddy/kafka/KafkaClient")<KafkaClient, Service>() {}
