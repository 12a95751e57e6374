import * as Producer from "@coffeebuddy/kafka/Producer"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { Orders, producer as scripted, Script } from "./ScriptedSession.ts"
import { allValues, producer } from "./support.ts"

const record = (value: string | number) => ({ key: null, value: String(value), partition: 0 })
const chunksOf = (sizes: ReadonlyArray<number>) => {
  let n = 0
  return Stream.fromChunks(...sizes.map((size) => Chunk.fromIterable(Array.from({ length: size }, () => record(n++)))))
}
const settled = TestClock.adjust(0)

describe("produce", () => {
  it.effect("answers where each record is, in order and in the same chunks", () =>
    Effect.gen(function*() {
      const chunks = yield* chunksOf([3, 1, 5]).pipe(Producer.produce(Orders), Stream.chunks, Stream.runCollect)
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(chunks).map((chunk) => Chunk.toReadonlyArray(chunk).map(({ offset }) => Number(offset))),
        [[0, 1, 2], [3], [4, 5, 6, 7, 8]]
      )
      assert.deepStrictEqual(yield* allValues, ["0", "1", "2", "3", "4", "5", "6", "7", "8"])
    }).pipe(Effect.provide(producer())))

  it.effect("does not wait for one chunk before it sends the next, and has a bound", () =>
    Effect.gen(function*() {
      const script = yield* Script
      let pulled = 0
      const running = yield* Stream.iterate(0, (n) => n + 1).pipe(
        Stream.tap(() => Effect.sync(() => pulled++)),
        Stream.map(record),
        Stream.rechunk(1),
        Producer.produce(Orders),
        Stream.take(300),
        Stream.runDrain,
        Effect.fork
      )
      const first = yield* script.request
      yield* settled
      assert.isAbove(pulled, 50)
      assert.isBelow(pulled, 100)
      yield* first.store
      for (let seen = first.values[0]!.length; seen < 300;) {
        const request = yield* script.request
        seen += request.values[0]!.length
        yield* request.store
      }
      yield* Fiber.join(running)
    }).pipe(Effect.provide(scripted())))

  it.effect("is held up by a full buffer", () =>
    Effect.gen(function*() {
      const script = yield* Script
      let pulled = 0
      yield* Stream.range(1, 20).pipe(
        Stream.tap(() => Effect.sync(() => pulled++)),
        Stream.map(() => record("x".repeat(500))),
        Stream.rechunk(1),
        Producer.produce(Orders),
        Stream.runDrain,
        Effect.fork
      )
      yield* script.request
      yield* settled
      assert.isBelow(pulled, 6)
    }).pipe(Effect.provide(scripted({ bufferMemory: 1300, maxRequestSize: 700 }))))

  it.effect("fails with the first record that fails, after all before it have come out", () =>
    Effect.gen(function*() {
      const seen: Array<bigint> = []
      const exit = yield* Stream.make(record("a"), record("b"), { ...record("c"), partition: 7 }, record("d")).pipe(
        Stream.rechunk(1),
        Producer.produce(Orders),
        Stream.runForEach(({ offset }) => Effect.sync(() => seen.push(offset))),
        Effect.exit
      )
      assert.deepStrictEqual(seen, [0n, 1n])
      assert(Exit.isFailure(exit) && exit.cause._tag === "Fail" && exit.cause.error._tag === "UnknownTopicError")
      assert.deepStrictEqual(yield* allValues, ["a", "b"])
    }).pipe(Effect.provide(producer())))

  it.effect("lets what was sent come out before the failure of the stream that it was given", () =>
    Effect.gen(function*() {
      const seen: Array<bigint> = []
      const error = yield* Stream.concat(chunksOf([2, 2]), Stream.fail("the kettle broke")).pipe(
        Producer.produce(Orders),
        Stream.runForEach(({ offset }) => Effect.sync(() => seen.push(offset))),
        Effect.flip
      )
      assert.strictEqual(error, "the kettle broke")
      assert.deepStrictEqual(seen, [0n, 1n, 2n, 3n])
    }).pipe(Effect.provide(producer())))
})

describe("produceMap", () => {
  it.effect("carries each element along with the place of its record", () =>
    Effect.gen(function*() {
      const out = yield* Stream.range(1, 5).pipe(
        Stream.rechunk(2),
        Producer.produceMap(Orders, (n) => record(n * 10)),
        Stream.map(([n, { offset }]) => [n, Number(offset)]),
        Stream.runCollect
      )
      assert.deepStrictEqual(Chunk.toReadonlyArray(out), [[1, 0], [2, 1], [3, 2], [4, 3], [5, 4]])
      assert.deepStrictEqual(yield* allValues, ["10", "20", "30", "40", "50"])
    }).pipe(Effect.provide(producer())))
})

describe("sink", () => {
  it.effect("ends when all of it is acknowledged", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const running = yield* Effect.fork(Stream.run(chunksOf([2, 3]), Producer.sink(Orders)))
      const seen: Array<string> = []
      while (seen.length < 5) {
        const request = yield* script.request
        yield* settled
        assert.isNull(running.unsafePoll())
        seen.push(...request.values[0]!)
        yield* request.store
      }
      assert.deepStrictEqual(seen, ["0", "1", "2", "3", "4"])
      yield* Fiber.join(running)
    }).pipe(Effect.provide(scripted())))

  it.effect("takes a stream of any length, and is of use more than once", () =>
    Effect.gen(function*() {
      const sink = Producer.sink(Orders)
      yield* Stream.run(chunksOf(Array.from({ length: 200 }, () => 10)), sink)
      yield* Stream.run(Stream.empty, sink)
      yield* Stream.run(Stream.make(record("last")), sink)
      assert.strictEqual((yield* allValues).length, 2001)
    }).pipe(Effect.provide(producer())))

  it.effect("fails where a record fails", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const running = yield* Effect.fork(Stream.run(chunksOf([2, 3]), Producer.sink(Orders)))
      const request = yield* script.request
      yield* request.fail("unknown")
      const error = yield* Effect.flip(Fiber.join(running))
      assert(error._tag === "ProducerError")
      assert.deepStrictEqual([error.reason, error.records], ["unknown-outcome", [0, 1]])
    }).pipe(Effect.provide(scripted())))
})
