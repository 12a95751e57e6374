/** What an operator does: groups that are at work and groups that are not, their offsets and lag, and what is refused. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import {
  closable,
  eventually,
  groupName,
  makeTextTopic,
  member,
  owning,
  readAndLeave,
  running,
  texts,
  type TextTopic,
  values,
  write,
  writeEach
} from "../support.ts"

/** The next so many values that the test's group reads. */
const next = (topic: TextTopic, count: number) =>
  readAndLeave(topic, count, (_, records) => Effect.succeed(values(records)))

/** What came of a group of which the last member has just left. */
const empty = (groupId: string) =>
  eventually("an empty group", Admin.describeGroups([groupId]), ([group]) => group?.state === "Empty")

export const administering = (kafka: Suite) =>
  describe("administering", () => {
    kafka.test(
      "a group at work is listed and described: who is in it, and who reads what",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        const name = yield* TopicRegistry.resolve(topic)
        const groupId = yield* groupName()
        const one = yield* closable(member())
        yield* running(one.stream(topic))
        yield* owning(one, 3)
        const [group] = yield* eventually(
          "a stable group",
          Admin.describeGroups([groupId]),
          ([group]) => group?.state === "Stable"
        )
        expect(group).toMatchObject({ groupId, protocolType: "consumer" })
        expect(group?.members).toHaveLength(1)
        expect(group?.members[0]?.clientId).not.toBe("")
        expect(group?.members[0]?.assignment).toEqual([0, 1, 2].map((partition) => ({ topic: name, partition })))
        expect(yield* Admin.listGroups).toContainEqual({ groupId, protocolType: "consumer" })

        yield* one.close
        const [left] = yield* empty(groupId)
        expect(left?.members).toEqual([])
      })
    )

    kafka.test(
      "a group that nobody knows is dead, without offsets and lag, and can't be deleted",
      Effect.gen(function*() {
        const groupId = yield* groupName("nobody")
        expect(yield* Admin.describeGroups([groupId])).toMatchObject([{ groupId, state: "Dead", members: [] }])
        expect(yield* Admin.groupOffsets(groupId)).toEqual([])
        expect(yield* Admin.lag(groupId, { time: true })).toMatchObject({ records: 0n, millis: 0, partitions: [] })
        expect((yield* Admin.listGroups).map((group) => group.groupId)).not.toContain(groupId)
        expect(yield* Effect.flip(Admin.deleteGroups([groupId]))).toMatchObject({
          _tag: "KafkaRequestError",
          code: "GROUP_ID_NOT_FOUND",
          retriable: false
        })
      })
    )

    kafka.test(
      "a group goes on where it was reset to: the beginning, an offset, a time, the end",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const groupId = yield* groupName()
        const reset = (to: Parameters<typeof Admin.resetOffsets>[2]) =>
          Effect.zipRight(empty(groupId), Admin.resetOffsets(groupId, [topic], to))
        yield* write(topic, texts(3))
        yield* Effect.sleep(20)
        const then = new Date()
        yield* Effect.sleep(20)
        yield* write(topic, texts(3, 3))
        yield* readAndLeave(topic, 6, (consumer, records) => consumer.commit(records))

        expect(yield* reset("earliest")).toMatchObject([{ from: 6n, to: 0n }])
        expect(yield* next(topic, 6)).toEqual(texts(6))
        yield* reset({ offset: 4n })
        expect(yield* next(topic, 2)).toEqual(texts(2, 4))
        expect(yield* reset({ timestamp: then })).toMatchObject([{ from: 4n, to: 3n }])
        expect(yield* next(topic, 3)).toEqual(texts(3, 3))
        yield* reset("latest")
        yield* write(topic, texts(1, 6))
        expect(yield* next(topic, 1)).toEqual(texts(1, 6))
      })
    )

    kafka.test(
      "a group with members is neither reset nor deleted, and goes on undisturbed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const groupId = yield* groupName()
        const consumer = yield* closable(member())
        const stream = yield* running(consumer.stream(topic).pipe(Stream.tap(consumer.commit)))
        yield* owning(consumer, 1)
        yield* write(topic, texts(2))
        yield* stream.count(2)
        for (
          const attempt of [
            Admin.resetOffsets(groupId, [topic], "earliest"),
            Admin.resetOffsets(groupId, [topic], "earliest", { dryRun: true }),
            Admin.deleteGroups([groupId])
          ]
        ) {
          expect(yield* Effect.flip(attempt)).toMatchObject({
            _tag: "GroupActiveError",
            groupId,
            members: 1,
            message: expect.stringContaining("stop its consumers first")
          })
        }
        yield* write(topic, texts(2, 2))
        expect(values(yield* stream.count(4))).toEqual(texts(4))
        yield* eventually("the commit", Admin.groupOffsets(groupId), ([one]) => one?.offset === 4n)

        yield* consumer.close
        yield* empty(groupId)
        yield* Admin.deleteGroups([groupId])
        expect(yield* Admin.groupOffsets(groupId)).toEqual([])
      })
    )

    kafka.test(
      "the lag of a group shrinks as it works, in records and in time",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const groupId = yield* groupName()
        yield* writeEach(topic, 4)
        const before = yield* Admin.lag(groupId, { topics: [topic], time: true })
        // it has committed nothing, and may as well start at the end
        expect(before.partitions.map(({ committed, records }) => [committed, records])).toEqual([
          [undefined, undefined],
          [undefined, undefined]
        ])
        yield* readAndLeave(topic, 8, (consumer, records) =>
          consumer.commit(records.filter((record) =>
            record.offset < 1n
          )))
        const behind = yield* Admin.lag(groupId, { time: true })
        expect(behind.records).toBe(6n)
        expect(behind.partitions.map(({ committed, latest, records }) => [committed, latest, records])).toEqual([
          [1n, 4n, 3n],
          [1n, 4n, 3n]
        ])
        expect(behind.millis).toBeGreaterThan(0)
        yield* readAndLeave(topic, 6, (consumer, records) => consumer.commit(records))
        expect(yield* Admin.lag(groupId, { time: true })).toMatchObject({ records: 0n, millis: 0 })
      })
    )

    kafka.test(
      "records are deleted up to an offset, for readers too, and not beyond the end",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(5))
        yield* Admin.deleteRecords([{ topic, partition: 0, offset: 3n }])
        expect(yield* next(topic, 2)).toEqual(texts(2, 3))
        // deleted already: nothing changes
        yield* Admin.deleteRecords([{ topic, partition: 0, offset: 1n }])
        expect(yield* Admin.listOffsets([topic], "earliest")).toMatchObject([{ offset: 3n }])
        expect(yield* Effect.flip(Admin.deleteRecords([{ topic, partition: 0, offset: 6n }]))).toMatchObject({
          _tag: "KafkaRequestError",
          code: "OFFSET_OUT_OF_RANGE"
        })
        expect(yield* Effect.flip(Admin.deleteRecords([{ topic, partition: 9, offset: 1n }]))).toMatchObject({
          _tag: "UnknownTopicError",
          partition: 9
        })
      })
    )

    kafka.test(
      "what does not exist is named, whatever is asked of it",
      Effect.gen(function*() {
        const topic = yield* TopicRegistry.resolve("nowhere")
        const groupId = yield* groupName()
        for (
          const attempt of [
            Admin.describeTopics([topic]),
            Admin.topicConfigs([topic]),
            Admin.alterTopicConfig(topic, { "retention.ms": "1000" }),
            Admin.createPartitions(topic, 2),
            Admin.listOffsets([topic], "latest"),
            Admin.deleteRecords([{ topic, partition: 0, offset: 1n }]),
            Admin.resetOffsets(groupId, [topic], "latest"),
            Admin.lag(groupId, { topics: [topic] }),
            Admin.deleteTopics([topic])
          ]
        ) {
          expect(yield* Effect.flip(attempt)).toMatchObject({ _tag: "UnknownTopicError", topic })
        }
      })
    )

    kafka.test(
      "what brokers refuse is told by its name, and nothing has changed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const name = yield* TopicRegistry.resolve(topic)
        const other = `${name}.other`
        const refusals = [
          [Admin.alterTopicConfig(topic, { "cleanup.policy": "shred" }), "INVALID_CONFIG"],
          [Admin.alterTopicConfig(topic, { "no.such.thing": "1" }), "INVALID_CONFIG"],
          [Admin.createPartitions(topic, 1), "INVALID_PARTITIONS"],
          [Admin.createPartitions(topic, 2), "INVALID_PARTITIONS"],
          [Admin.createTopics([{ topic: other, partitions: 0 }]), "INVALID_PARTITIONS"],
          [Admin.createTopics([{ topic: other, replicationFactor: 99 }]), "INVALID_REPLICATION_FACTOR"],
          [Admin.createTopics([{ topic: other, config: { "retention.ms": "soon" } }]), "INVALID_CONFIG"],
          [Admin.createTopics([{ topic: ".." }]), "INVALID_TOPIC_EXCEPTION"]
        ] as const
        for (const [attempt, code] of refusals) {
          expect(yield* Effect.flip(attempt)).toMatchObject({ _tag: "KafkaRequestError", code, retriable: false })
        }
        expect(yield* Admin.listTopics()).not.toContain(other)
        expect((yield* Admin.describeTopics([topic]))[0]?.partitions).toHaveLength(2)
        expect((yield* Admin.topicConfigs([topic])).get(name)?.["cleanup.policy"]).toEqual({
          value: "delete",
          isDefault: true
        })
      })
    )

    kafka.test(
      "topics are ensured: what is missing is made, what differs is told readably, partitions are added when told to",
      Effect.gen(function*() {
        const text = { key: Serde.nullable(Serde.string), value: Serde.string }
        const runs = Topic.make("runs", { ...text, partitions: 2, config: { "retention.ms": "3600000" } })
        const name = yield* TopicRegistry.resolve(runs)
        expect(yield* TopicRegistry.ensure([runs])).toEqual([{ slug: "runs", topic: name, outcome: "created" }])
        const other = Topic.make("runs", {
          ...text,
          partitions: 4,
          replicationFactor: 3,
          config: { "retention.ms": "60000" }
        })
        const error = yield* Effect.flip(TopicRegistry.ensure([other], { addPartitions: true }))
        expect(error).toMatchObject({ _tag: "TopicMismatchError" })
        expect(error.message).toBe([
          "topics differ from their definitions:",
          `  ${name}: replicationFactor is 1, defined as 3`,
          `  ${name}: retention.ms is 3600000, defined as 60000`
        ].join("\n"))
        const more = Topic.make("runs", { ...text, partitions: 4 })
        expect((yield* Effect.flip(TopicRegistry.ensure([more]))).message).toContain(
          `${name}: partitions is 2, defined as 4`
        )
        expect(yield* TopicRegistry.ensure([more], { addPartitions: true })).toEqual([
          { slug: "runs", topic: name, outcome: "extended" }
        ])
        expect((yield* Admin.describeTopics([more]))[0]?.partitions).toHaveLength(4)
        expect((yield* Admin.topicConfigs([more])).get(name)?.["retention.ms"]?.value).toBe("3600000")
      })
    )

    kafka.test(
      "the cluster tells its brokers, and who leads the partitions is among them",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        const { brokers, clusterId, controller } = yield* Admin.describeCluster
        const ids = brokers.map(({ id }) => id)
        expect(clusterId).not.toBe("")
        expect(controller === undefined || ids.includes(controller)).toBe(true)
        const [described] = yield* Admin.describeTopics([topic])
        for (const { inSyncReplicas, leader, replicas } of described?.partitions ?? []) {
          for (const id of [leader ?? -1, ...replicas, ...inSyncReplicas]) expect(ids).toContain(id)
        }
      })
    )
  })
