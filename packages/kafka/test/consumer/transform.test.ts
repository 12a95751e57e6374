import { assert, describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Consumer from "../../src/Consumer.ts"
import { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import * as Producer from "../../src/Producer.ts"
import { broker, consumer, Orders, Runs, texts, write } from "./support.ts"

const live = Layer.merge(
  Producer.layer({ transactionalId: "biller", transactionTimeout: "10 seconds" }),
  consumer()
)

/** What a read-committed reader sees of the target. */
const written = Effect.map(
  Stream.runCollect(Consumer.streamUntil(Orders, "end")),
  (records) => Array.from(records, (one) => one.value)
).pipe(Effect.provide(consumer({ groupId: "reader" })))

const shout = (record: { readonly value: string }) => Effect.succeed({ key: null, value: record.value.toUpperCase() })

describe("Consumer.transform", () => {
  it.effect("writes what comes of each record, and commits the offsets with it", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(700))
      const fiber = yield* Effect.fork(Consumer.transform(Runs, shout, Orders))
      const kafka = yield* InMemoryBroker
      while ((yield* kafka.committed("group"))[0]?.offset !== 700n) yield* Effect.yieldNow()
      yield* Consumer.stop
      yield* Fiber.join(fiber)
      expect(yield* written).toEqual(texts(700).map((one) => one.toUpperCase()))
    }).pipe(Effect.provide(live), Effect.provide(broker(1))))

  it.effect("a record may become several, or none", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(4))
      const fiber = yield* Effect.fork(Consumer.transform(
        Runs,
        (record) =>
          Effect.succeed(
            record.offset % 2n === 0n
              ? undefined
              : ["a", "b"].map((suffix) => ({ key: null, value: record.value + suffix }))
          ),
        Orders
      ))
      const kafka = yield* InMemoryBroker
      while ((yield* kafka.committed("group"))[0]?.offset !== 4n) yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      expect(yield* written).toEqual(["value-1a", "value-1b", "value-3a", "value-3b"])
    }).pipe(Effect.provide(live), Effect.provide(broker(1))))

  it.effect("a failure aborts: nothing is seen of what was written, and nothing is committed", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      const exit = yield* Effect.exit(Consumer.transform(
        Runs,
        (record) => record.offset === 7n ? Effect.fail("no milk" as const) : shout(record),
        Orders
      ))
      expect(exit).toEqual(Exit.fail("no milk"))
      const kafka = yield* InMemoryBroker
      expect(yield* kafka.committed("group")).toEqual([])
      expect(yield* written).toEqual([])
    }).pipe(Effect.provide(live), Effect.provide(broker(1))))

  it.effect("interrupted in the middle it aborts, and who comes next counts each record once", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      const inside = yield* Deferred.make<void>()
      const first = yield* Effect.fork(Consumer.transform(
        Runs,
        (record) =>
          record.offset === 5n ? Effect.zipRight(Deferred.succeed(inside, undefined), Effect.never) : shout(record),
        Orders
      ))
      yield* Deferred.await(inside)
      yield* Fiber.interrupt(first)
      const second = yield* Effect.fork(Consumer.transform(Runs, shout, Orders))
      const kafka = yield* InMemoryBroker
      while ((yield* kafka.committed("group"))[0]?.offset !== 10n) yield* TestClock.adjust("100 millis")
      yield* Fiber.interrupt(second)
      expect(yield* written).toEqual(texts(10).map((one) => one.toUpperCase()))
    }).pipe(Effect.provide(live), Effect.provide(broker(1))))

  it.effect("refuses a producer whose transactions may outlive the consumer's session, before anything is read", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      const refused = Consumer.transform(Runs, shout, Orders).pipe(
        Effect.provide(Producer.layer({ transactionalId: "biller", transactionTimeout: "12 seconds" })),
        Effect.provide(consumer({ sessionTimeout: "12 seconds" })),
        Effect.flip
      )
      const error = yield* refused
      assert(error._tag === "TransactionError")
      expect([error.reason, error.transactionTimeout, error.sessionTimeout]).toEqual([
        "outlives-session",
        12_000,
        12_000
      ])
      expect(error.message).toContain("lower the first or raise the second")
      const kafka = yield* InMemoryBroker
      expect(yield* kafka.committed("group")).toEqual([])
      expect(yield* written).toEqual([])
    }).pipe(Effect.provide(broker(1))))

  it.effect("refuses a producer that has no transactional id, before anything is read", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Consumer.transform(Runs, shout, Orders))
      assert(error._tag === "TransactionError")
      expect(error.reason).toBe("not-transactional")
    }).pipe(Effect.provide(Layer.merge(Producer.layer(), consumer())), Effect.provide(broker(1))))

  it.effect("takes the defaults of producer and consumer together", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      const fiber = yield* Effect.fork(Consumer.transform(Runs, shout, Orders))
      const kafka = yield* InMemoryBroker
      while ((yield* kafka.committed("group"))[0]?.offset !== 3n) yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      expect(yield* written).toEqual(texts(3).map((one) => one.toUpperCase()))
    }).pipe(
      Effect.provide(Layer.merge(Producer.layer({ transactionalId: "biller" }), Consumer.layer({ groupId: "group" }))),
      Effect.provide(broker(1))
    ))
})
