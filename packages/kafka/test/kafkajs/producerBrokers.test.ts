import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Suite from "../sessions/producerBrokers.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { kafkajs } from "./sessions.ts"
import { Faults, makeTopic, plainProducer, readLog, values } from "./support.ts"

Suite.brokers(kafkajs)

RealKafka.suiteOfOwn("plain kafkajs to two brokers", () => {
  layer(Suite.TwoBrokers.layer, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    it.scoped("plain kafkajs loses and doubles records that it was told no partition for", () =>
      Effect.gen(function*() {
        const { brokers, port } = yield* Suite.TwoBrokers
        // where it begins to spread records is chance, and so is which of them it loses
        let lost = 0
        for (let turn = 0; turn < 10 && lost === 0; turn++) {
          const faults = new Faults()
          const topic = yield* makeTopic(brokers, { leaders: [1, 2, 1, 2, 1, 2] })
          const producer = yield* plainProducer(brokers, { idempotent: true }, faults)
          faults.arm({ kind: "cut", times: 1, port: port(2) })
          const messages = Array.from({ length: 31 }, (_, i) => ({ value: `m${i}` }))
          const sent = yield* Effect.either(Effect.tryPromise(() => producer.send({ topic, messages })))
          if (sent._tag === "Right") lost = 31 - new Set(values(yield* readLog(brokers, topic))).size
        }
        expect(lost).toBeGreaterThan(0)
      }))

    it.scoped("plain kafkajs doubles the records of the slow broker", () =>
      Effect.gen(function*() {
        const { brokers, port } = yield* Suite.TwoBrokers
        const faults = new Faults()
        const topic = yield* makeTopic(brokers, { leaders: [1, 2] })
        const producer = yield* plainProducer(brokers, { idempotent: true, retry: { initialRetryTime: 10 } }, faults)
        const sendPlain = (name: string) =>
          Effect.promise(() =>
            producer.send({
              topic,
              messages: [{ value: `${name}0`, partition: 0 }, { value: `${name}1`, partition: 1 }]
            })
          )
        yield* sendPlain("w")
        yield* Suite.oneFailsWhileOneIsSlow(faults, port, Effect.asVoid(sendPlain("a")))
        expect(values(yield* readLog(brokers, topic))).toEqual(["w0", "a0", "w1", "a1", "a1"])
      }))
  })
})
