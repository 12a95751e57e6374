/** A producer's session while connections break. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { apiKeys, batch, Faults, makeTopic, readLog, send, summary, values } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import type { Sessions } from "./Sessions.ts"
export const faults = ({ name, open }: Sessions): void => {
  RealKafka.suite(`producing through ${name} while connections break`, ({ bootstrapServers }) => {
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

    it.scopedLive("one attempt is one request", () =>
      Effect.gen(function*() {
        const faults = new Faults()
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers, { idempotent: false }, faults)
        faults.arm({ kind: "lose", times: 1000 })
        expect(summary(yield* send(session, [batch(topic, 0, "A")]))).toEqual(["unknown: KafkaConnectionError"])
        expect(faults.requests(apiKeys.produce)).toBe(1)
      }))
  })
}
