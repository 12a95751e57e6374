/**
 * Administration through kafkajs's single requests. kafkajs's own admin waits for leaders in a way that fails on KRaft,
 * keeps one picture of the cluster that concurrent calls overwrite for each other, and joins a group to set its offsets.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { AssignerProtocol } from "kafkajs"
import type {
  AdminSession,
  ConfigEntry,
  GroupDescription,
  NewTopic,
  OffsetAndMetadata,
  OffsetSpec,
  TopicDescription
} from "../../KafkaClient.ts"
import { type ClientError, KafkaRequestError, KafkaTimeoutError, UnknownTopicError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { anyTopic, ClusterRequests, isMetadata } from "./cluster.ts"
import * as Connection from "./connection.ts"
import { clientError, withoutFencing, withoutTopic } from "./errors.ts"
import type { Broker, DescribedGroup, TopicMetadata } from "./internals.ts"

export const open = (environment: Connection.Environment): Effect.Effect<AdminSession, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const cluster = new ClusterRequests(environment, Connection.make(environment))
    yield* Effect.addFinalizer(() => cluster.close)
    yield* cluster.connect
    return session(environment, cluster)
  })

type Failure = ClientError | UnknownTopicError

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>

interface Asking {
  readonly topic?: string | undefined
  readonly group?: string | undefined
  /** Whether asking again, without knowing what became of the first time, does no harm. */
  readonly repeatable: boolean
}

const topicResource = 2
const topicConfigSource = 1
const firstPause = 50
const longestPause = 1000

/** What fetches offsets as Kafka's own tools do: past what is not committed yet. */
const readUncommitted = 0

const timestamps = { earliest: -2, latest: -1 } as const

// ---------------------------------------------------------------------------------------------------------------------
// pure parts
// ---------------------------------------------------------------------------------------------------------------------

const groupBy = <A, K>(all: Iterable<A>, key: (one: A) => K): ReadonlyMap<K, ReadonlyArray<A>> => {
  const out = new Map<K, Array<A>>()
  for (const one of all) {
    const same = out.get(key(one))
    if (same === undefined) out.set(key(one), [one])
    else same.push(one)
  }
  return out
}

const byTopic = <A extends { readonly topic: string }, B>(all: Iterable<A>, f: (one: A) => B) =>
  Array.from(groupBy(all, (one) => one.topic), ([topic, same]) => ({ topic, partitions: same.map(f) }))

const configEntries = (config: Readonly<Record<string, string>>) =>
  Object.entries(config).map(([name, value]) => ({ name, value }))

const topicDescription = ({ partitionMetadata, topic }: TopicMetadata): TopicDescription => ({
  topic,
  partitions: partitionMetadata.map((one) => ({
    partition: one.partitionId,
    leader: one.leader < 0 ? undefined : one.leader,
    replicas: one.replicas,
    inSyncReplicas: one.isr
  })).sort((a, b) => a.partition - b.partition)
})

const assignment = (protocolType: string, encoded: Buffer): Partitions => {
  // other kinds of groups have assignments of their own kinds
  if (protocolType !== "consumer" || encoded.length === 0) return []
  const decoded = AssignerProtocol.MemberAssignment.decode(encoded)
  return Object.entries(decoded?.assignment ?? {}).sort(([a], [b]) => a < b ? -1 : 1).flatMap(([topic, partitions]) =>
    partitions.toSorted((a, b) => a - b).map((partition) => TopicPartition.make(topic, partition))
  )
}

const groupDescription = ({ groupId, members, protocolType, state }: DescribedGroup): GroupDescription => ({
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

/** What the broker answers while it is finding its feet, and what a connection that broke fails with. */
const isPassing = (error: Failure): boolean => error._tag === "KafkaRequestError" && error.retriable

const isBroken = (error: Failure): boolean => error._tag === "KafkaConnectionError"

const leaderless = (operation: string, tp: TopicPartition.TopicPartition): KafkaRequestError =>
  new KafkaRequestError({
    operation,
    code: "LEADER_NOT_AVAILABLE",
    retriable: true,
    reason: `${TopicPartition.format(tp)} has no leader`
  })

// ---------------------------------------------------------------------------------------------------------------------
// the session
// ---------------------------------------------------------------------------------------------------------------------

const session = (environment: Connection.Environment, cluster: ClusterRequests): AdminSession => {
  const millis = Duration.toMillis(environment.config.requestTimeout)

  /** Again and again for as long as it may change, within the request timeout. */
  const patiently = <A>(
    operation: string,
    once: Effect.Effect<A, Failure>,
    again: (error: Failure) => boolean
  ): Effect.Effect<A, Failure> =>
    Effect.flatMap(Clock.currentTimeMillis, (start) => {
      const attempt = (pause: number): Effect.Effect<A, Failure> =>
        Effect.catchAll(once, (error) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            again(error) && now + pause < start + millis
              ? Effect.zipRight(
                Effect.sleep(pause),
                Effect.suspend(() =>
                  attempt(Math.min(longestPause, 2 * pause))
                )
              )
              : Effect.fail(error)))
      return Effect.timeoutFail(attempt(firstPause), {
        duration: millis,
        onTimeout: (): Failure => new KafkaTimeoutError({ operation, millis })
      })
    })

  const once = <A>(operation: string, run: () => Promise<A>, about: Asking): Effect.Effect<A, Failure> => {
    const attempt = Connection.attempt(environment, operation, { topic: about.topic, group: about.group })
    return Effect.tryPromise({ try: run, catch: (error) => withoutFencing(clientError(error, attempt)) })
  }

  const mayAgain = ({ repeatable }: Asking) => (error: Failure): boolean =>
    isPassing(error) || (repeatable && isBroken(error))

  const ask = <A>(operation: string, run: () => Promise<A>, about: Asking): Effect.Effect<A, Failure> =>
    patiently(operation, once(operation, run, about), mayAgain(about))

  const aboutNoTopic = <A>(effect: Effect.Effect<A, Failure>): Effect.Effect<A, ClientError> =>
    Effect.mapError(effect, (error) => error._tag === "UnknownTopicError" ? withoutTopic(error) : error)

  const throwFirst = <P extends { readonly error?: unknown }>(parts: ReadonlyArray<P>): ReadonlyArray<P> => {
    for (const { error } of parts) if (error !== undefined) throw error
    return parts
  }

  /** What changes topics: done once, since the second time would have another answer. */
  const viaController = (
    operation: string,
    topic: string,
    run: (broker: Broker) => Promise<{ readonly topicErrors: ReadonlyArray<{ readonly error?: unknown }> }>
  ): Effect.Effect<void, Failure> => {
    const about: Asking = { topic, repeatable: false }
    return patiently(
      operation,
      Effect.flatMap(cluster.metadata(operation, [topic]), ({ controllerId }) =>
        once(operation, async () => {
          const broker = await (controllerId < 0 ? cluster.any() : cluster.broker(controllerId))
          throwFirst((await run(broker)).topicErrors)
        }, about)),
      mayAgain(about)
    )
  }

  const viaCoordinator = <A>(
    operation: string,
    groupId: string,
    run: (broker: Broker) => Promise<A>
  ): Effect.Effect<A, ClientError> =>
    aboutNoTopic(ask(operation, () =>
      cluster.coordinator("group", groupId).then(run).catch((error: unknown) => {
        cluster.forgetCoordinator("group", groupId)
        throw error
      }), { group: groupId, repeatable: true }))

  const topics = (
    operation: string,
    names: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyArray<TopicMetadata>, Failure> =>
    patiently(
      operation,
      Effect.flatMap(cluster.topics(operation, names), (found) =>
        Effect.forEach(names, (name) => {
          const one = found.get(name) ?? new UnknownTopicError({ operation, topic: name })
          return isMetadata(one) ? Effect.succeed(one) : Effect.fail(one)
        })),
      (error) => isPassing(error) || isBroken(error)
    )

  /** Until there are so many partitions, each with a leader. */
  const awaitPartitions = (operation: string, topic: string, partitions: number): Effect.Effect<void, Failure> =>
    patiently(
      operation,
      Effect.flatMap(topics(operation, [topic]), ([found]) => {
        const all = found?.partitionMetadata ?? []
        const without = all.find((one) => one.leader < 0)
        return all.length >= Math.max(1, partitions) && without === undefined
          ? Effect.void
          : Effect.fail<Failure>(leaderless(operation, { topic, partition: without?.partitionId ?? all.length }))
      }),
      (error) => isPassing(error) || error._tag === "UnknownTopicError"
    )

  /** Until a broker does not know it any more. */
  const awaitGone = (operation: string, topic: string): Effect.Effect<void, Failure> =>
    patiently<void>(
      operation,
      Effect.flatMap(cluster.topics(operation, [topic]), (found) => {
        const one = found.get(topic)
        return one === undefined || !isMetadata(one) ? Effect.void : new KafkaRequestError({
          operation,
          code: "STALE_METADATA",
          retriable: true,
          reason: `the brokers show topic "${topic}" still`
        })
      }),
      (error) => isPassing(error) || isBroken(error)
    )

  const createTopic = (
    { config, partitions, replicationFactor, topic }: NewTopic
  ): Effect.Effect<boolean, ClientError> =>
    aboutNoTopic(viaController("create topic", topic, (broker) =>
      broker.createTopics({
        timeout: millis,
        topics: [{ topic, numPartitions: partitions, replicationFactor, configEntries: configEntries(config) }]
      }))).pipe(
        Effect.as(true),
        Effect.catchIf(
          (error) => error._tag === "KafkaRequestError" && error.code === "TOPIC_ALREADY_EXISTS",
          () => Effect.succeed(false)
        )
      )

  const topicConfigs = (operation: string, names: ReadonlyArray<string>) =>
    Effect.forEach(names, (topic) =>
      ask(operation, async () => {
        const broker = await cluster.any()
        const { resources } = await broker.describeConfigs({
          includeSynonyms: false,
          resources: [{ type: topicResource, name: topic }]
        })
        return [
          topic,
          Object.fromEntries(
            throwFirst(resources).flatMap(({ configEntries }) =>
              configEntries.map(({ configName, configSource, configValue }): readonly [string, ConfigEntry] => [
                configName,
                { value: configValue, isDefault: configSource !== topicConfigSource }
              ])
            )
          )
        ] as const
      }, { topic, repeatable: true }), { concurrency: 8 })

  /**
   * Waits until a broker shows what the controller has set, so that who asks next is not told of the time before, and
   * the next change does not take it back. A broker may write a value in its own way: that it is another than before
   * is enough.
   */
  const awaitConfig = (
    operation: string,
    topic: string,
    entries: Readonly<Record<string, string>>,
    before: Readonly<Record<string, ConfigEntry>>
  ): Effect.Effect<void, Failure> => {
    const shown = (config: Readonly<Record<string, ConfigEntry>>): boolean =>
      Object.entries(entries).every(([name, value]) => {
        const now = config[name]
        return now?.value === value || (now?.isDefault === false && now.value !== before[name]?.value)
      })
    const notYet = new KafkaRequestError({
      operation,
      code: "STALE_METADATA",
      retriable: true,
      reason: `the brokers do not show the configuration of "${topic}" yet`
    })
    return patiently<void>(
      operation,
      Effect.flatMap(
        topicConfigs(operation, [topic]),
        (found) => found.every(([, config]) => shown(config)) ? Effect.void : Effect.fail(notYet)
      ),
      (error) => isPassing(error) || error === notYet || error._tag === "UnknownTopicError"
    )
  }

  /** Puts a question about partitions to their leaders, one request each. */
  const viaLeaders = <P extends TopicPartition.TopicPartition, A>(
    operation: string,
    partitions: ReadonlyArray<P>,
    run: (leader: Broker, partitions: ReadonlyArray<P>) => Promise<A>
  ): Effect.Effect<ReadonlyArray<A>, Failure> =>
    patiently(
      operation,
      Effect.gen(function*() {
        const names = [...new Set(partitions.map((one) => one.topic))]
        const found = new Map((yield* topics(operation, names)).map((one) => [one.topic, one]))
        const placed: Array<readonly [leader: number, one: P]> = []
        for (const one of partitions) {
          const { partition, topic } = one
          const known = found.get(topic)?.partitionMetadata.find(({ partitionId }) => partitionId === partition)
          if (known === undefined) return yield* new UnknownTopicError({ operation, topic, partition })
          if (known.leader < 0) return yield* leaderless(operation, one)
          placed.push([known.leader, one])
        }
        return yield* Effect.forEach(groupBy(placed, ([leader]) => leader), ([leader, same]) => {
          const all = same.map(([, one]) => one)
          const attempt = Connection.attempt(environment, operation, { topic: all[0]?.topic })
          return Effect.tryPromise({
            try: () => cluster.broker(leader).then((broker) => run(broker, all)),
            catch: (error) => withoutFencing(clientError(error, attempt))
          })
        }, { concurrency: "unbounded" })
      }),
      (error) => isPassing(error) || isBroken(error)
    )

  const offsetsAt = (partitions: Partitions, timestamp: number) =>
    Effect.map(
      viaLeaders("list offsets", partitions, async (leader, wanted) => {
        const { responses } = await leader.listOffsets({
          isolationLevel: readUncommitted,
          topics: byTopic(wanted, ({ partition }) => ({ partition, timestamp }))
        })
        return responses.flatMap(({ partitions, topic }) =>
          throwFirst(partitions).map(({ offset, partition }) =>
            [TopicPartition.key({ topic, partition }), BigInt(offset)] as const
          )
        )
      }),
      (all) => new Map(all.flat())
    )

  const listOffsets = (
    partitions: Partitions,
    spec: OffsetSpec
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, Failure> => {
    if (typeof spec === "string") return offsetsAt(partitions, timestamps[spec])
    return Effect.flatMap(offsetsAt(partitions, spec.timestamp < 0n ? 0 : Number(spec.timestamp)), (found) => {
      // no record that late: the end
      const beyond = partitions.filter((one) => (found.get(TopicPartition.key(one)) ?? -1n) < 0n)
      return beyond.length === 0
        ? Effect.succeed(found)
        : Effect.map(offsetsAt(beyond, timestamps.latest), (ends) => new Map([...found, ...ends]))
    })
  }

  return {
    listTopics: Effect.map(
      aboutNoTopic(patiently("list topics", cluster.metadata("list topics", []), isBroken)),
      ({ topicMetadata }) => topicMetadata.filter((one) => !one.isInternal).map(({ topic }) => topic).sort()
    ),

    describeTopics: (names) => Effect.map(topics("describe topics", names), (all) => all.map(topicDescription)),

    createTopics: (all) =>
      Effect.gen(function*() {
        const isNew = yield* Effect.forEach(all, createTopic, { concurrency: 8 })
        const created = all.filter((_, i) => isNew[i])
        yield* Effect.forEach(
          created,
          (one) =>
            Effect.zipRight(
              awaitPartitions("create topic", one.topic, one.partitions),
              Object.keys(one.config).length === 0
                ? Effect.void
                : awaitConfig("create topic", one.topic, one.config, {})
            ),
          { concurrency: 8, discard: true }
        )
        return created.map((one) => one.topic)
      }).pipe(aboutNoTopic),

    deleteTopics: (names) =>
      Effect.forEach(
        names,
        (topic) =>
          Effect.zipRight(
            viaController("delete topic", topic, (broker) => broker.deleteTopics({ topics: [topic], timeout: millis })),
            awaitGone("delete topic", topic)
          ),
        { concurrency: 8, discard: true }
      ),

    createPartitions: (topic, total) =>
      Effect.zipRight(
        viaController("create partitions", topic, (broker) =>
          broker.createPartitions({ timeout: millis, topicPartitions: [{ topic, count: total }] })),
        awaitPartitions("create partitions", topic, total)
      ),

    describeTopicConfigs: (names) => Effect.map(topicConfigs("describe topic config", names), (all) => new Map(all)),

    alterTopicConfig: (topic, entries) =>
      Effect.flatMap(topicConfigs("alter topic config", [topic]), (before) => {
        // the request replaces all that was set, so what was set is set again
        const all: Record<string, string> = {}
        for (const [, config] of before) {
          for (const [name, { isDefault, value }] of Object.entries(config)) {
            if (!isDefault && value !== null) all[name] = value
          }
        }
        Object.assign(all, entries)
        return ask("alter topic config", async () => {
          const broker = await cluster.any()
          const { resources } = await broker.alterConfigs({
            resources: [{ type: topicResource, name: topic, configEntries: configEntries(all) }]
          })
          throwFirst(resources)
        }, { topic, repeatable: true }).pipe(
          Effect.zipRight(awaitConfig("alter topic config", topic, entries, before[0]?.[1] ?? {}))
        )
      }),

    listOffsets,

    deleteRecords: (offsets) => {
      const all = Array.from(offsets, ([key, offset]) => ({ ...TopicPartition.fromKey(key), offset }))
      return Effect.asVoid(viaLeaders("delete records", all, async (leader, wanted) => {
        // kafkajs loses its way in the errors of several topics
        for (const one of byTopic(wanted, ({ offset, partition }) => ({ partition, offset: String(offset) }))) {
          await leader.deleteRecords({ topics: [one] })
        }
      }))
    },

    listGroups: aboutNoTopic(Effect.flatMap(cluster.metadata("list groups", [anyTopic]), ({ brokers }) =>
      Effect.map(
        Effect.forEach(brokers, ({ nodeId }) =>
          ask("list groups", () =>
            cluster.broker(nodeId).then((broker) => broker.listGroups()), {
            repeatable: true
          }), { concurrency: 8 }),
        (all) =>
          all.flatMap(({ groups }) =>
            groups.map(({ groupId, protocolType }) => ({ groupId, protocolType }))
          )
      ))),

    describeGroups: (groupIds) =>
      Effect.forEach(groupIds, (groupId) =>
        Effect.map(
          viaCoordinator("describe group", groupId, (broker) => broker.describeGroups({ groupIds: [groupId] })),
          ({ groups }) => groups.map(groupDescription)
        ), { concurrency: 8 }).pipe(Effect.map((all) => all.flat())),

    deleteGroups: (groupIds) =>
      Effect.forEach(groupIds, (groupId) =>
        viaCoordinator("delete group", groupId, async (broker) => {
          throwFirst((await broker.deleteGroups([groupId])).results)
        }), { concurrency: 8, discard: true }),

    groupOffsets: (groupId) =>
      Effect.map(
        viaCoordinator("group offsets", groupId, (broker) => broker.offsetFetch({ groupId, topics: [] })),
        ({ responses }) => {
          const out = new Map<TopicPartition.Key, OffsetAndMetadata>()
          for (const { partitions, topic } of responses) {
            for (const { metadata, offset, partition } of partitions) {
              if (BigInt(offset) < 0n) continue
              out.set(TopicPartition.key({ topic, partition }), {
                topic,
                partition,
                offset: BigInt(offset),
                ...(metadata === undefined || metadata === null || metadata === "" ? {} : { metadata })
              })
            }
          }
          return out
        }
      ),

    alterGroupOffsets: (groupId, offsets) =>
      offsets.length === 0 ? Effect.void : viaCoordinator("alter group offsets", groupId, async (broker) => {
        await broker.offsetCommit({
          groupId,
          // nobody: taken while there are no members
          memberId: "",
          groupGenerationId: -1,
          topics: byTopic(offsets, ({ metadata, offset, partition }) => ({
            partition,
            offset: String(offset),
            metadata
          }))
        })
      }).pipe(
        Effect.asVoid,
        Effect.catchIf(
          (error) => error._tag === "KafkaRequestError" && activeCodes.has(error.code),
          (error) =>
            new KafkaRequestError({
              operation: "alter group offsets",
              code: "NON_EMPTY_GROUP",
              retriable: false,
              reason: `group "${groupId}" has members: stop them first`,
              cause: error
            })
        )
      ),

    describeCluster: Effect.map(
      aboutNoTopic(patiently("describe cluster", cluster.metadata("describe cluster", [anyTopic]), isBroken)),
      ({ brokers, clusterId, controllerId }) => ({
        clusterId,
        controller: controllerId < 0 ? undefined : controllerId,
        brokers: brokers.map(({ host, nodeId, port }) => ({ id: nodeId, host, port }))
      })
    )
  }
}

const activeCodes: ReadonlySet<string> = new Set([
  "UNKNOWN_MEMBER_ID",
  "ILLEGAL_GENERATION",
  "STALE_MEMBER_EPOCH",
  "REBALANCE_IN_PROGRESS"
])
