/** `forEach`: a handler for each record, and commits that never run ahead of it. */
import { describe, expect } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Producer from "../../../src/Producer.ts"
import type { Suite } from "../Kafka.ts"
import {
  event,
  eventsOf,
  makeTextTopic,
  member,
  partitionOf,
  Seen,
  type TextRecord,
  texts,
  values,
  write,
  writeEach
} from "../support.ts"

export const processing = (kafka: Suite) =>
  describe("forEach", () => {
    kafka.test(
      "by partition: each partition's records one after the other, several partitions at once",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        const written = yield* writeEach(topic, 100)
        const consumer = yield* member()
        const seen = new Seen<TextRecord>()
        const running = new Map<number, number>()
        yield* Effect.forkScoped(consumer.forEach(topic, (record) =>
          Effect.gen(function*() {
            const others = (running.get(record.partition) ?? 0) + 1
            running.set(record.partition, others)
            expect(others).toBe(1)
            yield* Effect.yieldNow()
            running.set(record.partition, 0)
            seen.push(record)
          }), { concurrency: 8 }))
        const all = yield* seen.count(300)
        expect(values(all).sort()).toEqual(written.sort())
        for (const partition of [0, 1, 2]) {
          const own = all.filter((record) => record.partition === partition)
          expect(own.map((record) => record.offset)).toEqual(own.map((_, index) => BigInt(index)))
        }
      })
    )

    kafka.test(
      "by key: a slow key delays no other, and keeps its order",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const records = Array.from({ length: 60 }, (_, index) => ({ key: `key-${index % 3}`, value: `${index}` }))
        yield* Producer.sendAll(topic, records)
        const consumer = yield* member()
        const slow = yield* Deferred.make<void>()
        const seen = new Seen<TextRecord>()
        const fiber = yield* Effect.forkScoped(consumer.forEach(
          topic,
          (record) =>
            Effect.zipRight(
              record.key === "key-0" ? Deferred.await(slow) : Effect.void,
              Effect.sync(() => seen.push(record))
            ),
          { concurrency: 4, ordering: "key" }
        ))
        const others = yield* seen.count(40)
        expect(others.every((record) => record.key !== "key-0")).toBe(true)
        const tp = yield* partitionOf(topic)
        expect((yield* consumer.committed([tp])).size).toBe(0)
        yield* Deferred.succeed(slow, undefined)
        const all = yield* seen.count(60)
        for (const key of ["key-0", "key-1", "key-2"]) {
          const own = values(all.filter((record) => record.key === key)).map(Number)
          expect(own).toEqual([...own].sort((a, b) => a - b))
        }
        yield* consumer.stop
        yield* Fiber.join(fiber)
        expect(eventsOf(consumer, "Committed").at(-1)!.offsets).toEqual([{ ...tp, offset: 60n }])
      })
    )

    kafka.test(
      "commits end before the first record that is not done, whatever is done behind it",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(50))
        const seen = new Seen<TextRecord>()
        yield* Effect.scoped(Effect.gen(function*() {
          const consumer = yield* member()
          yield* Effect.forkScoped(consumer.forEach(
            topic,
            (record) => record.offset === 20n ? Effect.never : Effect.sync(() => seen.push(record)),
            { concurrency: 4, ordering: "unordered", commitCount: 1, gracePeriod: 0 }
          ))
          yield* seen.count(49)
          const committed = yield* event(consumer, "Committed", (one) => one.offsets[0]!.offset === 20n)
          expect(committed.offsets).toEqual([{ ...tp, offset: 20n }])
        }))
        // the handler that never ends was interrupted, and its record is read again, with those behind it
        const next = yield* member()
        const again = new Seen<TextRecord>()
        yield* Effect.forkScoped(next.forEach(topic, (record) => Effect.sync(() => again.push(record))))
        expect(values(yield* again.count(30))).toEqual(texts(30, 20))
      })
    )

    kafka.test(
      "a handler that fails ends it with its error, and what was done before is committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(20))
        const consumer = yield* member()
        const exit = yield* Effect.exit(
          consumer.forEach(topic, (record) => record.offset === 7n ? Effect.fail("no milk" as const) : Effect.void)
        )
        expect(exit).toEqual(Exit.fail("no milk"))
        expect([...(yield* consumer.committed([tp])).values()]).toEqual([7n])
      })
    )

    kafka.test(
      "a handler that dies ends it with the defect, and what was done before is committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(20))
        const consumer = yield* member()
        const exit = yield* Effect.exit(
          consumer.forEach(topic, (record) => record.offset === 7n ? Effect.die("spilt") : Effect.void)
        )
        expect(Exit.isFailure(exit) && String(exit.cause)).toContain("spilt")
        expect([...(yield* consumer.committed([tp])).values()]).toEqual([7n])
      })
    )

    kafka.test(
      "stop lets running handlers end, starts no new ones, and commits what they did",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(50))
        const consumer = yield* member()
        const begun = yield* Deferred.make<void>()
        const finish = yield* Deferred.make<void>()
        const seen = new Seen<TextRecord>()
        const fiber = yield* Effect.forkScoped(consumer.forEach(topic, (record) =>
          Effect.gen(function*() {
            if (record.offset === 5n) {
              yield* Deferred.succeed(begun, undefined)
              yield* Deferred.await(finish)
            }
            seen.push(record)
          })))
        yield* Deferred.await(begun)
        const stopping = yield* Effect.fork(consumer.stop)
        yield* event(consumer, "Stopped").pipe(Effect.timeoutOption(100))
        expect(eventsOf(consumer, "Stopped")).toEqual([])
        yield* Deferred.succeed(finish, undefined)
        yield* Fiber.join(stopping)
        yield* Fiber.join(fiber)
        expect(values(seen.all)).toEqual(texts(6))
        const next = yield* member()
        expect([...(yield* next.committed([tp])).values()]).toEqual([6n])
      })
    )
  })
