/**
 * An administrator as a client of the brokers.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type { AdminSession, ConfigEntry, GroupDescription, TopicDescription } from "../../KafkaClient.ts"
import { type ClientError, KafkaRequestError, type UnknownTopicError } from "../../KafkaError.ts"
import { fromKey, key } from "../../TopicPartition.ts"
import type { Cluster, Topic } from "./Cluster.ts"
import { nobody } from "./Group.ts"
import { connect, retrying } from "./Lifeline.ts"
import type { Link, Network, Timings } from "./Network.ts"
import { aboutNoTopic, clientError, ok, type Refusal, type Reply } from "./Protocol.ts"
import * as TopicConfig from "./TopicConfig.ts"

/** How long an administrator's request is tried again, in milliseconds. */
const patience = 30_000

export const open = (
  cluster: Cluster,
  network: Network,
  timings: Timings
): Effect.Effect<AdminSession, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const link = yield* network.connect({ kind: "admin", clientId: "admin", groupId: undefined })
    yield* connect(cluster, network, link, timings)
    return overLink(cluster, network, link)
  })

const overLink = (cluster: Cluster, network: Network, link: Link): AdminSession => {
  const request = <A>(
    operation: string,
    handle: () => Reply<A>
  ): Effect.Effect<A, ClientError | UnknownTopicError> =>
    Effect.mapError(
      retrying(network.call(link, () => cluster.anyBroker, "admin", handle), patience),
      (failure) => clientError(operation, cluster.addresses, failure)
    )

  const withoutTopic = <A>(operation: string, handle: () => Reply<A>): Effect.Effect<A, ClientError> =>
    aboutNoTopic(request(operation, handle))

  const withTopic = <A>(operation: string, name: string, handle: (topic: Topic) => Reply<A>) =>
    request(operation, () => Either.flatMap(cluster.find(name), handle))

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
      protocolType: group.protocolType,
      members: group.describe().map(({ assignment, clientId, memberId }) => ({
        memberId,
        clientId,
        host: "/in-memory",
        assignment
      }))
    })
  }

  return {
    listTopics: withoutTopic(
      "list topics",
      () => ok([...cluster.topics.keys()].filter((topic) => cluster.authorize("topic", topic) === undefined).sort())
    ),
    describeTopics: (topics) =>
      Effect.forEach(topics, (topic) => withTopic("describe topics", topic, (found) => ok(describeTopic(found)))),
    createTopics: (topics) =>
      withoutTopic("create topics", () => {
        // one that can't be created does not keep the others from it
        const replies = topics.map((topic) => [topic.topic, cluster.createTopic(topic)] as const)
        for (const [, reply] of replies) {
          if (Either.isLeft(reply) && reply.left.code !== "TOPIC_ALREADY_EXISTS") return Either.left(reply.left)
        }
        return ok(replies.filter(([, reply]) => Either.isRight(reply)).map(([topic]) => topic))
      }),
    deleteTopics: (topics) =>
      Effect.forEach(topics, (topic) => request("delete topics", () => cluster.deleteTopic(topic)), { discard: true }),
    createPartitions: (topic, total) =>
      withTopic("create partitions", topic, (found) => cluster.createPartitions(found, total)),
    describeTopicConfigs: (topics) =>
      Effect.map(
        Effect.forEach(topics, (topic) =>
          withTopic("describe configs", topic, (found) => {
            const entries: Record<string, ConfigEntry> = {}
            for (const [name, value] of Object.entries(TopicConfig.defaults)) entries[name] = { value, isDefault: true }
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
      Effect.forEach(
        offsets,
        ([k, offset]) => request("delete records", () => cluster.deleteRecords(fromKey(k), offset)),
        { discard: true }
      ),
    listGroups: withoutTopic(
      "list groups",
      () => ok([...cluster.groups.values()].map(({ groupId, protocolType }) => ({ groupId, protocolType })))
    ),
    describeGroups: (groupIds) =>
      Effect.forEach(groupIds, (groupId) => withoutTopic("describe groups", () => describeGroup(groupId))),
    deleteGroups: (groupIds) =>
      Effect.forEach(groupIds, (groupId) => withoutTopic("delete groups", () => cluster.deleteGroup(groupId)), {
        discard: true
      }),
    groupOffsets: (groupId) =>
      Effect.map(
        withoutTopic("fetch committed offsets", () => cluster.committed(groupId)),
        (offsets) =>
          new Map([...offsets].map(([k, { metadata, offset, partition, topic }]) =>
            [k, { topic, partition, offset, metadata }] as const
          ))
      ),
    alterGroupOffsets: (groupId, offsets) =>
      Effect.catchTag(
        request("alter group offsets", () =>
          Either.mapLeft(cluster.commit(groupId, nobody, offsets), (refusal): Refusal =>
            refusal.code === "UNKNOWN_MEMBER_ID" ? { ...refusal, code: "NON_EMPTY_GROUP" } : refusal)),
        "UnknownTopicError",
        ({ message, operation }) =>
          new KafkaRequestError({ operation, code: "UNKNOWN_TOPIC_OR_PARTITION", retriable: true, reason: message })
      ),
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
