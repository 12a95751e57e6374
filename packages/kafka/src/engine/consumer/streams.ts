/**
 * Lanes as streams of typed records.
 */
import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as ConsumerRecord from "../../ConsumerRecord.ts"
import type { DeserializationError } from "../../KafkaError.ts"
import type * as TopicPartition from "../../TopicPartition.ts"
import type { Emit } from "../observe.ts"
import * as Tracing from "../tracing.ts"
import * as Decoder from "./Decoder.ts"
import type { Lane } from "./Lane.ts"
import type { Slice } from "./PartitionBuffer.ts"
import type { StreamError } from "./StreamError.ts"

/** What becomes of a record that can't be decoded. */
export type OnDecodeFailure<E, R> =
  | "fail"
  | "skip"
  | "either"
  | ((error: DeserializationError) => Effect.Effect<void, E, R>)

export type Element = ConsumerRecord.Any | Either.Either<ConsumerRecord.Any, DeserializationError>

export interface ReadOptions<E, R> {
  readonly groupId: string
  readonly maxRecords: number
  readonly entryOf: (topicPartition: TopicPartition.TopicPartition) => Decoder.Entry<R>
  readonly onDecodeFailure: OnDecodeFailure<E, R>
  readonly emit: Emit
}

/** The records of a lane, a chunk for each slice. */
export const fromLane = <E, R>(
  lane: Lane<StreamError>,
  options: ReadOptions<E, R>
): Stream.Stream<Element, StreamError | E, R> =>
  Stream.ensuring(repeated(makePull(lane, options, true)), Effect.sync(() => lane.close()))

/** What `Stream.repeatEffectChunkOption` does, at less cost: most of what it makes for a chunk gets old. */
const repeated = <A, E, R>(pull: Effect.Effect<Chunk.Chunk<A>, Option.Option<E>, R>): Stream.Stream<A, E, R> => {
  const next: Channel.Channel<Chunk.Chunk<A>, unknown, E, unknown, void, unknown, R> = Channel.unwrap(
    Effect.matchEffect(pull, {
      onFailure: (over) => Option.isNone(over) ? Effect.succeed(Channel.void) : Effect.fail(over.value),
      onSuccess: (chunk) => Effect.succeed(Channel.flatMap(Channel.write(chunk), () => next))
    })
  )
  return Stream.fromChannel(next)
}

/**
 * The next records of a lane, decoded; fails with `None` at the end. `traced`: in a span for each slice, where somebody
 * looks and the records get no spans of their own.
 */
export const makePull = <E, R>(
  lane: Lane<StreamError>,
  options: ReadOptions<E, R>,
  traced = false
): Effect.Effect<Chunk.Chunk<Element>, Option.Option<StreamError | E>, R> => {
  const { entryOf, onDecodeFailure, maxRecords } = options
  /** A failure that is next in line, behind records that were given out. */
  let failure: DeserializationError | undefined = undefined
  let rest: Slice | undefined = undefined
  let tracing: Tracing.Tracing | undefined = undefined

  const report = (error: DeserializationError): void => {
    if (!options.emit.enabled) return
    options.emit({
      _tag: "DecodeFailed",
      groupId: options.groupId,
      topicPartition: { topic: error.topic, partition: error.partition },
      offset: error.offset,
      action: typeof onDecodeFailure === "function" ? "handler" : onDecodeFailure
    })
  }

  /** What a failed record becomes, and then on with what is behind it. */
  const settle = (
    error: DeserializationError
  ): Effect.Effect<Chunk.Chunk<Element>, Option.Option<StreamError | E>, R> => {
    report(error)
    if (onDecodeFailure === "fail") return Effect.fail(Option.some(error))
    if (onDecodeFailure === "skip") return pull
    if (onDecodeFailure === "either") return Effect.succeed(Chunk.of<Element>(Either.left(error)))
    return Effect.matchEffect(onDecodeFailure(error), {
      onFailure: (cause) => Effect.fail(Option.some(cause)),
      onSuccess: () => pull
    })
  }

  const emitRecords = (
    decoded: Decoder.Decoded
  ): Effect.Effect<Chunk.Chunk<Element>, Option.Option<StreamError | E>, R> => {
    rest = decoded.rest
    if (decoded.records.length === 0) return decoded.failure === undefined ? pull : settle(decoded.failure)
    failure = decoded.failure
    const records: ReadonlyArray<Element> = onDecodeFailure === "either"
      ? decoded.records.map((record) => Either.right(record))
      : decoded.records
    return Effect.succeed(Chunk.unsafeFromArray(records))
  }

  const decode = (slice: Slice) => Decoder.decode(slice, entryOf(slice.partition.topicPartition))

  const read = (slice: Slice) => {
    const decoded = tracing === undefined
      ? decode(slice)
      : Tracing.receive(tracing, options.groupId, slice, () => decode(slice))
    return Effect.isEffect(decoded) ? Effect.flatMap(decoded, emitRecords) : emitRecords(decoded)
  }

  const pull: Effect.Effect<Chunk.Chunk<Element>, Option.Option<StreamError | E>, R> = Effect.withFiberRuntime(
    (fiber) => {
      if (traced) tracing = Tracing.of(fiber)
      if (failure !== undefined) {
        const error = failure
        failure = undefined
        return settle(error)
      }
      if (rest !== undefined) {
        const slice = rest
        rest = undefined
        return read(slice)
      }
      return Effect.flatMap(lane.pull(maxRecords), read)
    }
  )
  return pull
}
