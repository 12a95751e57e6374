/** What happens where a consumer can't find out where to start or to go on, or is asked for what contradicts itself. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Consumer from "../../src/Consumer.ts"
import { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import { broker, consumer, Orders, Runs, texts, write } from "./support.ts"

const runs = TopicPartition.make("runs", 0)

/** How a stream ends, and how many records it gave. */
const outcome = <A, E, R>(stream: Stream.Stream<A, E, R>) =>
  Effect.gen(function*() {
    let seen = 0
    const exit = yield* Effect.exit(
      Stream.runForEachChunk(stream, (chunk) => Effect.sync(() => void (seen += chunk.length)))
    )
    return { exit, seen }
  })

const errorOf = <A, E>(exit: Exit.Exit<A, E>): E | undefined =>
  exit._tag === "Failure" ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined

describe("a consumer that can't find out where to start", () => {
  it.effect("ends each of its streams with the reason: a group whose offsets it may not see", () =>
    Effect.gen(function*() {
      const kafka = yield* InMemoryBroker
      yield* write("runs", 0, texts(3))
      yield* write("orders", 0, texts(3))
      const refused = yield* kafka.failNext("fetch-offsets", 100, "GROUP_AUTHORIZATION_FAILED")
      const streams = yield* Effect.fork(
        Effect.all([outcome(Consumer.stream(Runs)), outcome(Consumer.stream(Orders))], { concurrency: 2 })
      )
      yield* TestClock.adjust("1 minute")
      for (const { exit, seen } of yield* Fiber.join(streams)) {
        expect(seen).toBe(0)
        expect(errorOf(exit)).toMatchObject({ _tag: "KafkaAuthorizationError", resource: "group" })
      }
      expect(yield* refused.fired).toBeGreaterThan(0)
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("fails the stream of the topic that it may not ask about, and reads the other", () =>
    Effect.gen(function*() {
      const kafka = yield* InMemoryBroker
      yield* write("runs", 0, texts(3))
      yield* write("orders", 0, texts(3))
      const reading = yield* Effect.fork(outcome(Stream.take(Consumer.stream(Runs), 3)))
      const refused = yield* Effect.fork(outcome(Consumer.stream(Orders)))
      // between the subscription and the question where to start
      const armed = yield* kafka.delay("list-offsets", "1 second")
      yield* TestClock.adjust("500 millis")
      yield* kafka.deny("topic", "orders")
      yield* TestClock.adjust("1 minute")
      expect(yield* armed.fired).toBeGreaterThan(0)
      expect(errorOf((yield* Fiber.join(refused)).exit)).toMatchObject({
        _tag: "KafkaAuthorizationError",
        resource: "topic",
        resourceName: "orders"
      })
      expect(yield* Fiber.join(reading)).toMatchObject({ exit: { _tag: "Success" }, seen: 3 })
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("ends its stream where it can't find out where to go on, once retention has overtaken it", () =>
    Effect.gen(function*() {
      const kafka = yield* InMemoryBroker
      yield* write("runs", 0, texts(10))
      const reading = yield* Effect.fork(
        outcome(Consumer.stream(Runs, { partitions: [{ partition: 0, offset: 2n }] }))
      )
      yield* kafka.deleteBefore(runs, 5n)
      const refused = yield* kafka.failNext("list-offsets", 100, "TOPIC_AUTHORIZATION_FAILED")
      yield* TestClock.adjust("1 minute")
      const { exit, seen } = yield* Fiber.join(reading)
      expect(seen).toBe(0)
      expect(errorOf(exit)).toMatchObject({ _tag: "KafkaAuthorizationError", resource: "topic" })
      expect(yield* refused.fired).toBeGreaterThan(0)
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))
})

describe("streams of one consumer", () => {
  const pattern = (source: RegExp) => Topic.pattern(source, { key: Serde.nullable(Serde.string), value: Serde.string })

  it.effect("that share a topic, or might, are refused, the later one", () =>
    Effect.gen(function*() {
      const pairs: ReadonlyArray<readonly [Consumer.Source, Consumer.Source]> = [
        [Runs, pattern(/^run/)],
        [pattern(/^run/), Runs],
        [pattern(/^run/), pattern(/^run/)],
        // which topics there will be is not known
        [Runs, pattern(/^ord/)],
        [[Runs, Orders], Orders]
      ]
      for (const [first, second] of pairs) {
        const reading = yield* Effect.fork(Stream.runDrain(Consumer.stream(first)))
        yield* TestClock.adjust("1 second")
        expect(yield* Effect.flip(Stream.runDrain(Consumer.stream(second)))).toMatchObject({
          _tag: "ConsumerError",
          reason: "subscription"
        })
        yield* Fiber.interrupt(reading)
        yield* TestClock.adjust("1 minute")
      }
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("that share none read side by side, and one after another where the one before has ended", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      yield* write("orders", 0, texts(4))
      const reading = yield* Effect.fork(Effect.all([
        outcome(Stream.take(Consumer.stream(Runs), 3)),
        outcome(Stream.take(Consumer.stream(Orders), 4))
      ], { concurrency: 2 }))
      yield* TestClock.adjust("1 minute")
      expect((yield* Fiber.join(reading)).map(({ seen }) => seen)).toEqual([3, 4])
      const after = yield* Effect.fork(outcome(Stream.take(Consumer.stream(pattern(/^(runs|orders)$/)), 7)))
      yield* TestClock.adjust("1 minute")
      expect((yield* Fiber.join(after)).seen).toBe(7)
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("a concurrency that is none is refused, and says so", () =>
    Effect.gen(function*() {
      for (const concurrency of [0, -1, 1.5, Number.NaN]) {
        const error = yield* Effect.flip(Consumer.forEach(Runs, () => Effect.void, { concurrency }))
        expect(error).toMatchObject({ _tag: "ConsumerError", reason: "subscription" })
        expect(String(error)).toContain(`${concurrency}`)
      }
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))
})

describe("Consumer", () => {
  it.effect("says where it is and what is committed, and goes where it is told", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      const values: Array<string> = []
      const reading = yield* Effect.fork(
        Consumer.stream(Runs).pipe(
          Stream.take(13),
          Stream.tap(({ value }) => Effect.sync(() => values.push(value))),
          Consumer.commitWithin(1, "1 second"),
          Stream.runDrain
        )
      )
      yield* TestClock.adjust("5 seconds")
      expect(yield* Consumer.position(runs)).toEqual(Option.some(10n))
      expect(yield* Consumer.committed([runs])).toEqual(new Map([[TopicPartition.key(runs), 10n]]))
      expect(yield* Consumer.position(TopicPartition.make("orders", 0))).toEqual(Option.none())
      yield* Consumer.seek(runs, 7n)
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(reading)
      expect(values.slice(10)).toEqual(texts(3, 7))
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))
})

it.effect("a group whose variable is not set, which types don't see, is refused as one without a name", () =>
  Effect.gen(function*() {
    const options: Consumer.Options = JSON.parse("{}")
    const error = yield* Effect.flip(Effect.scoped(Consumer.make(options)))
    expect(String(error)).toMatch(/Consumer.groupId: "expected a name, found an empty one"/)
  }).pipe(Effect.provide(broker(1))))
