/** Bytes that are not what a topic's serde expects. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { DeserializationError } from "../../../src/KafkaError.ts"
import * as Producer from "../../../src/Producer.ts"
import * as RecordHeaders from "../../../src/RecordHeaders.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import { event, eventsOf, member, partitionOf, running, text, texts, textTopic, write } from "../support.ts"

const Cup = Schema.Struct({ cups: Schema.Int })

const cups = Topic.make("cups", { key: Serde.nullable(Serde.int32), value: Serde.json(Cup), partitions: 1 })
/** The same topic, for bytes of every kind. */
const raw = Topic.make("cups", { key: Serde.nullable(Serde.bytes), value: Serde.bytes })

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** Cups 0 to 9, of which 4 is no cup, and the key of 7 no number. */
const prepare = Effect.gen(function*() {
  yield* TopicRegistry.ensure([cups])
  for (let cup = 0; cup < 10; cup++) {
    if (cup === 4) {
      yield* Producer.send(raw, { key: null, value: bytes("{\"cups\":\"four\"}"), headers: { from: "the bar" } })
    } else if (cup === 7) yield* Producer.send(raw, { key: bytes("seven"), value: bytes("{\"cups\":7}") })
    else yield* Producer.send(cups, { key: cup, value: { cups: cup } })
  }
})

const numbers = (records: Iterable<{ readonly value: { readonly cups: number } }>) =>
  Array.from(records, (record) => record.value.cups)

export const decoding = (kafka: Suite) =>
  describe("decoding", () => {
    kafka.test(
      "a record that can't be decoded fails the stream behind the records before it, and says all about itself",
      Effect.gen(function*() {
        yield* prepare
        const tp = yield* partitionOf(cups)
        const consumer = yield* member()
        const seen = yield* Ref.make<ReadonlyArray<number>>([])
        const error = yield* consumer.stream(cups).pipe(
          Stream.tap((record) => Ref.update(seen, (all) => [...all, record.value.cups])),
          consumer.commitWithin(1_000_000, "1 hour"),
          Stream.runDrain,
          Effect.flip
        )
        expect(yield* seen).toEqual([0, 1, 2, 3])
        expect(error).toMatchObject({ _tag: "DeserializationError", ...tp, offset: 4n, part: "value" })
        const failure = error as DeserializationError
        expect(text(failure.bytes)).toBe("{\"cups\":\"four\"}")
        expect(RecordHeaders.getString(failure.headers, "from")).toBe("the bar")
        expect(failure.message).toContain("cups")
        // what was before it is committed, it and what is behind it are not
        expect([...(yield* consumer.committed([tp])).values()]).toEqual([4n])
      })
    )

    kafka.test(
      "a key that can't be decoded is told as such",
      Effect.gen(function*() {
        yield* prepare
        const consumer = yield* member()
        const error = yield* Effect.flip(
          Stream.runDrain(consumer.stream(cups, { partitions: [{ partition: 0, offset: 5n }] }))
        )
        expect(error).toMatchObject({ _tag: "DeserializationError", offset: 7n, part: "key" })
        expect(text((error as DeserializationError).bytes)).toBe("seven")
      })
    )

    kafka.test(
      "the next stream finds the same record, until it is told what to do with it",
      Effect.gen(function*() {
        yield* prepare
        const attempt = (options: { readonly onDecodeFailure?: "fail" | "skip" }) =>
          Effect.scoped(Effect.gen(function*() {
            const consumer = yield* member()
            return yield* consumer.stream(cups, options).pipe(
              consumer.commitWithin(1, "1 hour"),
              Stream.takeUntil((record) => record.value.cups === 9),
              Stream.runCollect,
              Effect.either
            )
          }))
        const [first, second, third] = [
          yield* attempt({}),
          yield* attempt({}),
          yield* attempt({ onDecodeFailure: "skip" })
        ]
        expect(first).toMatchObject({ _tag: "Left", left: { offset: 4n } })
        expect(second).toMatchObject({ _tag: "Left", left: { offset: 4n } })
        expect(numbers(Either.getOrThrow(third))).toEqual([5, 6, 8, 9])
      })
    )

    kafka.test(
      "\"skip\" leaves it out, and an event says so",
      Effect.gen(function*() {
        yield* prepare
        const consumer = yield* member()
        const read = yield* consumer.stream(cups, { onDecodeFailure: "skip" }).pipe(Stream.take(8), Stream.runCollect)
        expect(numbers(read)).toEqual([0, 1, 2, 3, 5, 6, 8, 9])
        expect(eventsOf(consumer, "DecodeFailed")).toMatchObject([
          { offset: 4n, action: "skip" },
          { offset: 7n, action: "skip" }
        ])
      })
    )

    kafka.test(
      "\"either\" gives records and failures in their order",
      Effect.gen(function*() {
        yield* prepare
        const consumer = yield* member()
        const read = yield* consumer.stream(cups, { onDecodeFailure: "either" }).pipe(
          Stream.take(10),
          Stream.runCollect
        )
        expect(
          Array.from(
            read,
            Either.match({ onLeft: ({ offset }) => `failed at ${offset}`, onRight: ({ value }) => value.cups })
          )
        ).toEqual([0, 1, 2, 3, "failed at 4", 5, 6, "failed at 7", 8, 9])
      })
    )

    kafka.test(
      "a handler is run for it, in its place; where the handler fails, so does the stream",
      Effect.gen(function*() {
        yield* prepare
        const consumer = yield* member()
        const log = yield* Ref.make<ReadonlyArray<unknown>>([])
        const note = (what: unknown) => Ref.update(log, (all) => [...all, what])
        const error = yield* consumer.stream(cups, {
          onDecodeFailure: ({ offset }) => offset === 7n ? Effect.fail("no more" as const) : note(`handled ${offset}`)
        }).pipe(
          Stream.tap((record) => note(record.value.cups)),
          Stream.runDrain,
          Effect.flip
        )
        expect(error).toBe("no more")
        expect(yield* log).toEqual([0, 1, 2, 3, "handled 4", 5, 6])
      })
    )

    kafka.test(
      "a poison record stops its own stream alone, and the others of the consumer go on",
      Effect.gen(function*() {
        yield* prepare
        const orders = textTopic("orders")
        yield* TopicRegistry.ensure([orders])
        yield* write(orders, texts(3))
        const consumer = yield* member()
        const healthy = yield* running(consumer.stream(orders))
        yield* healthy.count(3)
        const error = yield* Effect.flip(Stream.runDrain(consumer.stream(cups)))
        expect(error).toMatchObject({ _tag: "DeserializationError", offset: 4n })
        yield* write(orders, texts(3, 3))
        expect((yield* healthy.count(6)).map((record) => record.value)).toEqual(texts(6))
        yield* event(consumer, "DecodeFailed", (one) => one.action === "fail")
      })
    )
  })
