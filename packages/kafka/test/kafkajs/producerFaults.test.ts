import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as RealKafka from "../support/RealKafka.ts"
import { apiKeys, batch, Faults, makeTopic, open, plainProducer, readLog, send, summary, values } from "./support.ts"

/** What plain kafkajs acknowledges. */
const acked = (send: Promise<unknown>): Promise<boolean> => send.then(() => true, () => false)

RealKafka.suite("producing through kafkajs while connections break", ({ bootstrapServers }) => {
  it.scopedLive("a batch whose answer is lost is stored once, and the next one after it", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers)
      const session = yield* open(bootstrapServers, {}, faults)
      faults.arm({ kind: "lose", times: 1 })
      expect(summary(yield* send(session, [batch(topic, 0, "A")]))).toEqual(["stored@0"])
      expect(summary(yield* send(session, [batch(topic, 0, "B")]))).toEqual(["stored@1"])
      expect(faults.fired).toBe(1)
      expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["A", "B"])
    }))

  it.scopedLive("plain kafkajs loses one of two idempotent sends under way, and doubles the other", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers)
      const producer = yield* plainProducer(bootstrapServers, { idempotent: true }, faults)
      const sendPlain = (value: string) => acked(producer.send({ topic, messages: [{ value, partition: 0 }] }))
      yield* Effect.promise(() => sendPlain("warm"))
      faults.arm({ kind: "lose", times: 1 })
      const acks = yield* Effect.promise(() => Promise.all([sendPlain("A"), sendPlain("B")]))
      const log = values(yield* readLog(bootstrapServers, topic))
      expect(acks).toEqual([true, true])
      expect(log).not.toEqual(["warm", "A", "B"])
    }))

  it.scopedLive("a batch that was never sent is stored when it is sent again", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers)
      const session = yield* open(bootstrapServers, {}, faults)
      faults.arm({ kind: "cut", times: 2 })
      expect(summary(yield* send(session, [batch(topic, 0, "A")]))).toEqual(["stored@0"])
      expect(faults.fired).toBe(2)
      expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["A"])
    }))

  it.scopedLive("a batch whose answers are lost until the delivery timeout is said to be unknown, and spoils nothing after it", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers)
      const session = yield* open(bootstrapServers, { deliveryTimeout: 1000, requestTimeout: 500 }, faults)
      faults.arm({ kind: "lose", times: 1000 })
      expect(summary(yield* send(session, [batch(topic, 0, "A")]))).toEqual(["unknown: ProducerError"])
      faults.disarm()
      expect(summary(yield* send(session, [batch(topic, 0, "B")]))).toEqual(["stored@1"])
      expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["A", "B"])
    }))

  it.scopedLive("plain kafkajs acknowledges a record after such a batch, and never stores it", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers)
      const producer = yield* plainProducer(bootstrapServers, {
        idempotent: true,
        retry: { retries: 1, initialRetryTime: 50 }
      }, faults)
      const sendPlain = (value: string) => acked(producer.send({ topic, messages: [{ value, partition: 0 }] }))
      yield* Effect.promise(() => sendPlain("warm"))
      faults.arm({ kind: "lose", times: 2 })
      const first = yield* Effect.promise(() => sendPlain("A"))
      faults.disarm()
      const second = yield* Effect.promise(() => sendPlain("B"))
      expect([first, second]).toEqual([false, true])
      expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["warm", "A"])
    }))

  it.scopedLive("records stay in their partitions when they are sent again", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers, { partitions: 6 })
      const session = yield* open(bootstrapServers, {}, faults)
      const batches = Array.from({ length: 6 }, (_, p) => batch(topic, p, `${p}-1`, `${p}-2`, `${p}-3`))
      faults.arm({ kind: "lose", times: 3 })
      expect(summary(yield* send(session, batches))).toEqual(batches.map(() => "stored@0"))
      const log = yield* readLog(bootstrapServers, topic)
      expect(log.map((one) => `${one.partition} ${one.value}`)).toEqual(
        batches.flatMap((_, p) => [`${p} ${p}-1`, `${p} ${p}-2`, `${p} ${p}-3`])
      )
    }))

  it.scopedLive("one attempt of ours is one request of kafkajs", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers)
      const session = yield* open(bootstrapServers, { idempotent: false }, faults)
      faults.arm({ kind: "lose", times: 1000 })
      expect(summary(yield* send(session, [batch(topic, 0, "A")]))).toEqual(["unknown: KafkaConnectionError"])
      expect(faults.requests(apiKeys.produce)).toBe(1)
    }))
})
