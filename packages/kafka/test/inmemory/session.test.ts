import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import { KafkaClient } from "../../src/KafkaClient.ts"
import { open, producerOptions, record, settle } from "./fixtures.ts"

const setup = (partitions: number) =>
  Effect.gen(function*() {
    const client = yield* KafkaClient
    const admin = yield* client.openAdmin
    yield* admin.createTopics([{ topic: "t", partitions, replicationFactor: 1, config: {} }])
    return { client, admin, producer: yield* client.openProducer(producerOptions) }
  })

describe("sessions", () => {
  it.scoped("a consumer reads what a producer sent, in order, and goes on from what it committed", () =>
    Effect.gen(function*() {
      const { client, producer } = yield* setup(1)
      yield* producer.send([{ topic: "t", partition: 0, records: [record("a"), record("b")] }])
      yield* Effect.scoped(Effect.gen(function*() {
        const one = yield* open(client)
        yield* one.session.subscribe({ _tag: "Topics", topics: new Set(["t"]) })
        yield* settle
        assert.deepStrictEqual(yield* one.poll(), ["a", "b"])
        yield* one.session.commit([{ topic: "t", partition: 0, offset: 1n }])
      }))
      const two = yield* open(client)
      yield* two.session.subscribe({ _tag: "Topics", topics: new Set(["t"]) })
      yield* settle
      assert.deepStrictEqual(yield* two.poll(), ["b"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a waiting poll ends as soon as a record arrives, and at its time otherwise", () =>
    Effect.gen(function*() {
      const { client, producer } = yield* setup(1)
      const one = yield* open(client)
      yield* one.session.subscribe({ _tag: "Topics", topics: new Set(["t"]) })
      yield* settle
      const waiting = yield* Effect.fork(one.poll(1000))
      yield* settle
      yield* producer.send([{ topic: "t", partition: 0, records: [record("a")] }])
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["a"])
      const again = yield* Effect.fork(one.poll(1000))
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(yield* Fiber.join(again), [])
      const woken = yield* Effect.fork(one.poll(1000))
      yield* settle
      one.session.wake()
      assert.deepStrictEqual(yield* Fiber.join(woken), [])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  for (const assignment of ["eager", "cooperative"] as const) {
    it.scoped(`${assignment}: partitions are shared when a member joins and taken over when it leaves`, () =>
      Effect.gen(function*() {
        const { client } = yield* setup(4)
        const one = yield* open(client, { assignment })
        yield* one.session.subscribe({ _tag: "Topics", topics: new Set(["t"]) })
        yield* settle
        assert.strictEqual(one.owned.size, 4)
        yield* Effect.scoped(Effect.gen(function*() {
          const two = yield* open(client, { assignment })
          yield* two.session.subscribe({ _tag: "Topics", topics: new Set(["t"]) })
          yield* TestClock.adjust(9000)
          assert.deepStrictEqual([one.owned.size, two.owned.size], [2, 2])
          assert.strictEqual(new Set([...one.owned, ...two.owned]).size, 4)
        }))
        yield* TestClock.adjust(3000)
        assert.strictEqual(one.owned.size, 4)
        assert.deepStrictEqual(
          one.log,
          assignment === "eager"
            ? [
              "assigned t:0,t:1,t:2,t:3",
              "revoked t:0,t:1,t:2,t:3",
              "assigned t:0,t:2",
              "revoked t:0,t:2",
              "assigned t:0,t:1,t:2,t:3"
            ]
            : [
              "assigned t:0,t:1,t:2,t:3",
              "revoked t:2,t:3",
              "assigned ",
              "assigned ",
              "assigned t:2,t:3"
            ]
        )
      }).pipe(Effect.provide(InMemoryKafka.layer)))
  }
})
