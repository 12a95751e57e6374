/** Commits: what the group knows, and where it goes on. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as OffsetBatch from "../../../src/OffsetBatch.ts"
import * as Producer from "../../../src/Producer.ts"
import type { Suite } from "../Kafka.ts"
import {
  event,
  eventsOf,
  groupName,
  grown,
  makeTextTopic,
  type Member,
  member,
  partitionOf,
  readAndLeave,
  running,
  texts,
  values,
  write,
  writeEach
} from "../support.ts"

export const commits = (kafka: Suite) =>
  describe("commits", () => {
    kafka.test(
      "a new consumer goes on exactly behind what was committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(100))
        yield* readAndLeave(topic, 40, (consumer, records) => consumer.commit(records))
        // not all that was read
        const second = yield* readAndLeave(
          topic,
          25,
          (consumer, records) => Effect.as(consumer.commit(records[9]!), records)
        )
        expect(values(second)).toEqual(texts(25, 40))
        const consumer = yield* member()
        const rest = yield* consumer.stream(topic).pipe(Stream.take(50), Stream.runCollect)
        expect(values(rest)).toEqual(texts(50, 50))
      })
    )

    kafka.test(
      "without a commit everything is read again",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(30))
        yield* readAndLeave(topic, 30, () => Effect.void)
        const consumer = yield* member()
        const again = yield* consumer.stream(topic).pipe(Stream.take(30), Stream.runCollect)
        expect(values(again)).toEqual(texts(30))
      })
    )

    kafka.test(
      "a record, many records and a batch of offsets are committed alike, and never backwards",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 10)
        const partitions = [yield* partitionOf(topic, 0), yield* partitionOf(topic, 1)] as const
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        const records = yield* stream.count(20)
        const of = (partition: number, offset: number) =>
          records.find((one) => one.partition === partition && one.offset === BigInt(offset))!
        const committed = Effect.map(
          consumer.committed(partitions),
          (found) => partitions.map((one) => found.get(`${one.topic}:${one.partition}`))
        )
        expect(yield* committed).toEqual([undefined, undefined])
        yield* consumer.commit(of(0, 3))
        expect(yield* committed).toEqual([4n, undefined])
        yield* consumer.commit([of(1, 6), of(0, 5), of(1, 2)])
        expect(yield* committed).toEqual([6n, 7n])
        yield* consumer.commit(of(0, 1))
        expect(yield* committed).toEqual([6n, 7n])
        yield* consumer.commit(OffsetBatch.merge(OffsetBatch.make([of(0, 7)]), OffsetBatch.make([of(1, 9), of(0, 0)])))
        expect(yield* committed).toEqual([8n, 10n])
        yield* consumer.commit([])
        expect(yield* committed).toEqual([8n, 10n])
      })
    )

    kafka.test(
      "commits asked for at the same time travel together",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(200))
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        const records = yield* stream.count(200)
        yield* Effect.forEach(records, (record) => consumer.commit(record), { concurrency: "unbounded" })
        const requests = eventsOf(consumer, "Committed")
        expect(requests.at(-1)!.offsets).toMatchObject([{ offset: 200n }])
        expect(requests.length).toBeLessThan(20)
      })
    )

    kafka.test(
      "commitWithin commits when enough has flowed through it",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        const consumer = yield* member({ maxPollRecords: 10 })
        yield* running(consumer.stream(topic).pipe(consumer.commitWithin(50, "1 hour")))
        yield* write(topic, texts(49))
        yield* event(consumer, "HandedOut", (one) => one.position === 49n)
        expect((yield* consumer.committed([tp])).size).toBe(0)
        yield* write(topic, texts(1, 49))
        const committed = yield* event(consumer, "Committed")
        expect(committed.offsets).toEqual([{ ...tp, offset: 50n }])
      })
    )

    kafka.test(
      "commitWithin commits after its time, however little has flowed through it",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(3))
        const consumer = yield* member()
        yield* running(consumer.stream(topic).pipe(consumer.commitWithin(1_000_000, "100 millis")))
        const committed = yield* event(consumer, "Committed")
        expect(committed.offsets).toEqual([{ ...tp, offset: 3n }])
      })
    )

    kafka.test(
      "commitWithin commits what came through when its stream ends, fails or is interrupted",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(100))
        const consumer = yield* member({ maxPollRecords: 1 })
        const tp = yield* partitionOf(topic)
        const committed = Effect.map(consumer.committed([tp]), (found) => [...found.values()])
        const through = consumer.stream(topic).pipe(
          consumer.commitWithin(1_000_000, "1 hour")
        )
        yield* through.pipe(Stream.take(10), Stream.runDrain)
        expect(yield* committed).toEqual([10n])
        const failed = yield* Effect.flip(
          through.pipe(
            Stream.tap((record) => record.offset === 29n ? Effect.fail("no milk") : Effect.void),
            Stream.runDrain
          )
        )
        expect(failed).toBe("no milk")
        expect(yield* committed).toEqual([30n])
        const stream = yield* running(through)
        yield* stream.until("up to 49", (all) => all.some((one) => one.offset === 49n))
        yield* stream.interrupt
        const [mark] = yield* committed
        expect(mark).toBeGreaterThanOrEqual(50n)
        expect(mark).toBeLessThanOrEqual(100n)
      })
    )

    kafka.test(
      "committing the last record of a transaction moves past its marker: nothing is left to be read",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const producer = yield* Producer.make({ transactionalId: yield* groupName("transactions") })
        yield* producer.transaction(
          producer.sendAll(topic, texts(3).map((value) => ({ key: null, value, partition: 0 })))
        )
        yield* grown(topic, [4n])
        const consumer = yield* member()
        const records = yield* Stream.runCollect(consumer.streamUntil(topic, "end"))
        expect(values(records)).toEqual(texts(3))
        const next = yield* member({ groupId: "next" })
        const stream = yield* running(next.stream(topic).pipe(next.commitWithin(3, "1 hour")))
        yield* stream.count(3)
        yield* event(next, "Committed", (one) => one.offsets[0]!.offset === 4n)
        expect(yield* next.lag).toMatchObject([{ committed: 4n, end: 4n, lag: 0n }])
      })
    )

    kafka.test(
      "groups know nothing of each other: each reads everything, and commits for itself",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(20))
        const one = yield* member({ groupId: "one" })
        const other = yield* member({ groupId: "other" })
        const read = (consumer: Member) => consumer.stream(topic).pipe(Stream.take(20), Stream.runCollect)
        const [first, second] = yield* Effect.all([read(one), read(other)], { concurrency: 2 })
        expect(values(first)).toEqual(texts(20))
        expect(values(second)).toEqual(texts(20))
        yield* one.commit([...first].slice(0, 5))
        expect([...(yield* one.committed([tp])).values()]).toEqual([5n])
        expect([...(yield* other.committed([tp])).values()]).toEqual([])
      })
    )
  })
