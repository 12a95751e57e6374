import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Consumer from "../../src/Consumer.ts"
import { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import { broker, consumer, Orders, Runs, texts, write } from "./support.ts"

const values = (records: Iterable<{ readonly value: string }>): Array<string> => Array.from(records, (one) => one.value)

describe("Consumer.stream", () => {
  it.effect("gives the records of a partition in order, from the beginning", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(1200))
      const records = yield* Consumer.stream(Runs).pipe(Stream.take(1200), Stream.runCollect)
      expect(values(records)).toEqual(texts(1200))
      const last = Chunk.unsafeLast(records)
      expect(last.offset).toBe(1199n)
      expect(last.topic).toBe("runs")
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("a commit after the stream has ended counts, and the next stream goes on behind it", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      const first = yield* Consumer.stream(Runs).pipe(Stream.take(4), Stream.runCollect)
      yield* Consumer.commit(first)
      const second = yield* Consumer.stream(Runs).pipe(Stream.take(6), Stream.runCollect)
      expect(values(second)).toEqual(texts(6, 4))
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("commitWithin commits what has flowed through it, at the end of the stream too", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(10))
      yield* Consumer.stream(Runs).pipe(
        Stream.take(7),
        Consumer.commitWithin(1000, "1 hour"),
        Stream.runDrain
      )
      const kafka = yield* InMemoryBroker
      expect(yield* kafka.committed("group")).toEqual([{ topic: "runs", partition: 0, offset: 7n }])
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("two streams of one consumer each see their own topic", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      yield* write("orders", 0, texts(3, 100))
      const [runs, orders] = yield* Effect.all([
        Consumer.stream(Runs).pipe(Stream.take(3), Stream.runCollect),
        Consumer.stream(Orders).pipe(Stream.take(3), Stream.runCollect)
      ], { concurrency: 2 })
      expect(values(runs)).toEqual(texts(3))
      expect(values(orders)).toEqual(texts(3, 100))
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("several topics are one stream, told apart by topic", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      yield* write("orders", 0, texts(3, 100))
      const records = yield* Consumer.stream([Runs, Orders]).pipe(Stream.take(6), Stream.runCollect)
      expect(values(records).sort()).toEqual([...texts(3), ...texts(3, 100)].sort())
      expect(new Set(Array.from(records, (one) => one.topic))).toEqual(new Set(["runs", "orders"]))
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("streamUntil ends at the end as it was, with partitions that hold nothing", () =>
    Effect.gen(function*() {
      yield* write("runs", 1, texts(5))
      const records = yield* Stream.runCollect(Consumer.streamUntil(Runs, "end"))
      expect(values(records)).toEqual(texts(5))
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(3))))

  it.effect("partitionedStream gives a stream for each partition", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      yield* write("runs", 1, texts(3, 100))
      const records = yield* Consumer.partitionedStream(Runs).pipe(
        Stream.flatMap(([, records]) => records, { concurrency: "unbounded" }),
        Stream.take(6),
        Stream.runCollect
      )
      expect(values(records).sort()).toEqual([...texts(3), ...texts(3, 100)].sort())
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(2))))
})
