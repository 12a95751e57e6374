/** An admin's session. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Crypto from "node:crypto"
import type { AdminSession, NewTopic } from "../../src/KafkaClient.ts"
import { batch, makeTopic, plain, record, send } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import type { Sessions } from "./Sessions.ts"
const newName = () => `admin-${Crypto.randomUUID()}`

const topicOf = (topic: string, more: Partial<NewTopic> = {}): NewTopic => ({
  topic,
  partitions: 2,
  replicationFactor: 1,
  config: {},
  ...more
})

/** Sorted, since Kafka has no order for them. */
const settings = (config: Readonly<Record<string, { readonly value: string | null; readonly isDefault: boolean }>>) =>
  Object.entries(config).filter(([, entry]) => !entry.isDefault).map(([name, { value }]) => `${name}=${value}`).sort()

export const administration = ({ name, open, openAdmin }: Sessions): void => {
  RealKafka.suite(`administration through ${name}`, ({ bootstrapServers }) => {
    const withAdmin = <A, E>(use: (admin: AdminSession) => Effect.Effect<A, E>) =>
      Effect.scoped(Effect.flatMap(openAdmin(bootstrapServers), use))

    it.live("topics are created with what they are given, and only those that were missing are named", () =>
      withAdmin((admin) =>
        Effect.gen(function*() {
          const [old, fresh, byDefault] = [newName(), newName(), newName()] as const
          expect(yield* admin.createTopics([topicOf(old)])).toEqual([old])
          expect(
            yield* admin.createTopics([
              topicOf(old),
              topicOf(fresh, { partitions: 3, config: { "retention.ms": "60000" } }),
              topicOf(byDefault, { partitions: -1, replicationFactor: -1 })
            ])
          ).toEqual([fresh, byDefault])
          const described = yield* admin.describeTopics([fresh])
          expect(described.map(({ partitions, topic }) => [topic, partitions.map((one) => one.partition)])).toEqual([
            [fresh, [0, 1, 2]]
          ])
          expect(described[0]?.partitions.every((one) => one.leader !== undefined && one.inSyncReplicas.length === 1))
            .toBe(true)
          expect(settings((yield* admin.describeTopicConfigs([fresh])).get(fresh)!)).toEqual(["retention.ms=60000"])
          expect(yield* admin.listTopics).toEqual(expect.arrayContaining([old, fresh, byDefault]))
          yield* admin.deleteTopics([old, fresh, byDefault])
          expect(yield* Effect.flip(admin.describeTopics([fresh]))).toMatchObject({
            _tag: "UnknownTopicError",
            topic: fresh
          })
        })
      ))

    it.live("what the broker refuses to create, it refuses in its own words", () =>
      withAdmin((admin) =>
        Effect.gen(function*() {
          const refused = (more: Partial<NewTopic>) => Effect.flip(admin.createTopics([topicOf(newName(), more)]))
          expect(yield* refused({ replicationFactor: 99 })).toMatchObject({
            _tag: "KafkaRequestError",
            code: "INVALID_REPLICATION_FACTOR",
            reason: expect.stringContaining("99")
          })
          expect(yield* refused({ config: { "no.such.config": "1" } })).toMatchObject({
            code: "INVALID_CONFIG",
            reason: expect.stringContaining("no.such.config")
          })
          expect(yield* refused({ topic: "not/a/name" })).toMatchObject({ code: "INVALID_TOPIC_EXCEPTION" })
        })
      ))

    it.live("partitions are added, and never taken away", () =>
      withAdmin((admin) =>
        Effect.gen(function*() {
          const topic = newName()
          yield* admin.createTopics([topicOf(topic)])
          yield* admin.createPartitions(topic, 4)
          expect((yield* admin.describeTopics([topic]))[0]?.partitions).toHaveLength(4)
          expect(yield* Effect.flip(admin.createPartitions(topic, 3))).toMatchObject({ code: "INVALID_PARTITIONS" })
          expect(yield* Effect.flip(admin.createPartitions(newName(), 3))).toMatchObject({ _tag: "UnknownTopicError" })
        })
      ))

    it.live("to alter one setting leaves the others as they are", () =>
      withAdmin((admin) =>
        Effect.gen(function*() {
          const topic = newName()
          yield* admin.createTopics([
            topicOf(topic, { config: { "retention.ms": "60000", "cleanup.policy": "compact" } })
          ])
          yield* admin.alterTopicConfig(topic, { "retention.ms": "70000", "segment.bytes": "2000000" })
          const changed = admin.describeTopicConfigs([topic]).pipe(
            Effect.map((all) => settings(all.get(topic)!)),
            Effect.repeat({ until: (all) => all.includes("retention.ms=70000") })
          )
          expect(yield* changed).toEqual(["cleanup.policy=compact", "retention.ms=70000", "segment.bytes=2000000"])
          expect(yield* Effect.flip(admin.alterTopicConfig(newName(), {}))).toMatchObject({ _tag: "UnknownTopicError" })
        })
      ))

    it.live("offsets are those of the ends and of times, and records before an offset are deleted", () =>
      withAdmin((admin) =>
        Effect.gen(function*() {
          const topic = yield* makeTopic(bootstrapServers, { partitions: 2 })
          const both = [{ topic, partition: 0 }, { topic, partition: 1 }]
          const offsets = (found: ReadonlyMap<string, bigint>) =>
            both.map((tp) => found.get(`${topic}:${tp.partition}`))
          yield* Effect.scoped(Effect.flatMap(open(bootstrapServers), (session) =>
            send(session, [{
              topic,
              partition: 0,
              records: [1000n, 2000n, 3000n].map((timestamp) => record("x", { timestamp }))
            }])))
          expect(offsets(yield* admin.listOffsets(both, "earliest"))).toEqual([0n, 0n])
          expect(offsets(yield* admin.listOffsets(both, "latest"))).toEqual([3n, 0n])
          expect(offsets(yield* admin.listOffsets(both, { timestamp: 1500n }))).toEqual([1n, 0n])
          expect(offsets(yield* admin.listOffsets(both, { timestamp: -5n }))).toEqual([0n, 0n])
          expect(offsets(yield* admin.listOffsets(both, { timestamp: 2n ** 50n }))).toEqual([3n, 0n])
          yield* admin.deleteRecords(new Map([[`${topic}:0` as const, 2n]]))
          expect(offsets(yield* admin.listOffsets(both, "earliest"))).toEqual([2n, 0n])
          expect(yield* Effect.flip(admin.deleteRecords(new Map([[`${topic}:0` as const, 99n]])))).toMatchObject({
            code: "OFFSET_OUT_OF_RANGE"
          })
          expect(yield* Effect.flip(admin.listOffsets([{ topic, partition: 7 }], "latest"))).toMatchObject({
            _tag: "UnknownTopicError",
            partition: 7
          })
        })
      ))

    it.live("a transaction that is open is below the latest offset, as Kafka's own tools count", () =>
      withAdmin((admin) =>
        Effect.scoped(Effect.gen(function*() {
          const topic = yield* makeTopic(bootstrapServers)
          const session = yield* open(bootstrapServers, { transactionalId: newName() })
          yield* session.begin
          yield* send(session, [batch(topic, 0, "a")])
          expect((yield* admin.listOffsets([{ topic, partition: 0 }], "latest")).get(`${topic}:0`)).toBe(1n)
          yield* session.abort
        }))
      ))

    it.live("a group's offsets are set while nobody is in it, and not while somebody is", () =>
      withAdmin((admin) =>
        Effect.gen(function*() {
          const topic = yield* makeTopic(bootstrapServers, { partitions: 2 })
          const groupId = newName()
          expect(yield* admin.groupOffsets(groupId)).toEqual(new Map())
          expect(yield* admin.describeGroups([groupId])).toMatchObject([{ groupId, state: "Dead", members: [] }])
          const offsets = [
            { topic, partition: 0, offset: 5n, metadata: "note" },
            { topic, partition: 1, offset: 2n ** 60n }
          ]
          yield* admin.alterGroupOffsets(groupId, offsets)
          expect([...(yield* admin.groupOffsets(groupId)).values()]).toEqual(offsets)
          expect(yield* admin.listGroups).toEqual(expect.arrayContaining([expect.objectContaining({ groupId })]))

          const consumer = plain(bootstrapServers).consumer({ groupId, maxWaitTimeInMs: 50 })
          yield* Effect.promise(async () => {
            await consumer.connect()
            await consumer.subscribe({ topics: [topic] })
            const joined = new Promise((resolve) => consumer.on(consumer.events.GROUP_JOIN, resolve))
            await consumer.run({ autoCommit: false, eachMessage: () => Promise.resolve() })
            await joined
          })
          const [described] = yield* admin.describeGroups([groupId])
          expect(described).toMatchObject({ state: "Stable", protocolType: "consumer" })
          expect(described?.members.flatMap((one) => one.assignment)).toEqual([
            { topic, partition: 0 },
            { topic, partition: 1 }
          ])
          const active = { _tag: "KafkaRequestError", code: "NON_EMPTY_GROUP" }
          expect(yield* Effect.flip(admin.alterGroupOffsets(groupId, offsets))).toMatchObject(active)
          expect(yield* Effect.flip(admin.deleteGroups([groupId]))).toMatchObject(active)
          yield* Effect.promise(() => consumer.disconnect())
          yield* admin.deleteGroups([groupId])
          expect(yield* admin.groupOffsets(groupId)).toEqual(new Map())
          expect(yield* Effect.flip(admin.deleteGroups([groupId]))).toMatchObject({ code: "GROUP_ID_NOT_FOUND" })
        })
      ))

    it.live("the cluster says who it is", () =>
      withAdmin((admin) =>
        Effect.gen(function*() {
          const cluster = yield* admin.describeCluster
          expect(cluster.brokers.length).toBeGreaterThan(0)
          expect(cluster.brokers.map((one) => one.id)).toContain(cluster.controller)
          expect(cluster.clusterId).not.toBe("")
        })
      ))

    it.live("many questions at once are answered each for itself", () =>
      withAdmin((admin) =>
        Effect.gen(function*() {
          const topics = Array.from({ length: 6 }, newName)
          yield* admin.createTopics(topics.map((topic, i) => topicOf(topic, { partitions: i + 1 })))
          const counts = yield* Effect.forEach(topics, (topic) =>
            Effect.map(
              Effect.all([
                admin.describeTopics([topic]),
                Effect.either(admin.describeTopics([newName()])),
                admin.listOffsets([{ topic, partition: 0 }], "latest")
              ], { concurrency: "unbounded" }),
              ([[described], missing, ends]) => [described?.partitions.length, missing._tag, ends.size]
            ), { concurrency: "unbounded" })
          expect(counts).toEqual([1, 2, 3, 4, 5, 6].map((n) => [n, "Left", 1]))
        })
      ))
  })
}
