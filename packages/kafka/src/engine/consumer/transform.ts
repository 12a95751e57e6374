/**
 * Consume, transform and produce exactly once: the records that are written and the offsets of those that were read
 * belong to one transaction.
 *
 * The rules are those of franz-go and of Kafka Streams: a transaction that learns of a revocation only aborts; the group
 * has been heard of shortly before a commit; a revocation waits until the transaction has ended; offsets carry the full
 * metadata of the group where the driver can.
 */
import type * as Chunk from "effect/Chunk"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as ConsumerRecord from "../../ConsumerRecord.ts"
import type { SendError } from "../../KafkaClient.ts"
import { CommitError, TransactionError } from "../../KafkaError.ts"
import { settingsOf } from "../producer/settings.ts"
import { CurrentTransaction } from "../producer/transaction.ts"
import type { Lane } from "./Lane.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"
import type { RunLoop } from "./RunLoop.ts"
import type { StreamError } from "./StreamError.ts"
import type * as streams from "./streams.ts"

/** The group has moved on: nothing was written, and whoever owns the partitions now reads the records again. */
class MovedOn extends Data.TaggedError("MovedOn") {}

class Ended extends Data.TaggedError("Ended") {}

/** How long it waits before it tries again with a group that has moved on, in milliseconds. */
const PAUSE = 100

/** A chunk comes from one slice: its records share their assignment, which is one of this consumer's buffers. */
const partitionOf = (record: ConsumerRecord.Any): PartitionBuffer => record.assignment as PartitionBuffer

const isMovedOn = (error: unknown): error is MovedOn =>
  error instanceof MovedOn ||
  // an error of its own kind, for the same reason
  (error instanceof CommitError && error.reason !== "refused" && error.reason !== "timeout" &&
    error.reason !== "closed")

/**
 * Refuses a producer that can not keep the rules. A default that nobody chose is only warned of: it may have met a
 * short session in a test.
 */
export const check = (producer: object, sessionTimeout: number): Effect.Effect<void, TransactionError> => {
  const settings = settingsOf(producer)
  if (settings === undefined) return Effect.void
  if (settings.transactionalId === undefined) return Effect.fail(new TransactionError({ reason: "not-transactional" }))
  const { transactionTimeout } = settings
  if (transactionTimeout < sessionTimeout) return Effect.void
  const error = new TransactionError({ reason: "outlives-session", transactionTimeout, sessionTimeout })
  return settings.transactionTimeoutGiven ? Effect.fail(error) : Effect.logWarning(error.message)
}

export const run = <E, R, E2, R2, E3>(
  loop: RunLoop,
  lane: Lane<StreamError>,
  pull: Effect.Effect<Chunk.Chunk<streams.Element>, Option.Option<E>, R>,
  options: {
    /** Handles records in order and writes what comes of them, in the transaction. */
    readonly write: (records: ReadonlyArray<ConsumerRecord.Any>) => Effect.Effect<void, E2, R2>
    readonly transact: <A, F, S>(effect: Effect.Effect<A, F, S>) => Effect.Effect<A, F | E3, S>
    /** Most records in one transaction, soft by one chunk. */
    readonly maxRecords: number
  }
): Effect.Effect<void, E | E2 | E3 | SendError | StreamError, R | R2> =>
  Effect.suspend(() => {
    const busy = new Set<PartitionBuffer>()
    lane.inHand = (partition) => busy.has(partition)
    lane.commits = true

    const next = Effect.mapError(pull, Option.getOrElse(() => new Ended()))
    /** Met while there were records to be written first. */
    let failed: E | Ended | undefined

    /** What is there already, up to a limit; waits for the first of it. */
    const gather = Effect.gen(function*() {
      if (failed !== undefined) return yield* Effect.fail(failed)
      const records: Array<ConsumerRecord.Any> = []
      const keep = (chunk: Chunk.Chunk<streams.Element>): void => {
        // `transform` has no "either": all of them are records
        for (const record of chunk as Chunk.Chunk<ConsumerRecord.Any>) {
          records.push(record)
          busy.add(partitionOf(record))
        }
      }
      keep(yield* next)
      while (records.length < options.maxRecords && lane.hasReady) {
        const more = yield* Effect.either(next)
        if (more._tag === "Right") keep(more.right)
        else {
          failed = more.left
          break
        }
      }
      return records
    })

    const attempt = (records: ReadonlyArray<ConsumerRecord.Any>) => {
      const offsets = new Map<PartitionBuffer, bigint>()
      for (const record of records) offsets.set(partitionOf(record), record.nextOffset)
      const check = Effect.suspend(() => {
        for (const partition of offsets.keys()) if (partition.status !== "active") return Effect.fail(new MovedOn())
        return loop.isHeard ? Effect.void : Effect.fail(new MovedOn())
      })
      return options.transact(Effect.gen(function*() {
        yield* check
        yield* options.write(records)
        yield* check
        const transaction = yield* CurrentTransaction
        const group = loop.groupMetadata()
        if (transaction === undefined || group === undefined) return yield* new MovedOn()
        yield* transaction.sendOffsets(
          [...offsets].map(([partition, offset]) => ({ ...partition.topicPartition, offset })),
          group
        )
        yield* check
      })).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            for (const [partition, offset] of offsets) partition.committed = offset
          })
        )
      )
    }

    /** What is still ours is read again, from where the group has committed. */
    const again = Effect.suspend(() => {
      for (const partition of busy) if (partition.status === "active") loop.assignments.restart(partition)
      busy.clear()
      return Effect.sleep(PAUSE)
    })

    const turn = Effect.flatMap(gather, (gathered) => {
      const records = gathered.filter((record) => partitionOf(record).status === "active")
      return records.length === 0 ? Effect.void : Effect.catchIf(attempt(records), isMovedOn, () => again)
    }).pipe(
      Effect.ensuring(Effect.sync(() => {
        busy.clear()
        loop.wake()
      }))
    )
    return Effect.catchIf(
      Effect.forever(turn),
      (error): error is Ended => error instanceof Ended,
      () => Effect.void
    )
  })
