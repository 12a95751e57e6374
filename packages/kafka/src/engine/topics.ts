/** Creating topics, and comparing them with what they should be. */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { AdminSession, ConfigEntry, TopicDescription } from "../KafkaClient.ts"
import {
  type ClientError,
  KafkaRequestError,
  KafkaTimeoutError,
  TopicMismatchError,
  UnknownTopicError
} from "../KafkaError.ts"
import * as Topic from "../Topic.ts"

/** A topic as it should be; what is `undefined` is left to the broker. */
export interface Wanted {
  /** The physical name. */
  readonly topic: string
  readonly partitions: number | undefined
  readonly replicationFactor: number | undefined
  readonly config: Readonly<Record<string, string>>
}

export const wantedOf = (topic: string, definition: Topic.Any): Wanted => ({
  topic,
  partitions: definition.partitions,
  replicationFactor: definition.replicationFactor,
  config: definition.config
})

export type Difference = TopicMismatchError["differences"][number]

/** How Kafka is asked for its own default. */
const brokerDefault = -1

/** Lists are written with or without spaces. */
const normal = (value: string): string => value.split(",").map((part) => part.trim()).join(",")

/** What an existing topic is, other than it should be. */
export const differences = (
  wanted: Wanted,
  actual: TopicDescription,
  config: Readonly<Record<string, ConfigEntry>>
): ReadonlyArray<Difference> => {
  const out: Array<Difference> = []
  const compare = (setting: string, expected: string, found: string): void => {
    if (normal(expected) !== normal(found)) {
      out.push({ topic: wanted.topic, setting, expected, actual: found })
    }
  }
  if (wanted.partitions !== undefined) {
    compare("partitions", String(wanted.partitions), String(actual.partitions.length))
  }
  if (wanted.replicationFactor !== undefined) {
    const counts = new Set(actual.partitions.map((partition) => partition.replicas.length))
    compare("replicationFactor", String(wanted.replicationFactor), [...counts].sort((a, b) => a - b).join(" and "))
  }
  for (const [name, expected] of Object.entries(wanted.config)) {
    compare(name, expected, config[name]?.value ?? "not set")
  }
  return out
}

/** How many partitions a topic with too few of them should have. */
const growthOf = (wanted: Wanted, actual: TopicDescription): number | undefined =>
  wanted.partitions !== undefined && actual.partitions.length < wanted.partitions ? wanted.partitions : undefined

/** The broker would say the same, one topic at a time. */
const invalidName = (operation: string, topic: string): KafkaRequestError =>
  new KafkaRequestError({
    operation,
    code: "INVALID_TOPIC_EXCEPTION",
    retriable: false,
    reason: topic.length > 249
      ? `"${topic}" has ${topic.length} characters, and Kafka allows 249: use a shorter prefix or slug`
      : `"${topic}" is no topic name: use letters, digits, ".", "_" and "-"`
  })

/** How long a new topic may take until every partition has a leader. */
const leaderTimeout = 30_000
const leaderPause = 100

/** Creates topics, and waits until they can be written to. Answers which of them it created. */
export const create = (
  session: AdminSession,
  operation: string,
  wanted: ReadonlyArray<Wanted>
): Effect.Effect<ReadonlyArray<string>, ClientError> => {
  const bad = wanted.find(({ topic }) => !Topic.isValidName(topic))
  if (bad !== undefined) return Effect.fail(invalidName(operation, bad.topic))
  if (wanted.length === 0) return Effect.succeed([])
  // of two definitions with one name it is the second that is compared with what is then there
  const firsts = Arr.dedupeWith(wanted, (one, other) => one.topic === other.topic)
  return session.createTopics(firsts.map((one) => ({
    topic: one.topic,
    partitions: one.partitions ?? brokerDefault,
    replicationFactor: one.replicationFactor ?? brokerDefault,
    config: one.config
  }))).pipe(
    Effect.tap((created) => awaitLeaders(session, operation, created.map((topic) => [topic, 1])))
  )
}

/** Until each of the topics has at least so many partitions, and all of them have leaders. */
const awaitLeaders = (
  session: AdminSession,
  operation: string,
  topics: ReadonlyArray<readonly [topic: string, partitions: number]>
): Effect.Effect<void, ClientError> => {
  if (topics.length === 0) return Effect.void
  const ready = session.describeTopics(topics.map(([topic]) => topic)).pipe(
    Effect.map((found) =>
      topics.every(([topic, count]) => {
        const partitions = found.find((one) => one.topic === topic)?.partitions ?? []
        return partitions.length >= count && partitions.every((partition) => partition.leader !== undefined)
      })
    ),
    // the broker that answers may not have heard of them yet
    Effect.catchTag("UnknownTopicError", () => Effect.succeed(false))
  )
  return Effect.repeat(ready, {
    until: (done) => done,
    schedule: Schedule.spaced(leaderPause)
  }).pipe(
    Effect.timeoutFail({
      duration: leaderTimeout,
      onTimeout: () =>
        new KafkaTimeoutError({ operation: `${operation}: waiting for partition leaders`, millis: leaderTimeout })
    }),
    Effect.asVoid
  )
}

/** Creates what is missing, extends what may be, and fails where anything else differs: then nothing was changed. */
export const ensure = (
  session: AdminSession,
  wanted: ReadonlyArray<Wanted>,
  addPartitions: boolean
): Effect.Effect<
  ReadonlyMap<string, "created" | "extended">,
  ClientError | UnknownTopicError | TopicMismatchError
> =>
  Effect.gen(function*() {
    const operation = "ensure topics"
    const outcomes = new Map<string, "created" | "extended">()
    const bad = wanted.find(({ topic }) => !Topic.isValidName(topic))
    if (bad !== undefined) return yield* invalidName(operation, bad.topic)

    const inspect = (some: ReadonlyArray<Wanted>) =>
      Effect.gen(function*() {
        const names = [...new Set(some.map(({ topic }) => topic))]
        if (names.length === 0) return { growing: [], differing: [] }
        const descriptions = yield* session.describeTopics(names)
        const configs = some.some((one) => Object.keys(one.config).length > 0)
          ? yield* session.describeTopicConfigs(names)
          : new Map<string, Readonly<Record<string, ConfigEntry>>>()
        const growing: Array<readonly [topic: string, partitions: number]> = []
        const differing: Array<Difference> = []
        for (const one of some) {
          const actual = descriptions.find(({ topic }) => topic === one.topic)
          if (actual === undefined) return yield* new UnknownTopicError({ operation, topic: one.topic })
          const growth = addPartitions ? growthOf(one, actual) : undefined
          if (growth !== undefined) growing.push([one.topic, growth])
          differing.push(
            ...differences(one, actual, configs.get(one.topic) ?? {})
              .filter(({ setting }) => !(growth !== undefined && setting === "partitions"))
          )
        }
        return { growing, differing }
      })

    const existing = new Set(yield* session.listTopics)
    const [missing, present] = Arr.partition(wanted, ({ topic }) => existing.has(topic))
    const before = yield* inspect(present)
    if (before.differing.length > 0) return yield* new TopicMismatchError({ differences: before.differing })

    for (const topic of yield* create(session, operation, missing)) outcomes.set(topic, "created")
    // another process may have created some of them meanwhile, and two definitions may have the same name
    const after = yield* inspect(missing.filter(({ topic }, index) =>
      !outcomes.has(topic) || missing.findIndex((one) => one.topic === topic) !== index
    ))
    if (after.differing.length > 0) {
      return yield* new TopicMismatchError({ differences: after.differing })
    }

    for (const [topic, partitions] of [...before.growing, ...after.growing]) {
      yield* session.createPartitions(topic, partitions)
      yield* awaitLeaders(session, operation, [[topic, partitions]])
      outcomes.set(topic, "extended")
    }
    return outcomes
  })
