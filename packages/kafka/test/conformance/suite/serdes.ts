/** Every serde, through the brokers and back. */
import { describe, expect } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Producer from "../../../src/Producer.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import { member } from "../support.ts"

class Run extends Schema.Class<Run>("Run")({
  id: Schema.UUID,
  at: Schema.Date,
  cups: Schema.Int,
  note: Schema.optional(Schema.String),
  tags: Schema.ReadonlySet(Schema.String)
}) {}

const run = new Run({
  id: "0f8fad5b-d9cb-469f-a165-70867728950e",
  at: new Date(1_700_000_000_123),
  cups: 3,
  note: "zwei Löffel Zucker 🍬",
  tags: new Set(["ristretto", "☕"])
})

/** A string's characters, by their numbers. */
const Characters = Schema.transform(Schema.Uint8ArrayFromSelf, Schema.String, {
  strict: true,
  decode: (bytes) => String.fromCharCode(...bytes),
  encode: (text) => Uint8Array.from(text, (character) => character.charCodeAt(0))
})

const flag = Serde.make<boolean>({
  serialize: (value) => Uint8Array.of(value ? 1 : 0),
  deserialize: (bytes) => bytes?.[0] === 1
})

/** A secret that a serde needs. */
class Mask extends Context.Tag("conformance/Mask")<Mask, number>() {}

const masked: Serde.Serde<string, Mask> = Serde.make({
  serialize: (value: string) => Effect.map(Mask, (mask) => new TextEncoder().encode(value).map((byte) => byte ^ mask)),
  deserialize: (bytes) => Effect.map(Mask, (mask) => new TextDecoder().decode(bytes?.map((byte) => byte ^ mask)))
})

/** Bytes are equal whatever class they have. */
const plain = (value: unknown): unknown => value instanceof Uint8Array ? [...value] : value

export const serdes = (kafka: Suite) =>
  describe("serdes", () => {
    const roundtrip = <A, R>(partition: number, serde: Serde.Serde<A, R>, given: ReadonlyArray<A>) => ({
      partition,
      check: Effect.gen(function*() {
        const topic = Topic.make("serdes", { key: serde, value: serde, partitions: 10 })
        yield* Producer.sendAll(topic, given.map((one) => ({ key: one, value: one, partition })))
        const consumer = yield* member({ groupId: `serde-${partition}` })
        const read = yield* consumer.stream(topic, { partitions: [partition] }).pipe(
          Stream.take(given.length),
          Stream.runCollect
        )
        expect(Array.from(read, (record) => plain(record.key))).toEqual(given.map(plain))
        expect(Array.from(read, (record) => plain(record.value))).toEqual(given.map(plain))
      })
    })

    kafka.test(
      "every serde gives back what it was given",
      Effect.gen(function*() {
        yield* TopicRegistry.ensure([Topic.make("serdes", { key: flag, value: flag, partitions: 10 })])
        const all = [
          roundtrip(0, Serde.string, ["", "plain", "größe ☕🍬", "\u0000\uffff"]),
          roundtrip(1, Serde.bytes, [Buffer.of(), Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))]),
          roundtrip(2, Serde.int32, [0, 1, -1, 2 ** 31 - 1, -(2 ** 31)]),
          roundtrip(3, Serde.int64, [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n]),
          roundtrip(4, Serde.uuid, ["0f8fad5b-d9cb-469f-a165-70867728950e"]),
          roundtrip(5, Serde.json(Run), [run]),
          roundtrip(6, Serde.schema(Characters), ["", "crème"]),
          roundtrip(7, Serde.nullable(Serde.json(Schema.NullOr(Schema.Number))), [null, 1.5]),
          roundtrip(8, flag, [true, false]),
          roundtrip(9, masked, ["behind a mask", ""])
        ]
        yield* Effect.forEach(all, ({ check }) => Effect.scoped(check), { concurrency: 5, discard: true })
      }).pipe(Effect.provideService(Mask, 42))
    )
  })
