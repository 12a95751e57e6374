/**
 * Topics as bytes, and records from bytes: a worker reads bytes and decodes for itself, so that what can't be decoded is
 * a record as any other, with an order and an offset, and can be sent on unchanged.
 */
import * as Effect from "effect/Effect"
import type * as ConsumerRecord from "../../ConsumerRecord.ts"
import { DeserializationError } from "../../KafkaError.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import * as Serde from "../../Serde.ts"
import * as Topic from "../../Topic.ts"

type Bytes = Uint8Array | null

/** A topic whose records are taken as they are. */
export type RawTopic = Topic.Topic<string, Bytes, Bytes>

export type RawRecord = ConsumerRecord.ConsumerRecord<Bytes, Bytes>

const bytes = Serde.nullable(Serde.bytes)

/** The same topic as bytes, under another slug perhaps. */
export const rawTopic = (topic: Topic.Any, slug: string = topic.slug): RawTopic =>
  Topic.make(slug, {
    key: bytes,
    value: bytes,
    partitions: topic.partitions,
    replicationFactor: topic.replicationFactor
  })

/** A topic of bytes of which no more is known than its slug. */
export const rawTopicOf = (slug: string): RawTopic => Topic.make(slug, { key: bytes, value: bytes })

/** The same source as bytes. */
export const rawSource = (
  source: Topic.Any | ReadonlyArray<Topic.Any> | Topic.Pattern<unknown, unknown, unknown>
): RawTopic | ReadonlyArray<RawTopic> | Topic.Pattern<Bytes, Bytes> => {
  if (Topic.isPattern(source)) return Topic.pattern(source.pattern, { key: bytes, value: bytes })
  return Topic.isTopic(source) ? rawTopic(source) : source.map((topic) => rawTopic(topic))
}

/** A record's bytes, and where it was first read. */
export interface Undecoded {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly key: Bytes
  readonly value: Bytes
  readonly headers: RecordHeaders
}

/** How the records of a topic are decoded. */
export interface Serdes<R> {
  readonly key: Serde.Serde<unknown, R>
  readonly value: Serde.Serde<unknown, R>
}

class Context implements Serde.SerdeContext {
  readonly topic: string
  readonly part: "key" | "value"
  private readonly of: Undecoded
  constructor(of: Undecoded, part: "key" | "value") {
    this.of = of
    this.topic = of.topic
    this.part = part
  }
  /** Read only where a serde looks. */
  get headers(): RecordHeaders {
    return this.of.headers
  }
}

const failureOf = (of: Undecoded, part: "key" | "value", cause: unknown): DeserializationError =>
  new DeserializationError({
    topic: of.topic,
    partition: of.partition,
    offset: of.offset,
    part,
    bytes: of[part],
    headers: of.headers,
    reason: cause instanceof Error ? cause.message : String(cause),
    cause
  })

/** A key and a value, at once where the serdes answer at once. */
export const decode = <A, R>(
  of: Undecoded,
  serdes: Serdes<R>,
  make: (key: unknown, value: unknown) => A
): A | DeserializationError | Effect.Effect<A, DeserializationError, R> => {
  let part: "key" | "value" = "key"
  try {
    const key = serdes.key.deserialize(of.key, new Context(of, "key"))
    part = "value"
    const value = serdes.value.deserialize(of.value, new Context(of, "value"))
    if (!(key instanceof Serde.Pending) && !(value instanceof Serde.Pending)) return make(key, value)
    return Effect.zipWith(settle<unknown, R>(of, "key", key), settle<unknown, R>(of, "value", value), make)
  } catch (cause) {
    return failureOf(of, part, cause)
  }
}

const settle = <A, R>(
  of: Undecoded,
  part: "key" | "value",
  answer: A | Serde.Pending<A, R>
): Effect.Effect<A, DeserializationError, R> =>
  answer instanceof Serde.Pending
    ? Effect.mapError(answer.effect, (cause) => failureOf(of, part, cause))
    : Effect.succeed(answer)
