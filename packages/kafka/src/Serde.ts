/**
 * How a key or a value becomes bytes and back.
 *
 * The functions of a serde are plain: they answer at once, or throw, or answer an `Effect`. A consumer can therefore
 * decode a whole chunk in one loop, and only a serde that really is effectful pays for being so.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"
import type * as AST from "effect/SchemaAST"
import { isWellFormed } from "./engine/wellFormed.ts"
import type { RecordHeaders } from "./RecordHeaders.ts"

/**
 * @since 0.1.0
 * @category symbols
 */
export const TypeId = "~@coffeebuddy/kafka/Serde"

/**
 * @since 0.1.0
 * @category symbols
 */
export type TypeId = typeof TypeId

/**
 * What a serde may look at beside the bytes. Valid during the call only: a consumer uses one for a whole chunk.
 *
 * @since 0.1.0
 * @category models
 */
export interface SerdeContext {
  /** The physical name of the topic. */
  readonly topic: string
  readonly part: "key" | "value"
  readonly headers: RecordHeaders
}

/**
 * An answer that needs an effect first. A class of its own, because a value may be something that Effect also takes for
 * an effect: an `Option`, an `Either`.
 *
 * @since 0.1.0
 * @category models
 */
export class Pending<out A, out R = never> {
  readonly effect: Effect.Effect<A, unknown, R>
  constructor(effect: Effect.Effect<A, unknown, R>) {
    this.effect = effect
  }
}

/**
 * Values of type `A` as bytes. `null` stands for Kafka's null: an absent key, a tombstone.
 *
 * @since 0.1.0
 * @category models
 */
export interface Serde<in out A, out R = never> extends Pipeable {
  readonly [TypeId]: TypeId
  /** Throws, or its effect fails, where the value can't be written. */
  readonly serialize: (value: A, context: SerdeContext) => Uint8Array | null | Pending<Uint8Array | null, R>
  /** Throws, or its effect fails, where the bytes are not a value of this type. */
  readonly deserialize: (bytes: Uint8Array | null, context: SerdeContext) => A | Pending<A, R>
}

/**
 * The type of the values of a serde.
 *
 * @since 0.1.0
 * @category types
 */
export type Type<S> = S extends Serde<infer A, infer _R> ? A : never

const Proto = {
  [TypeId]: TypeId as TypeId,
  pipe() {
    return pipeArguments(this, arguments)
  }
}

const fromFunctions = <A, R>(
  serialize: Serde<A, R>["serialize"],
  deserialize: Serde<A, R>["deserialize"]
): Serde<A, R> => Object.assign(Object.create(Proto), { serialize, deserialize })

/** What a function of {@link make} answered: an `Either` is settled at once, an `Option` is a value. */
const answered = <A, R>(answer: A | Effect.Effect<A, unknown, R>): A | Pending<A, R> => {
  if (!Effect.isEffect(answer) || Option.isOption(answer)) return answer as A
  if (Either.isEither(answer)) {
    if (Either.isRight(answer)) return answer.right as A
    throw answer.left
  }
  return new Pending(answer as Effect.Effect<A, unknown, R>)
}

/**
 * A serde from two functions. They may answer at once, throw, or answer an `Effect`.
 *
 * @example
 * ```ts
 * import { Serde } from "@coffeebuddy/kafka"
 *
 * const flag = Serde.make<boolean>({
 *   serialize: (value) => Uint8Array.of(value ? 1 : 0),
 *   deserialize: (bytes) => {
 *     if (bytes?.length !== 1) throw new Error("a flag is one byte")
 *     return bytes[0] === 1
 *   }
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <A, R = never>(options: {
  readonly serialize: (
    value: A,
    context: SerdeContext
  ) => Uint8Array | null | Effect.Effect<Uint8Array | null, unknown, R>
  readonly deserialize: (bytes: Uint8Array | null, context: SerdeContext) => A | Effect.Effect<A, unknown, R>
}): Serde<A, R> =>
  fromFunctions<A, R>(
    (value, context) => answered(options.serialize(value, context)),
    (bytes, context) => answered(options.deserialize(bytes, context))
  )

/**
 * @since 0.1.0
 * @category guards
 */
export const isSerde = (u: unknown): u is Serde<unknown, unknown> => Predicate.hasProperty(u, TypeId)

// ---------------------------------------------------------------------------------------------------------------------
// bytes
// ---------------------------------------------------------------------------------------------------------------------

const present = (bytes: Uint8Array | null): Uint8Array => {
  if (bytes === null) throw new TypeError("it is null: use Serde.nullable where null is meant to occur")
  return bytes
}

/** For programs without types. */
const nameOf = (value: unknown): string => value === null ? "null" : typeof value

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Strict, and as fast as the lenient `Buffer.toString`. */
const fromUtf8 = (bytes: Uint8Array): string => strictUtf8.decode(bytes)

const lengthOf = (bytes: Uint8Array | null, length: number): Buffer => {
  const buffer = asBuffer(present(bytes))
  if (buffer.length !== length) throw new RangeError(`expected ${length} bytes, found ${buffer.length}`)
  return buffer
}

/**
 * Bytes as they are: no copy is made either way. What is sent must not be changed before it is acknowledged. What is
 * read may be a view into a larger buffer: copy what is kept for long, or is to be changed.
 *
 * @since 0.1.0
 * @category serdes
 */
export const bytes: Serde<Uint8Array> = fromFunctions(
  (value) => {
    if (!(value instanceof Uint8Array)) throw new TypeError(`expected a Uint8Array, found ${nameOf(value)}`)
    return value
  },
  present
)

/**
 * Text as UTF-8, as Java's `StringSerializer` writes it. Bytes that are not UTF-8 are refused, and so is text that UTF-8
 * can't hold, where others write a question mark.
 *
 * @since 0.1.0
 * @category serdes
 */
export const string: Serde<string> = fromFunctions(
  (value) => {
    if (typeof value !== "string") {
      throw new TypeError(`expected a string, found ${nameOf(value)}`)
    }
    if (!isWellFormed(value)) throw new TypeError("it has half of a surrogate pair in it, which UTF-8 can't hold")
    return Buffer.from(value, "utf8")
  },
  (bytes) => fromUtf8(present(bytes))
)

/**
 * A signed 32-bit integer, big-endian, as Java's `IntegerSerializer` writes it.
 *
 * @since 0.1.0
 * @category serdes
 */
export const int32: Serde<number> = fromFunctions(
  (value) => {
    if (!Number.isInteger(value)) throw new RangeError(`${String(value)} is no integer`)
    const buffer = Buffer.allocUnsafe(4)
    buffer.writeInt32BE(value)
    return buffer
  },
  (bytes) => lengthOf(bytes, 4).readInt32BE()
)

/**
 * A signed 64-bit integer, big-endian, as Java's `LongSerializer` writes it.
 *
 * @since 0.1.0
 * @category serdes
 */
export const int64: Serde<bigint> = fromFunctions(
  (value) => {
    const buffer = Buffer.allocUnsafe(8)
    buffer.writeBigInt64BE(value)
    return buffer
  },
  (bytes) => lengthOf(bytes, 8).readBigInt64BE()
)

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

const checkUuid = (text: string): string => {
  if (!uuidPattern.test(text)) throw new TypeError(`"${String(text).slice(0, 64)}" is no UUID`)
  return text.toLowerCase()
}

/**
 * A UUID as text, as Java's `UUIDSerializer` writes it: in lower case, so that a key has one form and one partition.
 *
 * @since 0.1.0
 * @category serdes
 */
export const uuid: Serde<string> = fromFunctions(
  (value) => Buffer.from(checkUuid(value), "latin1"),
  (bytes) => checkUuid(fromUtf8(present(bytes)))
)

/**
 * `null` as Kafka's null, anything else as the given serde has it: keys that may be absent, values that may be
 * tombstones.
 *
 * @example
 * ```ts
 * import { Serde, Topic } from "@coffeebuddy/kafka"
 *
 * // a compacted topic: a null value deletes the key
 * const Baristas = Topic.make("baristas", { key: Serde.string, value: Serde.nullable(Serde.string) })
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const nullable = <A, R>(self: Serde<A, R>): Serde<A | null, R> =>
  fromFunctions<A | null, R>(
    (value, context) => value === null ? null : self.serialize(value, context),
    (bytes, context) => bytes === null ? null : self.deserialize(bytes, context)
  )

// ---------------------------------------------------------------------------------------------------------------------
// schemas
// ---------------------------------------------------------------------------------------------------------------------

/** What a parser answers: an `Either`, told by its tag, whenever it needs no effect. */
type Parsed<A, R> = {
  readonly _tag?: unknown
} & (Either.Either<A, ParseResult.ParseIssue> | Effect.Effect<A, ParseResult.ParseIssue, R>)

/** The value, or what to throw, or what is to be waited for. Looks at the tag alone: it is called for each record. */
const settle = <A, R>(result: Parsed<A, R>): A | Pending<A, R> => {
  if (result._tag === "Right") return (result as Either.Right<never, A>).right
  if (result._tag === "Left") throw ParseResult.parseError((result as Either.Left<ParseResult.ParseIssue, A>).left)
  return new Pending(Effect.mapError(result, ParseResult.parseError))
}

/**
 * The option with which `ParseResult.decodeUnknown` lets a schema be effectful. It makes this object anew for each call,
 * which is measurable at a million records a second.
 */
const effectsAllowed = { isEffectAllowed: true } as AST.ParseOptions

/** Parsers that answer at once where they can. */
const compile = <A, I, R>(schema: Schema.Schema<A, I, R>): {
  readonly decode: (encoded: unknown) => Parsed<A, R>
  readonly encode: (value: A) => Parsed<I, R>
} => {
  // the types say that no effect is needed, as they must for an Either; `effectsAllowed` makes it an effect where one is
  const decode = ParseResult.decodeUnknownEither(schema as Schema.Schema<A, I>)
  const encode = ParseResult.encodeEither(schema as Schema.Schema<A, I>)
  return {
    decode: (encoded) => decode(encoded, effectsAllowed),
    encode: (value) => encode(value, effectsAllowed)
  }
}

/**
 * Values of a schema whose encoded side is bytes. The schema is compiled once, here.
 *
 * @since 0.1.0
 * @category serdes
 */
export const schema = <A, R>(schema: Schema.Schema<A, Uint8Array, R>): Serde<A, R> => {
  const { decode, encode } = compile(schema)
  return fromFunctions<A, R>(
    (value) => settle(encode(value)),
    (bytes) => settle(decode(present(bytes)))
  )
}

/**
 * JSON of the encoded side of a schema, as UTF-8. The schema is compiled once, here.
 *
 * JSON has no `NaN` and no infinity, and writes `null` for them: `Schema.Finite` rather than `Schema.Number` refuses them
 * before.
 *
 * @example
 * ```ts
 * import { Serde, Topic } from "@coffeebuddy/kafka"
 * import { Schema } from "effect"
 *
 * const Order = Schema.Struct({ id: Schema.String, cups: Schema.Int, at: Schema.Date })
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.json(Order) })
 * ```
 *
 * @since 0.1.0
 * @category serdes
 */
export const json = <A, I, R>(schema: Schema.Schema<A, I, R>): Serde<A, R> => {
  const { decode, encode } = compile(schema)
  const toBytes = (encoded: unknown): Uint8Array => {
    const text = JSON.stringify(encoded)
    if (text === undefined) throw new TypeError("its encoded side has no JSON form")
    return Buffer.from(text, "utf8")
  }
  return fromFunctions<A, R>(
    (value) => {
      const encoded = settle(encode(value))
      return encoded instanceof Pending
        ? new Pending(Effect.flatMap(encoded.effect, (one) => Effect.try(() => toBytes(one))))
        : toBytes(encoded)
    },
    (bytes) => settle(decode(JSON.parse(fromUtf8(present(bytes)))))
  )
}
