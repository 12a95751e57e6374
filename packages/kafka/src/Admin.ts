/**
 * Topics, partitions, configuration, groups, offsets and lag: what concerns the cluster rather than one producer or
 * consumer.
 *
 * Wherever a topic is asked for, a definition stands for its physical name, by `TopicRegistry`; a string is a physical
 * name already. Answers hold physical names.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { overSession } from "./engine/admin/overSession.ts"
import {
  type ClusterDescription,
  type ConfigEntry,
  type GroupDescription,
  KafkaClient,
  type TopicDescription
} from "./KafkaClient.ts"
import type { ClientError, GroupActiveError, UnknownTopicError } from "./KafkaError.ts"
import type * as Topic from "./Topic.ts"
import { TopicRegistry } from "./TopicRegistry.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A topic: a definition, or a physical name.
 *
 * @since 0.1.0
 * @category models
 */
export type TopicRef = Topic.Any | string

/**
 * A partition of a topic.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartitionRef {
  readonly topic: TopicRef
  readonly partition: number
}

/**
 * A topic to create, where there is no definition of it.
 *
 * @since 0.1.0
 * @category models
 */
export interface NewTopic {
  /** The physical name. */
  readonly topic: string
  /** The broker's default if absent. */
  readonly partitions?: number | undefined
  /** The broker's default if absent. */
  readonly replicationFactor?: number | undefined
  readonly config?: Readonly<Record<string, string>> | undefined
}

/**
 * Where in a log: its ends, or the first record not older than a time (milliseconds since 1970).
 *
 * @since 0.1.0
 * @category models
 */
export type Position = "earliest" | "latest" | { readonly timestamp: bigint | number | Date }

/**
 * An offset of a partition.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartitionOffset {
  /** The physical name. */
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
}

/**
 * A group's committed offset: the next one that it reads.
 *
 * @since 0.1.0
 * @category models
 */
export interface CommittedOffset extends PartitionOffset {
  readonly metadata: string | undefined
}

/**
 * What a reset did to one partition.
 *
 * @since 0.1.0
 * @category models
 */
export interface OffsetReset {
  /** The physical name. */
  readonly topic: string
  readonly partition: number
  /** `undefined` where the group had committed nothing. */
  readonly from: bigint | undefined
  readonly to: bigint
}

/**
 * How far a group is behind in one partition.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartitionLag {
  /** The physical name. */
  readonly topic: string
  readonly partition: number
  /** `undefined` where the group has committed nothing. */
  readonly committed: bigint | undefined
  /** The oldest offset still in the log. */
  readonly earliest: bigint
  /** The offset that the next record will get. */
  readonly latest: bigint
  /**
   * From what the group reads next to the end of the log; offsets of control records and of compacted records count.
   * `undefined` where the group has committed nothing: it then depends on `autoOffsetReset`.
   */
  readonly records: bigint | undefined
  /**
   * How old the oldest unread record is, in milliseconds, rounded up to a second, or by two per cent where that is more;
   * 0 where nothing is unread. `undefined` where it was not asked for, or the group has committed nothing.
   */
  readonly millis: number | undefined
}

/**
 * How far a group is behind.
 *
 * @since 0.1.0
 * @category models
 */
export interface GroupLag {
  readonly groupId: string
  /** Of all partitions together. */
  readonly records: bigint
  /** Of the partition that is furthest behind; `undefined` where it was not asked for. */
  readonly millis: number | undefined
  /** By topic and partition. */
  readonly partitions: ReadonlyArray<PartitionLag>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Physical names, sorted; without Kafka's own (`__consumer_offsets` and the like) unless they are asked for. */
  readonly listTopics: (
    options?: { readonly internal?: boolean | undefined }
  ) => Effect.Effect<ReadonlyArray<string>, ClientError>
  /**
   * Creates topics, and ends when each of their partitions has a leader. Answers the names of those it created: a topic
   * that exists already is left as it is, and is not among them. To compare it with its definition there is
   * `TopicRegistry.ensure`.
   */
  readonly createTopics: (
    topics: Iterable<Topic.Any | NewTopic>
  ) => Effect.Effect<ReadonlyArray<string>, ClientError>
  readonly describeTopics: (
    topics: Iterable<TopicRef>
  ) => Effect.Effect<ReadonlyArray<TopicDescription>, ClientError | UnknownTopicError>
  readonly deleteTopics: (topics: Iterable<TopicRef>) => Effect.Effect<void, ClientError | UnknownTopicError>
  /** Sets the number of partitions, which can only grow. Records with one key may land elsewhere from then on. */
  readonly createPartitions: (
    topic: TopicRef,
    total: number
  ) => Effect.Effect<void, ClientError | UnknownTopicError>
  /** By physical name, every entry by Kafka's name for it. */
  readonly topicConfigs: (
    topics: Iterable<TopicRef>
  ) => Effect.Effect<
    ReadonlyMap<string, Readonly<Record<string, ConfigEntry>>>,
    ClientError | UnknownTopicError
  >
  /** Sets these entries of a topic, and leaves others as they are. */
  readonly alterTopicConfig: (
    topic: TopicRef,
    entries: Readonly<Record<string, string>>
  ) => Effect.Effect<void, ClientError | UnknownTopicError>
  /** Offsets of the log, of single partitions or of all of a topic. A time after the last record answers the end. */
  readonly listOffsets: (
    of: Iterable<TopicRef | PartitionRef>,
    position: Position
  ) => Effect.Effect<ReadonlyArray<PartitionOffset>, ClientError | UnknownTopicError>
  /** Deletes the records before an offset, in each of these partitions. */
  readonly deleteRecords: (
    before: Iterable<PartitionRef & { readonly offset: bigint }>
  ) => Effect.Effect<void, ClientError | UnknownTopicError>
  readonly listGroups: Effect.Effect<
    ReadonlyArray<{ readonly groupId: string; readonly protocolType: string }>,
    ClientError
  >
  readonly describeGroups: (
    groupIds: Iterable<string>
  ) => Effect.Effect<ReadonlyArray<GroupDescription>, ClientError>
  /** Deletes groups and what they committed. Refused for all of them while one has members. */
  readonly deleteGroups: (groupIds: Iterable<string>) => Effect.Effect<void, ClientError | GroupActiveError>
  /** All that a group has committed. */
  readonly groupOffsets: (groupId: string) => Effect.Effect<ReadonlyArray<CommittedOffset>, ClientError>
  /**
   * Sets where a group without members goes on reading: at an end of the log, at a time, or at an offset, which is moved
   * to the nearest end of the log where it is not in it. With `dryRun` it only says what it would do.
   */
  readonly resetOffsets: (
    groupId: string,
    of: Iterable<TopicRef | PartitionRef>,
    to: Position | { readonly offset: bigint },
    options?: { readonly dryRun?: boolean | undefined }
  ) => Effect.Effect<ReadonlyArray<OffsetReset>, ClientError | UnknownTopicError | GroupActiveError>
  /**
   * How far a group is behind: in the partitions it has committed in, or in all of the given topics.
   *
   * With `time` it also says how old the oldest unread record is. Kafka is asked for that by a bisection over time: about
   * ten to twenty requests, however many partitions there are, as long as their lags are alike.
   */
  readonly lag: (
    groupId: string,
    options?: {
      readonly topics?: Iterable<TopicRef> | undefined
      readonly time?: boolean | undefined
    }
  ) => Effect.Effect<GroupLag, ClientError | UnknownTopicError>
  readonly describeCluster: Effect.Effect<ClusterDescription, ClientError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Admin extends Context.Tag("@coffeebuddy/kafka/Admin")<Admin, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * An admin client with a connection of its own, which the Scope closes.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, ClientError, KafkaClient | TopicRegistry | Scope.Scope> = Effect.gen(
  function*() {
    const client = yield* KafkaClient
    const registry = yield* TopicRegistry
    const session = yield* client.openAdmin
    return overSession(session, registry.resolve)
  }
)

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Admin, ClientError, KafkaClient | TopicRegistry> = Layer.scoped(Admin, make)

// ---------------------------------------------------------------------------------------------------------------------
// operations
// ---------------------------------------------------------------------------------------------------------------------

/** What an operation of the service becomes where the service is yet to be provided. */
type OnAdmin<Operation extends keyof Service> = Service[Operation] extends
  (...args: infer _Args) => Effect.Effect<infer A, infer E> ? Effect.Effect<A, E, Admin>
  : Service[Operation] extends Effect.Effect<infer A, infer E> ? Effect.Effect<A, E, Admin>
  : never

type Arguments<Operation extends keyof Service> = Service[Operation] extends (...args: infer Args) => unknown ? Args
  : never

/**
 * Physical names of topics, sorted; without Kafka's own unless `internal` is set.
 *
 * @since 0.1.0
 * @category operations
 */
export const listTopics = (
  ...args: Arguments<"listTopics">
): OnAdmin<"listTopics"> => Effect.flatMap(Admin, (admin) => admin.listTopics(...args))

/**
 * Creates topics, and ends when each of their partitions has a leader. Answers the names of those it created: a topic
 * that exists already is left as it is.
 *
 * @example
 * ```ts
 * import { Admin, Serde, Topic } from "@coffeebuddy/kafka"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string, partitions: 6 })
 * const program = Admin.createTopics([Orders, { topic: "plain-topic", partitions: 1 }])
 * ```
 *
 * @since 0.1.0
 * @category operations
 */
export const createTopics = (
  ...args: Arguments<"createTopics">
): OnAdmin<"createTopics"> => Effect.flatMap(Admin, (admin) => admin.createTopics(...args))

/**
 * The partitions of topics, with their leaders and replicas.
 *
 * @since 0.1.0
 * @category operations
 */
export const describeTopics = (
  ...args: Arguments<"describeTopics">
): OnAdmin<"describeTopics"> => Effect.flatMap(Admin, (admin) => admin.describeTopics(...args))

/**
 * Deletes topics with all their records.
 *
 * @since 0.1.0
 * @category operations
 */
export const deleteTopics = (
  ...args: Arguments<"deleteTopics">
): OnAdmin<"deleteTopics"> => Effect.flatMap(Admin, (admin) => admin.deleteTopics(...args))

/**
 * Sets the number of partitions, which can only grow. Records with one key may land elsewhere from then on.
 *
 * @since 0.1.0
 * @category operations
 */
export const createPartitions = (
  ...args: Arguments<"createPartitions">
): OnAdmin<"createPartitions"> => Effect.flatMap(Admin, (admin) => admin.createPartitions(...args))

/**
 * The configuration of topics by physical name, every entry by Kafka's name for it.
 *
 * @since 0.1.0
 * @category operations
 */
export const topicConfigs = (
  ...args: Arguments<"topicConfigs">
): OnAdmin<"topicConfigs"> => Effect.flatMap(Admin, (admin) => admin.topicConfigs(...args))

/**
 * Sets these entries of a topic's configuration, and leaves others as they are.
 *
 * @since 0.1.0
 * @category operations
 */
export const alterTopicConfig = (
  ...args: Arguments<"alterTopicConfig">
): OnAdmin<"alterTopicConfig"> => Effect.flatMap(Admin, (admin) => admin.alterTopicConfig(...args))

/**
 * Offsets of the log, of single partitions or of all of a topic. A time after the last record answers the end.
 *
 * @example
 * ```ts
 * import { Admin } from "@coffeebuddy/kafka"
 *
 * const ends = Admin.listOffsets(["coffeebuddy.run-events"], "latest")
 * const yesterday = Admin.listOffsets(["coffeebuddy.run-events"], { timestamp: new Date("2026-11-22") })
 * ```
 *
 * @since 0.1.0
 * @category operations
 */
export const listOffsets = (
  ...args: Arguments<"listOffsets">
): OnAdmin<"listOffsets"> => Effect.flatMap(Admin, (admin) => admin.listOffsets(...args))

/**
 * Deletes the records before an offset, in each of these partitions.
 *
 * @since 0.1.0
 * @category operations
 */
export const deleteRecords = (
  ...args: Arguments<"deleteRecords">
): OnAdmin<"deleteRecords"> => Effect.flatMap(Admin, (admin) => admin.deleteRecords(...args))

/**
 * All groups, of consumers and others.
 *
 * @since 0.1.0
 * @category operations
 */
export const listGroups: OnAdmin<"listGroups"> = Effect.flatMap(
  Admin,
  (admin) => admin.listGroups
)

/**
 * The state of groups, and their members with what is assigned to them.
 *
 * @since 0.1.0
 * @category operations
 */
export const describeGroups = (
  ...args: Arguments<"describeGroups">
): OnAdmin<"describeGroups"> => Effect.flatMap(Admin, (admin) => admin.describeGroups(...args))

/**
 * Deletes groups and what they committed. Refused for all of them while one has members.
 *
 * @since 0.1.0
 * @category operations
 */
export const deleteGroups = (
  ...args: Arguments<"deleteGroups">
): OnAdmin<"deleteGroups"> => Effect.flatMap(Admin, (admin) => admin.deleteGroups(...args))

/**
 * All that a group has committed.
 *
 * @since 0.1.0
 * @category operations
 */
export const groupOffsets = (
  ...args: Arguments<"groupOffsets">
): OnAdmin<"groupOffsets"> => Effect.flatMap(Admin, (admin) => admin.groupOffsets(...args))

/**
 * Sets where a group without members goes on reading: at an end of the log, at a time, or at an offset, which is moved
 * to the nearest end of the log where it is not in it. With `dryRun` it only says what it would do.
 *
 * @example
 * ```ts
 * import { Admin } from "@coffeebuddy/kafka"
 *
 * // read the last day again
 * const again = Admin.resetOffsets("run-projector", ["coffeebuddy.run-events"], { timestamp: new Date("2026-11-22") })
 * ```
 *
 * @since 0.1.0
 * @category operations
 */
export const resetOffsets = (
  ...args: Arguments<"resetOffsets">
): OnAdmin<"resetOffsets"> => Effect.flatMap(Admin, (admin) => admin.resetOffsets(...args))

/**
 * How far a group is behind, in records, and in time where that is asked for.
 *
 * The lag in time is the age of the oldest unread record, by the timestamps that records have. It takes them to rise
 * with the offsets.
 *
 * @example
 * ```ts
 * import { Admin } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const program = Admin.lag("run-projector", { time: true }).pipe(
 *   Effect.tap(({ millis, records }) => Effect.log(`${records} records, ${millis} ms behind`))
 * )
 * ```
 *
 * @since 0.1.0
 * @category operations
 */
export const lag = (
  ...args: Arguments<"lag">
): OnAdmin<"lag"> => Effect.flatMap(Admin, (admin) => admin.lag(...args))

/**
 * The cluster's id, its controller and its brokers.
 *
 * @since 0.1.0
 * @category operations
 */
export const describeCluster: OnAdmin<"describeCluster"> = Effect.flatMap(
  Admin,
  (admin) => admin.describeCluster
)
