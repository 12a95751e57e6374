import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { faults } from "../sessions/producerFaults.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { kafkajs } from "./sessions.ts"
import { Faults, makeTopic, plainProducer, readLog, values } from "./support.ts"

faults(kafkajs)

/** What plain kafkajs acknowledges. */
const acked = (send: Promise<unknown>): Promise<boolean> => send.then(() => true, () => false)

RealKafka.suite("plain kafkajs while connections break", ({ bootstrapServers }) => {
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
})
