import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Consumer from "../../src/Consumer.ts"
import { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import * as Topic from "../../src/Topic.ts"
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

  it.effect("commitWithin refuses what is no count and no duration before anything is read", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(1))
      // as a program without types has them
      const odd = (count: unknown, within: unknown) =>
        Consumer.commitWithin(count as number, within as number)(
          Stream.tap(Consumer.stream(Runs), () => Effect.dieMessage("it was read"))
        ).pipe(Stream.runDrain, Effect.flip)
      for (const count of [0, -1, 1.5, Number.NaN, "many"]) {
        expect(yield* odd(count, "1 second")).toMatchObject({
          _tag: "ConsumerError",
          reason: "subscription",
          description: `commitWithin: count must be a whole number above zero, and is ${count}`
        })
      }
      for (const within of [-1, Number.NaN, "soon"]) {
        expect(yield* odd(1, within)).toMatchObject({
          description: `commitWithin: within must be a duration of at least zero, and is ${within}`
        })
      }
      expect((yield* odd(undefined, undefined)).message).toMatch(/count must be .*; within must be /)
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("commitWithin takes no count for a limit, and no wait at all", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      const some = (count: number) => Consumer.stream(Runs).pipe(Stream.take(count))
      yield* some(2).pipe(Consumer.commitWithin(Infinity, "1 hour"), Stream.runDrain)
      yield* some(1).pipe(Consumer.commitWithin(1000, 0), Stream.runDrain)
      const kafka = yield* InMemoryBroker
      expect(yield* kafka.committed("group")).toEqual([{ topic: "runs", partition: 0, offset: 3n }])
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("a bound that is none is refused, and nothing is read for ever", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      // as a program without types has it
      const odd = (bound: unknown) => Effect.flip(Stream.runDrain(Consumer.streamUntil(Runs, bound as Consumer.Bound)))
      for (const offset of [-1n, Number.NaN, 2, undefined]) {
        const refused = { _tag: "ConsumerError", description: `streamUntil: ${offset} is no offset to end at` }
        expect(yield* odd({ offset })).toMatchObject(refused)
        expect(yield* odd({ offsets: new Map([[0, offset]]) })).toMatchObject(refused)
      }
      for (const bound of ["latest", 3n, null, undefined]) {
        expect(yield* odd(bound)).toMatchObject({ description: `streamUntil: ${bound} is no bound` })
      }
      expect(yield* odd({})).toMatchObject({ description: "undefined is not a time" })
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("one bounded stream after the other, with records and without, each ends", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      const until = (offset: bigint) =>
        Effect.map(
          Stream.runCollect(Consumer.streamUntil(Runs, { offset }, { partitions: [{ partition: 0, offset: 0n }] })),
          values
        )
      for (const offset of [3n, 0n, 2n, 0n]) expect(yield* until(offset)).toEqual(texts(Number(offset)))
      // nobody reads anything for a while
      yield* TestClock.adjust("10 seconds")
      expect(yield* until(0n)).toEqual([])
      expect(yield* until(3n)).toEqual(texts(3))
      // a stream that joined the group would end all others
      expect(yield* Effect.flip(Stream.runDrain(Consumer.stream(Runs)))).toMatchObject({ reason: "subscription" })
      expect(yield* until(3n)).toEqual(texts(3))
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("as a member that has been given no partition, too", () =>
    Effect.gen(function*() {
      const kafka = yield* InMemoryBroker
      yield* write("runs", 0, texts(3))
      yield* kafka.join("group", ["runs"], { assignment: "cooperative" })
      const read = Effect.map(Stream.runCollect(Consumer.streamUntil(Runs, "end")), values)
      const reading = yield* Effect.fork(Effect.zip(read, read))
      yield* TestClock.adjust("1 minute")
      const [first, second] = yield* Fiber.join(reading)
      expect(second).toEqual(first)
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("partitions read by one stream after the other end when all of them have", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      yield* write("runs", 1, texts(3, 3))
      const until = (partitions: ReadonlyArray<number>) =>
        Effect.map(
          Stream.runCollect(
            Consumer.streamUntil(Runs, "end", {
              partitions: partitions.map((partition) => ({ partition, offset: "earliest" as const }))
            })
          ),
          (records) => values(records).sort()
        )
      expect(yield* until([1])).toEqual(texts(3, 3))
      expect(yield* until([0, 1])).toEqual(texts(6))
      expect(yield* until([0])).toEqual(texts(3))
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(2))))

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

  it.effect.each<readonly [source: Consumer.Source, partitions: Consumer.StreamOptions["partitions"], reason: RegExp]>([
    [[], undefined, /at least one topic/],
    [Runs, [], /there are none/],
    [Runs, [Number.NaN], /NaN is no partition/],
    [Runs, [{ partition: -1, offset: 0n }], /-1 is no partition/],
    [Runs, [{ partition: 0, offset: -1n }], /-1 is no offset/],
    [Runs, [0, { partition: 0, offset: 1n }], /0 is there twice/],
    [[Runs, Orders], [0], /of one topic/],
    [Topic.pattern(/^runs$/, Runs), [0], /of one topic/]
  ])(
    "what would never be read as it is asked for is refused (%#)",
    ([source, partitions, reason]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Stream.runDrain(Consumer.stream(source, { partitions })))
        expect(error).toMatchObject({ _tag: "ConsumerError", reason: "subscription" })
        expect((error as Error).message).toMatch(reason)
      }).pipe(Effect.provide(consumer()), Effect.provide(broker(1)))
  )

  it.effect("a wish for what can't be decoded that nobody knows is refused at once, wherever it is said", () =>
    Effect.gen(function*() {
      // as a program without types has it
      const junk = { onDecodeFailure: "junk" as "skip" }
      const streams = /a stream: onDecodeFailure must be "fail", "skip", "either" or a function, and is junk/
      const refusals: ReadonlyArray<readonly [Effect.Effect<unknown, unknown, Consumer.Consumer>, RegExp]> = [
        [Stream.runDrain(Consumer.stream(Runs, junk)), streams],
        [Stream.runDrain(Consumer.streamUntil(Runs, "end", junk)), streams],
        [Stream.runDrain(Consumer.partitionedStream(Runs, junk)), streams],
        [
          Consumer.forEach(Runs, () => Effect.void, { onDecodeFailure: "either" as "skip" }),
          /forEach: onDecodeFailure must be "fail", "skip" or a function, and is either/
        ]
      ]
      for (const [refused, reason] of refusals) {
        const error = yield* Effect.flip(refused)
        expect(error).toMatchObject({ _tag: "ConsumerError", reason: "subscription" })
        expect((error as Error).message).toMatch(reason)
      }
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))

  it.effect("seek goes to a time in any of its forms, and refuses what is no place", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      const runs = { topic: "runs", partition: 0 }
      const places = ["earliest", { timestamp: 0n }, { timestamp: 0 }, { timestamp: new Date(0) }] as const
      const seen: Array<string> = []
      yield* Consumer.stream(Runs).pipe(
        Stream.tap((record) => {
          seen.push(record.value)
          const place = record.offset === 2n ? places[seen.length / 3 - 1] : undefined
          return place === undefined ? Effect.void : Consumer.seek(runs, place)
        }),
        Stream.take(15),
        Stream.runDrain
      )
      expect(seen).toEqual(Array.from({ length: 5 }, () => texts(3)).flat())
      expect(yield* Effect.flip(Consumer.seek(runs, -1n))).toMatchObject({ description: "seek: -1 is no offset" })
      expect(yield* Effect.flip(Consumer.seek(runs, { timestamp: Number.NaN })))
        .toMatchObject({ description: "NaN is not a time" })
    }).pipe(Effect.provide(consumer()), Effect.provide(broker(1))))
})
