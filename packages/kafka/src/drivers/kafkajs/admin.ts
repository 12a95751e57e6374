/**
 * Administration through kafkajs.
 *
 * kafkajs's admin keeps one picture of the cluster that concurrent requests overwrite for each other, and that a topic
 * deleted elsewhere spoils for good. So there is one request at a time, and a client that was let down is replaced.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import KafkaJs, { type Admin, type GroupDescription as KafkaJsGroup, type ITopicMetadata } from "kafkajs"
import type {
  AdminSession,
  ConfigEntry,
  GroupDescription,
  OffsetAndMetadata,
  TopicDescription
} from "../../KafkaClient.ts"
import { type ClientError, KafkaRequestError, KafkaTimeoutError, UnknownTopicError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import * as Connection from "./connection.ts"
import * as Cluster from "./consumerCluster.ts"
import { clientError, withoutFencing, withoutTopic } from "./errors.ts"

// ---------------------------------------------------------------------------------------------------------------------
// one request at a time
// ---------------------------------------------------------------------------------------------------------------------

type About = Parameters<typeof Connection.attempt>[2]

type Failure = ClientError | UnknownTopicError

/**
 * Runs one request of kafkajs's admin, bounded by the request timeout, and again while the broker says that it will
 * soon be able to answer.
 */
export type Ask = <A>(operation: string, run: (admin: Admin) => Promise<A>, about?: About) => Effect.Effect<A, Failure>

/** What the broker answers while it is finding its feet. */
const isPassing = (error: Failure): boolean => error._tag === "KafkaRequestError" && error.retriable

const soon = Schedule.exponential(100, 1.5).pipe(Schedule.union(Schedule.spaced(1000)))

/**
 * A client for requests that concern the cluster: connected when it is first asked, replaced after it failed.
 */
export const client = (
  environment: Connection.Environment,
  options: {
    readonly clientId?: string | undefined
    /** For how long, in milliseconds, a request is tried again: as long as it may take, if absent. */
    readonly patience?: number
  } = {}
): Effect.Effect<{ readonly connect: Effect.Effect<void, ClientError>; readonly ask: Ask }, never, Scope.Scope> =>
  Effect.gen(function*() {
    const millis = Duration.toMillis(environment.config.requestTimeout)
    const schedule = options.patience === undefined ? soon : Schedule.upTo(soon, options.patience)
    const one = yield* Effect.makeSemaphore(1)
    let current: { readonly connection: Connection.Connection; readonly admin: Admin } | undefined

    const discard: Effect.Effect<void> = Effect.suspend(() => {
      const old = current
      current = undefined
      return old === undefined ? Effect.void : Connection.close(old.connection, old.admin)
    })
    yield* Effect.addFinalizer(() => discard)

    const connected: Effect.Effect<Admin, ClientError> = Effect.suspend(() => {
      if (current !== undefined) return Effect.succeed(current.admin)
      const connection = Connection.make(environment, { clientId: options.clientId })
      const admin = connection.kafka.admin()
      current = { connection, admin }
      return Effect.as(Connection.establish(environment, connection, admin, "connect"), admin)
    }).pipe(Effect.onError(() => discard))

    const ask: Ask = (operation, run, about) => {
      const attempt = Connection.attempt(environment, operation, about)
      return Effect.flatMap(
        connected,
        (admin) =>
          Effect.tryPromise({ try: () => run(admin), catch: (error) => withoutFencing(clientError(error, attempt)) })
      ).pipe(
        Effect.retry({ schedule, while: isPassing }),
        Effect.timeoutFail({
          duration: millis,
          onTimeout: (): Failure => new KafkaTimeoutError({ operation, millis })
        }),
        // it may be in the middle of something, or see the cluster as it was
        Effect.onError(() => discard),
        one.withPermits(1)
      )
    }

    return { connect: one.withPermits(1)(Effect.asVoid(connected)), ask }
  })

/**
 * The partitions of one topic. kafkajs fails as a whole where one topic of a request is missing, so each is asked for
 * by itself.
 */
export const topicMetadata = (
  ask: Ask,
  operation: string,
  topic: string
): Effect.Effect<ITopicMetadata, Failure> =>
  Effect.flatMap(
    ask(operation, (admin) => admin.fetchTopicMetadata({ topics: [topic] }), { topic }),
    ({ topics }) => {
      const found = topics.find(({ name }) => name === topic)
      return found === undefined ? new UnknownTopicError({ operation, topic }) : Effect.succeed(found)
    }
  )

// ---------------------------------------------------------------------------------------------------------------------
// the session
// ---------------------------------------------------------------------------------------------------------------------

export const open = (environment: Connection.Environment): Effect.Effect<AdminSession, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const { ask, connect } = yield* client(environment)
    yield* connect
    return make(environment, ask)
  })

const internalTopics: ReadonlySet<string> = new Set([
  "__consumer_offsets",
  "__transaction_state",
  "__share_group_state"
])

const aboutNoTopic = <A>(effect: Effect.Effect<A, Failure>): Effect.Effect<A, ClientError> =>
  Effect.mapError(effect, (error) => error._tag === "UnknownTopicError" ? withoutTopic(error) : error)

const topicConfig = 1

const fetchesNothing = { isolationLevel: "read_uncommitted", fetchMaxBytes: 1, fetchMinBytes: 1 } as const

const alive = (): void => {}

/** An administrator's commit is a request like others. */
const asRequestError = (operation: string, { error, retriable }: Cluster.CommitFailure): ClientError =>
  error._tag === "CommitError"
    ? new KafkaRequestError({
      operation,
      code: error.code ?? "UNKNOWN",
      retriable,
      reason: error.description ?? error.message,
      cause: error
    })
    : error

const byTopic = <A extends { readonly topic: string }>(all: Iterable<A>): ReadonlyMap<string, ReadonlyArray<A>> => {
  const out = new Map<string, Array<A>>()
  for (const one of all) {
    const of = out.get(one.topic)
    if (of === undefined) out.set(one.topic, [one])
    else of.push(one)
  }
  return out
}

const assignmentOf = (group: KafkaJsGroup, assignment: Buffer): ReadonlyArray<TopicPartition.TopicPartition> => {
  if (group.protocolType !== "consumer" || assignment.length === 0) return []
  const decoded = KafkaJs.AssignerProtocol.MemberAssignment.decode(assignment)
  return Object.entries(decoded?.assignment ?? {}).flatMap(([topic, partitions]) =>
    partitions.map((partition) => TopicPartition.make(topic, partition))
  )
}

export const make = (environment: Connection.Environment, ask: Ask): AdminSession => {
  const millis = Duration.toMillis(environment.config.requestTimeout)

  /** Looks again until there are so many partitions, each with a leader. */
  const awaitPartitions = (operation: string, topic: string, partitions: number): Effect.Effect<void, Failure> =>
    topicMetadata(ask, operation, topic).pipe(
      Effect.map((found) =>
        found.partitions.length >= Math.max(1, partitions) && found.partitions.every((p) => p.leader >= 0)
      ),
      Effect.catchIf((error) => error._tag === "UnknownTopicError", () => Effect.succeed(false)),
      Effect.repeat({ schedule: Schedule.spaced(50), until: (ready) => ready }),
      Effect.timeoutFail({ duration: millis, onTimeout: (): Failure => new KafkaTimeoutError({ operation, millis }) }),
      Effect.asVoid
    )

  const topicConfigs = (
    operation: string,
    topic: string
  ): Effect.Effect<Readonly<Record<string, ConfigEntry>>, Failure> =>
    Effect.map(
      ask(
        operation,
        (admin) =>
          admin.describeConfigs({
            includeSynonyms: false,
            resources: [{ type: KafkaJs.ConfigResourceTypes.TOPIC, name: topic }]
          }),
        { topic }
      ),
      ({ resources }) =>
        Object.fromEntries(resources.flatMap(({ configEntries }) =>
          configEntries.map((entry) => [
            entry.configName,
            // the type says string, and the protocol allows null
            { value: entry.configValue as string | null, isDefault: Number(entry.configSource) !== topicConfig }
          ])
        ))
    )

  const describeGroups = (
    groupIds: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyArray<GroupDescription>, ClientError> =>
    aboutNoTopic(Effect.forEach(groupIds, (groupId) =>
      Effect.map(
        ask("describe group", (admin) => admin.describeGroups([groupId]), { group: groupId }),
        ({ groups }) =>
          groups.map((group): GroupDescription => ({
            groupId: group.groupId,
            state: group.state,
            protocolType: group.protocolType,
            members: group.members.map((member) => ({
              memberId: member.memberId,
              clientId: member.clientId,
              host: member.clientHost,
              assignment: assignmentOf(group, member.memberAssignment)
            }))
          }))
      ))).pipe(Effect.map((found) => found.flat()))

  const groupOffsets = (
    groupId: string
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, OffsetAndMetadata>, ClientError> =>
    aboutNoTopic(Effect.map(
      ask("group offsets", (admin) => admin.fetchOffsets({ groupId }), { group: groupId }),
      (topics) => {
        const out = new Map<TopicPartition.Key, OffsetAndMetadata>()
        for (const { partitions, topic } of topics) {
          for (const { metadata, offset, partition } of partitions) {
            if (BigInt(offset) < 0n) continue
            out.set(TopicPartition.key({ topic, partition }), {
              topic,
              partition,
              offset: BigInt(offset),
              ...(metadata === null || metadata === "" ? {} : { metadata })
            })
          }
        }
        return out
      }
    ))

  return {
    listTopics: aboutNoTopic(Effect.map(
      ask("list topics", (admin) => admin.listTopics()),
      (topics) => topics.filter((topic) => !internalTopics.has(topic)).sort()
    )),

    describeTopics: (topics) =>
      Effect.forEach(
        topics,
        (topic) =>
          Effect.map(topicMetadata(ask, "describe topic", topic), (found): TopicDescription => ({
            topic,
            partitions: found.partitions.map((p) => ({
              partition: p.partitionId,
              leader: p.leader < 0 ? undefined : p.leader,
              replicas: p.replicas,
              inSyncReplicas: p.isr
            })).sort((a, b) => a.partition - b.partition)
          }))
      ),

    createTopics: (topics) =>
      Effect.gen(function*() {
        const created: Array<string> = []
        // together they would be answered together: whether all were created, and not which
        for (const { config, partitions, replicationFactor, topic } of topics) {
          const isNew = yield* ask("create topic", (admin) =>
            admin.createTopics({
              waitForLeaders: false,
              timeout: millis,
              topics: [{
                topic,
                numPartitions: partitions,
                replicationFactor,
                configEntries: Object.entries(config).map(([name, value]) => ({ name, value }))
              }]
            }), { topic })
          if (isNew) created.push(topic)
        }
        for (const { partitions, topic } of topics) {
          if (created.includes(topic)) yield* awaitPartitions("create topic", topic, partitions)
        }
        return created
      }).pipe(aboutNoTopic),

    deleteTopics: (topics) =>
      Effect.forEach(
        topics,
        (topic) => ask("delete topic", (admin) => admin.deleteTopics({ topics: [topic], timeout: millis }), { topic }),
        {
          discard: true
        }
      ),

    createPartitions: (topic, total) =>
      Effect.zipRight(
        ask("create partitions", (admin) =>
          admin.createPartitions({ timeout: millis, topicPartitions: [{ topic, count: total }] }), { topic }),
        awaitPartitions("create partitions", topic, total)
      ),

    describeTopicConfigs: (topics) =>
      Effect.map(
        Effect.forEach(topics, (topic) =>
          Effect.map(topicConfigs("describe topic config", topic), (config) => [topic, config] as const)),
        (all) =>
          new Map(all)
      ),

    alterTopicConfig: (topic, entries) =>
      Effect.flatMap(topicConfigs("alter topic config", topic), (before) => {
        // the request of kafkajs replaces all that was set, so what was set is set again
        const all: Record<string, string> = {}
        for (const [name, { isDefault, value }] of Object.entries(before)) {
          if (!isDefault && value !== null) all[name] = value
        }
        Object.assign(all, entries)
        return Effect.asVoid(ask("alter topic config", (admin) =>
          admin.alterConfigs({
            validateOnly: false,
            resources: [{
              type: KafkaJs.ConfigResourceTypes.TOPIC,
              name: topic,
              configEntries: Object.entries(all).map(([name, value]) => ({ name, value }))
            }]
          }), { topic }))
      }),

    listOffsets: (partitions, spec) =>
      Effect.gen(function*() {
        const operation = "list offsets"
        const out = new Map<TopicPartition.Key, bigint>()
        for (const [topic, wanted] of byTopic(partitions)) {
          const found = new Map<number, bigint>()
          if (typeof spec === "string") {
            const ends = yield* ask(operation, (admin) => admin.fetchTopicOffsets(topic), { topic })
            for (const end of ends) found.set(end.partition, BigInt(spec === "earliest" ? end.low : end.high))
          } else {
            const timestamp = spec.timestamp < 0n ? 0 : Number(spec.timestamp)
            const firsts = yield* ask(operation, (admin) => admin.fetchTopicOffsetsByTimestamp(topic, timestamp), {
              topic
            })
            for (const first of firsts) found.set(first.partition, BigInt(first.offset))
          }
          for (const { partition } of wanted) {
            const offset = found.get(partition)
            if (offset === undefined) return yield* new UnknownTopicError({ operation, topic, partition })
            out.set(TopicPartition.key({ topic, partition }), offset)
          }
        }
        return out
      }),

    deleteRecords: (offsets) =>
      Effect.gen(function*() {
        const operation = "delete records"
        const entries = Array.from(offsets, ([key, offset]) => ({ ...TopicPartition.fromKey(key), offset }))
        for (const [topic, wanted] of byTopic(entries)) {
          const { partitions } = yield* topicMetadata(ask, operation, topic)
          for (const { partition } of wanted) {
            if (!partitions.some(({ partitionId }) => partitionId === partition)) {
              return yield* new UnknownTopicError({ operation, topic, partition })
            }
          }
          yield* ask(operation, async (admin) => {
            // kafkajs looks for the leaders in what it knows already
            await admin.fetchTopicMetadata({ topics: [topic] })
            await admin.deleteTopicRecords({
              topic,
              partitions: wanted.map(({ offset, partition }) => ({ partition, offset: String(offset) }))
            })
          }, { topic })
        }
      }),

    listGroups: aboutNoTopic(Effect.map(ask("list groups", (admin) => admin.listGroups()), ({ groups }) => groups)),

    describeGroups,

    deleteGroups: (groupIds) =>
      aboutNoTopic(
        Effect.forEach(groupIds, (groupId) =>
          ask("delete group", (admin) => admin.deleteGroups([groupId]), { group: groupId }), { discard: true })
      ),

    groupOffsets,

    alterGroupOffsets: (groupId, offsets) =>
      Effect.gen(function*() {
        const operation = "alter group offsets"
        for (const { state } of yield* describeGroups([groupId])) {
          if (state !== "Empty" && state !== "Dead") {
            return yield* new KafkaRequestError({
              operation,
              code: "NON_EMPTY_GROUP",
              retriable: false,
              reason: `group "${groupId}" is ${state}: stop its members first`
            })
          }
        }
        // kafkajs's own `setOffsets` joins the group and fetches for that: five seconds, and a new generation, per topic
        yield* Cluster.open({ environment, options: Object.assign({ groupId }, fetchesNothing), alive }).pipe(
          Effect.flatMap((requests) =>
            Effect.retry(requests.commit(offsets, undefined), { schedule: soon, while: ({ retriable }) => retriable })
          ),
          Effect.mapError((failure) => "_tag" in failure ? failure : asRequestError(operation, failure)),
          Effect.timeoutFail({
            duration: millis,
            onTimeout: (): Failure => new KafkaTimeoutError({ operation, millis })
          }),
          Effect.scoped
        )
      }).pipe(aboutNoTopic),

    describeCluster: aboutNoTopic(Effect.map(
      ask("describe cluster", (admin) => admin.describeCluster()),
      ({ brokers, clusterId, controller }) => ({
        clusterId,
        controller: controller ?? undefined,
        brokers: brokers.map(({ host, nodeId, port }) => ({ id: nodeId, host, port }))
      })
    ))
  }
}
