/**
 * Administration through kafkajs's single requests. kafkajs's own admin waits for leaders in a way that fails on KRaft,
 * keeps one picture of the cluster that concurrent calls overwrite for each other, and joins a group to set its offsets.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { AssignerProtocol } from "kafkajs"
import type { AdminSession, ConfigEntry, GroupDescription } from "../../KafkaClient.ts"
import type { ClientError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import * as Session from "../adminSession.ts"
import * as Transport from "../producer/transport.ts"
import { anyTopic, ClusterRequests } from "./cluster.ts"
import * as Connection from "./connection.ts"
import { clientError, withoutFencing } from "./errors.ts"
import type { Broker, DescribedGroup, TopicMetadata } from "./internals.ts"

export const open = (environment: Connection.Environment): Effect.Effect<AdminSession, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const cluster = new ClusterRequests(environment, Connection.make(environment))
    yield* Effect.addFinalizer(() => cluster.close)
    yield* cluster.connect
    return Session.make(requests(environment, cluster))
  })

const topicResource = 2
const topicConfigSource = 1

/** What fetches offsets as Kafka's own tools do: past what is not committed yet. */
const readUncommitted = 0

// ---------------------------------------------------------------------------------------------------------------------
// pure parts
// ---------------------------------------------------------------------------------------------------------------------

const byTopic = <A extends { readonly topic: string }, B>(all: ReadonlyArray<A>, f: (one: A) => B) =>
  Array.from(Transport.byTopic(all), ([topic, same]) => ({ topic, partitions: same.map(f) }))

const configEntries = (config: Readonly<Record<string, string>>) =>
  Object.entries(config).map(([name, value]) => ({ name, value }))

const foundTopic = ({ isInternal, partitionMetadata, topic }: TopicMetadata): Session.FoundTopic => ({
  _tag: "Topic",
  topic,
  isInternal,
  partitions: partitionMetadata.map((one) => ({
    partition: one.partitionId,
    leader: one.leader < 0 ? undefined : one.leader,
    replicas: one.replicas,
    inSyncReplicas: one.isr
  })).sort((a, b) => a.partition - b.partition)
})

const assignment = (protocolType: string, encoded: Buffer): ReadonlyArray<TopicPartition.TopicPartition> => {
  // other kinds of groups have assignments of their own kinds
  if (protocolType !== "consumer" || encoded.length === 0) return []
  const decoded = decodeAssignment(encoded)
  return Object.entries(decoded?.assignment ?? {}).sort(([a], [b]) => a < b ? -1 : 1).flatMap(([topic, partitions]) =>
    partitions.toSorted((a, b) => a - b).map((partition) => TopicPartition.make(topic, partition))
  )
}

/** Any client may have written it: what can't be read is as good as none. */
const decodeAssignment = (encoded: Buffer) => {
  try {
    return AssignerProtocol.MemberAssignment.decode(encoded)
  } catch {
    return null
  }
}

export const groupDescription = ({ groupId, members, protocolType, state }: DescribedGroup): GroupDescription => ({
  groupId,
  state,
  protocolType,
  members: members.map((member) => ({
    memberId: member.memberId,
    clientId: member.clientId,
    host: member.clientHost,
    assignment: assignment(protocolType, member.memberAssignment)
  }))
})

const throwFirst = <P extends { readonly error?: unknown }>(parts: ReadonlyArray<P>): ReadonlyArray<P> => {
  for (const { error } of parts) if (error !== undefined) throw error
  return parts
}

// ---------------------------------------------------------------------------------------------------------------------
// the requests
// ---------------------------------------------------------------------------------------------------------------------

const requests = (environment: Connection.Environment, cluster: ClusterRequests): Session.Requests => {
  const millis = Duration.toMillis(environment.config.requestTimeout)

  const failure = (operation: string, error: unknown, about: Session.About): Session.Failure =>
    withoutFencing(clientError(error, Connection.attempt(environment, operation, about)))

  const viaController = async (
    controller: number | undefined,
    run: (broker: Broker) => Promise<{ readonly topicErrors: ReadonlyArray<{ readonly error?: unknown }> }>
  ): Promise<void> => {
    const broker = await (controller === undefined ? cluster.any() : cluster.broker(controller))
    throwFirst((await run(broker)).topicErrors)
  }

  const viaCoordinator = <A>(groupId: string, run: (broker: Broker) => Promise<A>): Promise<A> =>
    cluster.coordinator("group", groupId).then(run).catch((error: unknown) => {
      cluster.forgetCoordinator("group", groupId)
      throw error
    })

  return {
    millis,
    failure,

    cluster: (operation, topics) =>
      Effect.map(
        // to name none is to name all
        cluster.metadata(operation, topics === "all" ? [] : topics.length === 0 ? [anyTopic] : topics),
        ({ brokers, clusterId, controllerId, topicMetadata }) => ({
          clusterId,
          controller: controllerId < 0 ? undefined : controllerId,
          brokers: brokers.map(({ host, nodeId, port }) => ({ id: nodeId, host, port })),
          topics: new Map(topicMetadata.map((one) => [
            one.topic,
            one.error === undefined ? foundTopic(one) : failure(operation, one.error, { topic: one.topic })
          ]))
        })
      ),

    createTopic: (controller, { config, partitions, replicationFactor, topic }) =>
      viaController(controller, (broker) =>
        broker.createTopics({
          timeout: millis,
          topics: [{ topic, numPartitions: partitions, replicationFactor, configEntries: configEntries(config) }]
        })),

    deleteTopic: (controller, topic) =>
      viaController(controller, (broker) => broker.deleteTopics({ topics: [topic], timeout: millis })),

    createPartitions: (controller, topic, total) =>
      viaController(
        controller,
        (broker) => broker.createPartitions({ timeout: millis, topicPartitions: [{ topic, count: total }] })
      ),

    describeConfig: async (topic) => {
      const broker = await cluster.any()
      const { resources } = await broker.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: topicResource, name: topic }]
      })
      return Object.fromEntries(
        throwFirst(resources).flatMap(({ configEntries }) =>
          configEntries.map(({ configName, configSource, configValue }): readonly [string, ConfigEntry] => [
            configName,
            { value: configValue, isDefault: configSource !== topicConfigSource }
          ])
        )
      )
    },

    alterConfig: async (topic, entries, before) => {
      // the request replaces all that was set, so what was set is set again
      const all: Record<string, string> = {}
      for (const [name, { isDefault, value }] of Object.entries(before)) {
        if (!isDefault && value !== null) all[name] = value
      }
      Object.assign(all, entries)
      const broker = await cluster.any()
      const { resources } = await broker.alterConfigs({
        resources: [{ type: topicResource, name: topic, configEntries: configEntries(all) }]
      })
      throwFirst(resources)
    },

    listOffsets: async (leader, wanted, timestamp) => {
      const broker = await cluster.broker(leader)
      const { responses } = await broker.listOffsets({
        isolationLevel: readUncommitted,
        topics: byTopic(wanted, ({ partition }) => ({ partition, timestamp }))
      })
      return responses.flatMap(({ partitions, topic }) =>
        throwFirst(partitions).map(({ offset, partition }) =>
          [TopicPartition.key({ topic, partition }), BigInt(offset)] as const
        )
      )
    },

    deleteRecords: async (leader, offsets) => {
      const broker = await cluster.broker(leader)
      // kafkajs loses its way in the errors of several topics
      for (const one of byTopic(offsets, ({ offset, partition }) => ({ partition, offset: String(offset) }))) {
        await broker.deleteRecords({ topics: [one] })
      }
    },

    listGroups: async (nodeId) => {
      const broker = await cluster.broker(nodeId)
      const { groups } = await broker.listGroups()
      return groups.map(({ groupId, protocolType }) => ({ groupId, protocolType }))
    },

    describeGroup: (groupId) =>
      viaCoordinator(groupId, async (broker) => {
        const { groups: [group] } = await broker.describeGroups({ groupIds: [groupId] })
        if (group === undefined) throw new Error("the broker's answer leaves the group out")
        return groupDescription(group)
      }),

    deleteGroup: (groupId) =>
      viaCoordinator(groupId, async (broker) => {
        throwFirst((await broker.deleteGroups([groupId])).results)
      }),

    groupOffsets: (groupId) =>
      viaCoordinator(groupId, async (broker) => {
        const { responses } = await broker.offsetFetch({ groupId, topics: [] })
        return responses.flatMap(({ partitions, topic }) =>
          partitions.filter(({ offset }) => BigInt(offset) >= 0n).map(({ metadata, offset, partition }) => ({
            topic,
            partition,
            offset: BigInt(offset),
            ...(metadata === undefined || metadata === null || metadata === "" ? {} : { metadata })
          }))
        )
      }),

    alterGroupOffsets: (groupId, offsets) =>
      viaCoordinator(groupId, (broker) =>
        broker.offsetCommit({
          groupId,
          // nobody: taken while there are no members
          memberId: "",
          groupGenerationId: -1,
          topics: byTopic(offsets, ({ metadata, offset, partition }) => ({
            partition,
            offset: String(offset),
            metadata
          }))
        }))
  }
}
