/** What a stream gives, and what several of one consumer give each. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Producer from "../../../src/Producer.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import {
  event,
  makeTextTopic,
  member,
  partitionOf,
  running,
  texts,
  textTopic,
  values,
  write,
  writeEach
} from "../support.ts"

const Runs = textTopic("runs")
const Orders = Topic.make("orders", {
  key: Serde.string,
  value: Serde.json(Schema.Struct({ cups: Schema.Int })),
  partitions: 1
})

export const streams = (kafka: Suite) =>
  describe("streams", () => {
    kafka.test(
      "a stream gives each partition's records in order, those that come later too",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        const early = yield* writeEach(topic, 200)
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        yield* stream.count(600)
        const late = yield* writeEach(topic, 50, 200)
        const all = yield* stream.count(750)
        expect(values(all).sort()).toEqual([...early, ...late].sort())
        for (const partition of [0, 1, 2]) {
          const own = all.filter((record) => record.partition === partition)
          expect(own.map((record) => record.offset)).toEqual(own.map((_, index) => BigInt(index)))
        }
      })
    )

    kafka.test(
      "several topics are one stream of a union that topic tells apart",
      Effect.gen(function*() {
        yield* TopicRegistry.ensure([Runs, Orders])
        yield* write(Runs, texts(3))
        yield* Producer.sendAll(Orders, [1, 2, 3].map((cups) => ({ key: "table-4", value: { cups } })))
        const consumer = yield* member()
        const all = yield* consumer.stream([Runs, Orders]).pipe(
          // the compiler knows which value belongs to which topic
          Stream.map((record) => record.topic === "orders" ? `${record.key}: ${record.value.cups}` : record.value),
          Stream.take(6),
          Stream.runCollect
        )
        expect([...all].sort()).toEqual(["table-4: 1", "table-4: 2", "table-4: 3", ...texts(3)])
      })
    )

    kafka.test(
      "two streams of one consumer each get all of their own topic, and nothing of the other",
      Effect.gen(function*() {
        const orders = textTopic("orders", 2)
        yield* TopicRegistry.ensure([Runs, orders])
        const consumer = yield* member()
        const first = yield* running(consumer.stream(Runs))
        const second = yield* running(consumer.stream(orders))
        yield* write(Runs, texts(300))
        yield* write(orders, texts(300, 1000), 0)
        yield* write(orders, texts(300, 2000), 1)
        expect(values(yield* first.count(300))).toEqual(texts(300))
        expect(values(yield* second.count(600)).sort()).toEqual([...texts(300, 1000), ...texts(300, 2000)].sort())
        // one ends, and the other goes on
        yield* first.interrupt
        yield* write(orders, texts(10, 3000), 0)
        const more = yield* second.count(610)
        expect(values(more.slice(600))).toEqual(texts(10, 3000))
        expect(first.seen.all.length).toBe(300)
      })
    )

    kafka.test(
      "a second stream of the same topic on one consumer is refused, since they would share its records",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(1))
        const consumer = yield* member()
        const first = yield* running(consumer.stream(topic))
        yield* first.count(1)
        const refused = yield* Effect.flip(Stream.runDrain(consumer.stream(topic)))
        expect(refused).toMatchObject({ _tag: "ConsumerError", reason: "subscription" })
        yield* write(topic, texts(1, 1))
        expect(values(yield* first.count(2))).toEqual(texts(2))
      })
    )

    kafka.test(
      "the next stream of a consumer goes on behind what the one before committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(100))
        const consumer = yield* member()
        const first = yield* consumer.stream(topic).pipe(Stream.take(40), Stream.runCollect)
        yield* consumer.commit(first)
        const second = yield* consumer.stream(topic).pipe(Stream.take(60), Stream.runCollect)
        expect(values(second)).toEqual(texts(60, 40))
      })
    )

    kafka.test(
      "a pattern reads all topics whose physical name matches, and no other",
      Effect.gen(function*() {
        const a = textTopic("retry.a")
        const b = textTopic("retry.b")
        yield* TopicRegistry.ensure([a, b, Runs])
        yield* write(a, texts(3))
        yield* write(b, texts(3, 10))
        yield* write(Runs, texts(3, 20))
        const prefix = (yield* TopicRegistry.TopicRegistry).prefix!
        const pattern = Topic.pattern(new RegExp(`^${prefix}\\.retry\\.`), {
          key: Serde.nullable(Serde.string),
          value: Serde.string
        })
        const consumer = yield* member()
        const all = yield* consumer.stream(pattern).pipe(Stream.take(6), Stream.runCollect)
        expect(values(all).sort()).toEqual([...texts(3), ...texts(3, 10)].sort())
        expect(new Set(Array.from(all, (record) => record.topic))).toEqual(
          new Set([(yield* partitionOf(a)).topic, (yield* partitionOf(b)).topic])
        )
      })
    )

    kafka.test(
      "partitionedStream gives a stream for each partition, with its records alone",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        const written = yield* writeEach(topic, 50)
        const consumer = yield* member()
        const all = yield* consumer.partitionedStream(topic).pipe(
          Stream.flatMap(
            ([{ partition }, records]) => Stream.map(records, (record) => ({ partition, record })),
            { concurrency: "unbounded" }
          ),
          Stream.take(150),
          Stream.runCollect
        )
        expect(Array.from(all, ({ record }) => record.value).sort()).toEqual(written.sort())
        for (const { partition, record } of all) expect(record.partition).toBe(partition)
      })
    )

    kafka.test(
      "a partition that is not pulled does not hold up the others",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 300)
        const consumer = yield* member()
        const stream = yield* running(
          consumer.partitionedStream(topic).pipe(
            // of partition 0 the first record is never done
            Stream.flatMap(
              ([{ partition }, records]) => partition === 0 ? Stream.tap(records, () => Effect.never) : records,
              { concurrency: "unbounded" }
            )
          )
        )
        yield* stream.count(300)
        yield* writeEach(topic, 300, 300)
        const all = yield* stream.count(600)
        expect(new Set(all.map((record) => record.partition))).toEqual(new Set([1]))
      })
    )

    kafka.test(
      "the observer is told what was polled and handed out, by chunks and not by records",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(400))
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        yield* stream.count(400)
        const polled = yield* event(consumer, "Polled", (one) => one.position === 400n)
        expect(polled.highWatermark).toBe(400n)
        yield* event(consumer, "HandedOut", (one) => one.position === 400n)
        const told = consumer.events.all.filter((one) => one._tag === "Polled" || one._tag === "HandedOut")
        expect(told.length).toBeLessThan(40)
      })
    )
  })
