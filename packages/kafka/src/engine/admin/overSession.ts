/** What `Admin` does, over a driver's session: names resolved, members checked, lag added up. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type {
  CommittedOffset,
  OffsetReset,
  PartitionLag,
  PartitionOffset,
  PartitionRef,
  Position,
  Service,
  TopicRef
} from "../../Admin.ts"
import type { AdminSession, GroupDescription, OffsetSpec } from "../../KafkaClient.ts"
import { type ClientError, GroupActiveError, KafkaRequestError, type UnknownTopicError } from "../../KafkaError.ts"
import * as Topic from "../../Topic.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { notBefore } from "../timestamp.ts"
import * as topics from "../topics.ts"
import { type Behind, timeLag } from "./timeLag.ts"

const specOf = (operation: string, position: Position): Effect.Effect<OffsetSpec, KafkaRequestError> => {
  if (position === "earliest" || position === "latest") return Effect.succeed(position)
  const timestamp = notBefore(position.timestamp)
  return timestamp !== undefined ? Effect.succeed({ timestamp }) : Effect.fail(
    new KafkaRequestError({
      operation,
      code: "INVALID_TIMESTAMP",
      retriable: false,
      reason: `${String(position.timestamp)} is not a time`
    })
  )
}

const byTopicAndPartition = (
  a: { readonly topic: string; readonly partition: number },
  b: { readonly topic: string; readonly partition: number }
): number => a.topic < b.topic ? -1 : a.topic > b.topic ? 1 : a.partition - b.partition

const isActive = (group: GroupDescription): boolean =>
  group.members.length > 0 || !["Empty", "Dead", "Unknown", ""].includes(group.state)

const activeError = (operation: string, group: GroupDescription): GroupActiveError =>
  new GroupActiveError({ operation, groupId: group.groupId, state: group.state, members: group.members.length })

/** What the broker answers where a member joined after we had looked. */
const activeCodes: ReadonlySet<string> = new Set(["NON_EMPTY_GROUP", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"])

const refusedWhileActive =
  (operation: string, groupId: string) => (error: ClientError): ClientError | GroupActiveError =>
    error._tag === "KafkaRequestError" && activeCodes.has(error.code)
      ? new GroupActiveError({ operation, groupId, state: "active", cause: error })
      : error

/** The service over a driver's session. */
export const overSession = (session: AdminSession, resolve: (topic: Topic.Any) => string): Service => {
  const nameOf = (topic: TopicRef): string => typeof topic === "string" ? topic : resolve(topic)
  const namesOf = (topics: Iterable<TopicRef>): ReadonlyArray<string> => [...new Set(Array.from(topics, nameOf))]

  /** Topics stand for all of their partitions. */
  const partitionsOf = (
    refs: Iterable<TopicRef | PartitionRef>
  ): Effect.Effect<ReadonlyArray<TopicPartition.TopicPartition>, ClientError | UnknownTopicError> =>
    Effect.gen(function*() {
      const found = new Map<TopicPartition.Key, TopicPartition.TopicPartition>()
      const add = (topicPartition: TopicPartition.TopicPartition): void => {
        found.set(TopicPartition.key(topicPartition), topicPartition)
      }
      const whole: Array<string> = []
      for (const ref of refs) {
        if (typeof ref === "string" || Topic.isTopic(ref)) whole.push(nameOf(ref))
        else add(TopicPartition.make(nameOf(ref.topic), ref.partition))
      }
      if (whole.length > 0) {
        for (const { partitions, topic } of yield* session.describeTopics([...new Set(whole)])) {
          for (const { partition } of partitions) add(TopicPartition.make(topic, partition))
        }
      }
      return [...found.values()].sort(byTopicAndPartition)
    })

  const offsetsOf = (
    partitions: ReadonlyArray<TopicPartition.TopicPartition>,
    spec: OffsetSpec
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, ClientError | UnknownTopicError> =>
    partitions.length === 0 ? Effect.succeed(new Map()) : session.listOffsets(partitions, spec)

  const describeGroups: Service["describeGroups"] = (groupIds) => {
    const ids = [...new Set(groupIds)]
    return ids.length === 0 ? Effect.succeed([]) : session.describeGroups(ids)
  }

  const refuseActive = (operation: string, groupIds: Iterable<string>) =>
    Effect.flatMap(describeGroups(groupIds), (groups) => {
      const active = groups.find(isActive)
      return active === undefined ? Effect.void : Effect.fail(activeError(operation, active))
    })

  return {
    listTopics: (options) =>
      Effect.map(
        session.listTopics,
        (names) => names.filter((name) => options?.internal === true || !name.startsWith("__")).sort()
      ),

    createTopics: (wanted) =>
      topics.create(
        session,
        "create topics",
        Array.from(wanted, (one) =>
          Topic.isTopic(one)
            ? topics.wantedOf(resolve(one), one)
            : {
              topic: one.topic,
              partitions: one.partitions,
              replicationFactor: one.replicationFactor,
              config: one.config ?? {}
            })
      ),

    describeTopics: (topics) => {
      const names = namesOf(topics)
      return names.length === 0 ? Effect.succeed([]) : session.describeTopics(names)
    },

    deleteTopics: (topics) => {
      const names = namesOf(topics)
      return names.length === 0 ? Effect.void : session.deleteTopics(names)
    },

    createPartitions: (topic, total) => session.createPartitions(nameOf(topic), total),

    topicConfigs: (topics) => {
      const names = namesOf(topics)
      return names.length === 0 ? Effect.succeed(new Map()) : session.describeTopicConfigs(names)
    },

    alterTopicConfig: (topic, entries) => session.alterTopicConfig(nameOf(topic), entries),

    listOffsets: (of, position) =>
      Effect.gen(function*() {
        const partitions = yield* partitionsOf(of)
        const offsets = yield* offsetsOf(partitions, yield* specOf("list offsets", position))
        return partitions.flatMap((tp): ReadonlyArray<PartitionOffset> => {
          const offset = offsets.get(TopicPartition.key(tp))
          return offset === undefined ? [] : [{ topic: tp.topic, partition: tp.partition, offset }]
        })
      }),

    deleteRecords: (before) => {
      const offsets = new Map(Array.from(before, ({ offset, partition, topic }) => [
        TopicPartition.key(TopicPartition.make(nameOf(topic), partition)),
        offset
      ]))
      return offsets.size === 0 ? Effect.void : session.deleteRecords(offsets)
    },

    listGroups: session.listGroups,

    describeGroups,

    deleteGroups: (groupIds) => {
      const ids = [...new Set(groupIds)]
      if (ids.length === 0) return Effect.void
      return refuseActive("delete groups", ids).pipe(
        Effect.zipRight(Effect.mapError(session.deleteGroups(ids), refusedWhileActive("delete groups", ids.join(", "))))
      )
    },

    groupOffsets: (groupId) =>
      Effect.map(session.groupOffsets(groupId), (offsets) =>
        Array.from(offsets.values(), (one): CommittedOffset => ({
          topic: one.topic,
          partition: one.partition,
          offset: one.offset,
          metadata: one.metadata
        })).sort(byTopicAndPartition)),

    resetOffsets: (groupId, of, to, options) =>
      Effect.gen(function*() {
        const operation = "reset offsets"
        yield* refuseActive(operation, [groupId])
        const partitions = yield* partitionsOf(of)
        const earliest = yield* offsetsOf(partitions, "earliest")
        const latest = yield* offsetsOf(partitions, "latest")
        const wanted = typeof to === "object" && "offset" in to
          ? undefined
          : yield* offsetsOf(partitions, yield* specOf(operation, to))
        const committed = yield* session.groupOffsets(groupId)
        const resets = partitions.map((tp): OffsetReset => {
          const key = TopicPartition.key(tp)
          const start = earliest.get(key) ?? 0n
          const end = latest.get(key) ?? start
          const offset = typeof to === "object" && "offset" in to ? to.offset : wanted?.get(key) ?? end
          return {
            topic: tp.topic,
            partition: tp.partition,
            from: committed.get(key)?.offset,
            to: offset < start ? start : offset > end ? end : offset
          }
        })
        if (options?.dryRun !== true && resets.length > 0) {
          const offsets = resets.map(({ partition, to, topic }) => ({ topic, partition, offset: to }))
          yield* Effect.mapError(session.alterGroupOffsets(groupId, offsets), refusedWhileActive(operation, groupId))
        }
        return resets
      }),

    lag: (groupId, options) =>
      Effect.gen(function*() {
        const committed = yield* session.groupOffsets(groupId)
        const partitions = options?.topics === undefined
          ? [...committed.values()].map(({ partition, topic }) => TopicPartition.make(topic, partition)).sort(
            byTopicAndPartition
          )
          : yield* partitionsOf(options.topics)
        const earliest = yield* offsetsOf(partitions, "earliest")
        const latest = yield* offsetsOf(partitions, "latest")
        const rows = partitions.map((tp) => {
          const key = TopicPartition.key(tp)
          const start = earliest.get(key) ?? 0n
          const end = latest.get(key) ?? start
          const at = committed.get(key)?.offset
          const next = at === undefined || at > start ? at : start
          const records = next === undefined ? undefined : next < end ? end - next : 0n
          return { tp, key, start, end, at, next, records }
        })
        const behind = rows.flatMap(({ next, records, tp }): ReadonlyArray<Behind> =>
          next === undefined || records === 0n ? [] : [{ topicPartition: tp, unread: next }]
        )
        const ages = options?.time === true
          ? yield* timeLag(
            behind,
            yield* Clock.currentTimeMillis,
            (partitions, timestamp) => session.listOffsets(partitions, { timestamp })
          )
          : undefined
        const millisOf = (key: TopicPartition.Key, records: bigint | undefined): number | undefined =>
          ages === undefined || records === undefined ? undefined : ages.get(key) ?? 0
        const lags = rows.map(({ at, end, key, records, start, tp }): PartitionLag => ({
          topic: tp.topic,
          partition: tp.partition,
          committed: at,
          earliest: start,
          latest: end,
          records,
          millis: millisOf(key, records)
        }))
        return {
          groupId,
          records: lags.reduce((sum, { records }) => sum + (records ?? 0n), 0n),
          millis: ages === undefined ? undefined : Math.max(0, ...ages.values()),
          partitions: lags
        }
      }),

    describeCluster: session.describeCluster
  }
}
