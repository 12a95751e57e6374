/** Where a consumer starts, where it is, and where it is sent. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import * as Producer from "../../../src/Producer.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import {
  event,
  eventsOf,
  makeTextTopic,
  member,
  owning,
  partitionOf,
  readAndLeave,
  running,
  texts,
  textTopic,
  values,
  write,
  writeEach
} from "../support.ts"

export const positions = (kafka: Suite) =>
  describe("positions", () => {
    kafka.test(
      "named partitions are read from where each is told to start, without a group",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(5)
        yield* writeEach(topic, 10)
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic, {
          partitions: [
            { partition: 0, offset: 7n },
            { partition: 1, offset: "earliest" },
            { partition: 2, offset: "latest" },
            3
          ]
        }))
        yield* stream.count(3 + 10 + 0 + 10)
        yield* owning(consumer, 4)
        yield* writeEach(topic, 1, 10)
        const all = yield* stream.count(3 + 10 + 0 + 10 + 4)
        const of = (partition: number) => values(all.filter((record) => record.partition === partition))
        expect(of(0)).toEqual(["0:7", "0:8", "0:9", "0:10"])
        expect(of(1).length).toBe(11)
        expect(of(2)).toEqual(["2:10"])
        expect(of(3).length).toBe(11)
        expect(of(4)).toEqual([])
        const [group] = yield* Admin.describeGroups([consumer.groupId])
        expect(group?.members ?? []).toEqual([])
      })
    )

    kafka.test(
      "named partitions without an offset go on where the group has committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 5)
        yield* Effect.scoped(Effect.gen(function*() {
          const consumer = yield* member()
          const records = yield* consumer.stream(topic, { partitions: [1] }).pipe(Stream.take(3), Stream.runCollect)
          yield* consumer.commit(records)
        }))
        const consumer = yield* member()
        const rest = yield* consumer.stream(topic, { partitions: [1] }).pipe(Stream.take(2), Stream.runCollect)
        expect(values(rest)).toEqual(["1:3", "1:4"])
      })
    )

    kafka.test(
      "a group without commits starts at the beginning, or with what comes, as it is told",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(5))
        const first = yield* member({ groupId: "earliest", autoOffsetReset: "earliest" })
        const last = yield* member({ groupId: "latest", autoOffsetReset: "latest" })
        const early = yield* running(first.stream(topic))
        const late = yield* running(last.stream(topic))
        expect((yield* event(first, "Assigned")).positions).toEqual([0n])
        expect((yield* event(last, "Assigned")).positions).toEqual([5n])
        yield* write(topic, texts(5, 5))
        expect(values(yield* late.count(5))).toEqual(texts(5, 5))
        expect(values(yield* early.count(10))).toEqual(texts(10))
      })
    )

    kafka.test(
      "with autoOffsetReset \"fail\" a group without commits fails, and says where",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(5))
        const consumer = yield* member({ autoOffsetReset: "fail" })
        const error = yield* Effect.flip(Stream.runDrain(consumer.stream(topic)))
        expect(error).toMatchObject({ _tag: "OffsetOutOfRangeError", ...tp })
        expect(error).not.toHaveProperty("offset", expect.anything())
      })
    )

    kafka.test(
      "a stream that finds no position fails alone: the others of its consumer go on",
      Effect.gen(function*() {
        const [known, unknown] = [textTopic("known"), textTopic("unknown")]
        yield* TopicRegistry.ensure([known, unknown])
        yield* write(known, texts(5))
        yield* readAndLeave(known, 2, (consumer, records) => consumer.commit(records))
        const consumer = yield* member({ autoOffsetReset: "fail" })
        const [healthy, failing] = [yield* running(consumer.stream(known)), yield* running(consumer.stream(unknown))]
        const exit = yield* Fiber.await(failing.fiber)
        expect(exit).toMatchObject({ _tag: "Failure", cause: { error: yield* partitionOf(unknown) } })
        expect(values(yield* healthy.count(3))).toEqual(texts(3, 2))
        yield* write(known, texts(5, 5))
        expect(values(yield* healthy.count(8))).toEqual(texts(8, 2))
      })
    )

    for (const [autoOffsetReset, expected] of [["earliest", 60n], ["latest", 100n]] as const) {
      kafka.test(
        `a position that was deleted goes on at the ${autoOffsetReset} offset, and an event says so`,
        Effect.gen(function*() {
          const topic = yield* makeTextTopic()
          const tp = yield* partitionOf(topic)
          yield* write(topic, texts(100))
          yield* readAndLeave(topic, 10, (consumer, records) => consumer.commit(records))
          yield* Admin.deleteRecords([{ topic, partition: 0, offset: 60n }])
          const consumer = yield* member({ autoOffsetReset })
          const stream = yield* running(consumer.stream(topic))
          const reset = yield* event(consumer, "OffsetReset")
          expect([reset.topicPartition, reset.from, reset.to]).toEqual([tp, 10n, expected])
          yield* write(topic, texts(1, 100))
          const records = yield* stream.until("the last", (all) => all.some((record) => record.offset === 100n))
          expect(values(records)).toEqual(texts(101 - Number(expected), Number(expected)))
        })
      )
    }

    kafka.test(
      "a position that was deleted fails the stream where that is asked for",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(100))
        yield* readAndLeave(topic, 10, (consumer, records) => consumer.commit(records))
        yield* Admin.deleteRecords([{ topic, partition: 0, offset: 60n }])
        const consumer = yield* member({ autoOffsetReset: "fail" })
        const error = yield* Effect.flip(Stream.runDrain(consumer.stream(topic)))
        expect(error).toMatchObject({ _tag: "OffsetOutOfRangeError", ...tp, offset: 10n })
      })
    )

    kafka.test(
      "seek goes to an offset, to the ends and to a time, and drops what was fetched ahead",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        const begin = BigInt(Date.now())
        yield* Producer.sendAll(
          topic,
          texts(100).map((value, index) => ({ key: null, value, timestamp: begin + BigInt(index * 10) }))
        )
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        yield* stream.count(100)
        const from = (count: number) =>
          Effect.gen(function*() {
            const already = stream.seen.all.length
            const all = yield* stream.count(already + count)
            return values(all.slice(already))
          })
        yield* consumer.seek(tp, 90n)
        expect(yield* from(10)).toEqual(texts(10, 90))
        yield* consumer.seek(tp, "earliest")
        expect(yield* from(100)).toEqual(texts(100))
        yield* consumer.seek(tp, { timestamp: begin + 945n })
        expect(yield* from(5)).toEqual(texts(5, 95))
        yield* consumer.seek(tp, 3n)
        yield* consumer.seek(tp, "latest")
        const already = stream.seen.all.length
        yield* write(topic, ["after the end"])
        const all = yield* stream.until("the last", (all) => all.at(-1)?.value === "after the end")
        // between the two seeks some of what the first one asked for may have come through
        expect(values(all.slice(already, -1))).toEqual(texts(all.length - 1 - already, 3))
        const other = { topic: "somebody-elses", partition: 0 }
        expect(yield* Effect.flip(consumer.seek(other, 0n))).toMatchObject({ _tag: "ConsumerError" })
      })
    )

    kafka.test(
      "a seek from within the stream: the next record is the one sought, whatever was fetched ahead",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(100))
        const consumer = yield* member({ maxPollRecords: 5 })
        const read = yield* consumer.stream(topic).pipe(
          Stream.tap((record) =>
            record.offset === 4n ? consumer.seek(tp, 50n) : record.offset === 59n ? consumer.seek(tp, 2n) : Effect.void
          ),
          Stream.take(5 + 10 + 2),
          Stream.runCollect
        )
        expect(values(read)).toEqual([...texts(5), ...texts(10, 50), ...texts(2, 2)])
      })
    )

    kafka.test(
      "what is sought before the committed offset can be committed again",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(10))
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        const all = yield* stream.count(10)
        yield* consumer.commit(all)
        yield* consumer.seek(tp, 2n)
        const again = yield* stream.count(18)
        yield* consumer.commit(again[12]!)
        expect([...(yield* consumer.committed([tp])).values()]).toEqual([5n])
      })
    )

    kafka.test(
      "assignment, position, committed and lag say where it stands",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const [zero, one] = [yield* partitionOf(topic, 0), yield* partitionOf(topic, 1)]
        const consumer = yield* member({ maxPollRecords: 10 })
        expect(yield* consumer.assignment).toEqual([])
        expect(yield* consumer.lag).toEqual([])
        expect(yield* consumer.position(zero)).toEqual(Option.none())
        yield* write(topic, texts(30), 0)
        const records = yield* consumer.stream(topic).pipe(
          Stream.take(20),
          Stream.tap((record) =>
            record.offset !== 19n ? Effect.void : Effect.gen(function*() {
              expect(yield* consumer.position(zero)).toEqual(Option.some(20n))
              expect(yield* consumer.position(one)).toEqual(Option.some(0n))
              yield* consumer.commit(record)
              const lag = [...yield* consumer.lag].sort((a, b) =>
                a.topicPartition.partition - b.topicPartition.partition
              )
              expect(lag).toEqual([
                { topicPartition: zero, committed: 20n, position: 20n, end: 30n, lag: 10n },
                { topicPartition: one, committed: undefined, position: 0n, end: 0n, lag: 0n }
              ])
              expect((yield* consumer.assignment).length).toBe(2)
            })
          ),
          Stream.runCollect
        )
        expect(values(records)).toEqual(texts(20))
        const committed = yield* consumer.committed([zero, one])
        expect([...committed]).toEqual([[`${zero.topic}:0`, 20n]])
        expect(yield* Admin.groupOffsets(consumer.groupId)).toMatchObject([{ partition: 0, offset: 20n }])
      })
    )

    kafka.test(
      "a restarted group that is at the end waits there, and resets nothing",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(5))
        yield* readAndLeave(topic, 5, (consumer, records) => consumer.commit(records))
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        expect((yield* event(consumer, "Assigned")).positions).toEqual([5n])
        yield* write(topic, texts(1, 5))
        expect(values(yield* stream.count(1))).toEqual(["value-5"])
        expect(eventsOf(consumer, "OffsetReset")).toEqual([])
      })
    )
  })
