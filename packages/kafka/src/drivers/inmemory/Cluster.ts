/**
 * The brokers' state and what they answer. Everything here is synchronous: a request is a call.
 */
import * as Either from "effect/Either"
import type { NewTopic, OffsetAndMetadata, OffsetSpec, RawProducerRecord } from "../../KafkaClient.ts"
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { fromKey } from "../../TopicPartition.ts"
import type { CommittedOffset, Identity } from "./Group.ts"
import { Group } from "./Group.ts"
import type { Isolation, Slice } from "./Log.ts"
import { batchOverhead, Log, sizeOf } from "./Log.ts"
import { done, ok, type Refusal, refuse, type Reply } from "./Protocol.ts"
import { Timers } from "./Timers.ts"
import { Transactions } from "./Transactions.ts"
import type { ProducerIdentity } from "./Transactions.ts"

/** An idempotent producer, and the number of the batch's first record. */
export interface Sender extends ProducerIdentity {
  readonly firstSequence: number
  readonly transactional: boolean
}

export interface Settings {
  readonly brokers: number
  readonly autoCreateTopics: boolean
  readonly defaultPartitions: number
  readonly initialRebalanceDelay: number
  readonly offsetsRetention: number
  readonly maxTransactionTimeout: number
}

export interface Topic {
  readonly name: string
  readonly replicationFactor: number
  readonly partitions: Array<Log>
  readonly config: Map<string, string>
}

export interface Appended {
  readonly baseOffset: bigint
  readonly logAppendTime: bigint | undefined
}

/** The topic settings that mean something here, with Kafka's defaults. */
export const topicDefaults: Readonly<Record<string, string>> = {
  "cleanup.policy": "delete",
  "compression.type": "producer",
  "delete.retention.ms": "86400000",
  "max.message.bytes": "1048588",
  "message.timestamp.type": "CreateTime",
  "min.insync.replicas": "1",
  "retention.bytes": "-1",
  "retention.ms": "604800000"
}

const legalName = /^[a-zA-Z0-9._-]{1,249}$/

export class Cluster {
  readonly settings: Settings
  readonly timers: Timers
  readonly topics = new Map<string, Topic>()
  readonly groups = new Map<string, Group>()
  readonly transactions: Transactions
  private readonly down = new Set<number>()
  private readonly forbidden = new Set<string>()
  private readonly topicListeners = new Set<() => void>()
  private memberCount = 0
  private clientCount = 0

  constructor(settings: Settings, now: () => number) {
    this.settings = settings
    this.timers = new Timers(now)
    this.transactions = new Transactions(this)
  }

  get now(): bigint {
    return BigInt(Math.trunc(this.timers.now()))
  }
  nextClientId(prefix: string): string {
    this.clientCount++
    return `${prefix}-${this.clientCount}`
  }

  // -------------------------------------------------------------------------------------------------------------------
  // brokers
  // -------------------------------------------------------------------------------------------------------------------

  get brokerIds(): ReadonlyArray<number> {
    return Array.from({ length: this.settings.brokers }, (_, i) => i)
  }
  address(broker: number): string {
    return `in-memory:${9092 + broker}`
  }
  get addresses(): ReadonlyArray<string> {
    return this.brokerIds.map((broker) => this.address(broker))
  }
  isUp(broker: number): boolean {
    return !this.down.has(broker)
  }
  setUp(broker: number, up: boolean): boolean {
    return up ? this.down.delete(broker) : !this.down.has(broker) && this.down.add(broker) !== undefined
  }
  get anyBroker(): number | undefined {
    return this.brokerIds.find((broker) => this.isUp(broker))
  }
  replicas(topic: Topic, partition: number): ReadonlyArray<number> {
    return Array.from({ length: topic.replicationFactor }, (_, i) => (partition + i) % this.settings.brokers)
  }
  leader(topic: Topic, partition: number): number | undefined {
    return this.replicas(topic, partition).find((broker) => this.isUp(broker))
  }
  /** The broker that coordinates a group or a transactional id. */
  coordinator(id: string): number | undefined {
    let hash = 0
    for (let i = 0; i < id.length; i++) hash = (hash * 31 + id.charCodeAt(i)) >>> 0
    const { brokers } = this.settings
    for (let i = 0; i < brokers; i++) {
      const broker = (hash + i) % brokers
      if (this.isUp(broker)) return broker
    }
    return undefined
  }
  leaderOf(tp: TopicPartition): number | undefined {
    const topic = this.topics.get(tp.topic)
    return topic === undefined ? this.anyBroker : this.leader(topic, tp.partition)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // authorisation
  // -------------------------------------------------------------------------------------------------------------------

  forbid(resource: "topic" | "group" | "transactional-id" | "cluster", name: string): boolean {
    const id = `${resource}/${name}`
    if (this.forbidden.has(id)) return false
    this.forbidden.add(id)
    if (resource === "topic") this.topics.get(name)?.partitions.forEach((log) => log.notify())
    return true
  }
  allow(resource: "topic" | "group" | "transactional-id" | "cluster", name: string): boolean {
    return this.forbidden.delete(`${resource}/${name}`)
  }
  authorize(resource: "topic" | "group" | "transactional-id" | "cluster", name: string): Refusal | undefined {
    if (!this.forbidden.has(`${resource}/${name}`)) return undefined
    switch (resource) {
      case "topic":
        return { code: "TOPIC_AUTHORIZATION_FAILED", name }
      case "group":
        return { code: "GROUP_AUTHORIZATION_FAILED", name }
      case "transactional-id":
        return { code: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", name }
      case "cluster":
        return { code: "CLUSTER_AUTHORIZATION_FAILED", name }
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // topics
  // -------------------------------------------------------------------------------------------------------------------

  /** Calls back when topics or partitions come or go. */
  onTopics(listener: () => void): () => void {
    this.topicListeners.add(listener)
    return () => this.topicListeners.delete(listener)
  }
  private topicsChanged(): void {
    for (const listener of [...this.topicListeners]) listener()
  }

  createTopic(request: NewTopic): Reply<void> {
    const { config, partitions, replicationFactor, topic } = request
    if (!legalName.test(topic) || topic === "." || topic === "..") {
      return refuse(
        "INVALID_TOPIC_EXCEPTION",
        topic,
        `"${topic}" is not a topic's name: 1 to 249 of a-z, A-Z, 0-9, ".", "_" and "-"`
      )
    }
    if (this.topics.has(topic)) return refuse("TOPIC_ALREADY_EXISTS", topic, `topic "${topic}" exists already`)
    const count = partitions === -1 ? this.settings.defaultPartitions : partitions
    if (!Number.isInteger(count) || count < 1) {
      return refuse("INVALID_PARTITIONS", topic, `the number of partitions must be above 0, and is ${partitions}`)
    }
    const factor = replicationFactor === -1 ? 1 : replicationFactor
    if (!Number.isInteger(factor) || factor < 1 || factor > this.settings.brokers) {
      return refuse(
        "INVALID_REPLICATION_FACTOR",
        topic,
        `replication factor ${replicationFactor} with ${this.settings.brokers} broker(s)`
      )
    }
    const wrong = this.checkConfig(topic, config)
    if (wrong !== undefined) return wrong
    this.topics.set(topic, {
      name: topic,
      replicationFactor: factor,
      partitions: Array.from({ length: count }, () => new Log()),
      config: new Map(Object.entries(config))
    })
    this.topicsChanged()
    return done
  }

  private checkConfig(topic: string, config: Readonly<Record<string, string>>): Reply<never> | undefined {
    const invalid = (name: string, reason: string) => refuse("INVALID_CONFIG", topic, `${name}: ${reason}`)
    for (const [name, value] of Object.entries(config)) {
      if (!knownConfigs.has(name)) return invalid(name, "unknown topic config")
      if (numericConfigs.has(name) && !/^-?\d+$/.test(value)) return invalid(name, `"${value}" is not a number`)
      if (name === "message.timestamp.type" && value !== "CreateTime" && value !== "LogAppendTime") {
        return invalid(name, `"${value}" is neither CreateTime nor LogAppendTime`)
      }
      if (name === "cleanup.policy" && !value.split(",").every((v) => v === "delete" || v === "compact")) {
        return invalid(name, `"${value}" is not delete, compact, or both`)
      }
    }
    return undefined
  }

  alterConfig(topic: Topic, entries: Readonly<Record<string, string>>): Reply<void> {
    const wrong = this.checkConfig(topic.name, entries)
    if (wrong !== undefined) return wrong
    for (const [name, value] of Object.entries(entries)) topic.config.set(name, value)
    return done
  }

  createPartitions(topic: Topic, total: number): Reply<void> {
    if (!Number.isInteger(total) || total <= topic.partitions.length) {
      return refuse(
        "INVALID_PARTITIONS",
        topic.name,
        `topic "${topic.name}" has ${topic.partitions.length} partitions already, which can only grow`
      )
    }
    while (topic.partitions.length < total) topic.partitions.push(new Log())
    this.topicsChanged()
    return done
  }

  deleteTopic(name: string): Reply<void> {
    const topic = this.find(name)
    if (topic._tag === "Left") return Either.left(topic.left)
    this.topics.delete(name)
    for (const group of this.groups.values()) {
      for (const k of group.offsets.keys()) if (fromKey(k).topic === name) group.offsets.delete(k)
    }
    for (const log of topic.right.partitions) log.notify()
    this.topicsChanged()
    return done
  }

  /** The topic, if it exists and may be looked at. */
  find(name: string): Reply<Topic> {
    const forbidden = this.authorize("topic", name)
    if (forbidden !== undefined) return refuse(forbidden.code, name)
    const topic = this.topics.get(name)
    if (topic !== undefined) return ok(topic)
    if (this.settings.autoCreateTopics) {
      const created = this.createTopic({
        topic: name,
        partitions: this.settings.defaultPartitions,
        replicationFactor: 1,
        config: {}
      })
      return created._tag === "Left" ? refuse(created.left.code, name) : ok(this.topics.get(name)!)
    }
    return refuse("UNKNOWN_TOPIC_OR_PARTITION", name)
  }

  log(tp: TopicPartition): Reply<Log> {
    const topic = this.find(tp.topic)
    if (topic._tag === "Left") return Either.left(topic.left)
    const log = topic.right.partitions[tp.partition]
    return log === undefined
      ? this.unknownPartition(tp)
      : ok(log)
  }
  private unknownPartition(tp: TopicPartition): Reply<never> {
    return Either.left({ code: "UNKNOWN_TOPIC_OR_PARTITION", name: tp.topic, partition: tp.partition })
  }
  partitionCount(topic: string): number {
    return this.topics.get(topic)?.partitions.length ?? 0
  }

  // -------------------------------------------------------------------------------------------------------------------
  // records
  // -------------------------------------------------------------------------------------------------------------------

  /** Stores a batch. One of an idempotent producer is stored once, however often it is sent. */
  append(tp: TopicPartition, records: ReadonlyArray<RawProducerRecord>, by?: Sender): Reply<Appended> {
    const topic = this.find(tp.topic)
    if (topic._tag === "Left") return Either.left(topic.left)
    const { config, partitions } = topic.right
    const log = partitions[tp.partition]
    if (log === undefined) return this.unknownPartition(tp)
    const limit = Number(config.get("max.message.bytes") ?? topicDefaults["max.message.bytes"])
    let size = batchOverhead
    for (const record of records) size += sizeOf(record)
    if (size > limit) {
      return refuse(
        "MESSAGE_TOO_LARGE",
        tp.topic,
        `a batch of ${records.length} record(s) has ${size} bytes, and max.message.bytes is ${limit}`
      )
    }
    if (config.get("cleanup.policy")?.includes("compact") && records.some((record) => record.key === null)) {
      return refuse("INVALID_RECORD", tp.topic, "a compacted topic takes no record without a key")
    }
    const logAppendTime = config.get("message.timestamp.type") === "LogAppendTime" ? this.now : undefined
    if (by === undefined) return ok({ baseOffset: log.append(records, logAppendTime), logAppendTime })
    const { epoch, firstSequence, producerId, transactional } = by
    const stored = log.sequences.duplicate(producerId, epoch, firstSequence, records.length)
    if (stored !== undefined) return ok({ baseOffset: stored, logAppendTime })
    const next = log.sequences.check(producerId, epoch, firstSequence)
    if (next._tag === "Left") return refuse(next.left.code, tp.topic, next.left.reason)
    const baseOffset = log.append(records, logAppendTime, { producerId, transactional })
    log.sequences.store(producerId, epoch, { first: firstSequence, count: records.length, baseOffset })
    return ok({ baseOffset, logAppendTime })
  }

  read(tp: TopicPartition, from: bigint, maxBytes: number, isolation: Isolation): Reply<Slice> {
    const log = this.log(tp)
    if (log._tag === "Left") return Either.left(log.left)
    const slice = log.right.read(from, maxBytes, isolation)
    return slice === "OutOfRange" ? refuse("OFFSET_OUT_OF_RANGE", tp.topic) : ok(slice)
  }

  listOffset(tp: TopicPartition, spec: OffsetSpec, isolation: Isolation): Reply<bigint> {
    const log = this.log(tp)
    if (log._tag === "Left") return Either.left(log.left)
    if (spec === "earliest") return ok(log.right.startOffset)
    const end = log.right.visibleEnd(isolation)
    if (spec === "latest") return ok(end)
    return ok(log.right.offsetFor(spec.timestamp, isolation) ?? end)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // groups
  // -------------------------------------------------------------------------------------------------------------------

  group(groupId: string): Reply<Group> {
    const forbidden = this.authorize("group", groupId)
    if (forbidden !== undefined) return refuse(forbidden.code, groupId)
    if (groupId === "") return refuse("INVALID_GROUP_ID", groupId, "a group's id must not be empty")
    let group = this.groups.get(groupId)
    if (group === undefined) {
      group = new Group(
        groupId,
        this.timers,
        (clientId) => `${clientId}-${++this.memberCount}`,
        this.settings.initialRebalanceDelay
      )
      this.groups.set(groupId, group)
    }
    return ok(group)
  }

  commit(groupId: string, from: Identity, offsets: ReadonlyArray<OffsetAndMetadata>): Reply<void> {
    const group = this.group(groupId)
    if (group._tag === "Left") return Either.left(group.left)
    for (const offset of offsets) {
      const log = this.log(offset)
      if (log._tag === "Left") return Either.left(log.left)
    }
    return group.right.commit(from, offsets)
  }

  /** What a group has committed and not forgotten. `requireStable` refuses where a transaction may still change it. */
  committed(groupId: string, requireStable: boolean): Reply<ReadonlyMap<Key, CommittedOffset>> {
    const found = this.group(groupId)
    if (found._tag === "Left") return Either.left(found.left)
    const group = found.right
    const expired = this.timers.now() - this.settings.offsetsRetention
    if (group.state === "Empty" && group.emptySince <= expired) {
      for (const [k, offset] of group.offsets) if (offset.committedAt <= expired) group.offsets.delete(k)
    }
    if (requireStable) {
      for (const offsets of group.pending.values()) {
        if (offsets.size > 0) return refuse("UNSTABLE_OFFSET_COMMIT", groupId)
      }
    }
    return ok(group.offsets)
  }

  deleteGroup(groupId: string): Reply<void> {
    const forbidden = this.authorize("group", groupId)
    if (forbidden !== undefined) return refuse(forbidden.code, groupId)
    const group = this.groups.get(groupId)
    if (group === undefined) return refuse("GROUP_ID_NOT_FOUND", groupId, `there is no group "${groupId}"`)
    if (group.state !== "Empty") {
      return refuse("NON_EMPTY_GROUP", groupId, `group "${groupId}" has members`)
    }
    this.groups.delete(groupId)
    return done
  }
}

const numericConfigs = new Set([
  "delete.retention.ms",
  "file.delete.delay.ms",
  "flush.messages",
  "flush.ms",
  "index.interval.bytes",
  "max.compaction.lag.ms",
  "max.message.bytes",
  "message.timestamp.after.max.ms",
  "message.timestamp.before.max.ms",
  "min.compaction.lag.ms",
  "min.insync.replicas",
  "retention.bytes",
  "retention.ms",
  "segment.bytes",
  "segment.index.bytes",
  "segment.jitter.ms",
  "segment.ms"
])
const knownConfigs = new Set([
  ...numericConfigs,
  "cleanup.policy",
  "compression.gzip.level",
  "compression.lz4.level",
  "compression.type",
  "compression.zstd.level",
  "follower.replication.throttled.replicas",
  "leader.replication.throttled.replicas",
  "message.timestamp.type",
  "min.cleanable.dirty.ratio",
  "preallocate",
  "remote.storage.enable",
  "unclean.leader.election.enable"
])
