/**
 * The brokers' state and what they answer. All of it is synchronous: a request is a call.
 */
import * as Either from "effect/Either"
import type { NewTopic, OffsetAndMetadata, OffsetSpec, RawProducerRecord } from "../../KafkaClient.ts"
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { type CommittedOffset, Group, type Identity } from "./Group.ts"
import { batchOverhead, type Isolation, Log, sizeOf, type Slice } from "./Log.ts"
import { done, ok, type Refusal, refuse, type Reply } from "./Protocol.ts"
import { Timers } from "./Timers.ts"
import * as TopicConfig from "./TopicConfig.ts"
import { type ProducerIdentity, Transactions } from "./Transactions.ts"

export interface Settings {
  readonly brokers: number
  readonly autoCreateTopics: boolean
  readonly defaultPartitions: number
  readonly initialRebalanceDelay: number
  readonly minSessionTimeout: number
  readonly maxSessionTimeout: number
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

/** An idempotent producer, and the number of the batch's first record. */
export interface Sender extends ProducerIdentity {
  readonly firstSequence: number
  readonly transactional: boolean
}

export type Resource = "topic" | "group" | "transactional-id" | "cluster"

const forbiddenCode = {
  topic: "TOPIC_AUTHORIZATION_FAILED",
  group: "GROUP_AUTHORIZATION_FAILED",
  "transactional-id": "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
  cluster: "CLUSTER_AUTHORIZATION_FAILED"
} as const

const legalName = /^[a-zA-Z0-9._-]{1,249}$/

/** Kafka names its metrics by topic, with "." as "_", and so refuses two topics that would share a name there. */
const metricName = (topic: string): string => topic.replaceAll(".", "_")

const longestOffsetMetadata = 4096

export class Cluster {
  readonly settings: Settings
  readonly timers: Timers
  readonly topics = new Map<string, Topic>()
  readonly groups = new Map<string, Group>()
  readonly transactions: Transactions
  private readonly down = new Set<number>()
  private readonly forbidden = new Set<string>()
  private readonly listeners = new Set<() => void>()
  private memberCount = 0
  private sessionCount = 0

  constructor(settings: Settings, now: () => number) {
    this.settings = settings
    this.timers = new Timers(now)
    this.transactions = new Transactions({
      timers: this.timers,
      maxTransactionTimeout: settings.maxTransactionTimeout,
      authorize: (resource, name) => this.authorize(resource, name),
      endTransaction: ({ partition, topic }, producerId, outcome) =>
        this.topics.get(topic)?.partitions[partition]?.appendMarker(producerId, outcome, this.now)
    })
  }

  /** Milliseconds since 1970. */
  get now(): bigint {
    return BigInt(Math.trunc(this.timers.now()))
  }

  nextSession(): number {
    return ++this.sessionCount
  }

  /** Calls back when brokers, topics or permissions come or go, until the returned function is called. */
  listen(listener: () => void): () => void {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }

  private notify(): void {
    for (const listener of [...this.listeners]) listener()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // brokers
  // -------------------------------------------------------------------------------------------------------------------

  get brokerIds(): ReadonlyArray<number> {
    return Array.from({ length: this.settings.brokers }, (_, i) => i)
  }

  get addresses(): ReadonlyArray<string> {
    return this.brokerIds.map((broker) => `in-memory:${9092 + broker}`)
  }

  isUp(broker: number): boolean {
    return !this.down.has(broker)
  }

  /** Some broker that is up. */
  get anyBroker(): number | undefined {
    return this.brokerIds.find((broker) => this.isUp(broker))
  }

  kill(broker: number): boolean {
    if (this.down.has(broker) || broker >= this.settings.brokers) return false
    const moved = [...this.groups.values()].filter(({ groupId }) => this.coordinator(groupId) === broker)
    this.down.add(broker)
    for (const group of moved) group.failOver()
    this.notify()
    return true
  }

  restart(broker: number): boolean {
    const wasDown = this.anyBroker === undefined
    if (!this.down.delete(broker)) return false
    // time has not passed for those whom nobody could hear
    if (wasDown) { for (const group of this.groups.values()) group.failOver() }
    this.notify()
    return true
  }

  replicas(topic: Topic, partition: number): ReadonlyArray<number> {
    return Array.from({ length: topic.replicationFactor }, (_, i) => (partition + i) % this.settings.brokers)
  }

  leader(topic: Topic, partition: number): number | undefined {
    const { brokers } = this.settings
    for (let i = 0; i < topic.replicationFactor; i++) {
      if (this.isUp((partition + i) % brokers)) return (partition + i) % brokers
    }
    return undefined
  }

  leaderOf(tp: TopicPartition): number | undefined {
    const topic = this.topics.get(tp.topic)
    return topic === undefined ? this.anyBroker : this.leader(topic, tp.partition)
  }

  /** The broker that coordinates a group or a transactional id. */
  coordinator(id: string): number | undefined {
    const { brokers } = this.settings
    let hash = 0
    for (let i = 0; i < id.length; i++) hash = (hash * 31 + id.charCodeAt(i)) >>> 0
    for (let i = 0; i < brokers; i++) if (this.isUp((hash + i) % brokers)) return (hash + i) % brokers
    return undefined
  }

  // -------------------------------------------------------------------------------------------------------------------
  // permissions
  // -------------------------------------------------------------------------------------------------------------------

  forbid(resource: Resource, name: string): boolean {
    if (this.forbidden.has(`${resource}/${name}`)) return false
    this.forbidden.add(`${resource}/${name}`)
    this.notify()
    return true
  }

  allow(resource: Resource, name: string): boolean {
    const was = this.forbidden.delete(`${resource}/${name}`)
    if (was) this.notify()
    return was
  }

  authorize(resource: Resource, name: string): Refusal | undefined {
    return this.forbidden.has(`${resource}/${name}`) ? { code: forbiddenCode[resource], name } : undefined
  }

  // -------------------------------------------------------------------------------------------------------------------
  // topics
  // -------------------------------------------------------------------------------------------------------------------

  createTopic({ config, partitions, replicationFactor, topic }: NewTopic): Reply<void> {
    const forbidden = this.authorize("topic", topic)
    if (forbidden !== undefined) return Either.left(forbidden)
    if (!legalName.test(topic) || topic === "." || topic === "..") {
      const legal = `1 to 249 letters, digits, ".", "_" and "-"`
      return refuse("INVALID_TOPIC_EXCEPTION", topic, `"${topic}" can not be a topic's name: that is ${legal}`)
    }
    if (this.topics.has(topic)) return refuse("TOPIC_ALREADY_EXISTS", topic, `topic "${topic}" exists already`)
    for (const other of this.topics.keys()) {
      if (metricName(other) === metricName(topic)) {
        return refuse("INVALID_TOPIC_EXCEPTION", topic, `topic "${topic}" collides with existing topic "${other}"`)
      }
    }
    const count = partitions === -1 ? this.settings.defaultPartitions : partitions
    if (!Number.isInteger(count) || count < 1) {
      return refuse("INVALID_PARTITIONS", topic, `a topic has one partition or more, not ${partitions}`)
    }
    const factor = replicationFactor === -1 ? 1 : replicationFactor
    const up = this.brokerIds.filter((broker) => this.isUp(broker)).length
    if (!Number.isInteger(factor) || factor < 1 || factor > up) {
      const reason = `${replicationFactor} replicas of each partition are not possible with ${up} broker(s)`
      return refuse("INVALID_REPLICATION_FACTOR", topic, reason)
    }
    const problem = TopicConfig.problem(config)
    if (problem !== undefined) return refuse("INVALID_CONFIG", topic, problem)
    this.topics.set(topic, {
      name: topic,
      replicationFactor: factor,
      partitions: Array.from({ length: count }, () => new Log()),
      config: new Map(Object.entries(config))
    })
    this.notify()
    return done
  }

  alterConfig(topic: Topic, entries: Readonly<Record<string, string>>): Reply<void> {
    const problem = TopicConfig.problem(entries)
    if (problem !== undefined) return refuse("INVALID_CONFIG", topic.name, problem)
    for (const [name, value] of Object.entries(entries)) topic.config.set(name, value)
    return done
  }

  config(topic: Topic, name: TopicConfig.Effective): string {
    return topic.config.get(name) ?? TopicConfig.defaults[name]
  }

  createPartitions(topic: Topic, total: number): Reply<void> {
    const now = topic.partitions.length
    if (!Number.isInteger(total) || total <= now) {
      return refuse("INVALID_PARTITIONS", topic.name, `"${topic.name}" has ${now} partition(s), and can have only more`)
    }
    while (topic.partitions.length < total) topic.partitions.push(new Log())
    this.notify()
    return done
  }

  deleteTopic(name: string): Reply<void> {
    return Either.map(this.find(name), () => {
      this.topics.delete(name)
      for (const group of this.groups.values()) group.forgetTopic(name)
      this.notify()
    })
  }

  /** A topic, if it exists and may be looked at. */
  find(name: string): Reply<Topic> {
    const forbidden = this.authorize("topic", name)
    if (forbidden !== undefined) return Either.left(forbidden)
    const topic = this.topics.get(name)
    return topic === undefined ? refuse("UNKNOWN_TOPIC_OR_PARTITION", name) : ok(topic)
  }

  /** As `find`, for clients that may bring a topic into being by asking for it. */
  lookUp(name: string): Reply<Topic> {
    if (!this.settings.autoCreateTopics || this.topics.has(name)) return this.find(name)
    return Either.flatMap(
      this.createTopic({ topic: name, partitions: -1, replicationFactor: -1, config: {} }),
      () => this.find(name)
    )
  }

  private partitionOf(topic: Topic, partition: number): Reply<Log> {
    const log = topic.partitions[partition]
    return log === undefined
      ? Either.left({ code: "UNKNOWN_TOPIC_OR_PARTITION", name: topic.name, partition })
      : ok(log)
  }

  log(tp: TopicPartition): Reply<Log> {
    return Either.flatMap(this.find(tp.topic), (topic) => this.partitionOf(topic, tp.partition))
  }

  partitionCount(topic: string): number {
    return this.topics.get(topic)?.partitions.length ?? 0
  }

  // -------------------------------------------------------------------------------------------------------------------
  // records
  // -------------------------------------------------------------------------------------------------------------------

  /** Stores a batch. That of an idempotent producer is stored once, however often it is sent. */
  append(
    tp: TopicPartition,
    records: ReadonlyArray<RawProducerRecord>,
    acks: "all" | "leader" | "none",
    by?: Sender
  ): Reply<Appended> {
    const found = this.find(tp.topic)
    if (Either.isLeft(found)) return Either.left(found.left)
    const topic = found.right
    const partition = this.partitionOf(topic, tp.partition)
    if (Either.isLeft(partition)) return Either.left(partition.left)
    const log = partition.right

    const limit = Number(this.config(topic, "max.message.bytes"))
    let size = batchOverhead
    for (const record of records) size += sizeOf(record)
    if (size > limit) {
      const reason = `a batch of ${records.length} record(s) has ${size} bytes, and max.message.bytes is ${limit}`
      return refuse("MESSAGE_TOO_LARGE", tp.topic, reason)
    }
    if (this.config(topic, "cleanup.policy").includes("compact") && records.some(({ key }) => key === null)) {
      return refuse("INVALID_RECORD", tp.topic, "a compacted topic takes no record without a key")
    }
    if (acks === "all") {
      const inSync = this.replicas(topic, tp.partition).filter((broker) => this.isUp(broker)).length
      // more than there are at all can not be asked for
      const needed = Math.min(Number(this.config(topic, "min.insync.replicas")), topic.replicationFactor)
      if (inSync < needed) {
        return refuse("NOT_ENOUGH_REPLICAS", tp.topic, `${inSync} replica(s) in sync, and ${needed} needed`)
      }
    }
    const logAppendTime = this.config(topic, "message.timestamp.type") === "LogAppendTime" ? this.now : undefined
    if (by === undefined) return ok({ baseOffset: log.append(records, logAppendTime), logAppendTime })

    const { epoch, firstSequence, producerId } = by
    const stored = log.sequences.duplicate(producerId, epoch, firstSequence, records.length)
    if (stored !== undefined) return ok({ baseOffset: stored, logAppendTime })
    const next = log.sequences.check(producerId, epoch, firstSequence)
    if (Either.isLeft(next)) return Either.left({ ...next.left, name: tp.topic })
    const baseOffset = log.append(records, logAppendTime, by)
    log.sequences.store(producerId, epoch, { first: firstSequence, count: records.length, baseOffset })
    return ok({ baseOffset, logAppendTime })
  }

  read(tp: TopicPartition, from: bigint, maxBytes: number, isolation: Isolation): Reply<Slice> {
    const log = this.log(tp)
    if (Either.isLeft(log)) return Either.left(log.left)
    const slice = log.right.read(from, maxBytes, isolation)
    return slice === "OutOfRange" ? refuse("OFFSET_OUT_OF_RANGE", tp.topic) : ok(slice)
  }

  listOffset(tp: TopicPartition, spec: OffsetSpec, isolation: Isolation): Reply<bigint> {
    return Either.map(this.log(tp), (log) => {
      if (spec === "earliest") return log.startOffset
      const end = log.visibleEnd(isolation)
      return spec === "latest" ? end : log.offsetFor(spec.timestamp, isolation) ?? end
    })
  }

  /** Deletes what is before an offset; -1 is the end. */
  deleteRecords(tp: TopicPartition, before: bigint): Reply<void> {
    return Either.flatMap(
      this.find(tp.topic),
      (topic) =>
        Either.flatMap(this.partitionOf(topic, tp.partition), (log) => {
          if (!this.config(topic, "cleanup.policy").includes("delete")) {
            return refuse("POLICY_VIOLATION", tp.topic, "records of a topic that is only compacted can not be deleted")
          }
          const offset = before === -1n ? log.endOffset : before
          if (offset > log.endOffset || offset < 0n) {
            return refuse("OFFSET_OUT_OF_RANGE", tp.topic, `${tp.topic}[${tp.partition}] ends at ${log.endOffset}`)
          }
          log.deleteBefore(offset)
          return done
        })
    )
  }

  /** Deletes what `retention.ms` and `retention.bytes` do not keep. Answers how many records. */
  applyRetention(topic: Topic): number {
    if (!this.config(topic, "cleanup.policy").includes("delete")) return 0
    const millis = BigInt(this.config(topic, "retention.ms"))
    const bytes = Number(this.config(topic, "retention.bytes"))
    let deleted = 0
    for (const log of topic.partitions) {
      deleted += log.retain(millis < 0n ? undefined : this.now - millis, bytes < 0 ? undefined : bytes)
    }
    return deleted
  }

  // -------------------------------------------------------------------------------------------------------------------
  // groups
  // -------------------------------------------------------------------------------------------------------------------

  private mayUse(groupId: string): Reply<void> {
    const forbidden = this.authorize("group", groupId)
    if (forbidden !== undefined) return Either.left(forbidden)
    return groupId === "" ? refuse("INVALID_GROUP_ID", groupId, "a group's id must not be empty") : done
  }

  /** A group, which comes into being when it is first used. */
  group(groupId: string): Reply<Group> {
    return Either.map(this.mayUse(groupId), () => {
      let group = this.groups.get(groupId)
      if (group === undefined) {
        group = new Group(groupId, this.timers, (clientId) => `${clientId}-${++this.memberCount}`, this.settings)
        this.groups.set(groupId, group)
      }
      return group
    })
  }

  /** Whether offsets of these partitions can be kept at all. */
  checkOffsets(offsets: ReadonlyArray<OffsetAndMetadata>): Reply<void> {
    for (const offset of offsets) {
      const log = this.log(offset)
      if (Either.isLeft(log)) return Either.left(log.left)
      if ((offset.metadata?.length ?? 0) > longestOffsetMetadata) {
        return refuse("OFFSET_METADATA_TOO_LARGE", offset.topic, `metadata has at most ${longestOffsetMetadata} bytes`)
      }
    }
    return done
  }

  commit(groupId: string, from: Identity, offsets: ReadonlyArray<OffsetAndMetadata>): Reply<void> {
    return Either.flatMap(
      this.group(groupId),
      (group) => Either.flatMap(this.checkOffsets(offsets), () => group.commit(from, offsets))
    )
  }

  /** What a group has committed and not forgotten. */
  committed(groupId: string): Reply<ReadonlyMap<Key, CommittedOffset>> {
    return Either.map(this.mayUse(groupId), () => {
      const group = this.groups.get(groupId)
      group?.expireOffsets(this.timers.now() - this.settings.offsetsRetention)
      return group?.offsets ?? new Map<Key, CommittedOffset>()
    })
  }

  /** As `committed`, refused for as long as a transaction may still change it. */
  stableCommitted(
    groupId: string,
    partitions: ReadonlyArray<TopicPartition>
  ): Reply<ReadonlyMap<Key, CommittedOffset>> {
    const group = this.groups.get(groupId)
    return group !== undefined && partitions.some((tp) => group.isPending(tp))
      ? refuse("UNSTABLE_OFFSET_COMMIT", groupId, "a transaction has not ended")
      : this.committed(groupId)
  }

  deleteGroup(groupId: string): Reply<void> {
    return Either.flatMap(this.mayUse(groupId), () => {
      const group = this.groups.get(groupId)
      if (group === undefined) return refuse("GROUP_ID_NOT_FOUND", groupId, `there is no group "${groupId}"`)
      if (group.state !== "Empty") return refuse("NON_EMPTY_GROUP", groupId, `group "${groupId}" has members`)
      this.groups.delete(groupId)
      return done
    })
  }
}
