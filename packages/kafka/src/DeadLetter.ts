/**
 * Dead letters: records that a worker could not process, with their bytes and headers unchanged, and why.
 *
 * Behind the record's own headers are those of the worker, all of them text: `kafka.dlt.topic`, `kafka.dlt.partition`,
 * `kafka.dlt.offset`, `kafka.dlt.timestamp` (milliseconds since 1970), `kafka.dlt.group`, `kafka.dlt.attempt`,
 * `kafka.dlt.error` (the error's tag) and `kafka.dlt.message`. A record that was sent back says in `kafka.replays` how
 * often.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import * as Consumer from "./Consumer.ts"
import type { ConsumerRecord } from "./ConsumerRecord.ts"
import { fromMark } from "./engine/worker/Delivery.ts"
import { markReplay, readDeadLetter, replaysOf } from "./engine/worker/headers.ts"
import { decode, type RawRecord, type RawTopic, rawTopic, rawTopicOf } from "./engine/worker/raw.ts"
import { type CommitError, DeserializationError, MalformedDeadLetterError } from "./KafkaError.ts"
import * as Producer from "./Producer.ts"
import type { RecordMetadata } from "./ProducerRecord.ts"
import type { RecordHeaders } from "./RecordHeaders.ts"
import * as Topic from "./Topic.ts"
import { TopicRegistry } from "./TopicRegistry.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Where a record was first read.
 *
 * @since 0.1.0
 * @category models
 */
export interface Origin {
  /** The physical name. */
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  /** Milliseconds since 1970. */
  readonly timestamp: bigint
}

/**
 * A record that a worker could not process.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeadLetter<out T extends Topic.Any> {
  readonly origin: Origin
  /** The group of the worker. */
  readonly group: string
  /** Which attempt was the last; 0 where it could not be decoded. */
  readonly attempt: number
  /** The tag of the error: `_tag`, or the name of its class. */
  readonly error: string
  /** What the error said, cut after 1,000 characters. */
  readonly message: string
  /** How often it was sent back before. */
  readonly replays: number
  /** As it came. A view into a larger buffer perhaps: copy what is kept for long. */
  readonly rawKey: Uint8Array | null
  /** As it came. A view into a larger buffer perhaps: copy what is kept for long. */
  readonly rawValue: Uint8Array | null
  /** The record's own. */
  readonly headers: RecordHeaders
  /** The record as its handler saw it, decoded when it is asked for. */
  readonly record: Effect.Effect<
    ConsumerRecord<Topic.Key<T>, Topic.Value<T>, Topic.Slug<T>>,
    DeserializationError,
    Topic.Context<T>
  >
  /** As it lies in the dead-letter topic: what a consumer commits. */
  readonly letter: ConsumerRecord<Uint8Array | null, Uint8Array | null>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface StreamOptions {
  /** The dead-letter topic, or its slug: the topic's own slug with `.dlt` behind it if absent. */
  readonly from?: string | Topic.Any | undefined
  /** Where the stream ends; it does not if absent. */
  readonly until?: Consumer.Bound | undefined
  /** What becomes of a record that no worker has written. `"fail"` if absent. */
  readonly onMalformed?: "fail" | "skip" | undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// topics
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The definition of a topic's dead-letter topic, to create it with `TopicRegistry.ensure`: its slug has `.dlt` behind it,
 * its keys and values are bytes, and it has as many partitions.
 *
 * @example
 * ```ts
 * import { DeadLetter, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string, partitions: 3 })
 *
 * const ready = TopicRegistry.ensure([Orders, DeadLetter.topic(Orders)]) // and orders.dlt
 * ```
 *
 * @since 0.1.0
 * @category topics
 */
export const topic = (of: Topic.Any): Topic.Topic<string, Uint8Array | null, Uint8Array | null> =>
  rawTopic(of, `${of.slug}.dlt`)

const topicFrom = (of: Topic.Any, from: string | Topic.Any | undefined): RawTopic =>
  from === undefined ? topic(of) : rawTopicOf(Topic.isTopic(from) ? from.slug : from)

// ---------------------------------------------------------------------------------------------------------------------
// reading
// ---------------------------------------------------------------------------------------------------------------------

const read = <T extends Topic.Any>(
  of: T,
  letter: RawRecord
): Either.Either<DeadLetter<T>, MalformedDeadLetterError> => {
  const found = readDeadLetter(letter.headers)
  if (found === undefined) {
    const { partition, topic } = letter.topicPartition
    return Either.left(new MalformedDeadLetterError({ topic, partition, offset: letter.offset }))
  }
  const { headers, mark } = found
  const { attempt, error, group, message, ...origin } = mark
  const delivery = fromMark(letter, of.slug, {
    headers,
    mark: { ...origin, group, attempts: attempt, round: 0, due: 0 }
  })
  type Decoded = ConsumerRecord<Topic.Key<T>, Topic.Value<T>, Topic.Slug<T>>
  return Either.right({
    origin,
    group,
    attempt,
    error,
    message,
    replays: replaysOf(headers),
    rawKey: letter.rawKey,
    rawValue: letter.rawValue,
    headers,
    record: Effect.suspend((): Effect.Effect<Decoded, DeserializationError, Topic.Context<T>> => {
      // the serdes are those of `T`, and so are what they answer and need
      const decoded = decode(delivery, of, (key, value) => delivery.record(key, value) as Decoded)
      if (Effect.isEffect(decoded)) return decoded as Effect.Effect<Decoded, DeserializationError, Topic.Context<T>>
      return decoded instanceof DeserializationError ? Effect.fail(decoded) : Effect.succeed(decoded)
    }),
    letter
  })
}

/**
 * The dead letters of a topic, for the group of the consumer, which commits them as it likes. Those of other topics in
 * the same dead-letter topic are passed over.
 *
 * @example
 * ```ts
 * import { Consumer, DeadLetter, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect, Stream } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const show = DeadLetter.stream(Orders, { until: "end" }).pipe(
 *   Stream.runForEach(({ error, message, origin }) => Effect.log(origin.offset, error, message)),
 *   Effect.provide(Consumer.layer({ groupId: "support" }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category reading
 */
export const stream = <T extends Topic.Any>(
  of: T,
  options: StreamOptions = {}
): Stream.Stream<
  DeadLetter<T>,
  Consumer.StreamError | MalformedDeadLetterError,
  Consumer.Consumer | TopicRegistry
> =>
  Stream.unwrap(Effect.map(TopicRegistry, (registry) => {
    const from = topicFrom(of, options.from)
    const letters = options.until === undefined ? Consumer.stream(from) : Consumer.streamUntil(from, options.until)
    const name = registry.resolve(of)
    return Stream.mapChunksEffect(letters, (chunk) =>
      Effect.suspend(() => {
        const kept: Array<DeadLetter<T>> = []
        for (const letter of chunk) {
          const found = read(of, letter)
          if (Either.isRight(found)) {
            if (found.right.origin.topic === name) kept.push(found.right)
          } else if (options.onMalformed !== "skip") return Effect.fail(found.left)
        }
        return Effect.succeed(Chunk.unsafeFromArray(kept))
      }))
  }))

// ---------------------------------------------------------------------------------------------------------------------
// sending back
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Sends a dead letter back to the partition it came from: its key, value and headers as they were, `kafka.replays` counted
 * up, and a new timestamp, so that it is not too old to be kept. Every group that reads the topic sees it again.
 *
 * @since 0.1.0
 * @category replaying
 */
export const resend = <T extends Topic.Any>(
  of: T,
  letter: DeadLetter<T>
): Effect.Effect<RecordMetadata, Producer.ProduceError, Producer.Producer> =>
  Producer.send(rawTopic(of), {
    key: letter.rawKey,
    value: letter.rawValue,
    headers: markReplay(letter.headers),
    partition: letter.origin.partition
  })

/**
 * What {@link replay} did.
 *
 * @since 0.1.0
 * @category models
 */
export interface Replay {
  /** Where each came from, and where it is now; not sent anywhere in a dry run. */
  readonly replayed: ReadonlyArray<{ readonly origin: Origin; readonly to: RecordMetadata | undefined }>
  /** How many were looked at and not chosen. */
  readonly passed: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ReplayOptions<in T extends Topic.Any> extends Omit<StreamOptions, "until"> {
  /** Which are sent back. All if absent. */
  readonly select?: ((letter: DeadLetter<T>) => boolean) | undefined
  /** Says what would be done, and does nothing. `false` if absent. */
  readonly dryRun?: boolean | undefined
}

/**
 * Sends chosen dead letters back to their topic: those between what the consumer's group has committed and the end as it
 * is now. Each is committed once what was sent back is acknowledged, so that a second run goes on where this one ended.
 * What was not chosen stays in the dead-letter topic, and this group has passed it: another sees it.
 *
 * @example
 * ```ts
 * import { Consumer, DeadLetter, Producer, Serde, Topic } from "@coffeebuddy/kafka"
 * import { Effect, Layer } from "effect"
 *
 * const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
 *
 * const program = DeadLetter.replay(Orders, { select: (letter) => letter.error === "NoMilk" && letter.replays < 3 }).pipe(
 *   Effect.tap(({ passed, replayed }) => Effect.log(`${replayed.length} sent back, ${passed} left`)),
 *   Effect.provide(Layer.merge(Producer.layer(), Consumer.layer({ groupId: "orders-replay" })))
 * )
 * ```
 *
 * @since 0.1.0
 * @category replaying
 */
export const replay = <T extends Topic.Any>(
  of: T,
  options: ReplayOptions<T> = {}
): Effect.Effect<
  Replay,
  Consumer.StreamError | Producer.ProduceError | CommitError | MalformedDeadLetterError,
  Consumer.Consumer | Producer.Producer | TopicRegistry
> =>
  Effect.gen(function*() {
    const { dryRun = false, select = () => true, ...reading } = options
    const replayed: Array<Replay["replayed"][number]> = []
    let passed = 0
    yield* Stream.runForEachChunk(stream(of, { ...reading, until: "end" }), (letters) =>
      Effect.gen(function*() {
        const chosen = Chunk.toReadonlyArray(letters).filter(select)
        passed += letters.length - chosen.length
        for (const letter of chosen) {
          replayed.push({ origin: letter.origin, to: dryRun ? undefined : yield* resend(of, letter) })
        }
        if (!dryRun) yield* Consumer.commit(Chunk.map(letters, (letter) => letter.letter))
      }))
    return { replayed, passed }
  }).pipe(Effect.withSpan("DeadLetter.replay"))
