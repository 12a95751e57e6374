import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as Consumer from "../../src/Consumer.ts"
import { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import { broker, consumer, Runs, texts, write } from "./support.ts"

describe("Consumer.forEach", () => {
  it.effect("handles every record in order and commits what is done when it is stopped", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(1000))
      const seen: Array<string> = []
      const all = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(Consumer.forEach(Runs, (record) => {
        seen.push(record.value)
        return seen.length === 1000 ? Deferred.succeed(all, undefined) : Effect.void
      }))
      yield* Deferred.await(all)
      yield* Consumer.stop
      yield* Fiber.join(fiber)
      expect(seen).toEqual(texts(1000))
      const kafka = yield* InMemoryBroker
      expect(yield* kafka.committed("group")).toEqual([{ topic: "runs", partition: 0, offset: 1000n }])
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("commits only up to the first record that is not done", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      const others = yield* Deferred.make<void>()
      let done = 0
      const fiber = yield* Effect.fork(Consumer.forEach(
        Runs,
        (record) =>
          record.offset === 3n
            ? Effect.never
            : Effect.suspend(() => ++done === 9 ? Deferred.succeed(others, undefined) : Effect.void),
        { concurrency: 4, ordering: "unordered", gracePeriod: 0 }
      ))
      yield* Deferred.await(others)
      yield* Effect.fork(Consumer.stop)
      yield* Effect.yieldNow()
      const kafka = yield* InMemoryBroker
      yield* Fiber.join(fiber)
      expect(yield* kafka.committed("group")).toEqual([{ topic: "runs", partition: 0, offset: 3n }])
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("begins nothing once the group may have given it up, and goes on when a heartbeat says that it has not", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(30))
      const seen: Array<string> = []
      yield* Effect.fork(Consumer.forEach(Runs, (record) => {
        seen.push(record.value)
        return Effect.sleep("1 second")
      }))
      yield* TestClock.adjust("2 seconds")
      const kafka = yield* InMemoryBroker
      // the coordinator hears them, and this process does not hear its answers, as one that stands still
      const lost = yield* kafka.failNext("heartbeat", 10, "response-lost")
      yield* TestClock.adjust("5 seconds")
      const begun = seen.length
      expect(begun).toBeGreaterThanOrEqual(7)
      yield* TestClock.adjust("2 seconds")
      const paused = seen.length
      expect(paused).toBeLessThanOrEqual(begun + 2)
      yield* TestClock.adjust("2 seconds")
      expect(seen.length).toBe(paused)
      yield* TestClock.adjust("1 minute")
      expect(yield* lost.fired).toBe(10)
      expect(seen).toEqual(texts(30))
    }).pipe(
      Effect.provide(consumer({ sessionTimeout: "6 seconds", heartbeatInterval: "1 second" })),
      Effect.provide(broker(1))
    ))

  it.effect("in the gate of a rebalance that outlasts the session, what others have passed over is still begun", () =>
    Effect.gen(function*() {
      const kafka = yield* InMemoryBroker
      const keys = ["slow", "slow", ...Array.from({ length: 10 }, (_, index) => `fast-${index}`)]
      yield* kafka.produce({ topic: "runs", partition: 0 }, keys.map((key) => ({ key, value: key })))
      const seen: Array<bigint> = []
      const fiber = yield* Effect.fork(Consumer.forEach(Runs, (record) => {
        seen.push(record.offset)
        return Effect.sleep(record.offset === 0n ? "15 seconds" : "1 second")
      }, { concurrency: 2, ordering: "key" }))
      yield* TestClock.adjust("3 seconds")
      yield* Effect.fork(kafka.rebalance("group"))
      yield* TestClock.adjust("14 seconds")
      expect(seen).toContain(1n)
      yield* TestClock.adjust("20 seconds")
      expect([...seen].sort((a, b) => Number(a - b))).toEqual(keys.map((_, index) => BigInt(index)))
      yield* Effect.fork(Consumer.stop)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
    }).pipe(
      Effect.provide(consumer({
        sessionTimeout: "6 seconds",
        heartbeatInterval: "1 second",
        rebalanceProtocol: "eager"
      })),
      Effect.provide(broker(1))
    ))

  it.effect("a handler's failure is its own, and what was done before it is committed", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      const exit = yield* Effect.exit(Consumer.forEach(
        Runs,
        (record) => record.offset === 5n ? Effect.fail("no milk" as const) : Effect.void
      ))
      expect(exit).toEqual(Exit.fail("no milk"))
      const kafka = yield* InMemoryBroker
      expect(yield* kafka.committed("group")).toEqual([{ topic: "runs", partition: 0, offset: 5n }])
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect.each<readonly [options: Consumer.ForEachOptions, reason: RegExp]>([
    [{ concurrency: 0 }, /concurrency must be a whole number above zero, and is 0/],
    [{ commitCount: Number.NaN, maxAhead: 0 }, /commitCount .* is NaN; maxAhead .* is 0/],
    [{ commitWithin: -1 }, /commitWithin must be a duration of at least zero, and is -1/],
    [{ gracePeriod: Number.NaN }, /gracePeriod must be a duration of at least zero, and is NaN/]
  ])(
    "options that make no sense are refused before anything is read (%#)",
    ([options, reason]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Consumer.forEach(Runs, () => Effect.void, options))
        expect(error).toMatchObject({ _tag: "ConsumerError", reason: "subscription" })
        expect(error.message).toMatch(reason)
      }).pipe(Effect.provide(consumer()), Effect.provide(broker(1)))
  )

  it.effect("commits by time alone where no count is too many", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      const options = { commitCount: Infinity, maxAhead: Infinity, commitWithin: "1 minute" } as const
      yield* Effect.fork(Consumer.forEach(Runs, () => Effect.void, options))
      const kafka = yield* InMemoryBroker
      yield* TestClock.adjust("59 seconds")
      expect(yield* kafka.committed("group")).toEqual([])
      yield* TestClock.adjust("2 seconds")
      expect(yield* kafka.committed("group")).toEqual([{ topic: "runs", partition: 0, offset: 10n }])
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))
})
