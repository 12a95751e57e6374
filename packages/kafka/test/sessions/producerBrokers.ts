/** A producer's session to two brokers, one of which is slow, frozen or gone. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { apiKeys, batch, Faults, makeTopic, readLog, send, summary, values } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import type { Sessions } from "./Sessions.ts"
export class TwoBrokers extends Context.Tag("TwoBrokers")<TwoBrokers, {
  readonly brokers: string
  readonly port: (nodeId: number) => number
  readonly kafka: RealKafka.OwnKafka
}>() {
  static readonly layer = Layer.scoped(
    TwoBrokers,
    Effect.map(RealKafka.start({ brokers: 2 }), (kafka) => ({
      brokers: kafka.bootstrapServers,
      port: (nodeId: number) => Number(kafka.broker(nodeId).address.split(":")[1]),
      kafka
    }))
  )
}

/** Until so many requests of this kind have been sent. */
const sent = (faults: Faults, apiKey: number, count: number): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const look = () => faults.requests(apiKey) >= count ? resume(Effect.void) : setImmediate(look)
    look()
  })

/** Broker 1 does what it is asked and is not heard, while broker 2 takes its time. */
export const oneFailsWhileOneIsSlow = (faults: Faults, port: (nodeId: number) => number, send: Effect.Effect<void>) =>
  Effect.gen(function*() {
    const before = faults.requests(apiKeys.produce)
    faults.arm({ kind: "hold", times: 1, port: port(2) })
    faults.arm({ kind: "lose", times: 1, port: port(1) })
    const sending = yield* Effect.fork(send)
    // the one whose answer was lost, and the same again
    yield* sent(faults, apiKeys.produce, before + 2)
    faults.release()
    yield* Fiber.join(sending)
  })

export const brokers = ({ name, open }: Sessions): void => {
  RealKafka.suiteOfOwn(`producing through ${name} to two brokers`, () => {
    layer(TwoBrokers.layer, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
      it.scoped("where one broker's connection breaks, every record is stored once", () =>
        Effect.gen(function*() {
          const { brokers, port } = yield* TwoBrokers
          const faults = new Faults()
          const topic = yield* makeTopic(brokers, { leaders: [1, 2, 1, 2, 1, 2] })
          const session = yield* open(brokers, {}, faults)
          const all: Array<string> = []
          for (const kind of ["cut", "lose"] as const) {
            for (const nodeId of [1, 2]) {
              faults.arm({ kind, times: 1, port: port(nodeId) })
              const names = [0, 1, 2, 3, 4, 5].map((p) => ["a", "b", "c"].map((one) => `${kind}-${nodeId}-${p}-${one}`))
              const results = yield* send(session, names.map((values, p) => batch(topic, p, ...values)))
              expect(results.map((one) => one._tag)).toEqual(results.map(() => "Stored"))
              all.push(...names.flat())
            }
          }
          expect(faults.fired).toBe(4)
          expect([...values(yield* readLog(brokers, topic))].sort()).toEqual(all.sort())
        }))

      it.scoped("where one broker's answer is lost while the other is slow, every record is stored once", () =>
        Effect.gen(function*() {
          const { brokers, port } = yield* TwoBrokers
          const faults = new Faults()
          const topic = yield* makeTopic(brokers, { leaders: [1, 2] })
          const session = yield* open(brokers, {}, faults)
          yield* send(session, [batch(topic, 0, "w0"), batch(topic, 1, "w1")])
          const results: Array<string> = []
          yield* oneFailsWhileOneIsSlow(
            faults,
            port,
            Effect.map(send(session, [batch(topic, 0, "a0"), batch(topic, 1, "a1")]), (all) => {
              results.push(...summary(all))
            })
          )
          expect(results).toEqual(["stored@1", "stored@1"])
          expect(values(yield* readLog(brokers, topic))).toEqual(["w0", "a0", "w1", "a1"])
        }))

      it.scoped("a broker that is slow holds up its own partitions alone", () =>
        Effect.gen(function*() {
          const { brokers, port } = yield* TwoBrokers
          const faults = new Faults()
          const topic = yield* makeTopic(brokers, { leaders: [1, 2, 1, 2] })
          const session = yield* open(brokers, {}, faults)
          yield* send(session, [0, 1, 2, 3].map((p) => batch(topic, p, `w${p}`)))
          faults.arm({ kind: "hold", times: 1, port: port(2) })
          const slow = batch(topic, 1, "slow")
          expect(summary(yield* session.send([batch(topic, 0, "a"), slow]))).toEqual([
            "stored@1",
            "pending: KafkaTimeoutError"
          ])
          // it is asked about, what is new for its broker has to wait, and what is not goes on
          expect(
            summary(yield* session.send([slow, batch(topic, 3, "b"), batch(topic, 2, "c")]))
          ).toEqual(["pending: KafkaTimeoutError", "retry: KafkaTimeoutError", "stored@1"])
          // nothing overtakes it, whoever sent it has forgotten it or not
          expect(summary(yield* session.send([batch(topic, 1, "later")]))).toEqual(["retry: KafkaTimeoutError"])
          faults.release()
          expect(summary(yield* send(session, [slow]))).toEqual(["stored@1"])
          expect(summary(yield* send(session, [batch(topic, 1, "later"), batch(topic, 3, "b")]))).toEqual([
            "stored@2",
            "stored@1"
          ])
          expect(values(yield* readLog(brokers, topic))).toEqual([
            ...["w0", "a"],
            ...["w1", "slow", "later"],
            ...["w2", "c"],
            ...["w3", "b"]
          ])
        }))

      it.scoped("what is pending is stored once, though its answer is lost, and nobody asks about it", () =>
        Effect.gen(function*() {
          const { brokers, port } = yield* TwoBrokers
          const faults = new Faults()
          const topic = yield* makeTopic(brokers, { leaders: [2] })
          const session = yield* open(brokers, {}, faults)
          yield* send(session, [batch(topic, 0, "w")])
          faults.arm({ kind: "hold", times: 1, port: port(2) })
          expect(summary(yield* session.send([batch(topic, 0, "forgotten")]))).toEqual(["pending: KafkaTimeoutError"])
          yield* Effect.promise(() => faults.cutAll())
          faults.drop()
          expect(summary(yield* send(session, [batch(topic, 0, "next")]))).toEqual(["stored@2"])
          expect(values(yield* readLog(brokers, topic))).toEqual(["w", "forgotten", "next"])
        }))

      it.scoped("a broker that is away holds up its own partitions alone", () =>
        Effect.gen(function*() {
          const { brokers, kafka } = yield* TwoBrokers
          const topic = yield* makeTopic(brokers, { leaders: [1, 2] })
          const session = yield* open(brokers, { requestTimeout: 2000, deliveryTimeout: 5000 })
          yield* send(session, [batch(topic, 0, "a0"), batch(topic, 1, "a1")])
          yield* kafka.broker(2).kill
          const away = yield* session.send([batch(topic, 0, "b0"), batch(topic, 1, "b1")])
          expect(summary(away)).toEqual(["stored@1", expect.stringMatching(/^retry/)])
          yield* kafka.broker(2).start
          expect(summary(yield* send(session, [batch(topic, 1, "c1")]))).toEqual(["stored@1"])
        }))
    })
  })
}
