import * as Serde from "@coffeebuddy/kafka/Serde"
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import { Context, Effect, Either, FastCheck, Layer, Option, ParseResult, Schema } from "effect"

const context: Serde.SerdeContext = { topic: "coffeebuddy.run-events", part: "value", headers: [] }

const write = <A, R>(serde: Serde.Serde<A, R>, value: A): Effect.Effect<Uint8Array | null, unknown, R> =>
  Effect.suspend((): Effect.Effect<Uint8Array | null, unknown, R> => {
    const answer = serde.serialize(value, context)
    return answer instanceof Serde.Pending ? answer.effect : Effect.succeed(answer)
  })

const read = <A, R>(serde: Serde.Serde<A, R>, bytes: Uint8Array | null): Effect.Effect<A, unknown, R> =>
  Effect.suspend((): Effect.Effect<A, unknown, R> => {
    const answer = serde.deserialize(bytes, context)
    return answer instanceof Serde.Pending ? answer.effect : Effect.succeed(answer)
  })

/** What the driver hands over: a view into a larger buffer, of whatever class. */
const asView = (bytes: Uint8Array | null): Uint8Array | null => {
  if (bytes === null) return null
  const larger = new Uint8Array(bytes.length + 7).fill(0xff)
  larger.set(bytes, 3)
  return larger.subarray(3, 3 + bytes.length)
}

const roundTrip = <A, R>(serde: Serde.Serde<A, R>, value: A): Effect.Effect<A, unknown, R> =>
  Effect.flatMap(write(serde, value), (bytes) => read(serde, asView(bytes)))

const hex = (text: string): Uint8Array => Buffer.from(text, "hex")
const toHex = (bytes: unknown): string => Buffer.from(bytes as Uint8Array).toString("hex")

/** Well-formed text, astral characters and all. */
const text = FastCheck.string({ unit: "binary" })

/** As `roundTrip`, where no effect is needed. */
const back = <A>(serde: Serde.Serde<A>, value: A): A | Serde.Pending<A> => {
  const bytes = serde.serialize(value, context)
  return bytes instanceof Serde.Pending ? expect.fail("an effect is needed") : serde.deserialize(asView(bytes), context)
}

describe("every serde reads back what it wrote", () => {
  class Order extends Schema.Class<Order>("Order")({
    id: Schema.NonEmptyString,
    cups: Schema.Int,
    at: Schema.Date,
    price: Schema.BigInt,
    milk: Schema.Option(Schema.Literal("oat", "cow")),
    notes: Schema.Array(Schema.String)
  }) {}

  const Text = Schema.transform(Schema.Uint8ArrayFromSelf, Schema.String, {
    decode: (bytes) => Buffer.from(bytes).toString("utf8"),
    encode: (text) => new Uint8Array(Buffer.from(text, "utf8"))
  })

  it.prop("bytes", [FastCheck.uint8Array()], ([value]) => {
    expect(back(Serde.bytes, value)).toEqual(value)
  })

  it.prop("string", [text], ([value]) => {
    expect(back(Serde.string, value)).toBe(value)
  })

  it.prop("int32", [FastCheck.integer()], ([value]) => {
    expect(back(Serde.int32, value)).toBe(value)
  })

  it.prop("int64", [FastCheck.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })], ([value]) => {
    expect(back(Serde.int64, value)).toBe(value)
  })

  it.prop("uuid", [FastCheck.uuid()], ([value]) => {
    expect(back(Serde.uuid, value)).toBe(value)
  })

  it.prop("nullable", [FastCheck.option(text)], ([value]) => {
    expect(back(Serde.nullable(Serde.string), value)).toBe(value)
  })

  it.prop("json, whatever the value", [FastCheck.jsonValue()], ([value]) => {
    expect(JSON.stringify(back(Serde.json(Schema.Unknown), value))).toBe(JSON.stringify(value))
  })

  it.prop("json over a class with transformations", [Order], ([order]) => {
    const found = back(Serde.json(Order), order)
    expect(found).toBeInstanceOf(Order)
    expect(found).toEqual(order)
  })

  it.prop("a schema over bytes", [text], ([value]) => {
    expect(back(Serde.schema(Text), value)).toBe(value)
  })
})

// made by Kafka's own serializers, kafka-clients 3.9.1 on Java 17
describe("the bytes are those of Java's serializers", () => {
  it.each([
    ["", ""],
    ["run-42", "72756e2d3432"],
    ["José", "4a6f73c3a9"],
    ["☕ coffee", "e2989520636f66666565"],
    ["😀", "f09f9880"],
    ["\uFEFFbom", "efbbbf626f6d"],
    ["\uFFFD", "efbfbd"],
    ["line\nbreak\0", "6c696e650a627265616b00"]
  ])("StringSerializer %j", (value, bytes) => {
    expect(toHex(Serde.string.serialize(value, context))).toBe(bytes)
    expect(Serde.string.deserialize(hex(bytes), context)).toBe(value)
  })

  it.each([
    [0, "00000000"],
    [1, "00000001"],
    [-1, "ffffffff"],
    [-123456, "fffe1dc0"],
    [2147483647, "7fffffff"],
    [-2147483648, "80000000"]
  ])("IntegerSerializer %j", (value, bytes) => {
    expect(toHex(Serde.int32.serialize(value, context))).toBe(bytes)
    expect(Serde.int32.deserialize(hex(bytes), context)).toBe(value)
  })

  it.each([
    [0n, "0000000000000000"],
    [-1n, "ffffffffffffffff"],
    [9007199254740993n, "0020000000000001"],
    [-123456789012n, "ffffffe34166e5ec"],
    [9223372036854775807n, "7fffffffffffffff"],
    [-9223372036854775808n, "8000000000000000"]
  ])("LongSerializer %s", (value, bytes) => {
    expect(toHex(Serde.int64.serialize(value, context))).toBe(bytes)
    expect(Serde.int64.deserialize(hex(bytes), context)).toBe(value)
  })

  it.each([
    ["00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"],
    ["F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
    ["123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"]
  ])("UUIDSerializer %s: lower case, so that a key has one partition", (value, written) => {
    expect(Buffer.from(Serde.uuid.serialize(value, context) as Uint8Array).toString("latin1")).toBe(written)
    expect(Serde.uuid.deserialize(Buffer.from(value, "latin1"), context)).toBe(written)
  })
})

describe("what is malformed is refused", () => {
  it.each<[string, Serde.Serde<unknown>, string, RegExp]>([
    ["a continuation byte on its own", Serde.string as Serde.Serde<unknown>, "80", /utf-8/i],
    ["a sequence cut off", Serde.string as Serde.Serde<unknown>, "616263e298", /utf-8/i],
    ["an overlong form", Serde.string as Serde.Serde<unknown>, "c080", /utf-8/i],
    ["a surrogate in UTF-8", Serde.string as Serde.Serde<unknown>, "eda080", /utf-8/i],
    ["beyond Unicode", Serde.string as Serde.Serde<unknown>, "f4908080", /utf-8/i],
    ["latin-1 in JSON", Serde.json(Schema.String) as Serde.Serde<unknown>, "224a6f73e922", /utf-8/i],
    ["no bytes for an int32", Serde.int32 as Serde.Serde<unknown>, "", /expected 4 bytes, found 0/],
    ["an int64 read as int32", Serde.int32 as Serde.Serde<unknown>, "0000000000000001", /expected 4 bytes, found 8/],
    ["an int32 read as int64", Serde.int64 as Serde.Serde<unknown>, "00000001", /expected 8 bytes, found 4/],
    ["no UUID", Serde.uuid as Serde.Serde<unknown>, "6162", /"ab" is no UUID/],
    ["no JSON", Serde.json(Schema.Unknown) as Serde.Serde<unknown>, "7b", /JSON/],
    ["no JSON at all", Serde.json(Schema.Unknown) as Serde.Serde<unknown>, "", /JSON/],
    ["JSON of something else", Serde.json(Schema.String) as Serde.Serde<unknown>, "3432", /Expected string, actual 42/]
  ])("%s", (_, serde, bytes, message) => {
    expect(() => serde.deserialize(hex(bytes), context)).toThrow(message)
    expect(() => Serde.nullable(serde).deserialize(hex(bytes), context)).toThrow(message)
  })

  it.prop(
    "bytes are read as text exactly where they are UTF-8",
    [FastCheck.uint8Array({ maxLength: 12 })],
    ([bytes]) => {
      const lenient = Buffer.from(bytes).toString("utf8")
      const isUtf8 = Buffer.from(lenient, "utf8").equals(bytes)
      const read = Either.try(() => Serde.string.deserialize(bytes, context))
      expect(Either.isRight(read)).toBe(isUtf8)
      if (Either.isRight(read)) expect(read.right).toBe(lenient)
    }
  )

  it.each<[string, Serde.Serde<unknown>]>([
    ["bytes", Serde.bytes as Serde.Serde<unknown>],
    ["string", Serde.string as Serde.Serde<unknown>],
    ["int32", Serde.int32 as Serde.Serde<unknown>],
    ["int64", Serde.int64 as Serde.Serde<unknown>],
    ["uuid", Serde.uuid as Serde.Serde<unknown>],
    ["json", Serde.json(Schema.Unknown) as Serde.Serde<unknown>],
    ["schema", Serde.schema(Schema.Uint8ArrayFromSelf) as Serde.Serde<unknown>]
  ])("null is no %s: it says what to use instead", (_, serde) => {
    expect(() => serde.deserialize(null, context)).toThrow(/Serde\.nullable/)
    expect(Serde.nullable(serde).deserialize(null, context)).toBeNull()
    expect(Serde.nullable(serde).serialize(null, context)).toBeNull()
  })

  it("an empty value is no null", () => {
    expect(Serde.nullable(Serde.string).deserialize(new Uint8Array(0), context)).toBe("")
    expect(Serde.nullable(Serde.string).serialize("", context)).toEqual(Buffer.alloc(0))
  })

  it.each<[string, Serde.Serde<unknown>, unknown, RegExp]>([
    ["text with half of a surrogate pair", Serde.string as Serde.Serde<unknown>, "a\uD800b", /surrogate/],
    ["a number as text", Serde.string as Serde.Serde<unknown>, 42, /expected a string, found number/],
    ["null as text", Serde.string as Serde.Serde<unknown>, null, /expected a string, found null/],
    ["text as bytes", Serde.bytes as Serde.Serde<unknown>, "abc", /expected a Uint8Array, found string/],
    ["too much for an int32", Serde.int32 as Serde.Serde<unknown>, 2 ** 31, /range/],
    ["too little for an int32", Serde.int32 as Serde.Serde<unknown>, -(2 ** 31) - 1, /range/],
    ["a fraction", Serde.int32 as Serde.Serde<unknown>, 1.5, /1.5 is no integer/],
    ["no number", Serde.int32 as Serde.Serde<unknown>, Number.NaN, /no integer/],
    ["too much for an int64", Serde.int64 as Serde.Serde<unknown>, 2n ** 63n, /range/],
    ["a number as int64", Serde.int64 as Serde.Serde<unknown>, 1, /BigInt/i],
    ["no UUID", Serde.uuid as Serde.Serde<unknown>, "42", /"42" is no UUID/],
    ["what the schema refuses", Serde.json(Schema.Int) as Serde.Serde<unknown>, 1.5, /Expected an integer, actual 1.5/],
    ["what JSON can't hold", Serde.json(Schema.BigIntFromSelf) as Serde.Serde<unknown>, 1n, /BigInt/],
    ["what JSON leaves out", Serde.json(Schema.Undefined) as Serde.Serde<unknown>, undefined, /no JSON form/]
  ])("%s is not written", (_, serde, value, message) => {
    expect(() => serde.serialize(value, context)).toThrow(message)
  })
})

describe("schemas", () => {
  it("a failure is the schema's own ParseError, with the path to what is wrong", () => {
    const serde = Serde.json(Schema.Struct({ order: Schema.Struct({ cups: Schema.Int }) }))
    const bytes = Buffer.from(`{"order":{"cups":"two"}}`)
    const error = Either.flip(Either.try({ try: () => serde.deserialize(bytes, context), catch: (error) => error }))
    expect(ParseResult.isParseError(Either.getOrThrow(error))).toBe(true)
    expect(String(Either.getOrThrow(error))).toContain(`["cups"]`)
  })

  it("what needs no effect is answered at once", () => {
    expect(Serde.json(Schema.Number).deserialize(Buffer.from("42"), context)).toBe(42)
    expect(Serde.json(Schema.Number).serialize(42, context)).toEqual(Buffer.from("42"))
  })

  const Later = Schema.transformOrFail(Schema.String, Schema.String, {
    decode: (text, _, ast) =>
      text === "wrong"
        ? Effect.zipRight(Effect.yieldNow(), ParseResult.fail(new ParseResult.Type(ast, text, "it is wrong")))
        : Effect.as(Effect.yieldNow(), text.toUpperCase()),
    encode: (text, _, ast) =>
      text === "WRONG"
        ? Effect.zipRight(Effect.yieldNow(), ParseResult.fail(new ParseResult.Type(ast, text, "it is wrong")))
        : Effect.as(Effect.yieldNow(), text.toLowerCase())
  })

  it.effect("what needs an effect is pending, and settles", () =>
    Effect.gen(function*() {
      const serde = Serde.json(Schema.Struct({ name: Later }))
      expect(serde.serialize({ name: "COFFEE" }, context)).toBeInstanceOf(Serde.Pending)
      expect(serde.deserialize(Buffer.from(`{"name":"coffee"}`), context)).toBeInstanceOf(Serde.Pending)
      const bytes = yield* write(serde, { name: "COFFEE" })
      expect(Buffer.from(bytes ?? []).toString()).toBe(`{"name":"coffee"}`)
      expect(yield* read(serde, bytes)).toEqual({ name: "COFFEE" })
      expect(String(yield* Effect.flip(read(serde, Buffer.from(`{"name":"wrong"}`))))).toContain("it is wrong")
      expect(String(yield* Effect.flip(write(serde, { name: "WRONG" })))).toContain("it is wrong")
    }))

  it.effect("an effectful schema over bytes, and what JSON can't hold after an effect", () =>
    Effect.gen(function*() {
      const Bytes = Schema.transformOrFail(Schema.Uint8ArrayFromSelf, Schema.Number, {
        decode: (bytes) => Effect.as(Effect.yieldNow(), bytes.length),
        encode: (length) => Effect.as(Effect.yieldNow(), new Uint8Array(length))
      })
      expect(yield* roundTrip(Serde.schema(Bytes), 5)).toBe(5)
      const BigLater = Schema.transformOrFail(Schema.BigIntFromSelf, Schema.BigIntFromSelf, {
        decode: Effect.succeed,
        encode: (value) => Effect.as(Effect.yieldNow(), value)
      })
      expect(yield* Effect.flip(write(Serde.json(BigLater), 1n))).toBeDefined()
    }))

  class Menu extends Context.Tag("test/Menu")<Menu, { readonly names: ReadonlyArray<string> }>() {}

  it.effect("what a schema needs is what the serde needs", () => {
    const Drink = Schema.transformOrFail(Schema.Number, Schema.String, {
      decode: (index, _, ast) =>
        Effect.flatMap(Menu, ({ names }) =>
          Effect.mapError(
            Effect.fromNullable(names[index]),
            () => new ParseResult.Type(ast, index, "not on the menu")
          )),
      encode: (name) => Effect.map(Menu, ({ names }) => names.indexOf(name))
    })
    const serde = Serde.nullable(Serde.json(Drink))
    expectTypeOf(serde).toEqualTypeOf<Serde.Serde<string | null, Menu>>()
    return Effect.gen(function*() {
      expect(yield* roundTrip(serde, "latte")).toBe("latte")
      expect(yield* roundTrip(serde, null)).toBeNull()
      expect(String(yield* Effect.flip(read(serde, Buffer.from("7"))))).toContain("not on the menu")
    }).pipe(Effect.provide(Layer.succeed(Menu, { names: ["espresso", "latte"] })))
  })
})

describe("make", () => {
  it.effect("functions may answer at once, throw, or answer an effect", () =>
    Effect.gen(function*() {
      const serde = Serde.make<number>({
        serialize: (value) =>
          value < 0 ? Effect.fail("negative") : value === 0 ? null : Effect.succeed(Uint8Array.of(value)),
        deserialize: (bytes) => {
          if (bytes?.length !== 1) throw new Error("one byte")
          return bytes[0] === 9 ? Effect.as(Effect.yieldNow(), 9) : bytes[0] ?? 0
        }
      })
      expect(yield* write(serde, 0)).toBeNull()
      expect(yield* roundTrip(serde, 3)).toBe(3)
      expect(yield* roundTrip(serde, 9)).toBe(9)
      expect(yield* Effect.flip(write(serde, -1))).toBe("negative")
      expect(() => serde.deserialize(null, context)).toThrow("one byte")
    }))

  it("values that Effect takes for effects are values: an Option, and an Either within another", () => {
    const serde = Serde.make<Option.Option<number>>({
      serialize: (value) => Option.match(value, { onNone: () => null, onSome: (one) => Uint8Array.of(one) }),
      deserialize: (bytes) => Option.map(Option.fromNullable(bytes), (bytes) => bytes[0] ?? 0)
    })
    expect(serde.deserialize(Uint8Array.of(7), context)).toEqual(Option.some(7))
    expect(serde.deserialize(null, context)).toEqual(Option.none())

    const option = Serde.json(Schema.Option(Schema.Number))
    expect(option.deserialize(option.serialize(Option.some(1), context) as Uint8Array, context)).toEqual(Option.some(1))
    const either = Serde.json(Schema.Either({ left: Schema.String, right: Schema.Number }))
    expect(either.deserialize(either.serialize(Either.left("no"), context) as Uint8Array, context))
      .toEqual(Either.left("no"))
  })

  it("an Either that a function answers is settled at once", () => {
    const serde = Serde.make<number>({
      serialize: () => Either.left(new Error("never")),
      deserialize: (bytes) => bytes === null ? Either.left(new Error("null")) : Either.right(bytes.length)
    })
    expect(() => serde.serialize(1, context)).toThrow("never")
    expect(() => serde.deserialize(null, context)).toThrow("null")
    expect(serde.deserialize(new Uint8Array(3), context)).toBe(3)
  })

  it("sees topic, part and headers", () => {
    const seen: Array<Serde.SerdeContext> = []
    const serde = Serde.nullable(Serde.make<number>({
      serialize: (_, context) => {
        seen.push(context)
        return null
      },
      deserialize: (_, context) => {
        seen.push(context)
        return 0
      }
    }))
    serde.serialize(1, context)
    serde.deserialize(new Uint8Array(0), context)
    expect(seen).toEqual([context, context])
  })

  it("isSerde tells one", () => {
    expect(Serde.isSerde(Serde.string)).toBe(true)
    expect(Serde.isSerde({})).toBe(false)
    expect(Serde.isSerde(null)).toBe(false)
    expect(Serde.string.pipe(Serde.nullable)).toSatisfy(Serde.isSerde)
  })

  it("its type is that of its values", () => {
    expectTypeOf<Serde.Type<typeof Serde.int64>>().toEqualTypeOf<bigint>()
    const nullable = Serde.nullable(Serde.string)
    expectTypeOf<Serde.Type<typeof nullable>>().toEqualTypeOf<string | null>()
  })
})
