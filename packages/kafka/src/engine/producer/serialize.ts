/**
 * From a typed record to bytes: at once where the serdes answer at once.
 */
import * as Effect from "effect/Effect"
import type { RawProducerRecord } from "../../KafkaClient.ts"
import { ProducerError, SerializationError } from "../../KafkaError.ts"
import type { ProducerRecord } from "../../ProducerRecord.ts"
import * as RecordHeaders from "../../RecordHeaders.ts"
import { Pending } from "../../Serde.ts"
import type * as Topic from "../../Topic.ts"
import type { KnownTopic } from "./topics.ts"

type Part = "key" | "value" | "header"
type Bytes = Uint8Array | null

/** A record in bytes, or an `Effect` of one: a failed one where a serde threw. */
export type Serialized<R> =
  | RawProducerRecord
  | Effect.Effect<RawProducerRecord, SerializationError | ProducerError, R>

/** Not a literal, for the reason that metadata.ts gives. */
class Raw implements RawProducerRecord {
  readonly key: Bytes
  readonly value: Bytes
  readonly headers: RecordHeaders.RecordHeaders
  readonly timestamp: bigint
  constructor(key: Bytes, value: Bytes, headers: RecordHeaders.RecordHeaders, timestamp: bigint) {
    this.key = key
    this.value = value
    this.headers = headers
    this.timestamp = timestamp
  }
}

const failed = (topic: string, part: Part, cause: unknown): SerializationError =>
  new SerializationError({ topic, part, reason: cause instanceof Error ? cause.message : String(cause), cause })

const checked = (bytes: unknown): Bytes => {
  if (bytes === null || bytes instanceof Uint8Array) return bytes
  throw new TypeError(`the serde answered ${bytes === undefined ? "undefined" : typeof bytes}, and no bytes`)
}

const settle = <R>(
  bytes: Bytes | Pending<Bytes, R>,
  topic: string,
  part: Part
): Effect.Effect<Bytes, SerializationError, R> =>
  bytes instanceof Pending
    ? Effect.matchEffect(bytes.effect, {
      onFailure: (cause) => Effect.fail(failed(topic, part, cause)),
      onSuccess: (one) => Effect.try({ try: () => checked(one), catch: (cause) => failed(topic, part, cause) })
    })
    : Effect.succeed(bytes)

/** Adds to a record's headers the span that it is sent in. `undefined` where nobody looks. */
export type Inject = ((headers: RecordHeaders.RecordHeaders) => RecordHeaders.RecordHeaders) | undefined

/** The bytes of a record of this topic. `now` is its timestamp where it has none of its own. */
export const serialize = <Slug extends string, K, V, R>(
  known: KnownTopic,
  topic: Topic.Topic<Slug, K, V, R>,
  record: ProducerRecord<K, V>,
  now: bigint,
  inject: Inject
): Serialized<R> => {
  const timestamp = record.timestamp === undefined ? now : timestampOf(record.timestamp)
  if (timestamp === undefined) {
    return Effect.fail(
      new ProducerError({
        topic: known.name,
        reason: "invalid",
        retriable: false,
        description: `a timestamp is a whole number of milliseconds since 1970, and this is ${String(record.timestamp)}`
      })
    )
  }
  let part: Part = "header"
  try {
    let headers = RecordHeaders.empty
    let keyContext = known.keyContext
    let valueContext = known.valueContext
    if (record.headers !== undefined || inject !== undefined) {
      if (record.headers !== undefined) headers = RecordHeaders.make(record.headers)
      if (inject !== undefined) headers = inject(headers)
      keyContext = { topic: known.name, part: "key", headers }
      valueContext = { topic: known.name, part: "value", headers }
    }
    part = "key"
    const key = topic.key.serialize(record.key, keyContext)
    if (!(key instanceof Pending)) checked(key)
    part = "value"
    const value = topic.value.serialize(record.value, valueContext)
    if (!(value instanceof Pending)) checked(value)
    if (!(key instanceof Pending) && !(value instanceof Pending)) return new Raw(key, value, headers, timestamp)
    return Effect.zipWith(
      settle(key, known.name, "key"),
      settle(value, known.name, "value"),
      (key, value): RawProducerRecord => new Raw(key, value, headers, timestamp)
    )
  } catch (cause) {
    return Effect.fail(failed(known.name, part, cause))
  }
}

const timestampOf = (timestamp: bigint | number): bigint | undefined => {
  if (typeof timestamp === "number") {
    return Number.isSafeInteger(timestamp) && timestamp >= 0 ? BigInt(timestamp) : undefined
  }
  // whatever a program without types may give, a date for one
  return typeof timestamp === "bigint" && timestamp >= 0n && timestamp < 0x8000000000000000n ? timestamp : undefined
}

/** What a record takes at most in an uncompressed batch, as the Java client reckons it. */
export const sizeOf = (record: RawProducerRecord): number => {
  let size = 21
  if (record.key !== null) size += varint(record.key.length) + record.key.length
  if (record.value !== null) size += varint(record.value.length) + record.value.length
  for (const [name, value] of record.headers) {
    const bytes = Buffer.byteLength(name)
    size += varint(bytes) + bytes + 1
    if (value !== null) size += varint(value.length) + value.length
  }
  return size
}

/** The length of a length as a zigzag varint. */
const varint = (length: number): number =>
  length < 1 << 6 ? 1 : length < 1 << 13 ? 2 : length < 1 << 20 ? 3 : length < 1 << 27 ? 4 : 5
