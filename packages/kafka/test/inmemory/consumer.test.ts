import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import type { Fetched } from "../../src/KafkaClient.ts"
import { batch, open, producerOptions, settle, setup, text, type Watched } from "./fixtures.ts"

const toTopic = { _tag: "Topics", topics: new Set(["t"]) } as const
const t = (partition: number) => ({ topic: "t", partition })
const everything = (...partitions: ReadonlyArray<number>) =>
  new Map(partitions.map((partition) => [`t:${partition}` as const, { maxBytes: 1_000_000 }] as const))

const produce = (broker: InMemoryKafka.Broker, partition: number, ...values: ReadonlyArray<string>) =>
  broker.produce(t(partition), values.map((value) => ({ value })))

const join = (one: Watched) => Effect.zipRight(one.session.subscribe(toTopic), settle)

const shown = (fetched: ReadonlyArray<Fetched>) =>
  fetched.map((one) =>
    one._tag === "Chunk"
      ? `${one.topicPartition.partition}: ${one.records.map((record) => text(one.view.value(record))).join()} ` +
        `→ ${one.nextOffset}/${one.highWatermark}`
      : one._tag === "OutOfRange"
      ? `${one.topicPartition.partition}: out of range at ${one.offset}`
      : `${one.topicPartition.partition}: ${one.error._tag}`
  )

const poll = (one: Watched, ...partitions: ReadonlyArray<number>) =>
  Effect.map(one.session.poll(everything(...partitions), 0), shown)

describe("fetching", () => {
  it.scoped("only what is demanded comes, in turns, and within the bounds of a response", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(3)
      for (const partition of [0, 1, 2]) yield* produce(broker, partition, "a", "b")
      const one = yield* open(client, { fetchMaxBytesPerPartition: 1, fetchMaxBytes: 12 })
      yield* join(one)
      assert.deepStrictEqual(yield* poll(one, 2), ["2: a → 1/2"])
      const order: Array<string> = []
      for (let i = 0; i < 4; i++) order.push(...(yield* poll(one, 0, 1)))
      assert.deepStrictEqual(order.toSorted(), ["0: a → 1/2", "0: b → 2/2", "1: a → 1/2", "1: b → 2/2"])
      assert.deepStrictEqual(yield* poll(one, 0, 1), [])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("markers and what was aborted are passed over, and the position with them", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...producerOptions, transactionalId: "tx" })
      yield* producer.begin
      yield* producer.send([batch(0, "aborted")])
      yield* producer.abort
      yield* producer.begin
      yield* producer.send([batch(0, "committed")])
      const committed = yield* open(client)
      const uncommitted = yield* open(client, { groupId: "other", isolationLevel: "read_uncommitted" })
      yield* join(committed)
      yield* join(uncommitted)
      assert.deepStrictEqual(yield* poll(committed, 0), ["0:  → 2/2"])
      assert.deepStrictEqual(yield* poll(uncommitted, 0), ["0: aborted,committed → 3/3"])
      // what is not committed yet is not there yet
      const waiting = yield* Effect.fork(committed.session.poll(everything(0), 10_000))
      yield* produce(broker, 0, "plain")
      yield* settle
      assert.strictEqual(waiting.unsafePoll(), null)
      yield* producer.commit
      assert.deepStrictEqual(shown(yield* Fiber.join(waiting)), ["0: committed,plain → 5/5"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a position that is not in the log is out of range, and waits for a seek", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      yield* produce(broker, 0, "a", "b", "c")
      const one = yield* open(client)
      yield* join(one)
      assert.isTrue(yield* broker.deleteBefore(t(0), 2n))
      assert.deepStrictEqual(yield* poll(one, 0), ["0: out of range at 0"])
      assert.deepStrictEqual(yield* poll(one, 0), [])
      yield* one.session.seek(t(0), 9n)
      assert.deepStrictEqual(yield* poll(one, 0), ["0: out of range at 9"])
      yield* one.session.seek(t(0), 2n)
      assert.deepStrictEqual(yield* poll(one, 0), ["0: c → 3/3"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("gaps are passed over, and offsets are exact beyond 2^53", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(1, { config: { "cleanup.policy": "compact" } })
      yield* broker.produce(t(0), ["a", "b", "a", "b"].map((key, i) => ({ key, value: `${key}${i}` })))
      assert.strictEqual(yield* broker.compact(t(0)), 2)
      assert.isTrue(yield* broker.skipTo(t(0), 2n ** 60n))
      const one = yield* open(client)
      yield* join(one)
      assert.deepStrictEqual(yield* poll(one, 0), [`0: a2,b3 → ${2n ** 60n}/${2n ** 60n}`])
      yield* broker.produce(t(0), [{ key: "c", value: "c" }])
      const [chunk] = yield* one.session.poll(everything(0), 0)
      assert.strictEqual(chunk?._tag === "Chunk" && chunk.view.offset(chunk.records[0]), 2n ** 60n)
      yield* one.session.commit([{ ...t(0), offset: 2n ** 60n + 1n }])
      assert.strictEqual((yield* broker.committed("group"))[0]?.offset, 2n ** 60n + 1n)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a fetch is held back until it is worth it, but not for long", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const one = yield* open(client, { fetchMinBytes: 40, fetchMaxWait: 500 })
      yield* join(one)
      yield* produce(broker, 0, "a")
      const waiting = yield* Effect.fork(one.poll(10_000))
      yield* TestClock.adjust(400)
      assert.strictEqual(waiting.unsafePoll(), null)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["a"])
      const enough = yield* Effect.fork(one.poll(10_000))
      yield* produce(broker, 0, "b")
      yield* settle
      assert.strictEqual(enough.unsafePoll(), null)
      yield* produce(broker, 0, "c", "d", "e")
      assert.deepStrictEqual(yield* Fiber.join(enough), ["b", "c", "d", "e"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("an answer that takes long does not hold up polls, and is dropped if it is not wanted any more", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2)
      yield* produce(broker, 0, "a", "b", "c")
      yield* produce(broker, 1, "x")
      const one = yield* open(client)
      yield* join(one)
      const slow = yield* broker.delay("fetch", 1000)
      const waiting = yield* Effect.fork(poll(one, 0, 1))
      yield* settle
      assert.deepStrictEqual(yield* Fiber.join(waiting), [])
      yield* one.session.seek(t(0), 2n)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* poll(one, 0, 1), ["1: x → 1/1"])
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* poll(one, 0, 1), ["0: c → 3/3"])
      assert.isTrue((yield* slow.disarm) >= 2)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a failure that is found late, with the next answer on its way, does not make a waiting poll spin", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const one = yield* open(client)
      yield* join(one)
      const slow = yield* broker.delay("fetch", 50)
      yield* broker.failNext("fetch", 1, "NOT_LEADER_OR_FOLLOWER")
      yield* poll(one, 0)
      yield* TestClock.adjust(50)
      // it has failed while nobody asked; the next one finds nothing, and then something comes
      assert.deepStrictEqual(yield* poll(one), [])
      const waiting = yield* Effect.fork(one.poll(10_000))
      yield* TestClock.adjust(60)
      yield* slow.disarm
      yield* produce(broker, 0, "a")
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["a"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a topic that is deleted, or may not be read any more, is a fault of its partitions alone", () =>
    Effect.gen(function*() {
      const { admin, broker, client } = yield* setup()
      yield* admin.createTopics([{ topic: "u", partitions: 1, replicationFactor: 1, config: {} }])
      const one = yield* open(client)
      yield* one.session.subscribe({ _tag: "Topics", topics: new Set(["t", "u"]) })
      yield* settle
      const demand = new Map([...one.owned].map((key) => [key, { maxBytes: 1000 }] as const))
      const waiting = yield* Effect.fork(one.session.poll(demand, 10_000))
      yield* settle
      yield* broker.deny("topic", "t")
      const [denied] = yield* Fiber.join(waiting)
      assert.strictEqual(denied?._tag === "Failed" && denied.error._tag, "KafkaAuthorizationError")
      yield* admin.deleteTopics(["u"])
      const [deleted] = yield* one.session.poll(demand, 0)
      assert.strictEqual(deleted?._tag === "Failed" && deleted.error._tag, "UnknownTopicError")
      assert.deepStrictEqual(yield* one.session.poll(demand, 0), [])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a partition whose leader is down waits, while others go on", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2)
      yield* produce(broker, 0, "a")
      yield* produce(broker, 1, "b")
      const one = yield* open(client, { unavailableAfter: 5000 })
      yield* one.session.subscribe({ _tag: "Manual", partitions: [t(0), t(1)] })
      yield* settle
      yield* broker.kill(1)
      assert.deepStrictEqual(yield* poll(one, 0, 1), ["0: a → 1/1"])
      const waiting = yield* Effect.fork(one.poll(60_000))
      yield* TestClock.adjust(20_000)
      assert.strictEqual(waiting.unsafePoll(), null)
      yield* broker.restart(1)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["b"])
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ brokers: 2 }))))

  it.scoped("a partition with another replica goes on without its leader", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(1, { replicationFactor: 2 })
      yield* produce(broker, 0, "a")
      const one = yield* open(client)
      yield* join(one)
      yield* broker.kill(0)
      assert.deepStrictEqual(yield* poll(one, 0), ["0: a → 1/1"])
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ brokers: 2 }))))

  it.scoped("given partitions are read without a group, and committed while it has no members", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2)
      yield* produce(broker, 1, "a", "b")
      const one = yield* open(client)
      yield* one.session.subscribe({ _tag: "Manual", partitions: [t(1)] })
      yield* settle
      assert.deepStrictEqual(one.log, ["assigned t:1"])
      assert.deepStrictEqual(yield* one.poll(), ["a", "b"])
      yield* one.session.commit([{ ...t(1), offset: 2n }])
      assert.strictEqual(one.session.groupMetadata(), undefined)
      yield* broker.join("group", ["t"])
      yield* settle
      const { error } = yield* Effect.flip(one.session.commit([{ ...t(1), offset: 1n }]))
      assert.strictEqual(error._tag === "CommitError" && error.reason, "fenced")
      assert.strictEqual((yield* broker.committed("group"))[0]?.offset, 2n)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("times and ends are answered as this reader sees them", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      yield* broker.produce(t(0), [10n, 20n, 30n].map((timestamp) => ({ value: "x", timestamp })))
      const producer = yield* client.openProducer({ ...producerOptions, transactionalId: "tx" })
      yield* producer.begin
      yield* producer.send([batch(0, "open")])
      const committed = (yield* open(client)).session
      const uncommitted = (yield* open(client, { isolationLevel: "read_uncommitted" })).session
      const at = (session: typeof committed, spec: "earliest" | "latest" | { timestamp: bigint }) =>
        Effect.map(session.offsets([t(0)], spec), (offsets) => offsets.get("t:0"))
      assert.strictEqual(yield* at(committed, "earliest"), 0n)
      assert.strictEqual(yield* at(committed, "latest"), 3n)
      assert.strictEqual(yield* at(uncommitted, "latest"), 4n)
      assert.strictEqual(yield* at(committed, { timestamp: 15n }), 1n)
      assert.strictEqual(yield* at(committed, { timestamp: 31n }), 3n)
    }).pipe(Effect.provide(InMemoryKafka.layer)))
})

describe("membership", () => {
  it.scoped("what is not there can not be subscribed to", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const one = yield* open(client)
      const topics = (topic: string) => ({ _tag: "Topics", topics: new Set([topic]) }) as const
      assert.strictEqual((yield* Effect.flip(one.session.subscribe(topics("nowhere"))))._tag, "UnknownTopicError")
      yield* broker.deny("topic", "t")
      assert.strictEqual((yield* Effect.flip(one.session.subscribe(topics("t"))))._tag, "KafkaAuthorizationError")
      const manual = { _tag: "Manual", partitions: [t(9)] } as const
      yield* broker.allow("topic", "t")
      assert.strictEqual((yield* Effect.flip(one.session.subscribe(manual)))._tag, "UnknownTopicError")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("the group waits for what is in hand, and takes its commits", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2)
      const settled = yield* Deferred.make<void>()
      const one = yield* open(client, { onRevoked: () => Deferred.await(settled) })
      yield* join(one)
      yield* produce(broker, 0, "a")
      assert.deepStrictEqual(yield* one.poll(), ["a"])
      const two = yield* open(client)
      yield* join(two)
      yield* TestClock.adjust(20_000)
      assert.deepStrictEqual(two.log, [])
      assert.deepStrictEqual(one.log, ["assigned t:0,t:1", "revoked t:0,t:1"])
      yield* one.session.commit([{ ...t(0), offset: 1n }])
      yield* Deferred.succeed(settled, undefined)
      yield* settle
      assert.strictEqual(one.owned.size + two.owned.size, 2)
      assert.strictEqual((yield* broker.committed("group"))[0]?.offset, 1n)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("whoever takes longer than the rebalance timeout is out, and can not commit", () =>
    Effect.gen(function*() {
      const { client } = yield* setup(2)
      const settled = yield* Deferred.make<void>()
      const one = yield* open(client, { rebalanceTimeout: 10_000, onRevoked: () => Deferred.await(settled) })
      yield* join(one)
      const two = yield* open(client, { rebalanceTimeout: 10_000 })
      yield* join(two)
      yield* TestClock.adjust(13_000)
      assert.strictEqual(two.owned.size, 2)
      const { error, retriable } = yield* Effect.flip(one.session.commit([{ ...t(0), offset: 1n }]))
      assert.isTrue(error._tag === "CommitError" && error.reason === "fenced" && !retriable)
      // and when it is done after all, it joins again
      yield* Deferred.succeed(settled, undefined)
      yield* TestClock.adjust(6000)
      assert.strictEqual(one.owned.size + two.owned.size, 2)
      assert.strictEqual(one.owned.size, 1)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  for (const assignment of ["eager", "cooperative"] as const) {
    it.scoped(`${assignment}: a session that expires is lost, and the member comes back`, () =>
      Effect.gen(function*() {
        const { broker, client } = yield* setup(2)
        const one = yield* open(client, { assignment })
        yield* join(one)
        yield* broker.isolate(({ clientId }) => clientId === "consumer")
        yield* TestClock.adjust(45_000)
        assert.strictEqual((yield* broker.group("group"))?.state, "Empty")
        assert.deepStrictEqual(one.log, ["assigned t:0,t:1"])
        yield* broker.reconnect(() => true)
        yield* TestClock.adjust(3000)
        assert.deepStrictEqual(one.log, ["assigned t:0,t:1", "lost t:0,t:1", "assigned t:0,t:1"])
      }).pipe(Effect.provide(InMemoryKafka.layer)))

    it.scoped(`${assignment}: a member that a test expires is lost at its next heartbeat, or its next commit`, () =>
      Effect.gen(function*() {
        const { broker, client } = yield* setup(1)
        const one = yield* open(client, { assignment })
        yield* join(one)
        const memberId = () => one.session.groupMetadata()!.memberId
        assert.isTrue(yield* broker.expireSession("group", memberId()))
        assert.isFalse(yield* broker.expireSession("group", memberId()))
        const { error } = yield* Effect.flip(one.session.commit([{ ...t(0), offset: 1n }]))
        assert.strictEqual(error._tag === "CommitError" && error.reason, "fenced")
        yield* settle
        assert.deepStrictEqual(one.log, ["assigned t:0", "lost t:0", "assigned t:0"])
        yield* broker.expireSession("group", memberId())
        yield* TestClock.adjust(3000)
        assert.strictEqual(one.log.filter((entry) => entry === "lost t:0").length, 2)
      }).pipe(Effect.provide(InMemoryKafka.layer)))
  }

  it.scoped("a member that leaves hands over at once, one that dies after its session", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2)
      const one = yield* open(client)
      yield* join(one)
      const other = yield* broker.join("group", ["t"])
      yield* TestClock.adjust(3000)
      assert.strictEqual((yield* other.assignment).length, 1)
      yield* other.leave
      yield* TestClock.adjust(3000)
      assert.strictEqual(one.owned.size, 2)
      const mortal = yield* broker.join("group", ["t"], { sessionTimeout: 10_000 })
      yield* TestClock.adjust(3000)
      assert.strictEqual(one.owned.size, 1)
      const id = yield* mortal.memberId
      assert.strictEqual(yield* broker.isolate(({ memberId }) => memberId === id), 1)
      yield* TestClock.adjust(6000)
      assert.strictEqual(one.owned.size, 1)
      yield* TestClock.adjust(9000)
      assert.strictEqual(one.owned.size, 2)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("whoever can not tell that it leaves, leaves all the same, in bounded time", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(1)
      yield* broker.delay("leave-group", "1 hour")
      const leaving = yield* Effect.fork(Effect.scoped(Effect.flatMap(open(client), join)))
      yield* TestClock.adjust("5 seconds")
      assert.isNotNull(leaving.unsafePoll())
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("an instance that restarts goes on where it was, and nobody else notices", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(4)
      const one = yield* open(client)
      yield* join(one)
      const before = yield* Effect.scoped(Effect.gen(function*() {
        const two = yield* open(client, { groupInstanceId: "two" })
        yield* join(two)
        yield* TestClock.adjust(6000)
        return [...two.owned]
      }))
      assert.strictEqual(before.length, 2)
      const { log } = one
      const length = log.length
      const again = yield* open(client, { groupInstanceId: "two" })
      yield* join(again)
      yield* TestClock.adjust(12_000)
      assert.deepStrictEqual([...again.owned], before)
      assert.strictEqual(log.length, length)
      assert.strictEqual((yield* broker.group("group"))?.members.length, 2)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("two with one instance id: the former is fenced, and dies", () =>
    Effect.gen(function*() {
      const { client } = yield* setup(1)
      const one = yield* open(client, { groupInstanceId: "i" })
      yield* join(one)
      const waiting = yield* Effect.fork(Effect.flip(one.session.poll(everything(0), 60_000)))
      yield* settle
      const two = yield* open(client, { groupInstanceId: "i" })
      yield* join(two)
      yield* TestClock.adjust(3000)
      const error = yield* Fiber.join(waiting)
      assert.strictEqual(error._tag === "ConsumerError" && error.reason, "fenced")
      assert.deepStrictEqual(one.log, ["assigned t:0", "lost t:0"])
      assert.deepStrictEqual(two.log, ["assigned t:0"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("partitions that are added are found at the next refresh, and topics that match a pattern too", () =>
    Effect.gen(function*() {
      const { admin, client } = yield* setup(1)
      const list = yield* open(client)
      yield* join(list)
      const pattern = yield* open(client, { groupId: "pattern" })
      yield* pattern.session.subscribe({ _tag: "Pattern", pattern: /^t/g })
      yield* settle
      yield* admin.createPartitions("t", 3)
      yield* admin.createTopics([{ topic: "tt", partitions: 1, replicationFactor: 1, config: {} }])
      yield* TestClock.adjust(10_000)
      assert.strictEqual(list.owned.size, 3)
      assert.strictEqual(pattern.owned.size, 4)
      yield* admin.deleteTopics(["tt"])
      yield* TestClock.adjust(10_000)
      assert.strictEqual(pattern.owned.size, 3)
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ metadataRefresh: "10 seconds" }))))

  it.scoped("what is subscribed can change, and with nothing left the group is left", () =>
    Effect.gen(function*() {
      const { admin, broker, client } = yield* setup(1)
      yield* admin.createTopics([{ topic: "u", partitions: 1, replicationFactor: 1, config: {} }])
      const one = yield* open(client, { assignment: "cooperative" })
      yield* join(one)
      yield* one.session.subscribe({ _tag: "Topics", topics: new Set(["t", "u"]) })
      yield* settle
      yield* one.session.subscribe({ _tag: "Topics", topics: new Set(["u"]) })
      yield* settle
      assert.deepStrictEqual(one.log, ["assigned t:0", "assigned u:0", "revoked t:0", "assigned "])
      yield* one.session.subscribe({ _tag: "Topics", topics: new Set() })
      yield* settle
      assert.strictEqual((yield* broker.group("group"))?.state, "Empty")
      assert.strictEqual(one.owned.size, 0)
      yield* join(one)
      assert.deepStrictEqual([...one.owned], ["t:0"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a new group waits for those who come together", () =>
    Effect.gen(function*() {
      const { client } = yield* setup(2)
      const one = yield* open(client)
      yield* join(one)
      yield* TestClock.adjust(2000)
      const two = yield* open(client)
      yield* join(two)
      yield* TestClock.adjust(3999)
      assert.deepStrictEqual([one.log, two.log], [[], []])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual([one.log, two.log], [["assigned t:0"], ["assigned t:1"]])
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ initialRebalanceDelay: "3 seconds" }))))

  it.scoped("a session timeout that the broker does not allow, or another protocol than the group's, ends it", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const short = yield* open(client, { sessionTimeout: 5999 })
      yield* join(short)
      const error = yield* Effect.flip(short.session.poll(new Map(), 0))
      assert.strictEqual(error._tag === "ConsumerError" && error.reason, "crashed")
      yield* broker.join("group", ["t"], { assignment: "cooperative" })
      yield* settle
      const eager = yield* open(client)
      yield* join(eager)
      const other = yield* Effect.flip(eager.session.poll(new Map(), 0))
      assert.include(other.message, "cooperative-sticky")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a permission withdrawn from the group ends its members", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const one = yield* open(client)
      yield* join(one)
      assert.isTrue(yield* broker.deny("group", "group"))
      const waiting = yield* Effect.fork(Effect.flip(one.session.poll(everything(0), 60_000)))
      yield* TestClock.adjust(3000)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "KafkaAuthorizationError")
      assert.deepStrictEqual(one.log, ["assigned t:0", "lost t:0"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a commit fails for as long as the fault says, and is told whether it may be tried again", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const one = yield* open(client)
      yield* join(one)
      const commit = Effect.flip(one.session.commit([{ ...t(0), offset: 1n }]))
      yield* broker.failNext("commit", 1, "NOT_COORDINATOR")
      assert.strictEqual((yield* commit).retriable, true)
      yield* broker.failNext("commit", 1, "response-lost")
      const lost = yield* commit
      assert.isTrue(lost.retriable && lost.error._tag === "KafkaConnectionError")
      assert.strictEqual((yield* broker.committed("group"))[0]?.offset, 1n)
      yield* broker.failNext("commit", 1, "REBALANCE_IN_PROGRESS")
      const rebalancing = yield* commit
      assert.isTrue(rebalancing.retriable && rebalancing.error._tag === "CommitError")
      const metadata = "x".repeat(4097)
      const large = yield* Effect.flip(one.session.commit([{ ...t(0), offset: 1n, metadata }]))
      assert.strictEqual(large.error._tag === "CommitError" && large.error.code, "OFFSET_METADATA_TOO_LARGE")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("joining and syncing survive whatever the network does to them", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2)
      const faults = [
        yield* broker.failNext("join-group", 1, "response-lost"),
        yield* broker.failNext("join-group", 1, "request-lost"),
        yield* broker.failNext("join-group", 1, "UNKNOWN_MEMBER_ID"),
        yield* broker.failNext("sync-group", 1, "response-lost"),
        yield* broker.failNext("sync-group", 1, "REBALANCE_IN_PROGRESS"),
        yield* broker.failNext("heartbeat", 1, "ILLEGAL_GENERATION")
      ]
      const one = yield* open(client)
      yield* join(one)
      yield* TestClock.adjust(60_000)
      for (const fault of faults) assert.strictEqual(yield* fault.fired, 1)
      assert.strictEqual(one.owned.size, 2)
      assert.strictEqual((yield* broker.group("group"))?.members.length, 1)
    }).pipe(Effect.provide(InMemoryKafka.layer)))
})

describe("an outage", () => {
  it.scoped("one that is short changes nothing", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2)
      yield* produce(broker, 0, "a")
      const one = yield* open(client)
      yield* join(one)
      yield* one.session.commit([{ ...t(1), offset: 0n }])
      assert.isTrue(yield* broker.kill())
      assert.isFalse(yield* broker.kill())
      const waiting = yield* Effect.fork(one.poll(60_000))
      yield* TestClock.adjust(50_000)
      assert.isTrue(yield* broker.restart())
      yield* TestClock.adjust(5000)
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["a"])
      assert.deepStrictEqual(one.log, ["assigned t:0,t:1"])
      yield* one.session.commit([{ ...t(0), offset: 1n }])
      assert.deepStrictEqual(
        one.notices.map(({ _tag }) => _tag).filter((tag) => tag.endsWith("connected")),
        ["Disconnected", "Reconnected"]
      )
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("one that does not end is a typed failure after the configured time", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(1)
      const one = yield* open(client, { unavailableAfter: 20_000 })
      yield* join(one)
      yield* broker.kill()
      const waiting = yield* Effect.fork(Effect.flip(one.session.poll(everything(0), 600_000)))
      yield* TestClock.adjust(19_000)
      assert.strictEqual(waiting.unsafePoll(), null)
      yield* TestClock.adjust(3000)
      const error = yield* Fiber.join(waiting)
      assert.strictEqual(error._tag === "ConsumerError" && error.reason, "unavailable")
      assert.strictEqual((yield* Effect.flip(one.session.poll(new Map(), 0)))._tag, "ConsumerError")
      assert.deepStrictEqual(one.log, ["assigned t:0", "lost t:0"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a coordinator that dies in the middle of a rebalance is followed to the next one", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(4, { replicationFactor: 3 })
      const settled = yield* Deferred.make<void>()
      const one = yield* open(client, { onRevoked: () => Deferred.await(settled) })
      yield* join(one)
      const two = yield* open(client)
      yield* join(two)
      yield* TestClock.adjust(3000)
      // one holds up the rebalance, two waits for it
      for (const broker_ of [0, 1]) yield* broker.kill(broker_)
      yield* Deferred.succeed(settled, undefined)
      yield* TestClock.adjust(30_000)
      assert.deepStrictEqual([one.owned.size, two.owned.size], [2, 2])
      assert.strictEqual((yield* broker.group("group"))?.members.length, 2)
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ brokers: 3 }))))

  it.scoped("nothing is opened while there is nobody to talk to", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      yield* broker.kill()
      const opening = yield* Effect.fork(Effect.flip(open(client)))
      yield* TestClock.adjust(5000)
      assert.strictEqual((yield* Fiber.join(opening))._tag, "KafkaConnectionError")
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ connectionTimeout: "5 seconds" }))))
})
