/** Lines as records to send. */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type { ProducerRecord } from "../ProducerRecord.ts"
import type * as RecordHeaders from "../RecordHeaders.ts"
import { InputError } from "./failures.ts"
import type { Line } from "./lines.ts"
import type { Bytes } from "./record.ts"
import { decode } from "./text.ts"

export interface Settings {
  readonly json: boolean
  /** Of every record that brings none. */
  readonly key: string | undefined
  /** What stands between key and value; lines are values as they are if absent. */
  readonly keySeparator: string | undefined
  /** Of every record, before its own. */
  readonly headers: ReadonlyArray<RecordHeaders.Header>
}

export type Input = ProducerRecord<Bytes, Bytes>

/** `name=value`; the value is empty where there is no `=`. */
export const header = (text: string): RecordHeaders.Header => {
  const at = text.indexOf("=")
  return at === -1 ? [text, Buffer.alloc(0)] : [text.slice(0, at), Buffer.from(text.slice(at + 1))]
}

const bytesOf = (text: string | undefined): Bytes => text === undefined ? null : Buffer.from(text)

/** The bytes of a line are sent as they are, UTF-8 or not. */
const fromLine = (line: Line, settings: Settings): Either.Either<Input, InputError> => {
  const { headers, keySeparator } = settings
  if (keySeparator === undefined) {
    return Either.right({ key: bytesOf(settings.key), value: line.bytes, headers })
  }
  const bytes = Buffer.from(line.bytes.buffer, line.bytes.byteOffset, line.bytes.length)
  const at = bytes.indexOf(keySeparator)
  if (at === -1) {
    return Either.left(
      new InputError({ message: `line ${line.number} has no ${JSON.stringify(keySeparator)} between key and value` })
    )
  }
  const value = bytes.subarray(at + Buffer.byteLength(keySeparator))
  return Either.right({ key: bytes.subarray(0, at), value, headers })
}

const Text = Schema.NullOr(Schema.String)

const Header = Schema.Struct({
  name: Schema.String,
  value: Schema.optional(Text),
  valueBase64: Schema.optional(Schema.Uint8ArrayFromBase64)
})

/** What `consume --json` prints, and less. */
const JsonLine = Schema.parseJson(Schema.Struct({
  key: Schema.optional(Text),
  keyBase64: Schema.optional(Schema.Uint8ArrayFromBase64),
  value: Schema.optional(Schema.Unknown),
  valueBase64: Schema.optional(Schema.Uint8ArrayFromBase64),
  headers: Schema.optional(
    Schema.Union(Schema.Array(Header), Schema.Record({ key: Schema.String, value: Text }))
  ),
  partition: Schema.optional(Schema.NonNegativeInt),
  timestamp: Schema.optional(Schema.Union(Schema.Int, Schema.DateFromString.pipe(Schema.validDate()))),
  // where a record came from says nothing about where it goes
  topic: Schema.optional(Schema.Unknown),
  offset: Schema.optional(Schema.Unknown)
}))

const decodeJson = Schema.decodeUnknownEither(JsonLine, { onExcessProperty: "error" })

type Decoded = typeof JsonLine.Type

const headersOf = (given: Decoded["headers"]): ReadonlyArray<RecordHeaders.Header> => {
  if (given === undefined) return []
  if (!isList(given)) return Object.entries(given).map(([name, value]) => [name, bytesOf(value ?? undefined)])
  return given.map(({ name, value, valueBase64 }) => [name, valueBase64 ?? bytesOf(value ?? undefined)])
}

const isList = (given: NonNullable<Decoded["headers"]>): given is ReadonlyArray<typeof Header.Type> =>
  Array.isArray(given)

/** Text as it is; any other JSON as its text. */
const valueOf = (value: unknown): Bytes =>
  value === null ? null : Buffer.from(typeof value === "string" ? value : JSON.stringify(value))

const fromJson = (line: Line, settings: Settings): Either.Either<Input, InputError> => {
  const refuse = (why: string) => Either.left(new InputError({ message: `line ${line.number} ${why}` }))
  const text = decode(line.bytes)
  if (text === undefined) return refuse("is not UTF-8")
  const decoded = decodeJson(text)
  if (Either.isLeft(decoded)) {
    const [issue] = ParseResult.ArrayFormatter.formatErrorSync(decoded.left)
    const where = issue === undefined || issue.path.length === 0 ? "" : ` at ${issue.path.join(".")}`
    return refuse(`is not a record as JSON${where}: ${issue?.message ?? decoded.left.message}`)
  }
  const { headers, key, keyBase64, partition, timestamp, value, valueBase64 } = decoded.right
  if (value === undefined && valueBase64 === undefined) return refuse("has no value: null makes a tombstone")
  if (value !== undefined && valueBase64 !== undefined) return refuse("has both value and valueBase64")
  if (key !== undefined && keyBase64 !== undefined) return refuse("has both key and keyBase64")
  return Either.right({
    key: keyBase64 ?? (key === undefined ? bytesOf(settings.key) : bytesOf(key ?? undefined)),
    value: valueBase64 ?? valueOf(value),
    headers: [...settings.headers, ...headersOf(headers)],
    partition,
    timestamp: timestamp instanceof Date ? timestamp.getTime() : timestamp
  })
}

/** The record that a line stands for. In JSON, an empty line is none. */
export const record = (line: Line, settings: Settings): Either.Either<Input | undefined, InputError> =>
  !settings.json
    ? fromLine(line, settings)
    : line.bytes.length === 0
    ? Either.right(undefined)
    : fromJson(line, settings)
