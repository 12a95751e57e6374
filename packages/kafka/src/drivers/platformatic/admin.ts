/**
 * Administration through the library's single requests.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { AdminSession, ConfigEntry, GroupDescription } from "../../KafkaClient.ts"
import type { ClientError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import * as Session from "../adminSession.ts"
import * as Transport from "../producer/transport.ts"
import type { Api } from "./api.ts"
import { Cluster, isMetadata, type TopicMetadata } from "./cluster.ts"
import * as Connection from "./connection.ts"
import { decodeAssignment } from "./consumerProtocol.ts"
import { Misunderstood } from "./errors.ts"

export const open = (environment: Connection.Environment): Effect.Effect<AdminSession, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const cluster = new Cluster(environment)
    yield* Effect.addFinalizer(() => cluster.close)
    yield* cluster.connect
    return Session.make(requests(environment, cluster))
  })

/** Of a client that is no replica. */
const noReplica = -1
const anyEpoch = -1

/** What fetches offsets as Kafka's own tools do: past what is not committed yet. */
const readUncommitted = 0

const byTopic = <A extends { readonly topic: string }, B>(all: ReadonlyArray<A>, f: (one: A) => B) =>
  Array.from(Transport.byTopic(all), ([name, same]) => ({ name, partitions: same.map(f) }))

const foundTopic = ({ isInternal, partitions, topic }: TopicMetadata): Session.FoundTopic => ({
  _tag: "Topic",
  topic,
  isInternal,
  partitions: Array.from(partitions.values(), ({ inSyncReplicas, leader, partition, replicas }) => ({
    partition,
    leader,
    replicas,
    inSyncReplicas
  })).sort((a, b) => a.partition - b.partition)
})

const inOrder = (
  partitions: ReadonlyArray<TopicPartition.TopicPartition>
): ReadonlyArray<TopicPartition.TopicPartition> =>
  partitions.toSorted((a, b) => a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1)

const missing = (what: string): Misunderstood =>
  new Misunderstood("MALFORMED_RESPONSE", `the broker's answer leaves the ${what} out`)

const requests = (environment: Connection.Environment, cluster: Cluster): Session.Requests => {
  const { apis, library } = environment
  const { TOPIC } = library.ConfigResourceTypes
  const { millis } = cluster.attempt("administration")

  const viaController = async <Args extends ReadonlyArray<unknown>, A>(
    controller: number | undefined,
    api: Api<Args, A>,
    ...args: Args
  ): Promise<A> => {
    const connection = await (controller === undefined ? cluster.findAny() : cluster.connectTo(controller))
    return connection.call(api, ...args)
  }

  const viaCoordinator = async <A>(
    groupId: string,
    run: (coordinator: Connection.Connection) => Promise<A>
  ): Promise<A> => {
    try {
      return await run(await cluster.findCoordinator("group", groupId))
    } catch (error) {
      cluster.forgetCoordinator("group", groupId)
      throw error
    }
  }

  /** A group that nobody describes is dead; those of KIP-848 have a request of their own. */
  const describe = async (coordinator: Connection.Connection, groupId: string): Promise<GroupDescription> => {
    const { groups: [classic] } = await coordinator.call(apis.describeGroups, [groupId], false)
    if (classic === undefined) throw missing("group")
    if (classic.groupState === "Dead" && coordinator.speaks(apis.consumerGroupDescribe)) {
      const { groups: [group] } = await Connection.answered(
        coordinator.call(apis.consumerGroupDescribe, [groupId], false)
      )
      if (group?.errorCode === 0) {
        return {
          groupId,
          state: group.groupState,
          protocolType: "consumer",
          members: group.members.map(({ assignment, clientHost, clientId, memberId }) => ({
            memberId,
            clientId,
            host: clientHost,
            assignment: inOrder(
              assignment.topicPartitions.flatMap(({ partitions, topicName }) =>
                partitions.map((partition) => TopicPartition.make(topicName, partition))
              )
            )
          }))
        }
      }
    }
    return {
      groupId,
      state: classic.groupState,
      protocolType: classic.protocolType,
      members: classic.members.map(({ clientHost, clientId, memberAssignment, memberId }) => ({
        memberId,
        clientId,
        host: clientHost,
        // other kinds of groups have assignments of their own kinds
        assignment: classic.protocolType !== "consumer" || memberAssignment.length === 0
          ? []
          : inOrder(decodeAssignment(library, memberAssignment))
      }))
    }
  }

  return {
    millis,
    failure: (operation, error, about) => cluster.lookupError(operation, error, about),

    cluster: (operation, topics) =>
      Effect.map(cluster.metadata(operation, topics), (found) => ({
        clusterId: found.clusterId,
        controller: found.controller,
        brokers: found.brokers.map(({ host, nodeId, port }) => ({ id: nodeId, host, port })),
        topics: new Map(Array.from(found.topics, ([topic, one]) => [topic, isMetadata(one) ? foundTopic(one) : one]))
      })),

    createTopic: (controller, { config, partitions, replicationFactor, topic }) => {
      const configs = Object.entries(config).map(([name, value]) => ({ name, value }))
      return viaController(
        controller,
        apis.createTopics,
        [{ name: topic, numPartitions: partitions, replicationFactor, assignments: [], configs }],
        millis,
        false
      )
    },

    deleteTopic: (controller, name) => viaController(controller, apis.deleteTopics, [{ name, topicId: null }], millis),

    createPartitions: (controller, name, count) =>
      viaController(controller, apis.createPartitions, [{ name, count, assignments: null }], millis, false),

    describeConfig: async (topic) => {
      const connection = await cluster.findAny()
      const { results } = await connection.call(apis.describeConfigs, [{ resourceType: TOPIC, resourceName: topic }])
      const own = library.ConfigSources.DYNAMIC_TOPIC_CONFIG
      return Object.fromEntries(
        results.flatMap(({ configs }) =>
          configs.map(({ configSource, name, value }): readonly [string, ConfigEntry] => [
            name,
            { value: value ?? null, isDefault: configSource !== own }
          ])
        )
      )
    },

    alterConfig: async (topic, entries) => {
      if (Object.keys(entries).length === 0) return
      const connection = await cluster.findAny()
      const { SET } = library.IncrementalAlterConfigOperationTypes
      const configs = Object.entries(entries).map(([name, value]) => ({ name, configOperation: SET, value }))
      await connection.call(
        apis.incrementalAlterConfigs,
        [{ resourceType: TOPIC, resourceName: topic, configs }],
        false
      )
    },

    listOffsets: async (leader, wanted, timestamp) => {
      const connection = await cluster.connectTo(leader)
      const { topics } = await connection.call(
        apis.listOffsets,
        noReplica,
        readUncommitted,
        byTopic(wanted, ({ partition }) => ({ partitionIndex: partition, currentLeaderEpoch: anyEpoch, timestamp }))
      )
      return topics.flatMap(({ name, partitions }) =>
        partitions.map(({ offset, partitionIndex }) =>
          [TopicPartition.key({ topic: name, partition: partitionIndex }), offset] as const
        )
      )
    },

    deleteRecords: async (leader, offsets) => {
      const connection = await cluster.connectTo(leader)
      await connection.call(
        apis.deleteRecords,
        byTopic(offsets, ({ offset, partition }) => ({ partitionIndex: partition, offset })),
        millis
      )
    },

    listGroups: async (nodeId) => {
      const connection = await cluster.connectTo(nodeId)
      const { groups } = await connection.call(apis.listGroups, [], [])
      return groups.map(({ groupId, protocolType }) => ({ groupId, protocolType }))
    },

    describeGroup: (groupId) => viaCoordinator(groupId, (coordinator) => describe(coordinator, groupId)),

    deleteGroup: (groupId) => viaCoordinator(groupId, (coordinator) => coordinator.call(apis.deleteGroups, [groupId])),

    groupOffsets: (groupId) =>
      viaCoordinator(groupId, async (coordinator) => {
        const { groups: [group] } = await coordinator.call(
          apis.offsetFetch,
          [{ groupId, memberId: null, memberEpoch: anyEpoch, topics: null }],
          false
        )
        return (group?.topics ?? []).flatMap(({ name: topic, partitions }) =>
          partitions.filter(({ committedOffset }) => committedOffset >= 0n).map((one) => ({
            topic,
            partition: one.partitionIndex,
            offset: one.committedOffset,
            ...(typeof one.metadata === "string" && one.metadata !== "" ? { metadata: one.metadata } : {})
          }))
        )
      }),

    alterGroupOffsets: (groupId, offsets) =>
      viaCoordinator(groupId, (coordinator) =>
        coordinator.call(
          apis.offsetCommit,
          groupId,
          // nobody: taken while there are no members
          -1,
          "",
          null,
          byTopic(offsets, ({ metadata, offset, partition }) => ({
            partitionIndex: partition,
            committedOffset: offset,
            committedLeaderEpoch: anyEpoch,
            committedMetadata: metadata ?? null
          }))
        ))
  }
}
