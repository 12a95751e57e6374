import * as Admin from "@coffeebuddy/kafka/Admin"
import * as InMemoryKafka from "@coffeebuddy/kafka/InMemoryKafka"
import { KafkaClient } from "@coffeebuddy/kafka/KafkaClient"
import * as KafkaConfig from "@coffeebuddy/kafka/KafkaConfig"
import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import * as TopicPartition from "@coffeebuddy/kafka/TopicPartition"
import * as TopicRegistry from "@coffeebuddy/kafka/TopicRegistry"
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import { Clock, Deferred, Effect, FastCheck, Layer, type Scope, TestClock } from "effect"
import { type Behind, timeLag } from "../src/engine/admin/timeLag.ts"
import { consumerOptions, producerOptions, record } from "./inmemory/fixtures.ts"
import * as RealKafka from "./support/RealKafka.ts"

type Services = Admin.Admin | KafkaClient | TopicRegistry.TopicRegistry

/** Appends one record for each timestamp. */
const produce = (topic: string, partition: number, timestamps: ReadonlyArray<bigint>) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* KafkaClient
    const session = yield* client.openProducer(producerOptions)
    const batch = { topic, partition, records: timestamps.map((timestamp) => record("a record", { timestamp })) }
    // a driver leaves it to its caller to send again what is certainly not stored
    const [result] = yield* Effect.repeat(session.send([batch]), {
      while: ([result]) => result?._tag === "Failed" && result.outcome === "retry"
    })
    if (result?._tag === "Failed") return yield* result.error
    expect(result?._tag).toBe("Stored")
  }))

/** Appends so many records of this moment: Kafka soon deletes what is older than its retention. */
const produceSome = (topic: string, partition: number, records: number) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => produce(topic, partition, Array(records).fill(BigInt(now))))

/** A member of the group until the scope ends. */
const join = (groupId: string, topic: string) =>
  Effect.gen(function*() {
    const client = yield* KafkaClient
    const joined = yield* Deferred.make<void>()
    const session = yield* client.openConsumer({
      ...consumerOptions,
      groupId,
      callbacks: {
        onAssigned: (partitions) =>
          Effect.as(
            Deferred.succeed(joined, undefined),
            new Map(partitions.map((tp) => [TopicPartition.key(tp), 0n] as const))
          ),
        onRevoked: () => Effect.void,
        onLost: () => Effect.void,
        onNotice: () => {}
      }
    })
    yield* session.subscribe({ _tag: "Topics", topics: new Set([topic]) })
    yield* Effect.forkScoped(Effect.forever(session.poll(new Map(), 100)))
    yield* Deferred.await(joined)
  })

const minutes = (count: number): bigint => BigInt(count * 60_000)

let count = 0

/** The same promises on every driver. */
const promises = (
  test: (name: string, effect: () => Effect.Effect<void, unknown, Services | Scope.Scope>) => void
): void => {
  /** Names of one's own: others use the cluster too. */
  const name = (what: string): string => `admin-${what}-${process.pid}-${Date.now()}-${++count}`

  const created = (partitions = 1) =>
    Effect.gen(function*() {
      const topic = name("topic")
      expect(yield* Admin.createTopics([{ topic, partitions }])).toEqual([topic])
      return topic
    })

  test("topics are created as defined, under their prefix, and can be written to at once", () =>
    Effect.gen(function*() {
      const Orders = Topic.make(name("orders"), {
        key: Serde.string,
        value: Serde.string,
        partitions: 3,
        config: { "retention.ms": "3600000" }
      })
      const physical = yield* TopicRegistry.resolve(Orders)
      expect(physical).toBe(`coffeebuddy.${Orders.slug}`)
      const plain = name("plain")
      expect(yield* Admin.createTopics([Orders, { topic: plain }])).toEqual([physical, plain])
      yield* produceSome(physical, 2, 1)
      yield* produceSome(plain, 0, 1)

      const topics = yield* Admin.listTopics()
      expect(topics).toContain(physical)
      expect(topics).toContain(plain)
      expect(topics).toEqual([...topics].sort())
      const [described] = yield* Admin.describeTopics([Orders])
      expect(described?.topic).toBe(physical)
      expect(described?.partitions.map(({ partition }) => partition).sort()).toEqual([0, 1, 2])
      expect(described?.partitions.every(({ leader, replicas }) => replicas.includes(leader ?? -1))).toBe(true)
      const config = (yield* Admin.topicConfigs([Orders])).get(physical)
      expect(config?.["retention.ms"]).toEqual({ value: "3600000", isDefault: false })
      expect(config?.["cleanup.policy"]).toEqual({ value: "delete", isDefault: true })
    }))

  test("a topic that exists already is left as it is", () =>
    Effect.gen(function*() {
      const topic = yield* created(2)
      const other = name("other")
      expect(yield* Admin.createTopics([{ topic, partitions: 5 }, { topic: other }])).toEqual([other])
      expect((yield* Admin.describeTopics([topic]))[0]?.partitions).toHaveLength(2)
      expect(yield* Admin.createTopics([])).toEqual([])
    }))

  test("a name that is none is refused before anything is created", () =>
    Effect.gen(function*() {
      const good = name("good")
      const error = yield* Effect.flip(Admin.createTopics([{ topic: good }, { topic: "no name" }]))
      expect(error).toMatchObject({ _tag: "KafkaRequestError", code: "INVALID_TOPIC_EXCEPTION", retriable: false })
      expect(yield* Admin.listTopics()).not.toContain(good)
      const long = Topic.make("a".repeat(240), { key: Serde.string, value: Serde.string })
      expect((yield* Effect.flip(Admin.createTopics([long]))).message).toMatch(/252 characters, and Kafka allows 249/)
    }))

  test("topics are deleted, and are unknown then", () =>
    Effect.gen(function*() {
      const topic = yield* created()
      yield* Admin.deleteTopics([topic])
      expect(yield* Admin.listTopics()).not.toContain(topic)
      for (
        const attempt of [
          Admin.describeTopics([topic]),
          Admin.listOffsets([topic], "latest"),
          Admin.topicConfigs([topic]),
          Admin.createPartitions(topic, 2),
          Admin.deleteTopics([topic])
        ]
      ) {
        expect(yield* Effect.flip(attempt)).toMatchObject({ _tag: "UnknownTopicError", topic })
      }
    }))

  test("partitions grow, and do not shrink", () =>
    Effect.gen(function*() {
      const topic = yield* created(2)
      yield* Admin.createPartitions(topic, 4)
      expect((yield* Admin.describeTopics([topic]))[0]?.partitions).toHaveLength(4)
      expect(yield* Effect.flip(Admin.createPartitions(topic, 3)))
        .toMatchObject({ _tag: "KafkaRequestError", code: "INVALID_PARTITIONS" })
    }))

  test("an entry of a configuration is set, and the others stay", () =>
    Effect.gen(function*() {
      const topic = name("topic")
      yield* Admin.createTopics([{ topic, config: { "retention.ms": "1000000" } }])
      yield* Admin.alterTopicConfig(topic, { "max.message.bytes": "2000000" })
      const config = (yield* Admin.topicConfigs([topic])).get(topic)
      expect(config?.["retention.ms"]?.value).toBe("1000000")
      expect(config?.["max.message.bytes"]).toEqual({ value: "2000000", isDefault: false })
    }))

  test("offsets of the log: its ends, a time, whole topics and single partitions", () =>
    Effect.gen(function*() {
      const topic = yield* created(2)
      const now = BigInt(yield* Clock.currentTimeMillis)
      yield* produce(topic, 0, [now - 3000n, now - 2000n, now - 1000n])
      yield* produce(topic, 1, [now - 500n])
      const offsets = (position: Admin.Position) =>
        Effect.map(Admin.listOffsets([topic], position), (all) => all.map(({ offset }) => offset))
      expect(yield* Admin.listOffsets([topic], "latest")).toEqual([
        { topic, partition: 0, offset: 3n },
        { topic, partition: 1, offset: 1n }
      ])
      expect(yield* offsets("earliest")).toEqual([0n, 0n])
      expect(yield* offsets({ timestamp: now - 2000n })).toEqual([1n, 0n])
      expect(yield* offsets({ timestamp: Number(now - 1999n) })).toEqual([2n, 0n])
      expect(yield* offsets({ timestamp: new Date(Number(now)) })).toEqual([3n, 1n])
      expect(yield* Admin.listOffsets([{ topic, partition: 1 }], "latest")).toEqual([{
        topic,
        partition: 1,
        offset: 1n
      }])
      expect(yield* Admin.listOffsets([], "latest")).toEqual([])
      expect(yield* Effect.flip(Admin.listOffsets([{ topic, partition: 7 }], "latest")))
        .toMatchObject({ _tag: "UnknownTopicError", topic, partition: 7 })
    }))

  test("records before an offset are deleted", () =>
    Effect.gen(function*() {
      const topic = yield* created()
      yield* produceSome(topic, 0, 3)
      yield* Admin.deleteRecords([{ topic, partition: 0, offset: 2n }])
      expect(yield* Admin.listOffsets([topic], "earliest")).toEqual([{ topic, partition: 0, offset: 2n }])
      expect(yield* Admin.listOffsets([topic], "latest")).toEqual([{ topic, partition: 0, offset: 3n }])
    }))

  test("a group's offsets are reset to an end, a time or an offset, which stays within the log", () =>
    Effect.gen(function*() {
      const topic = yield* created()
      const groupId = name("group")
      const now = BigInt(yield* Clock.currentTimeMillis)
      yield* produce(topic, 0, [now - 4000n, now - 3000n, now - 2000n, now - 1000n])
      yield* Admin.deleteRecords([{ topic, partition: 0, offset: 1n }])
      const reset = (to: Parameters<typeof Admin.resetOffsets>[2]) =>
        Effect.zipRight(
          Admin.resetOffsets(groupId, [topic], to),
          Effect.map(Admin.groupOffsets(groupId), (offsets) => offsets.map(({ offset }) => offset))
        )
      expect(yield* Admin.resetOffsets(groupId, [topic], "latest", { dryRun: true }))
        .toEqual([{ topic, partition: 0, from: undefined, to: 4n }])
      expect(yield* Admin.groupOffsets(groupId)).toEqual([])
      expect(yield* reset("latest")).toEqual([4n])
      expect(yield* reset("earliest")).toEqual([1n])
      expect(yield* reset({ timestamp: now - 2000n })).toEqual([2n])
      expect(yield* reset({ offset: 3n })).toEqual([3n])
      expect(yield* reset({ offset: 0n })).toEqual([1n])
      expect(yield* reset({ offset: 99n })).toEqual([4n])
      expect(yield* Admin.resetOffsets(groupId, [{ topic, partition: 0 }], { offset: 2n }))
        .toEqual([{ topic, partition: 0, from: 4n, to: 2n }])
      expect((yield* Admin.listGroups).map((group) => group.groupId)).toContain(groupId)
      yield* Admin.deleteGroups([groupId])
      expect(yield* Admin.groupOffsets(groupId)).toEqual([])
    }))

  test("nothing of a group in use is reset or deleted, until its members have left", () =>
    Effect.gen(function*() {
      const topic = yield* created()
      const groupId = name("group")
      yield* produceSome(topic, 0, 2)
      yield* Admin.resetOffsets(groupId, [topic], { offset: 1n })
      yield* Effect.scoped(Effect.gen(function*() {
        yield* join(groupId, topic)
        const [group] = yield* Admin.describeGroups([groupId])
        expect(group).toMatchObject({ groupId, protocolType: "consumer" })
        expect(group?.members).toHaveLength(1)
        for (const attempt of [Admin.resetOffsets(groupId, [topic], "latest"), Admin.deleteGroups([groupId])]) {
          const error = yield* Effect.flip(attempt)
          expect(error).toMatchObject({ _tag: "GroupActiveError", groupId, members: 1 })
          expect(error.message).toMatch(/stop its consumers first/)
        }
        expect(yield* Admin.groupOffsets(groupId)).toEqual([{
          topic,
          partition: 0,
          offset: 1n,
          metadata: undefined
        }])
      }))
      yield* Admin.resetOffsets(groupId, [topic], "latest")
      expect((yield* Admin.groupOffsets(groupId))[0]?.offset).toBe(2n)
      yield* Admin.deleteGroups([groupId])
    }))

  test("lag in records: from what the group reads next to the end of the log", () =>
    Effect.gen(function*() {
      const topic = yield* created(3)
      const groupId = name("group")
      yield* produceSome(topic, 0, 5)
      yield* produceSome(topic, 1, 1)
      yield* produceSome(topic, 2, 2)
      yield* Admin.resetOffsets(groupId, [{ topic, partition: 0 }], { offset: 1n })
      yield* Admin.resetOffsets(groupId, [{ topic, partition: 1 }], "latest")
      // what is gone can't be read any more, and is no lag
      yield* Admin.deleteRecords([{ topic, partition: 0, offset: 2n }])
      const ofCommitted = yield* Admin.lag(groupId)
      const first = { topic, partition: 0, committed: 1n, earliest: 2n, latest: 5n, records: 3n, millis: undefined }
      const second = { topic, partition: 1, committed: 1n, earliest: 0n, latest: 1n, records: 0n, millis: undefined }
      const third = {
        topic,
        partition: 2,
        committed: undefined,
        earliest: 0n,
        latest: 2n,
        records: undefined,
        millis: undefined
      }
      expect(ofCommitted).toEqual({ groupId, records: 3n, millis: undefined, partitions: [first, second] })
      expect((yield* Admin.lag(groupId, { topics: [topic] })).partitions).toEqual([first, second, third])
      expect(yield* Admin.lag(name("nobody"))).toMatchObject({ records: 0n, partitions: [] })
    }))

  test("lag in time: the age of the oldest unread record", () =>
    Effect.gen(function*() {
      const topic = yield* created(3)
      const groupId = name("group")
      const now = BigInt(yield* Clock.currentTimeMillis)
      yield* produce(topic, 0, [now - minutes(30), now - minutes(20), now - minutes(10)])
      yield* produce(topic, 1, [now - minutes(3), now - minutes(2)])
      yield* produce(topic, 2, [now - minutes(1)])
      yield* Admin.resetOffsets(groupId, [topic], { offset: 1n })
      const { millis, partitions } = yield* Admin.lag(groupId, { time: true })
      const [first, second, third] = partitions.map(({ millis }) => millis ?? Number.NaN)
      // two per cent, and a little for the time that the test takes
      expect(first).toBeGreaterThanOrEqual(20 * 60_000)
      expect(first).toBeLessThan(20 * 60_000 * 1.02 + 20_000)
      expect(second).toBeGreaterThanOrEqual(2 * 60_000)
      expect(second).toBeLessThan(2 * 60_000 * 1.02 + 20_000)
      expect(third).toBe(0)
      expect(millis).toBe(first)
    }))

  test("the cluster describes itself", () =>
    Effect.gen(function*() {
      const { brokers, clusterId } = yield* Admin.describeCluster
      expect(clusterId).not.toBe("")
      expect(brokers.length).toBeGreaterThan(0)
      expect(brokers.every(({ host, port }) => host !== "" && port > 0)).toBe(true)
    }))
}

const admin = Layer.provideMerge(Admin.layer, TopicRegistry.layerWith({ prefix: "coffeebuddy" }))

describe("Admin on InMemoryKafka", () => {
  promises((name, effect) =>
    it.scoped(name, () =>
      Effect.zipRight(
        TestClock.setTime(1_790_000_000_000),
        Effect.provide(effect(), Layer.provideMerge(admin, InMemoryKafka.layer))
      ))
  )
})

RealKafka.suite("Admin on a real Kafka", (kafka) => {
  const live = admin.pipe(
    Layer.provideMerge(KafkaJs.layer),
    Layer.provideMerge(KafkaConfig.layer({ brokers: kafka.bootstrapServers }))
  )
  promises((name, effect) => it.scopedLive(name, () => Effect.provide(effect(), live)))
})

describe("Admin", () => {
  it.live("a layer without a cluster fails, typed", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(
        admin.pipe(
          Layer.provide(KafkaJs.layer),
          Layer.provide(KafkaConfig.layer({ brokers: "127.0.0.1:1", connectionTimeout: "100 millis" }))
        )
      )))
      expect(error).toMatchObject({ _tag: "KafkaConnectionError" })
    }))

  it("operations have the errors of their requests, and need Admin alone", () => {
    expectTypeOf(Admin.resetOffsets("g", ["t"], "latest")).toEqualTypeOf<
      Effect.Effect<
        ReadonlyArray<Admin.OffsetReset>,
        Effect.Effect.Error<ReturnType<Admin.Service["resetOffsets"]>>,
        Admin.Admin
      >
    >()
  })
})

describe("the age of the oldest unread record", () => {
  const now = 1_790_000_000_000

  it.prop(
    "is found within a second or two per cent, for any partitions together, with few questions",
    [FastCheck.array(FastCheck.oneof(FastCheck.nat(5000), FastCheck.nat(30 * 86_400_000)), {
      minLength: 1,
      maxLength: 20
    })],
    ([ages]) =>
      Effect.runSync(Effect.gen(function*() {
        const partitions = ages.map((_, partition): Behind => ({
          topicPartition: TopicPartition.make("orders", partition),
          unread: 1n
        }))
        let questions = 0
        const found = yield* timeLag(partitions, now, (asked, timestamp) => {
          questions += 1
          // offset 1 is the oldest unread record; the record before it is a day older
          return Effect.succeed(
            new Map(asked.map((tp) => {
              const at = BigInt(now - (ages[tp.partition] ?? 0))
              return [TopicPartition.key(tp), at - 86_400_000n >= timestamp ? 0n : at >= timestamp ? 1n : 2n]
            }))
          )
        })
        for (const [partition, age] of ages.entries()) {
          const millis = found.get(`orders:${partition}`) ?? Number.NaN
          expect(millis).toBeGreaterThanOrEqual(age)
          expect(millis).toBeLessThanOrEqual(age + Math.max(1001, age / 50))
        }
        expect(questions).toBeLessThan(24 + 8 * ages.length)
      }))
  )

  it.effect("is bounded where nothing can be said: a log whose records are all in the future", () =>
    Effect.gen(function*() {
      const behind = { topicPartition: TopicPartition.make("orders", 0), unread: 1n }
      const never = yield* timeLag(
        [behind],
        now,
        (asked) => Effect.succeed(new Map(asked.map((tp) => [TopicPartition.key(tp), 2n])))
      )
      expect(never.get("orders:0")).toBe(now)
    }))

  it.effect("takes a clock that stands between two milliseconds", () =>
    Effect.gen(function*() {
      const behind = { topicPartition: TopicPartition.make("orders", 0), unread: 1n }
      const found = yield* timeLag(
        [behind],
        now + 0.25,
        (asked, timestamp) =>
          Effect.succeed(
            new Map(asked.map((tp) => [TopicPartition.key(tp), BigInt(now - 5000) >= timestamp ? 1n : 2n]))
          )
      )
      expect(found.get("orders:0")).toBeGreaterThanOrEqual(5000)
    }))

  it.effect("asks nothing where nothing is unread", () =>
    Effect.gen(function*() {
      expect(yield* timeLag([], now, () => Effect.fail("asked"))).toEqual(new Map())
    }))
})
