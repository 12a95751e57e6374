/**
 * Administration on any real cluster: who is asked, what is asked again and for how long, and waiting until the brokers
 * show what was done. A driver brings single requests, each sent once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type {
  AdminSession,
  ClusterDescription,
  ConfigEntry,
  GroupDescription,
  NewTopic,
  OffsetAndMetadata,
  OffsetSpec,
  TopicDescription
} from "../KafkaClient.ts"
import { type ClientError, KafkaRequestError, KafkaTimeoutError, UnknownTopicError } from "../KafkaError.ts"
import * as TopicPartition from "../TopicPartition.ts"
import { withoutTopic } from "./errors.ts"
import { leaderless, timestamps } from "./lookups.ts"

export type Failure = ClientError | UnknownTopicError

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>

export interface FoundTopic extends TopicDescription {
  readonly _tag: "Topic"
  readonly isInternal: boolean
}

export interface FoundCluster extends ClusterDescription {
  /** By name, each with its own error. */
  readonly topics: ReadonlyMap<string, FoundTopic | Failure>
}

export interface About {
  readonly topic?: string | undefined
  readonly group?: string | undefined
}

/**
 * What a driver does itself. The promises reject with what the client threw, also where any part of an answer is an
 * error.
 */
export interface Requests {
  /** How long one operation may take, in milliseconds. */
  readonly millis: number
  /** What was thrown as a typed error. */
  readonly failure: (operation: string, error: unknown, about: About) => Failure
  /** The cluster, and these topics or all of them. */
  readonly cluster: (
    operation: string,
    topics: ReadonlyArray<string> | "all"
  ) => Effect.Effect<FoundCluster, ClientError>
  // by the controller, if it is known
  readonly createTopic: (controller: number | undefined, topic: NewTopic) => Promise<unknown>
  readonly deleteTopic: (controller: number | undefined, topic: string) => Promise<unknown>
  readonly createPartitions: (controller: number | undefined, topic: string, total: number) => Promise<unknown>
  // by any broker
  readonly describeConfig: (topic: string) => Promise<Readonly<Record<string, ConfigEntry>>>
  /** `before` is what was set until now. */
  readonly alterConfig: (
    topic: string,
    entries: Readonly<Record<string, string>>,
    before: Readonly<Record<string, ConfigEntry>>
  ) => Promise<unknown>
  // by the leader of the partitions
  readonly listOffsets: (
    leader: number,
    partitions: Partitions,
    timestamp: bigint
  ) => Promise<ReadonlyArray<readonly [TopicPartition.Key, bigint]>>
  readonly deleteRecords: (
    leader: number,
    offsets: ReadonlyArray<TopicPartition.TopicPartition & { readonly offset: bigint }>
  ) => Promise<unknown>
  readonly listGroups: (
    broker: number
  ) => Promise<ReadonlyArray<{ readonly groupId: string; readonly protocolType: string }>>
  // by the coordinator of the group
  readonly describeGroup: (groupId: string) => Promise<GroupDescription>
  readonly deleteGroup: (groupId: string) => Promise<unknown>
  readonly groupOffsets: (groupId: string) => Promise<ReadonlyArray<OffsetAndMetadata>>
  readonly alterGroupOffsets: (groupId: string, offsets: ReadonlyArray<OffsetAndMetadata>) => Promise<unknown>
}

interface Asking extends About {
  /** Whether asking again, without knowing what became of the first time, does no harm. */
  readonly repeatable: boolean
}

const firstPause = 50
const longestPause = 1000

/** How many topics or groups are seen to at once. */
const concurrency = 8

// ---------------------------------------------------------------------------------------------------------------------
// pure parts
// ---------------------------------------------------------------------------------------------------------------------

const isTopic = (found: FoundTopic | Failure): found is FoundTopic => found._tag === "Topic"

/** What the broker answers while it is finding its feet, and what a connection that broke fails with. */
const isPassing = (error: Failure): boolean => error._tag === "KafkaRequestError" && error.retriable

const isBroken = (error: Failure): boolean => error._tag === "KafkaConnectionError"

const isPassingOrBroken = (error: Failure): boolean => isPassing(error) || isBroken(error)

const stale = (operation: string, reason: string): KafkaRequestError =>
  new KafkaRequestError({ operation, code: "STALE_METADATA", retriable: true, reason })

// ---------------------------------------------------------------------------------------------------------------------
// the session
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A session over a driver that is connected.
 */
export const make = (requests: Requests): AdminSession => {
  const { millis } = requests

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

  const once = <A>(operation: string, run: () => Promise<A>, about: About): Effect.Effect<A, Failure> =>
    Effect.tryPromise({ try: run, catch: (error) => requests.failure(operation, error, about) })

  const mayAgain = ({ repeatable }: Asking) => (error: Failure): boolean =>
    isPassing(error) || (repeatable && isBroken(error))

  const ask = <A>(operation: string, run: () => Promise<A>, about: Asking): Effect.Effect<A, Failure> =>
    patiently(operation, once(operation, run, about), mayAgain(about))

  const aboutNoTopic = <A>(effect: Effect.Effect<A, Failure>): Effect.Effect<A, ClientError> =>
    Effect.mapError(effect, (error) => error._tag === "UnknownTopicError" ? withoutTopic(error) : error)

  /** What changes topics: done once, since the second time would have another answer. */
  const viaController = (
    operation: string,
    topic: string,
    run: (controller: number | undefined) => Promise<unknown>
  ): Effect.Effect<void, Failure> => {
    const about: Asking = { topic, repeatable: false }
    return Effect.asVoid(patiently(
      operation,
      Effect.flatMap(
        requests.cluster(operation, [topic]),
        ({ controller }) => once(operation, () => run(controller), about)
      ),
      mayAgain(about)
    ))
  }

  const viaCoordinator = <A>(operation: string, group: string, run: () => Promise<A>): Effect.Effect<A, ClientError> =>
    aboutNoTopic(ask(operation, run, { group, repeatable: true }))

  const topics = (
    operation: string,
    names: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyArray<FoundTopic>, Failure> =>
    patiently(
      operation,
      Effect.flatMap(requests.cluster(operation, names), ({ topics: found }) =>
        Effect.forEach(names, (name) => {
          const one = found.get(name) ?? new UnknownTopicError({ operation, topic: name })
          return isTopic(one) ? Effect.succeed(one) : Effect.fail(one)
        })),
      isPassingOrBroken
    )

  /** Until there are so many partitions, each with a leader. */
  const awaitPartitions = (operation: string, topic: string, partitions: number): Effect.Effect<void, Failure> =>
    patiently(
      operation,
      Effect.flatMap(topics(operation, [topic]), ([found]) => {
        const all = found?.partitions ?? []
        const without = all.find((one) => one.leader === undefined)
        return all.length >= Math.max(1, partitions) && without === undefined
          ? Effect.void
          : Effect.fail<Failure>(leaderless(operation, { topic, partition: without?.partition ?? all.length }))
      }),
      (error) => isPassing(error) || error._tag === "UnknownTopicError"
    )

  /** Until a broker does not know it any more. */
  const awaitGone = (operation: string, topic: string): Effect.Effect<void, Failure> =>
    patiently<void>(
      operation,
      Effect.flatMap(requests.cluster(operation, [topic]), ({ topics: found }) => {
        const one = found.get(topic)
        return one === undefined || !isTopic(one)
          ? Effect.void
          : stale(operation, `the brokers show topic "${topic}" still`)
      }),
      isPassingOrBroken
    )

  const createTopic = (topic: NewTopic): Effect.Effect<boolean, ClientError> =>
    aboutNoTopic(
      viaController("create topic", topic.topic, (controller) => requests.createTopic(controller, topic))
    ).pipe(
      Effect.as(true),
      Effect.catchIf(
        (error) => error._tag === "KafkaRequestError" && error.code === "TOPIC_ALREADY_EXISTS",
        () => Effect.succeed(false)
      )
    )

  const topicConfig = (operation: string, topic: string) =>
    ask(operation, () => requests.describeConfig(topic), { topic, repeatable: true })

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
    const notYet = stale(operation, `the brokers do not show the configuration of "${topic}" yet`)
    return patiently<void>(
      operation,
      Effect.flatMap(
        topicConfig(operation, topic),
        (config) => shown(config) ? Effect.void : Effect.fail(notYet)
      ),
      (error) => isPassing(error) || error._tag === "UnknownTopicError"
    )
  }

  /** Puts a question about partitions to their leaders, one request each. */
  const viaLeaders = <P extends TopicPartition.TopicPartition, A>(
    operation: string,
    partitions: ReadonlyArray<P>,
    run: (leader: number, partitions: ReadonlyArray<P>) => Promise<A>
  ): Effect.Effect<ReadonlyArray<A>, Failure> =>
    patiently(
      operation,
      Effect.gen(function*() {
        const names = [...new Set(partitions.map((one) => one.topic))]
        const found = new Map((yield* topics(operation, names)).map((one) => [one.topic, one]))
        const placed = new Map<number, Array<P>>()
        for (const one of partitions) {
          const { partition, topic } = one
          const known = found.get(topic)?.partitions.find((other) => other.partition === partition)
          if (known === undefined) return yield* new UnknownTopicError({ operation, topic, partition })
          if (known.leader === undefined) return yield* leaderless(operation, one)
          const same = placed.get(known.leader)
          if (same === undefined) placed.set(known.leader, [one])
          else same.push(one)
        }
        return yield* Effect.forEach(
          placed,
          ([leader, same]) => once(operation, () => run(leader, same), { topic: same[0]?.topic }),
          { concurrency: "unbounded" }
        )
      }),
      isPassingOrBroken
    )

  const offsetsAt = (partitions: Partitions, timestamp: bigint) =>
    Effect.map(
      viaLeaders("list offsets", partitions, (leader, wanted) => requests.listOffsets(leader, wanted, timestamp)),
      (all) => new Map(all.flat())
    )

  const listOffsets = (
    partitions: Partitions,
    spec: OffsetSpec
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, Failure> => {
    if (typeof spec === "string") return offsetsAt(partitions, timestamps[spec])
    return Effect.flatMap(offsetsAt(partitions, spec.timestamp < 0n ? 0n : spec.timestamp), (found) => {
      // no record that late: the end
      const beyond = partitions.filter((one) => (found.get(TopicPartition.key(one)) ?? -1n) < 0n)
      return beyond.length === 0
        ? Effect.succeed(found)
        : Effect.map(offsetsAt(beyond, timestamps.latest), (ends) => new Map([...found, ...ends]))
    })
  }

  return {
    listTopics: Effect.map(
      aboutNoTopic(patiently("list topics", requests.cluster("list topics", "all"), isBroken)),
      ({ topics: found }) => {
        const names: Array<string> = []
        for (const [topic, one] of found) if (isTopic(one) && !one.isInternal) names.push(topic)
        return names.sort()
      }
    ),

    describeTopics: (names) =>
      Effect.map(
        topics("describe topics", names),
        (all) => all.map(({ partitions, topic }) => ({ topic, partitions }))
      ),

    createTopics: (all) =>
      Effect.gen(function*() {
        const isNew = yield* Effect.forEach(all, createTopic, { concurrency })
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
          { concurrency, discard: true }
        )
        return created.map((one) => one.topic)
      }).pipe(aboutNoTopic),

    deleteTopics: (names) =>
      Effect.forEach(
        names,
        (topic) =>
          Effect.zipRight(
            viaController("delete topic", topic, (controller) => requests.deleteTopic(controller, topic)),
            awaitGone("delete topic", topic)
          ),
        { concurrency, discard: true }
      ),

    createPartitions: (topic, total) =>
      Effect.zipRight(
        viaController(
          "create partitions",
          topic,
          (controller) => requests.createPartitions(controller, topic, total)
        ),
        awaitPartitions("create partitions", topic, total)
      ),

    describeTopicConfigs: (names) =>
      Effect.map(
        Effect.forEach(
          names,
          (topic) => Effect.map(topicConfig("describe topic config", topic), (config) => [topic, config] as const),
          { concurrency }
        ),
        (all) => new Map(all)
      ),

    alterTopicConfig: (topic, entries) =>
      Effect.flatMap(topicConfig("alter topic config", topic), (before) =>
        Effect.zipRight(
          ask("alter topic config", () => requests.alterConfig(topic, entries, before), { topic, repeatable: true }),
          awaitConfig("alter topic config", topic, entries, before)
        )),

    listOffsets,

    deleteRecords: (offsets) => {
      const all = Array.from(offsets, ([key, offset]) => ({ ...TopicPartition.fromKey(key), offset }))
      return Effect.asVoid(
        viaLeaders("delete records", all, (leader, wanted) => requests.deleteRecords(leader, wanted))
      )
    },

    listGroups: aboutNoTopic(Effect.flatMap(requests.cluster("list groups", []), ({ brokers }) =>
      Effect.map(
        Effect.forEach(
          brokers,
          ({ id }) => ask("list groups", () => requests.listGroups(id), { repeatable: true }),
          { concurrency }
        ),
        (all) => all.flat()
      ))),

    describeGroups: (groupIds) =>
      Effect.forEach(
        groupIds,
        (groupId) => viaCoordinator("describe group", groupId, () => requests.describeGroup(groupId)),
        { concurrency }
      ),

    deleteGroups: (groupIds) =>
      Effect.forEach(
        groupIds,
        (groupId) => viaCoordinator("delete group", groupId, () => requests.deleteGroup(groupId)),
        { concurrency, discard: true }
      ),

    groupOffsets: (groupId) =>
      Effect.map(
        viaCoordinator("group offsets", groupId, () => requests.groupOffsets(groupId)),
        (all) => new Map(all.map((one) => [TopicPartition.key(one), one]))
      ),

    alterGroupOffsets: (groupId, offsets) =>
      offsets.length === 0
        ? Effect.void
        : viaCoordinator("alter group offsets", groupId, () => requests.alterGroupOffsets(groupId, offsets)).pipe(
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
      aboutNoTopic(patiently("describe cluster", requests.cluster("describe cluster", []), isBroken)),
      ({ brokers, clusterId, controller }) => ({ clusterId, controller, brokers })
    )
  }
}

const activeCodes: ReadonlySet<string> = new Set([
  "UNKNOWN_MEMBER_ID",
  "ILLEGAL_GENERATION",
  "STALE_MEMBER_EPOCH",
  "REBALANCE_IN_PROGRESS"
])
