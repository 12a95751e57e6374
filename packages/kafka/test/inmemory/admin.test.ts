import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import type { NewTopic } from "../../src/KafkaClient.ts"
import type { KafkaError } from "../../src/KafkaError.ts"
import { open, settle, setup, values } from "./fixtures.ts"

const topic = (name: string, options: Partial<NewTopic> = {}): NewTopic => ({
  topic: name,
  partitions: 1,
  replicationFactor: 1,
  config: {},
  ...options
})

const code = <A, R>(effect: Effect.Effect<A, KafkaError, R>) =>
  Effect.match(effect, {
    onSuccess: () => "fine",
    onFailure: (error) => error._tag === "KafkaRequestError" ? error.code : error._tag
  })

describe("administration", () => {
  it.scoped("topics that Kafka would refuse are refused with its reason", () =>
    Effect.gen(function*() {
      const { admin, broker } = yield* setup()
      const create = (wanted: NewTopic) => code(admin.createTopics([wanted]))
      assert.strictEqual(yield* create(topic("no/slash")), "INVALID_TOPIC_EXCEPTION")
      assert.strictEqual(yield* create(topic("")), "INVALID_TOPIC_EXCEPTION")
      assert.strictEqual(yield* create(topic("..")), "INVALID_TOPIC_EXCEPTION")
      assert.strictEqual(yield* create(topic("x".repeat(250))), "INVALID_TOPIC_EXCEPTION")
      assert.strictEqual(yield* create(topic("a", { partitions: 0 })), "INVALID_PARTITIONS")
      assert.strictEqual(yield* create(topic("a", { replicationFactor: 3 })), "INVALID_REPLICATION_FACTOR")
      assert.strictEqual(yield* create(topic("a", { config: { "no.such": "1" } })), "INVALID_CONFIG")
      assert.strictEqual(yield* create(topic("a", { config: { "retention.ms": "long" } })), "INVALID_CONFIG")
      assert.strictEqual(yield* create(topic("a", { config: { "cleanup.policy": "burn" } })), "INVALID_CONFIG")
      assert.strictEqual(yield* create(topic("a", { config: { "retention.ms": "-2" } })), "INVALID_CONFIG")
      assert.strictEqual(yield* create(topic("a", { config: { "retention.ms": "1.5" } })), "INVALID_CONFIG")
      assert.strictEqual(yield* create(topic("both", { config: { "cleanup.policy": "compact, delete" } })), "fine")
      assert.strictEqual(yield* create(topic("a.b")), "fine")
      assert.strictEqual(yield* create(topic("a_b")), "INVALID_TOPIC_EXCEPTION")
      yield* broker.deny("topic", "secret")
      assert.strictEqual(yield* create(topic("secret")), "KafkaAuthorizationError")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("one topic that can not be created does not keep the others from it, and what exists is left alone", () =>
    Effect.gen(function*() {
      const { admin } = yield* setup(3)
      assert.deepStrictEqual(yield* admin.createTopics([topic("t"), topic("new")]), ["new"])
      assert.strictEqual(yield* code(admin.createTopics([topic("bad!"), topic("good")])), "INVALID_TOPIC_EXCEPTION")
      assert.deepStrictEqual(yield* admin.listTopics, ["good", "new", "t"])
      const [described] = yield* admin.describeTopics(["t"])
      assert.strictEqual(described?.partitions.length, 3)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("the brokers' defaults are used where nothing is said", () =>
    Effect.gen(function*() {
      const { admin } = yield* setup()
      yield* admin.createTopics([topic("d", { partitions: -1, replicationFactor: -1 })])
      const [described] = yield* admin.describeTopics(["d"])
      assert.strictEqual(described?.partitions.length, 6)
      assert.strictEqual(described?.partitions[0]?.replicas.length, 1)
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ defaultPartitions: 6 }))))

  it.scoped("leaders are spread over the brokers, and move when one is down", () =>
    Effect.gen(function*() {
      const { admin, broker } = yield* setup(3, { replicationFactor: 2 })
      const leaders = Effect.map(admin.describeTopics(["t"]), ([t]) => t?.partitions.map(({ leader }) => leader))
      assert.deepStrictEqual(yield* leaders, [0, 1, 2])
      assert.isTrue(yield* broker.kill(1))
      assert.deepStrictEqual(yield* leaders, [0, 2, 2])
      const [described] = yield* admin.describeTopics(["t"])
      assert.deepStrictEqual(described?.partitions[0]?.inSyncReplicas, [0])
      assert.deepStrictEqual((yield* admin.describeCluster).brokers.map(({ id }) => id), [0, 2])
      assert.isTrue(yield* broker.kill(2))
      assert.deepStrictEqual(yield* leaders, [0, undefined, 0])
      assert.isTrue(yield* broker.restart())
      assert.isFalse(yield* broker.restart())
      assert.deepStrictEqual(yield* leaders, [0, 1, 2])
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ brokers: 3 }))))

  it.scoped("partitions only grow, configs are what was set over the defaults", () =>
    Effect.gen(function*() {
      const { admin } = yield* setup(2, { config: { "retention.ms": "1000" } })
      assert.strictEqual(yield* code(admin.createPartitions("t", 2)), "INVALID_PARTITIONS")
      yield* admin.createPartitions("t", 3)
      assert.strictEqual(yield* code(admin.createPartitions("nowhere", 3)), "UnknownTopicError")
      yield* admin.alterTopicConfig("t", { "cleanup.policy": "compact" })
      const config = (yield* admin.describeTopicConfigs(["t"])).get("t")
      assert.deepStrictEqual(config?.["retention.ms"], { value: "1000", isDefault: false })
      assert.deepStrictEqual(config?.["cleanup.policy"], { value: "compact", isDefault: false })
      assert.deepStrictEqual(config?.["max.message.bytes"], { value: "1048588", isDefault: true })
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("records are deleted up to an offset, or all of them", () =>
    Effect.gen(function*() {
      const { admin, broker } = yield* setup()
      const at = { topic: "t", partition: 0 }
      yield* broker.produce(at, ["a", "b", "c"].map((value) => ({ value })))
      const earliest = Effect.map(admin.listOffsets([at], "earliest"), (offsets) => offsets.get("t:0"))
      yield* admin.deleteRecords(new Map([["t:0", 2n]]))
      assert.strictEqual(yield* earliest, 2n)
      assert.strictEqual(yield* code(admin.deleteRecords(new Map([["t:0", 4n]]))), "OFFSET_OUT_OF_RANGE")
      yield* admin.deleteRecords(new Map([["t:0", -1n]]))
      assert.strictEqual(yield* earliest, 3n)
      yield* admin.alterTopicConfig("t", { "cleanup.policy": "compact" })
      assert.strictEqual(yield* code(admin.deleteRecords(new Map([["t:0", 3n]]))), "POLICY_VIOLATION")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a group that is in use is neither deleted nor moved", () =>
    Effect.gen(function*() {
      const { admin, broker } = yield* setup()
      const to = (offset: bigint) => admin.alterGroupOffsets("group", [{ topic: "t", partition: 0, offset }])
      yield* to(1n)
      const member = yield* broker.join("group", ["t"])
      yield* settle
      assert.strictEqual(yield* code(to(2n)), "NON_EMPTY_GROUP")
      assert.strictEqual(yield* code(admin.deleteGroups(["group"])), "NON_EMPTY_GROUP")
      const [described] = yield* admin.describeGroups(["group"])
      assert.strictEqual(described?.state, "Stable")
      assert.deepStrictEqual(described?.members.map(({ assignment, clientId }) => [clientId, assignment]), [
        ["foreigner", [{ topic: "t", partition: 0 }]]
      ])
      yield* member.leave
      assert.strictEqual((yield* admin.groupOffsets("group")).get("t:0")?.offset, 1n)
      yield* admin.deleteGroups(["group"])
      assert.deepStrictEqual(yield* admin.listGroups, [])
      assert.strictEqual(yield* code(admin.deleteGroups(["group"])), "GROUP_ID_NOT_FOUND")
      assert.strictEqual((yield* admin.describeGroups(["group"]))[0]?.state, "Dead")
      assert.strictEqual(
        yield* code(admin.alterGroupOffsets("group", [{ topic: "nowhere", partition: 0, offset: 0n }])),
        "UNKNOWN_TOPIC_OR_PARTITION"
      )
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("offsets of a topic go with it, and those of a group without members in time", () =>
    Effect.gen(function*() {
      const { admin, broker } = yield* setup()
      yield* admin.createTopics([topic("u")])
      yield* admin.alterGroupOffsets("group", [
        { topic: "t", partition: 0, offset: 1n },
        { topic: "u", partition: 0, offset: 1n }
      ])
      yield* admin.deleteTopics(["u"])
      assert.deepStrictEqual([...(yield* admin.groupOffsets("group")).keys()], ["t:0"])
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual((yield* admin.groupOffsets("group")).size, 1)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* admin.groupOffsets("group")).size, 0)
      assert.deepStrictEqual(yield* broker.committed("group"), [])
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ offsetsRetention: "1 hour" }))))

  it.scoped("what can be done again is done again, for as long as it is sensible", () =>
    Effect.gen(function*() {
      const { admin, broker } = yield* setup()
      const fault = yield* broker.failNext("admin", 2, "NOT_CONTROLLER")
      const listing = yield* Effect.fork(admin.listTopics)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* Fiber.join(listing), ["t"])
      assert.strictEqual(yield* fault.fired, 2)
      yield* broker.kill()
      const failing = yield* Effect.fork(code(admin.listTopics))
      yield* TestClock.adjust(30_000)
      assert.strictEqual(yield* Fiber.join(failing), "KafkaConnectionError")
    }).pipe(Effect.provide(InMemoryKafka.layer)))
})

describe("the controls", () => {
  it.scoped("what retention does not keep is gone when it is applied", () =>
    Effect.gen(function*() {
      const { broker } = yield* setup(1, { config: { "retention.ms": "10000" } })
      const at = { topic: "t", partition: 0 }
      yield* broker.produce(at, [{ value: "a" }])
      yield* TestClock.adjust(8000)
      yield* broker.produce(at, [{ value: "b" }, { value: "c" }])
      yield* TestClock.adjust(2001)
      assert.strictEqual(yield* broker.applyRetention("t"), 1)
      assert.deepStrictEqual(yield* values(broker), ["b", "c"])
      assert.strictEqual(yield* broker.applyRetention("nowhere"), 0)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("what somebody else produces is subject to the same rules", () =>
    Effect.gen(function*() {
      const { broker } = yield* setup(1, { config: { "cleanup.policy": "compact", "max.message.bytes": "200" } })
      const produce = (partition: number, value: string, key?: string) =>
        code(broker.produce({ topic: "t", partition }, [{ value, key }]))
      assert.strictEqual(yield* produce(0, "a", "k"), "fine")
      assert.strictEqual(yield* produce(0, "a"), "INVALID_RECORD")
      assert.strictEqual(yield* produce(0, "a".repeat(200), "k"), "MESSAGE_TOO_LARGE")
      assert.strictEqual(yield* produce(1, "a", "k"), "UnknownTopicError")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a fault can be meant for one client, or one broker, and taken away again", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(1)
      const one = (yield* open(client, { clientId: "one" })).session
      const two = (yield* open(client, { clientId: "two" })).session
      assert.deepStrictEqual((yield* broker.sessions).map(({ clientId, kind }) => `${kind} ${clientId}`), [
        "admin admin",
        "consumer one",
        "consumer two"
      ])
      const fault = yield* broker.failNext("fetch-offsets", 100, "GROUP_AUTHORIZATION_FAILED", {
        session: ({ clientId }) => clientId === "one"
      })
      const elsewhere = yield* broker.failNext("fetch-offsets", 100, "GROUP_AUTHORIZATION_FAILED", { broker: 7 })
      assert.strictEqual(yield* code(two.committed([])), "fine")
      assert.strictEqual(yield* code(one.committed([])), "KafkaAuthorizationError")
      assert.strictEqual(yield* fault.disarm, 1)
      assert.strictEqual(yield* code(one.committed([])), "fine")
      assert.strictEqual(yield* elsewhere.fired, 0)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("topics come into being by being asked for, if the brokers are set so", () =>
    Effect.gen(function*() {
      const { admin, client } = yield* setup()
      const one = yield* open(client)
      yield* one.session.subscribe({ _tag: "Topics", topics: new Set(["auto"]) })
      yield* settle
      assert.deepStrictEqual([...one.owned], ["auto:0", "auto:1"])
      assert.deepStrictEqual(yield* admin.listTopics, ["auto", "t"])
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ autoCreateTopics: true, defaultPartitions: 2 }))))

  it.effect("two layers share nothing, and nothing is left of one that is closed", () =>
    Effect.gen(function*() {
      const seen = Effect.scoped(Effect.gen(function*() {
        const { admin, broker, client } = yield* setup()
        yield* broker.produce({ topic: "t", partition: 0 }, [{ value: "a" }])
        yield* (yield* open(client)).session.subscribe({ _tag: "Topics", topics: new Set(["t"]) })
        yield* settle
        return [yield* admin.listTopics, yield* values(broker)] as const
      }))
      const once = yield* Effect.provide(seen, InMemoryKafka.layer)
      const again = yield* Effect.provide(seen, InMemoryKafka.layer)
      assert.deepStrictEqual(again, once)
    }))
})
