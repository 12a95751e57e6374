/**
 * An administrator as a client of the brokers.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { AdminSession, ConfigEntry, GroupDescription, TopicDescription } from "../../KafkaClient.ts"
import type { ClientError, UnknownTopicError } from "../../KafkaError.ts"
import { fromKey, key } from "../../TopicPartition.ts"
import { type Cluster, type Topic, topicDefaults } from "./Cluster.ts"
import type { Link, Network } from "./Network.ts"
import type { Failure, Reply } from "./Protocol.ts"
import { canRetry, clientError, done, ok, refuse } from "./Protocol.ts"

const backoff = 100

/** How long an administrator's request is tried again, in milliseconds. */
const patience = 30_000

export const open = (cluster: Cluster, network: Network): AdminSession => {
  const link: Link = { clientId: cluster.nextClientId("admin"), cut: false }

  const request = <A>(
    operation: string,
    handle: () => Reply<A>
  ): Effect.Effect<A, ClientError | UnknownTopicError> =>
    Effect.gen(function*() {
      const start = yield* Clock.currentTimeMillis
      while (true) {
        const answer = yield* Effect.either(network.call(link, () => cluster.anyBroker, "admin", handle))
        if (Either.isRight(answer)) return answer.right
        const failure: Failure = answer.left
        const missing = failure._tag === "Refused" && failure.refusal.code === "UNKNOWN_TOPIC_OR_PARTITION"
        if (missing || !canRetry(failure) || (yield* Clock.currentTimeMillis) - start >= patience) {
          return yield* Effect.fail(clientError(operation, cluster.addresses, failure))
        }
        yield* Clock.sleep(backoff)
      }
    })

  const withoutTopic = <A>(operation: string, handle: () => Reply<A>): Effect.Effect<A, ClientError> =>
    Effect.catchTag(request(operation, handle), "UnknownTopicError", Effect.die)

  const withTopic = <A>(operation: string, name: string, handle: (topic: Topic) => Reply<A>) =>
    request(operation, () => {
      const topic = cluster.find(name)
      return topic._tag === "Left" ? Either.left(topic.left) : handle(topic.right)
    })

  const describeTopic = (topic: Topic): TopicDescription => ({
    topic: topic.name,
    partitions: topic.partitions.map((_, partition) => {
      const replicas = cluster.replicas(topic, partition)
      return {
        partition,
        leader: cluster.leader(topic, partition),
        replicas,
        inSyncReplicas: replicas.filter((broker) => cluster.isUp(broker))
      }
    })
  })

  const describeGroup = (groupId: string): Reply<GroupDescription> => {
    const forbidden = cluster.authorize("group", groupId)
    if (forbidden !== undefined) return Either.left(forbidden)
    const group = cluster.groups.get(groupId)
    if (group === undefined) return ok({ groupId, state: "Dead", protocolType: "", members: [] })
    return ok({
      groupId,
      state: group.state,
      protocolType: "consumer",
      members: group.describe().map(({ assignment, clientId, memberId }) => ({
        memberId,
        clientId,
        host: "/in-memory",
        assignment
      }))
    })
  }

  return {
    listTopics: withoutTopic("list topics", () => ok([...cluster.topics.keys()].sort())),
    describeTopics: (topics) =>
      Effect.forEach(topics, (topic) => withTopic("describe topics", topic, (found) => ok(describeTopic(found)))),
    createTopics: (topics) =>
      Effect.map(
        Effect.forEach(topics, (topic) =>
          withoutTopic("create topics", () => {
            const created = cluster.createTopic(topic)
            if (created._tag === "Right") return ok([topic.topic])
            return created.left.code === "TOPIC_ALREADY_EXISTS" ? ok([]) : Either.left(created.left)
          })),
        (created) => created.flat()
      ),
    deleteTopics: (topics) =>
      Effect.forEach(topics, (topic) => request("delete topics", () => cluster.deleteTopic(topic)), { discard: true }),
    createPartitions: (topic, total) =>
      withTopic("create partitions", topic, (found) => cluster.createPartitions(found, total)),
    describeTopicConfigs: (topics) =>
      Effect.map(
        Effect.forEach(topics, (topic) =>
          withTopic("describe configs", topic, (found) => {
            const entries: Record<string, ConfigEntry> = {}
            for (const [name, value] of Object.entries(topicDefaults)) entries[name] = { value, isDefault: true }
            for (const [name, value] of found.config) entries[name] = { value, isDefault: false }
            return ok([topic, entries] as const)
          })),
        (entries) => new Map(entries)
      ),
    alterTopicConfig: (topic, entries) =>
      withTopic("alter config", topic, (found) => cluster.alterConfig(found, entries)),
    listOffsets: (partitions, spec) =>
      Effect.map(
        Effect.forEach(partitions, (tp) =>
          Effect.map(
            request("list offsets", () => cluster.listOffset(tp, spec, "read_uncommitted")),
            (offset) => [key(tp), offset] as const
          )),
        (offsets) => new Map(offsets)
      ),
    deleteRecords: (offsets) =>
      Effect.forEach(offsets, ([k, offset]) =>
        request("delete records", () => {
          const log = cluster.log(fromKey(k))
          if (log._tag === "Left") return Either.left(log.left)
          if (offset > log.right.endOffset || offset < -1n) return refuse("OFFSET_OUT_OF_RANGE", k)
          log.right.deleteBefore(offset === -1n ? log.right.endOffset : offset)
          return done
        }), { discard: true }),
    listGroups: withoutTopic(
      "list groups",
      () => ok([...cluster.groups.keys()].map((groupId) => ({ groupId, protocolType: "consumer" })))
    ),
    describeGroups: (groupIds) =>
      Effect.forEach(groupIds, (groupId) => withoutTopic("describe groups", () => describeGroup(groupId))),
    deleteGroups: (groupIds) =>
      Effect.forEach(groupIds, (groupId) => withoutTopic("delete groups", () => cluster.deleteGroup(groupId)), {
        discard: true
      }),
    groupOffsets: (groupId) =>
      Effect.map(
        withoutTopic("fetch committed offsets", () => cluster.committed(groupId, false)),
        (offsets) =>
          new Map([...offsets].map(([k, { metadata, offset, partition, topic }]) =>
            [k, { topic, partition, offset, metadata }] as const
          ))
      ),
    alterGroupOffsets: (groupId, offsets) =>
      withoutTopic("alter group offsets", () => cluster.commit(groupId, { memberId: "", generation: -1 }, offsets)),
    describeCluster: withoutTopic("describe cluster", () =>
      ok({
        clusterId: "in-memory",
        controller: cluster.anyBroker,
        brokers: cluster.brokerIds.filter((id) => cluster.isUp(id)).map((id) => ({
          id,
          host: "in-memory",
          port: 9092 + id
        }))
      }))
  }
}
