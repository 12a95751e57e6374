/** Where records without an explicit partition go. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Producer from "../../../src/Producer.ts"
import type { Suite } from "../Kafka.ts"
import { makeTextTopic, member } from "../support.ts"

/** Keys and what Java's `Utils.murmur2` makes of them, as Kafka's own tests have it. */
const hashes = new Map([
  ["21", -973932308],
  ["foobar", -790332482],
  ["a-little-bit-long-string", -985981536],
  ["a-little-bit-longer-string", -1486304829],
  ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
  ["abc", 479470107]
])

export const partitioning = (kafka: Suite) =>
  describe("partitioning", () => {
    kafka.test(
      "keys go where Java's default partitioner puts them",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(7)
        const keys = [...hashes.keys()]
        const metadata = yield* Producer.sendAll(topic, keys.map((key) => ({ key, value: key })))
        const expected = [...hashes.values()].map((hash) => (hash & 0x7fffffff) % 7)
        expect(metadata.map((one) => one.partition)).toEqual(expected)
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(keys.length), Stream.runCollect)
        expect(new Map(Array.from(read, (record) => [record.key, record.partition]))).toEqual(
          new Map(keys.map((key, index) => [key, expected[index]]))
        )
      })
    )

    kafka.test(
      "records of one key keep their order, whatever else is sent at the same time",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(5)
        const keys = Array.from({ length: 20 }, (_, index) => `key-${index}`)
        // one sender for each key, all at once, each waiting for its own record before the next
        yield* Effect.forEach(
          keys,
          (key) => Effect.forEach([0, 1, 2, 3, 4], (index) => Producer.send(topic, { key, value: `${index}` })),
          { concurrency: "unbounded" }
        )
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(100), Stream.runCollect)
        for (const key of keys) {
          const own = Array.from(read).filter((record) => record.key === key)
          expect(own.map((record) => record.value)).toEqual(["0", "1", "2", "3", "4"])
          expect(new Set(own.map((record) => record.partition)).size).toBe(1)
        }
      })
    )

    kafka.test(
      "records without a key are spread over partitions that exist, and none is lost",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        // sent one after the other, so that each can be a batch of its own
        const metadata = yield* Effect.forEach(
          Array.from({ length: 60 }, (_, index) => `${index}`),
          (value) => Producer.send(topic, { key: null, value })
        )
        expect(new Set(metadata.map((one) => one.partition))).toEqual(new Set([0, 1, 2]))
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(60), Stream.runCollect)
        expect(Array.from(read, (record) => Number(record.value)).sort((a, b) => a - b)).toEqual(
          Array.from({ length: 60 }, (_, index) => index)
        )
      })
    )
  })
