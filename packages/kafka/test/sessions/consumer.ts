/** What a consumer session of any driver promises. */
import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TopicPartition from "../../src/TopicPartition.ts"
import { admin, type ConsumerDriver, evict, groupName, readers, values, write } from "../kafkajs/consumerSupport.ts"
import { Faults, makeTopic, plainProducer } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"

const key = TopicPartition.key
const numbers = (count: number, from = 0): Array<string> => Array.from({ length: count }, (_, i) => `v${from + i}`)

/** The kinds of these requests. */
const joinGroup = 11
const heartbeat = 12

const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const look = (): void => condition() ? resume(Effect.void) : void setImmediate(look)
    look()
  })

/** Long enough for a fiber to come as far as it can without the outside. */
const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** A reader, and the end of it. */
const closeable = <A, E>(make: Effect.Effect<A, E, Scope.Scope>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
    return [yield* Scope.extend(make, scope), Scope.close(scope, Exit.void)] as const
  })

export const consumer = (driver: ConsumerDriver): void => {
  const { join, open } = readers(driver)

  RealKafka.suite(`a consumer session through ${driver.name}`, ({ bootstrapServers: brokers }) => {
    it.scopedLive("delivers each record once and in order, from where it is told to start", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        yield* write(brokers, topic, numbers(5))
        const reader = yield* join(brokers, groupName(), [topic], { from: () => 2n })
        expect(yield* reader.read(3)).toEqual([
          { at: "0@2", value: "v2" },
          { at: "0@3", value: "v3" },
          { at: "0@4", value: "v4" }
        ])
        yield* write(brokers, topic, numbers(2, 5))
        expect(values(yield* reader.read(2))).toEqual(["v5", "v6"])
      }))

    it.scopedLive("what was committed is where the group goes on", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers, { partitions: 2 })
        const group = groupName()
        const [first, leave] = yield* closeable(join(brokers, group, [topic]))
        yield* first.holding("0 1")
        yield* first.session.commit([{ topic, partition: 1, offset: 7n, metadata: "note" }])
        expect(yield* first.session.committed([TopicPartition.make(topic, 0), TopicPartition.make(topic, 1)])).toEqual(
          new Map([[`${topic}:1`, { topic, partition: 1, offset: 7n, metadata: "note" }]])
        )
        yield* leave
        const second = yield* join(brokers, group, [topic])
        yield* second.holding("0 1")
        expect((yield* second.session.committed([TopicPartition.make(topic, 1)])).get(`${topic}:1`)?.offset).toBe(7n)
      }))

    it.scopedLive("a rebalance waits for the one who still has records in hand, whose commits count", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers, { partitions: 2 })
        const group = groupName()
        const mayGo = yield* Deferred.make<void>()
        const faults = new Faults()
        yield* write(brokers, topic, numbers(3))
        yield* write(brokers, topic, numbers(3), 1)
        const first = yield* join(brokers, group, [topic], {
          faults,
          onRevoked: (self) => Effect.zipRight(Deferred.await(mayGo), Effect.orDie(self.commit({ 0: 3, 1: 3 })))
        })
        yield* first.holding("0 1")
        yield* first.read(6)
        const second = yield* join(brokers, group, [topic])
        expect(yield* first.told).toMatchObject({ _tag: "Revoked" })
        // its session stays alive for as long as it takes
        const before = faults.requests(heartbeat)
        yield* until(() => faults.requests(heartbeat) >= before + 5)
        expect(second.history).toEqual([])
        yield* Deferred.succeed(mayGo, undefined)
        expect(yield* first.told).toMatchObject({ _tag: "Assigned" })
        expect(yield* second.told).toMatchObject({ _tag: "Assigned" })
        yield* write(brokers, topic, ["last"])
        yield* write(brokers, topic, ["last"], 1)
        expect(values(yield* first.read(1))).toEqual(["last"])
        expect(values(yield* second.read(1))).toEqual(["last"])
        expect(first.history.filter((one) => one.startsWith("Lost"))).toEqual([])
      }))

    it.scopedLive("who leaves hands over at once", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers, { partitions: 2 })
        const group = groupName()
        const stays = yield* join(brokers, group, [topic])
        yield* stays.holding("0 1")
        // a session that would have to expire would outlast this test
        const [leaves, leave] = yield* closeable(
          join(brokers, group, [topic], { options: { sessionTimeout: 300_000 } })
        )
        expect(yield* leaves.told).toMatchObject({ _tag: "Assigned" })
        yield* leave
        yield* stays.holding("0 1")
      }))

    it.scopedLive("who is closed while it waits to join leaves no ghost", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        const group = groupName()
        const mayGo = yield* Deferred.make<void>()
        const holds = yield* join(brokers, group, [topic], { onRevoked: () => Deferred.await(mayGo) })
        yield* holds.holding("0")
        const [, leave] = yield* closeable(join(brokers, group, [topic], { options: { sessionTimeout: 300_000 } }))
        expect(yield* holds.told).toMatchObject({ _tag: "Revoked" })
        yield* leave
        yield* Deferred.succeed(mayGo, undefined)
        yield* holds.holding("0")
        const { groups } = yield* admin(brokers, (admin) => admin.describeGroups([group]))
        expect(groups[0]?.members.length).toBe(1)
      }))

    it.scopedLive("who is closed before it has heard the answer to its first request to join leaves no ghost", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers, { partitions: 2 })
        const group = groupName()
        // a group that waits for a ghost would outlast this test
        const options = { sessionTimeout: 300_000, rebalanceTimeout: 300_000 }
        const stays = yield* join(brokers, group, [topic], { options })
        yield* stays.holding("0 1")
        const faults = new Faults()
        faults.arm({ kind: "defer", times: 1, apiKey: joinGroup })
        const [, leave] = yield* closeable(
          join(brokers, group, [topic], { faults, options })
        )
        yield* until(() => faults.waiting > 0)
        const left = yield* Effect.fork(leave)
        yield* turn
        faults.release()
        yield* Fiber.join(left)
        const comes = yield* join(brokers, group, [topic], { options })
        expect((yield* comes.told).partitions.length).toBe(1)
      }))

    it.scopedLive("a member that the group gave up loses its partitions, can not commit, and joins anew", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        const group = groupName()
        const reader = yield* join(brokers, group, [topic])
        yield* reader.holding("0")
        const { memberId } = reader.session.groupMetadata()!
        yield* evict(brokers, group, memberId)
        const refused = yield* Effect.flip(reader.session.commit([{ topic, partition: 0, offset: 1n }]))
        expect(refused).toMatchObject({ retriable: false, error: { _tag: "CommitError", code: "UNKNOWN_MEMBER_ID" } })
        expect(yield* reader.told).toEqual({ _tag: "Lost", partitions: ["0"] })
        yield* reader.holding("0")
        yield* reader.session.commit([{ topic, partition: 0, offset: 1n }])
      }))

    it.scopedLive("partitions without demand are not fetched, and wait for nobody", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers, { partitions: 2 })
        yield* write(brokers, topic, numbers(3))
        yield* write(brokers, topic, numbers(3), 1)
        const reader = yield* join(brokers, groupName(), [topic])
        yield* reader.holding("0 1")
        const only = new Map([[key({ topic, partition: 1 }), { maxBytes: 1000 }]])
        const got: Array<number> = []
        for (let i = 0; i < 5; i++) {
          for (const one of yield* reader.session.poll(only, 100)) got.push(one.topicPartition.partition)
        }
        expect(got).toEqual([1])
      }))

    it.scopedLive("wake ends a poll that waits, or the next one", () =>
      Effect.gen(function*() {
        const reader = yield* open(brokers, groupName())
        const polling = yield* Effect.fork(reader.session.poll(new Map(), 600_000))
        yield* Effect.yieldNow()
        reader.session.wake()
        expect(yield* Fiber.join(polling)).toEqual([])
        reader.session.wake()
        expect(yield* reader.session.poll(new Map(), 600_000)).toEqual([])
      }))

    it.scopedLive("seek goes on from there, and drops what was on its way", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        yield* write(brokers, topic, numbers(5))
        const reader = yield* join(brokers, groupName(), [topic])
        yield* reader.holding("0")
        yield* reader.session.poll(new Map([[key({ topic, partition: 0 }), { maxBytes: 1000 }]]), 0)
        yield* reader.session.seek({ topic, partition: 0 }, 3n)
        expect(values(yield* reader.read(2))).toEqual(["v3", "v4"])
        yield* reader.session.seek({ topic, partition: 0 }, 0n)
        expect(values(yield* reader.read(5))).toEqual(numbers(5))
      }))

    it.scopedLive("a partition that has no position yet is read from where it is sought", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers, { partitions: 2 })
        yield* write(brokers, topic, numbers(3))
        yield* write(brokers, topic, numbers(3), 1)
        const reader = yield* join(brokers, groupName(), [topic], {
          from: ({ partition }) => partition === 0 ? 2n : undefined
        })
        yield* reader.holding("0 1")
        expect((yield* reader.read(1)).map(({ at }) => at)).toEqual(["0@2"])
        yield* reader.session.seek({ topic, partition: 1 }, 1n)
        expect((yield* reader.read(2)).map(({ at }) => at)).toEqual(["1@1", "1@2"])
      }))

    it.scopedLive("a position out of range is told, delivers nothing, and leaves the committed offset alone", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers, { partitions: 2 })
        const group = groupName()
        yield* write(brokers, topic, numbers(5))
        yield* write(brokers, topic, numbers(2), 1)
        yield* admin(brokers, async (admin) => {
          // kafkajs knows no leaders before
          await admin.fetchTopicOffsets(topic)
          await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "3" }] })
        })
        const reader = yield* join(brokers, group, [topic], { from: ({ partition }) => partition === 0 ? 1n : 0n })
        yield* reader.holding("0 1")
        yield* reader.commit({ 0: 1 })
        const seen: Array<string> = []
        while (seen.length < 2) {
          for (const one of yield* reader.poll) {
            seen.push(
              one._tag === "OutOfRange"
                ? `out of range at ${one.offset}`
                : `${one._tag} of ${one.topicPartition.partition}`
            )
          }
        }
        expect(seen.sort()).toEqual(["Chunk of 1", "out of range at 1"])
        const [earliest] = (yield* reader.session.offsets([{ topic, partition: 0 }], "earliest")).values()
        yield* reader.session.seek({ topic, partition: 0 }, earliest!)
        expect(values(yield* reader.read(2))).toEqual(["v3", "v4"])
        expect((yield* reader.session.committed([{ topic, partition: 0 }])).get(`${topic}:0`)?.offset).toBe(1n)
      }))

    it.scopedLive("aborted records are not seen, and the position passes the markers at the end", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        const tp = TopicPartition.make(topic, 0)
        const producer = yield* plainProducer(brokers, {
          idempotent: true,
          maxInFlightRequests: 1,
          transactionalId: groupName()
        })
        const transaction = (value: string, end: "commit" | "abort") =>
          Effect.promise(async () => {
            const begun = await producer.transaction()
            await begun.send({ topic, messages: [{ key: Buffer.alloc(4), value }] })
            await begun[end]()
          })
        yield* transaction("yes", "commit")
        yield* transaction("no", "abort")
        yield* transaction("also", "commit")
        yield* transaction("nor", "abort")
        const reader = yield* join(brokers, groupName(), [topic])
        yield* reader.holding("0")
        const seen: Array<string> = []
        let next = 0n
        while (next < 8n) {
          for (const one of yield* reader.poll) {
            if (one._tag !== "Chunk") continue
            next = one.nextOffset
            for (const raw of one.records) seen.push(Buffer.from(one.view.value(raw)!).toString())
          }
        }
        expect(seen).toEqual(["yes", "also"])
        const uncommitted = yield* join(brokers, groupName(), [topic], {
          options: { isolationLevel: "read_uncommitted" }
        })
        yield* uncommitted.holding("0")
        expect(values(yield* uncommitted.read(4))).toEqual(["yes", "no", "also", "nor"])

        // the end as each may see it, while a transaction is open
        const begun = yield* Effect.promise(() => producer.transaction())
        yield* Effect.promise(() => begun.send({ topic, messages: [{ value: "open" }] }))
        expect([...(yield* reader.session.offsets([tp], "latest")).values()]).toEqual([8n])
        expect([...(yield* uncommitted.session.offsets([tp], "latest")).values()]).toEqual([9n])
        yield* Effect.promise(() => begun.abort())
      }))

    it.scopedLive("offsets of the log: its ends, a time, and a time after the last record", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        const tp = TopicPartition.make(topic, 0)
        const producer = yield* plainProducer(brokers, {})
        yield* Effect.promise(() =>
          producer.send({
            topic,
            messages: [1000, 2000, 3000].map((timestamp) => ({ value: "v", timestamp: String(timestamp) }))
          })
        )
        const { session } = yield* open(brokers, groupName())
        const at = (spec: Parameters<typeof session.offsets>[1]) =>
          Effect.map(session.offsets([tp], spec), (offsets) => offsets.get(key(tp)))
        expect(yield* at("earliest")).toBe(0n)
        expect(yield* at("latest")).toBe(3n)
        expect(yield* at({ timestamp: 1500n })).toBe(1n)
        expect(yield* at({ timestamp: 3001n })).toBe(3n)
        expect(yield* session.partitionsFor(topic)).toEqual([0])
      }))

    it.scopedLive("what does not exist is said by name", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        const { session } = yield* open(brokers, groupName())
        const missing = `${topic}-missing`
        const unknown = { _tag: "UnknownTopicError", topic: missing }
        expect(yield* Effect.flip(session.subscribe({ _tag: "Topics", topics: new Set([topic, missing]) })))
          .toMatchObject(unknown)
        expect(yield* Effect.flip(session.partitionsFor(missing))).toMatchObject(unknown)
        expect(yield* Effect.flip(session.offsets([{ topic: missing, partition: 0 }], "latest"))).toMatchObject(unknown)
        expect(
          yield* Effect.flip(session.subscribe({ _tag: "Manual", partitions: [{ topic, partition: 1 }] }))
        ).toMatchObject({ _tag: "UnknownTopicError", topic, partition: 1 })
      }))

    it.scopedLive("where nobody listens, opening fails", () =>
      Effect.gen(function*() {
        const failure = yield* Effect.flip(
          open("127.0.0.1:1", groupName(), { config: { connectionTimeout: "1 second" } })
        )
        expect(failure).toMatchObject({ _tag: "KafkaConnectionError", brokers: ["127.0.0.1:1"] })
      }))

    it.scopedLive("another subscription settles what is held, and reads the other topics", () =>
      Effect.gen(function*() {
        const [one, two] = [yield* makeTopic(brokers), yield* makeTopic(brokers, { partitions: 3 })]
        const reader = yield* join(brokers, groupName(), [one])
        yield* reader.holding("0")
        yield* reader.session.subscribe({ _tag: "Topics", topics: new Set([one, two]) })
        expect(yield* reader.told).toEqual({ _tag: "Revoked", partitions: ["0"] })
        yield* reader.holding("0 0 1 2")
        yield* write(brokers, two, ["two"], 2)
        expect(values(yield* reader.read(1))).toEqual(["two"])
        yield* reader.session.subscribe({ _tag: "Topics", topics: new Set([two]) })
        yield* reader.holding("0 1 2")
      }))

    it.scopedLive("a pattern takes up new topics that match", () =>
      Effect.gen(function*() {
        const prefix = groupName()
        const create = (name: string) =>
          admin(brokers, (admin) =>
            admin.createTopics({ waitForLeaders: false, topics: [{ topic: `${prefix}${name}`, numPartitions: 1 }] }))
        const reader = yield* open(brokers, groupName(), { metadataInterval: 100 })
        yield* reader.session.subscribe({ _tag: "Pattern", pattern: new RegExp(`^${prefix}.*[ab]$`, "g") })
        yield* reader.holding("")
        yield* create("-a")
        yield* reader.holding("0")
        yield* create("-x")
        yield* create("-b")
        yield* reader.holding("0 0")
        yield* write(brokers, `${prefix}-b`, ["b"])
        expect(values(yield* reader.read(1))).toEqual(["b"])
      }))

    it.scopedLive("new partitions are shared out, after records in hand were settled", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        const reader = yield* join(brokers, groupName(), [topic], { metadataInterval: 100 })
        yield* reader.holding("0")
        yield* admin(brokers, (admin) => admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] }))
        expect(yield* reader.told).toEqual({ _tag: "Revoked", partitions: ["0"] })
        yield* reader.holding("0 1 2")
        expect(reader.history).toEqual(["Assigned 0", "Revoked 0", "Assigned 0 1 2"])
      }))

    it.scopedLive("given partitions are read without a group, and committed for it", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers, { partitions: 3 })
        const group = groupName()
        yield* write(brokers, topic, numbers(2), 1)
        yield* write(brokers, topic, numbers(2), 2)
        const reader = yield* open(brokers, group)
        yield* reader.session.subscribe({ _tag: "Manual", partitions: [{ topic, partition: 1 }] })
        expect(yield* reader.told).toEqual({ _tag: "Assigned", partitions: ["1"] })
        expect(values(yield* reader.read(2))).toEqual(["v0", "v1"])
        yield* reader.commit({ 1: 2 })
        yield* reader.session.subscribe({
          _tag: "Manual",
          partitions: [{ topic, partition: 1 }, { topic, partition: 2 }]
        })
        expect(yield* reader.told).toEqual({ _tag: "Assigned", partitions: ["2"] })
        expect((yield* reader.read(2)).map(({ at }) => at)).toEqual(["2@0", "2@1"])
        const refused = yield* Effect.flip(reader.session.subscribe({ _tag: "Topics", topics: new Set([topic]) }))
        expect(refused).toMatchObject({ _tag: "ConsumerError", reason: "subscription" })
        const offsets = yield* admin(brokers, (admin) => admin.fetchOffsets({ groupId: group, topics: [topic] }))
        expect(offsets[0]?.partitions.find(({ partition }) => partition === 1)?.offset).toBe("2")
      }))

    it.scopedLive("a topic that is deleted fails its own partitions alone", () =>
      Effect.gen(function*() {
        const [gone, stays] = [yield* makeTopic(brokers), yield* makeTopic(brokers)]
        const reader = yield* join(brokers, groupName(), [gone, stays])
        yield* reader.holding("0 0")
        yield* reader.poll
        yield* admin(brokers, (admin) => admin.deleteTopics({ topics: [gone] }))
        let failed: unknown
        while (failed === undefined) failed = (yield* reader.poll).find((one) => one._tag === "Failed")
        expect(failed).toMatchObject({ error: { _tag: "UnknownTopicError", topic: gone } })
        yield* write(brokers, stays, ["still"])
        expect(values(yield* reader.read(1))).toEqual(["still"])
      }))

    it.scopedLive("a session that died says why, and leaves its group to others", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        const group = groupName()
        const dead = yield* join(brokers, group, [topic], {
          options: { sessionTimeout: 300_000 },
          from: () => {
            throw new Error("on purpose")
          }
        })
        expect(yield* Effect.flip(Effect.forever(dead.poll))).toMatchObject({
          _tag: "ConsumerError",
          reason: "crashed",
          cause: new Error("on purpose")
        })
        const other = yield* join(brokers, group, [topic])
        yield* other.holding("0")
      }))

    it.scopedLive("after its scope was closed, whatever is asked fails", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(brokers)
        const [reader, close] = yield* closeable(join(brokers, groupName(), [topic]))
        yield* reader.holding("0")
        yield* close
        const closed = { _tag: "ConsumerError", reason: "closed" }
        expect(yield* Effect.flip(reader.session.poll(new Map(), 600_000))).toMatchObject(closed)
        expect(yield* Effect.flip(reader.session.subscribe({ _tag: "Topics", topics: new Set([topic]) })))
          .toMatchObject(closed)
        expect(yield* Effect.flip(reader.session.commit([{ topic, partition: 0, offset: 1n }])))
          .toMatchObject({ retriable: false, error: { _tag: "CommitError", reason: "closed" } })
      }))
  })
}
