/** Streams that end: on position, not on a record. */
import { describe, expect } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import * as Producer from "../../../src/Producer.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import { Broker, type Suite } from "../Kafka.ts"
import {
  eventually,
  groupName,
  grown,
  makeTextTopic,
  member,
  partitionOf,
  texts,
  values,
  write,
  writeEach
} from "../support.ts"

export const bounds = (kafka: Suite) =>
  describe("streamUntil", () => {
    kafka.test(
      "the end as it was: with partitions that hold nothing, and with records that come later left out",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(4)
        yield* write(topic, texts(5), 1)
        yield* write(topic, texts(5, 5), 3)
        const consumer = yield* member()
        let late = false
        const records = yield* consumer.streamUntil(topic, "end").pipe(
          Stream.tap(() => {
            if (late) return Effect.void
            late = true
            return Effect.all([write(topic, ["late"], 0), write(topic, ["late"], 1)])
          }),
          Stream.runCollect
        )
        expect(values(records).sort()).toEqual(texts(10))
      })
    )

    kafka.test(
      "a time between two milliseconds, before 1970, or never; and what is no time is refused",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const at = 1_700_000_000_000
        yield* Producer.sendAll(
          topic,
          [at, at + 1, at + 2].map((timestamp) => ({ key: null, value: `${timestamp - at}`, timestamp }))
        )
        const consumer = yield* member()
        const until = (timestamp: bigint | number | Date) =>
          Effect.map(
            Stream.runCollect(
              consumer.streamUntil(topic, { timestamp }, { partitions: [{ partition: 0, offset: "earliest" }] })
            ),
            values
          )
        expect(yield* until(at + 0.5)).toEqual(["0"])
        expect(yield* until(new Date(at + 2))).toEqual(["0", "1"])
        expect(yield* until(-1)).toEqual([])
        expect(yield* until(-1n)).toEqual([])
        expect(yield* until(Infinity)).toEqual(["0", "1", "2"])
        expect(yield* Effect.flip(until(new Date(Number.NaN)))).toMatchObject({ _tag: "ConsumerError" })
        const listed = (timestamp: number) =>
          Effect.map(Admin.listOffsets([topic], { timestamp }), ([one]) => one!.offset)
        expect(yield* listed(at + 0.5)).toBe(1n)
        expect(yield* listed(-1)).toBe(0n)
        expect(yield* Effect.flip(listed(Number.NaN))).toMatchObject({ _tag: "KafkaRequestError" })
      })
    )

    kafka.test(
      "a topic without records ends at once, and so does one whose end the group has committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const consumer = yield* member()
        expect(values(yield* Stream.runCollect(consumer.streamUntil(topic, "end")))).toEqual([])
        yield* writeEach(topic, 3)
        const records = yield* Stream.runCollect(consumer.streamUntil(topic, "end"))
        expect(values(records).length).toBe(6)
        yield* consumer.commit(records)
        expect(values(yield* Stream.runCollect(consumer.streamUntil(topic, "end")))).toEqual([])
      })
    )

    kafka.test(
      "an offset for all partitions, or one for each",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        yield* writeEach(topic, 10)
        const all = yield* member({ groupId: "all" })
        expect(values(yield* Stream.runCollect(all.streamUntil(topic, { offset: 2n }))).sort()).toEqual(
          ["0:0", "0:1", "1:0", "1:1", "2:0", "2:1"]
        )
        const each = yield* member({ groupId: "each" })
        const some = each.streamUntil(topic, { offsets: new Map([[0, 1n], [2, 3n]]) })
        expect(values(yield* Stream.runCollect(some)).sort()).toEqual(["0:0", "2:0", "2:1", "2:2"])
      })
    )

    kafka.test(
      "an offset that is not there yet is waited for",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(3))
        const consumer = yield* member()
        const third = yield* Deferred.make<void>()
        const fiber = yield* Effect.fork(
          consumer.streamUntil(topic, { offset: 5n }).pipe(
            Stream.tap((record) => record.offset === 2n ? Deferred.succeed(third, undefined) : Effect.void),
            Stream.runCollect
          )
        )
        yield* Deferred.await(third)
        yield* write(topic, texts(10, 3))
        expect(values(yield* Fiber.join(fiber))).toEqual(texts(5))
      })
    )

    kafka.test(
      "a time: up to the first record that is not older",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const begin = Date.now()
        const records = [0, 1].flatMap((partition) =>
          texts(5).map((value, index) => ({
            key: null,
            value: `${partition}:${value}`,
            partition,
            timestamp: BigInt(begin + index * 1000 + partition)
          }))
        )
        yield* Producer.sendAll(topic, records)
        const consumer = yield* member()
        const read = yield* Stream.runCollect(consumer.streamUntil(topic, { timestamp: new Date(begin + 2000) }))
        // of partition 1 the one at 2,001 ms is not older
        expect(values(read).sort()).toEqual(["0:value-0", "0:value-1", "1:value-0", "1:value-1"])
        const later = yield* member({ groupId: "later" })
        const none = yield* Stream.runCollect(later.streamUntil(topic, { timestamp: begin - 1 }))
        expect(values(none)).toEqual([])
      })
    )

    kafka.test(
      "the markers of transactions, at the end too, and transactions that were aborted",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const producer = yield* Producer.make({ transactionalId: yield* groupName("transactions") })
        const send = (partition: number, values: ReadonlyArray<string>) =>
          producer.sendAll(topic, values.map((value) => ({ key: null, value, partition })))
        yield* producer.transaction(Effect.all([send(0, texts(3)), send(1, texts(1, 10))]))
        yield* Effect.flip(producer.transaction(Effect.zipRight(send(0, ["dropped"]), Effect.fail("no milk"))))
        yield* Effect.flip(producer.transaction(Effect.zipRight(send(1, ["dropped"]), Effect.fail("no milk"))))
        yield* grown(topic, [6n, 4n])
        const consumer = yield* member()
        expect(values(yield* Stream.runCollect(consumer.streamUntil(topic, "end"))).sort()).toEqual(
          [...texts(3), "value-10"].sort()
        )
        const raw = yield* member({ groupId: "raw", isolationLevel: "read_uncommitted" })
        expect(
          values(yield* Stream.runCollect(raw.streamUntil(topic, "end"))).filter((one) => one === "dropped").length
        )
          .toBe(2)
      })
    )

    kafka.test(
      "a transaction that is still open: the end is before it for who reads committed records",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(2))
        const producer = yield* Producer.make({ transactionalId: yield* groupName("transactions") })
        const begun = yield* Deferred.make<void>()
        const finish = yield* Deferred.make<void>()
        const open = yield* Effect.fork(producer.transaction(
          producer.send(topic, { key: null, value: "open", partition: 0 }).pipe(
            Effect.zipRight(Deferred.succeed(begun, undefined)),
            Effect.zipRight(Deferred.await(finish))
          )
        ))
        yield* Deferred.await(begun)
        yield* write(topic, ["behind it"])
        const consumer = yield* member()
        expect(values(yield* Stream.runCollect(consumer.streamUntil(topic, "end")))).toEqual(texts(2))
        const raw = yield* member({ groupId: "raw", isolationLevel: "read_uncommitted" })
        expect(values(yield* Stream.runCollect(raw.streamUntil(topic, "end")))).toEqual(
          [...texts(2), "open", "behind it"]
        )
        yield* Deferred.succeed(finish, undefined)
        yield* Fiber.join(open)
        yield* grown(topic, [5n])
        const after = yield* member({ groupId: "after" })
        expect(values(yield* Stream.runCollect(after.streamUntil(topic, "end")))).toEqual(
          [...texts(2), "open", "behind it"]
        )
      })
    )

    kafka.test(
      "gaps that compaction left: a bound inside a gap, and positions exact behind it",
      Effect.gen(function*() {
        const topic = Topic.make("baristas", {
          key: Serde.string,
          value: Serde.nullable(Serde.string),
          partitions: 1,
          config: {
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.001",
            "max.compaction.lag.ms": "100"
          }
        })
        yield* TopicRegistry.ensure([topic])
        const tp = yield* partitionOf(topic)
        const broker = yield* Broker
        // offsets 0 to 9 are of one key, of which the last stays, at 9
        yield* Producer.sendAll(topic, texts(10).map((value) => ({ key: "anna", value })))
        yield* Producer.send(topic, { key: "bert", value: "stays" })
        const read = (groupId: string, bound: bigint | "end") =>
          Effect.scoped(Effect.gen(function*() {
            const consumer = yield* member({ groupId })
            const records = yield* Stream.runCollect(
              consumer.streamUntil(topic, bound === "end" ? bound : { offset: bound })
            )
            return [...records]
          }))
        let reader = 0
        yield* eventually(
          "compaction",
          // an active segment is never compacted: one more record, later, closes it
          Effect.gen(function*() {
            yield* Producer.send(topic, { key: "carla", value: "closes the segment" })
            yield* broker.compact(tp)
            return yield* read(`reader-${++reader}`, 10n)
          }),
          (records) => records.length === 1
        )
        expect((yield* read("inside", 5n)).length).toBe(0)
        const [only, ...none] = yield* read("behind", 10n)
        expect([only!.offset, only!.value, none.length]).toEqual([9n, "value-9", 0])
        const all = yield* read("all", "end")
        expect(all.slice(0, 2).map((record) => [record.offset, record.value])).toEqual([[9n, "value-9"], [
          10n,
          "stays"
        ]])
      })
    )

    kafka.test(
      "partitions named with it, and no group for them",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        yield* writeEach(topic, 4)
        const consumer = yield* member()
        const records = yield* Stream.runCollect(
          consumer.streamUntil(topic, "end", { partitions: [0, { partition: 2, offset: 2n }] })
        )
        expect(values(records).sort()).toEqual(["0:0", "0:1", "0:2", "0:3", "2:2", "2:3"])
      })
    )
  })
