/**
 * From a slice of the driver's records to typed ones: one loop over the slice, with effects only where a serde asks
 * for one.
 */
import * as Effect from "effect/Effect"
import * as ConsumerRecord from "../../ConsumerRecord.ts"
import type { RecordView } from "../../KafkaClient.ts"
import { DeserializationError } from "../../KafkaError.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import * as Serde from "../../Serde.ts"
import type { Slice } from "./PartitionBuffer.ts"

/** What a stream knows of one of its topics. */
export interface Entry<R> {
  readonly slug: string
  readonly key: Serde.Serde<unknown, R>
  readonly value: Serde.Serde<unknown, R>
}

/** Records up to the first that can't be decoded; then the failure, and what is left behind it. */
export interface Decoded {
  readonly records: Array<ConsumerRecord.Any>
  readonly failure: DeserializationError | undefined
  readonly rest: Slice | undefined
}

class SliceContext implements Serde.SerdeContext {
  readonly topic: string
  part: "key" | "value" = "key"
  raw: unknown = undefined
  private readonly view: RecordView
  constructor(topic: string, view: RecordView) {
    this.topic = topic
    this.view = view
  }
  get headers(): RecordHeaders {
    return this.view.headers(this.raw)
  }
}

const originOf = (slice: Slice, slug: string): ConsumerRecord.Origin => ({
  slug,
  assignment: slice.partition,
  view: slice.chunk.view,
  last: slice.chunk.records.at(-1),
  nextOffset: slice.chunk.nextOffset
})

const failureOf = (slice: Slice, raw: unknown, part: "key" | "value", cause: unknown): DeserializationError => {
  const { view } = slice.chunk
  return new DeserializationError({
    ...slice.partition.topicPartition,
    offset: view.offset(raw),
    part,
    bytes: part === "key" ? view.key(raw) : view.value(raw),
    headers: view.headers(raw),
    reason: cause instanceof Error ? cause.message : String(cause),
    cause
  })
}

const behind = (slice: Slice, index: number): Slice | undefined =>
  index + 1 < slice.to ? { ...slice, from: index + 1 } : undefined

/** Decodes a slice: at once where the serdes answer at once, else as an effect. */
export const decode = <R>(slice: Slice, entry: Entry<R>): Decoded | Effect.Effect<Decoded, never, R> => {
  const { chunk, from, to } = slice
  const { view } = chunk
  const raws = chunk.records
  const { key: keys, value: values } = entry
  const origin = originOf(slice, entry.slug)
  const context = new SliceContext(slice.partition.topicPartition.topic, view)
  // as long as it will be: one that grows is copied again and again
  const records = new Array<ConsumerRecord.Any>(to - from)
  let index = from
  try {
    for (; index < to; index++) {
      const raw = raws[index]
      context.raw = raw
      context.part = "key"
      const key = keys.deserialize(view.key(raw), context)
      context.part = "value"
      const value = values.deserialize(view.value(raw), context)
      if (key instanceof Serde.Pending || value instanceof Serde.Pending) {
        records.length = index - from
        return decodeEffect({ ...slice, from: index }, entry, origin, records)
      }
      records[index - from] = ConsumerRecord.make(origin, raw, key, value)
    }
  } catch (cause) {
    records.length = index - from
    return {
      records,
      failure: failureOf(slice, raws[index], context.part, cause),
      rest: behind(slice, index)
    }
  }
  return { records, failure: undefined, rest: undefined }
}

const decodeEffect = <R>(
  slice: Slice,
  entry: Entry<R>,
  origin: ConsumerRecord.Origin,
  records: Array<ConsumerRecord.Any>
): Effect.Effect<Decoded, never, R> => {
  const { chunk, from, to } = slice
  const { topic } = slice.partition.topicPartition
  const part = <A>(
    serde: Serde.Serde<A, R>,
    bytes: Uint8Array | null,
    name: "key" | "value",
    raw: unknown
  ): Effect.Effect<A, DeserializationError, R> =>
    Effect.mapError(
      Effect.flatMap(
        Effect.try({
          try: () => serde.deserialize(bytes, { topic, part: name, headers: chunk.view.headers(raw) }),
          catch: (cause): unknown => cause
        }),
        (answer) => answer instanceof Serde.Pending ? answer.effect : Effect.succeed(answer)
      ),
      (cause) => failureOf(slice, raw, name, cause)
    )
  return Effect.gen(function*() {
    for (let index = from; index < to; index++) {
      const raw = chunk.records[index]
      const exit = yield* Effect.either(Effect.zipWith(
        part(entry.key, chunk.view.key(raw), "key", raw),
        part(entry.value, chunk.view.value(raw), "value", raw),
        (key, value) => ConsumerRecord.make(origin, raw, key, value)
      ))
      if (exit._tag === "Left") return { records, failure: exit.left, rest: behind(slice, index) }
      records.push(exit.right)
    }
    return { records, failure: undefined, rest: undefined }
  })
}
