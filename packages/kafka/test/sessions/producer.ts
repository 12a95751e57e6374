/** A producer's session on a broker that is well. */
import { expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { BatchResult } from "../../src/KafkaClient.ts"
import { batch, Faults, makeTopic, plain, readLog, record, send, summary, values } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import type { Sessions } from "./Sessions.ts"
const failure = (result: BatchResult | undefined) => {
  if (result?._tag !== "Failed") throw new Error("expected a failure")
  return result
}

const deleteTopic = (brokers: string, topic: string): Effect.Effect<void> =>
  Effect.promise(async () => {
    const admin = plain(brokers).admin()
    await admin.connect()
    await admin.deleteTopics({ topics: [topic] })
    await admin.disconnect()
  })

const addPartitions = (brokers: string, topic: string, count: number): Effect.Effect<void> =>
  Effect.promise(async () => {
    const admin = plain(brokers).admin()
    await admin.connect()
    await admin.createPartitions({ topicPartitions: [{ topic, count }] })
    await admin.disconnect()
  })

export const producing = ({ name, open, tryOpen }: Sessions): void => {
  RealKafka.suite(`producing through ${name}`, ({ bootstrapServers }) => {
    it.scopedLive("offsets go on where they were, for each partition", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers, { partitions: 2 })
        const session = yield* open(bootstrapServers)
        expect(summary(yield* send(session, [batch(topic, 0, "a", "b"), batch(topic, 1, "c")]))).toEqual([
          "stored@0",
          "stored@0"
        ])
        expect(summary(yield* send(session, [batch(topic, 1, "d"), batch(topic, 0, "e")]))).toEqual([
          "stored@1",
          "stored@2"
        ])
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a", "b", "e", "c", "d"])
      }))

    it.scopedLive("keys, values, headers and timestamps arrive as they were given", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers)
        const bytes = (text: string) => new TextEncoder().encode(text)
        const view = bytes("__key__").subarray(2, 5)
        yield* send(session, [{
          topic,
          partition: 0,
          records: [
            record("v", { key: view, timestamp: 1_700_000_000_000n }),
            record(null, { key: bytes("k"), timestamp: 999n }),
            record("", {
              timestamp: 1000n,
              headers: [["b", bytes("1")], ["a", null], ["b", bytes("2")], ["1", bytes("")]]
            })
          ]
        }])
        const kafka = plain(bootstrapServers)
        const consumer = kafka.consumer({ groupId: `read-${topic}`, maxWaitTimeInMs: 50 })
        const read = yield* Effect.promise(async () => {
          await consumer.connect()
          await consumer.subscribe({ topics: [topic], fromBeginning: true })
          const out: Array<unknown> = []
          await new Promise<void>((resolve) => {
            void consumer.run({
              eachBatch: async ({ batch }) => {
                for (const { headers, key, timestamp, value } of batch.messages) {
                  out.push({
                    key: key?.toString(),
                    value: value?.toString(),
                    timestamp,
                    headers: Object.entries(headers ?? {}).map(([name, values]) => [
                      name,
                      ...[values].flat().map((one) => one === null ? null : String(one))
                    ])
                  })
                }
                if (out.length === 3) resolve()
              }
            })
          })
          await consumer.disconnect()
          return out
        })
        expect(read).toEqual([
          { key: "key", value: "v", timestamp: "1700000000000", headers: [] },
          { key: "k", value: undefined, timestamp: "999", headers: [] },
          { key: undefined, value: "", timestamp: "1000", headers: [["1", ""], ["b", "1", "2"], ["a", null]] }
        ])
      }))

    it.scopedLive("a batch that is too large fails alone", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers, { partitions: 5, config: { "max.message.bytes": "2000" } })
        const session = yield* open(bootstrapServers)
        const large = "x".repeat(3000)
        const results = yield* send(
          session,
          [0, 1, 2, 3, 4].map((p) => batch(topic, p, p === 3 ? large : `small-${p}`))
        )
        expect(summary(results)).toEqual([
          "stored@0",
          "stored@0",
          "stored@0",
          "refuse: ProducerError",
          "stored@0"
        ])
        expect(failure(results[3]).error).toMatchObject({ reason: "too-large", topic, partition: 3 })
        expect(summary(yield* send(session, [batch(topic, 3, "fits"), batch(topic, 0, "next")]))).toEqual([
          "stored@0",
          "stored@1"
        ])
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual([
          "small-0",
          "next",
          "small-1",
          "small-2",
          "fits",
          "small-4"
        ])
      }))

    it.scopedLive("a topic or partition that does not exist fails alone, and at once", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers)
        const results = yield* send(session, [
          batch("does-not-exist", 0, "a"),
          batch(topic, 0, "b"),
          batch(topic, 7, "c"),
          batch(topic, -1, "d")
        ])
        expect(summary(results)).toEqual([
          "refuse: UnknownTopicError",
          "stored@0",
          "refuse: UnknownTopicError",
          "refuse: UnknownTopicError"
        ])
        expect(failure(results[2]).error).toMatchObject({ topic, partition: 7 })
        expect(yield* Effect.flip(session.partitionCount("does-not-exist"))).toMatchObject({
          _tag: "UnknownTopicError"
        })
      }))

    it.scopedLive("a topic that is deleted fails alone, and spoils no other", () =>
      Effect.gen(function*() {
        const gone = yield* makeTopic(bootstrapServers)
        const stays = yield* makeTopic(bootstrapServers)
        const comes = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers)
        yield* send(session, [batch(gone, 0, "a"), batch(stays, 0, "a")])
        yield* deleteTopic(bootstrapServers, gone)
        expect(summary(yield* send(session, [batch(stays, 0, "b"), batch(comes, 0, "b")]))).toEqual([
          "stored@1",
          "stored@0"
        ])
        const results = yield* send(session, [batch(gone, 0, "c"), batch(stays, 0, "c")])
        expect(summary(results)).toEqual(["refuse: UnknownTopicError", "stored@2"])
      }))

    it.scopedLive("a partition that was added is found", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers)
        expect(yield* session.partitionCount(topic)).toBe(1)
        yield* send(session, [batch(topic, 0, "a")])
        yield* addPartitions(bootstrapServers, topic, 2)
        expect(summary(yield* send(session, [batch(topic, 1, "b")]))).toEqual(["stored@0"])
        expect(yield* session.partitionCount(topic)).toBe(2)
      }))

    it.scopedLive("a partition that was added is counted at once, however lately its topic was looked up", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers)
        const other = yield* open(bootstrapServers)
        expect(yield* session.partitionCount(topic)).toBe(1)
        yield* addPartitions(bootstrapServers, topic, 2)
        // from here on the broker knows of it
        expect(summary(yield* send(other, [batch(topic, 1, "a")]))).toEqual(["stored@0"])
        expect(yield* session.partitionCount(topic)).toBe(2)
      }))

    it.scopedLive("with acks none or of the leader alone records are stored too", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const leader = yield* open(bootstrapServers, { acks: "leader", idempotent: false })
        expect(summary(yield* send(leader, [batch(topic, 0, "a")]))).toEqual(["stored@0"])
        const none = yield* open(bootstrapServers, { acks: "none", idempotent: false })
        expect(summary(yield* send(none, [batch(topic, 0, "b")]))).toEqual(["stored@-1"])
        // what is acknowledged comes after what is not, on the same connection
        yield* none.partitionCount(topic)
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a", "b"])
      }))

    it.scopedLive("the broker's time is told where the topic stamps records with it", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers, { config: { "message.timestamp.type": "LogAppendTime" } })
        const session = yield* open(bootstrapServers)
        const [stored] = yield* send(session, [{ topic, partition: 0, records: [record("a", { timestamp: 1n })] }])
        expect(stored).toMatchObject({ _tag: "Stored", logAppendTime: expect.any(BigInt) })
      }))

    it.scopedLive("gzip is read back", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers, { compression: "gzip" })
        expect(summary(yield* send(session, [batch(topic, 0, "a", "b")]))).toEqual(["stored@0"])
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a", "b"])
      }))

    it.live("closing leaves no connection behind", () =>
      Effect.gen(function*() {
        const faults = new Faults()
        const topic = yield* makeTopic(bootstrapServers)
        const scope = yield* Scope.make()
        const session = yield* Scope.extend(open(bootstrapServers, {}, faults), scope)
        yield* session.partitionCount(topic)
        yield* send(session, [batch(topic, 0, "a")])
        expect(faults.open.size).toBeGreaterThan(0)
        yield* Scope.close(scope, Exit.void)
        yield* Effect.promise(() => faults.allClosed())
        expect(faults.open.size).toBe(0)
      }))
  })

  it.scopedLive(`${name}: where no broker listens, opening fails in time and says where it tried`, () =>
    Effect.gen(function*() {
      const [took, error] = yield* Effect.timed(Effect.flip(tryOpen("127.0.0.1:1")))
      expect(error).toMatchObject({ _tag: "KafkaConnectionError", brokers: ["127.0.0.1:1"] })
      expect(error.message).toContain("connection refused")
      expect(Duration.toSeconds(took)).toBeLessThan(5)
    }))
}
