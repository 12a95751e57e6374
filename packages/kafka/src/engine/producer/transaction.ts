/**
 * Transactions: one at a time, each with an effect whose records are committed together, or not at all.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { GroupMetadata, OffsetAndMetadata, ProducerSession, SendError } from "../../KafkaClient.ts"
import { type CommitError, ProducerError, ProducerFencedError, TransactionError } from "../../KafkaError.ts"
import type { Emit } from "../observe.ts"
import { invalid } from "./partition.ts"
import type { Sender } from "./sender.ts"

/** The transaction that an effect is in. Whoever consumes and produces exactly once sends its offsets through it. */
export interface Transaction {
  /** `false` from the moment its effect has ended. */
  open: boolean
  /** The first failure of a record or of offsets in it: it can only be aborted. */
  failure: SendError | CommitError | undefined
  /** The offsets are committed with the records, or not at all. */
  readonly sendOffsets: (
    offsets: ReadonlyArray<OffsetAndMetadata>,
    group: GroupMetadata
  ) => Effect.Effect<void, SendError | CommitError>
}

/** The transaction of this fiber. `Producer.transaction` provides it to its effect. */
export class CurrentTransaction extends Context.Reference<CurrentTransaction>()(
  "@coffeebuddy/kafka/engine/CurrentTransaction",
  { defaultValue: (): Transaction | undefined => undefined }
) {}

export interface Transactions {
  /** The one that is under way. */
  readonly current: () => Transaction | undefined
  readonly transact: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | SendError | CommitError | TransactionError, R>
}

export const make = (options: {
  readonly session: ProducerSession
  readonly sender: Sender
  readonly transactionalId: string | undefined
  /** In milliseconds. */
  readonly transactionTimeout: number
  readonly emit: Emit
}): Effect.Effect<Transactions> =>
  Effect.gen(function*() {
    const { emit, sender, session, transactionTimeout, transactionalId } = options
    const oneAtATime = yield* Effect.makeSemaphore(1)
    let current: Transaction | undefined

    /** What the driver says of a transaction. A producer that is fenced never sends again. */
    const asked = <A, E extends SendError | CommitError>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.tapError(effect, (error) =>
        Effect.sync(() => {
          if (error._tag === "ProducerFencedError") sender.die(error)
        }))

    const begin: Effect.Effect<Transaction, SendError> = Effect.suspend(() => {
      const over = sender.refusal("a transaction")
      if (over !== undefined) return Effect.fail(over)
      const transaction: Transaction = {
        open: true,
        failure: undefined,
        sendOffsets: (offsets, group) =>
          Effect.suspend((): Effect.Effect<void, SendError | CommitError> =>
            transaction.open
              ? asked(session.sendOffsets(offsets, group))
              : Effect.fail(invalid("a transaction", "it has ended"))
          ).pipe(
            Effect.tapError((error) => Effect.sync(() => void (transaction.failure ??= error)))
          )
      }
      return Effect.map(asked(session.begin), () => current = transaction)
    })

    /** Takes back what was not sent, waits for what was, and for requests whose records have had their time, and aborts. */
    const abort = Effect.suspend(() => {
      sender.accumulator.failQueued((_, topic, partition) =>
        new ProducerError({
          topic,
          ...(partition === undefined ? {} : { partition }),
          reason: "closed",
          retriable: true,
          description: "the transaction was aborted before the record was sent"
        })
      )
      return sender.flush.pipe(Effect.zipRight(sender.quiet), Effect.zipRight(asked(session.abort)))
    })

    /** Commits if all went well, and makes sure that it is aborted otherwise. */
    const end = <A, E>(
      transaction: Transaction,
      exit: Exit.Exit<A, E>,
      restore: <B, F, S>(effect: Effect.Effect<B, F, S>) => Effect.Effect<B, F, S>
    ): Effect.Effect<A, E | SendError | CommitError> => {
      const commit = Effect.suspend((): Effect.Effect<void, SendError | CommitError> =>
        transaction.failure === undefined ? asked(session.commit) : Effect.fail(transaction.failure)
      )
      const committed = Effect.tap(exit, () => Effect.zipRight(restore(sender.flush), commit))
      return Effect.catchAllCause(committed, (cause) =>
        Effect.matchCauseEffect(abort, {
          onFailure: (andToo) => Effect.failCause(Cause.sequential(cause, andToo)),
          onSuccess: () => Effect.failCause(cause)
        }))
    }

    /**
     * The broker fences a producer whose transaction took too long as it does one that was followed by another. The
     * clock tells which of the two is the reason, unless it is both.
     */
    const timedOut = <E>(cause: Cause.Cause<E>, startedAt: number): Cause.Cause<E | TransactionError> => {
      if (sender.now() - startedAt < transactionTimeout) return cause
      const fenced = Chunk.findFirst(Cause.failures(cause), (error) => error instanceof ProducerFencedError)
      return Option.isNone(fenced)
        ? cause
        : Cause.fail(new TransactionError({ reason: "timed-out", transactionTimeout, cause: fenced.value }))
    }

    const transact: Transactions["transact"] = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
      type Error = E | SendError | CommitError | TransactionError
      if (transactionalId === undefined) return Effect.fail(new TransactionError({ reason: "not-transactional" }))
      const run: Effect.Effect<A, Error, R> = Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(begin, (transaction) => {
          const startedAt = sender.now()
          return restore(within(effect, transaction)).pipe(
            Effect.exit,
            Effect.flatMap((exit) => {
              transaction.open = false
              return Effect.mapErrorCause(end(transaction, exit, restore), (cause) => timedOut(cause, startedAt))
            }),
            Effect.onExit((exit) =>
              Effect.sync(() => {
                current = undefined
                if (!emit.enabled) return
                const outcome = Exit.isSuccess(exit) ? "committed" : "aborted"
                emit({ _tag: "TransactionEnded", transactionalId, outcome, millis: sender.now() - startedAt })
              })
            )
          )
        })
      )
      return Effect.flatMap(CurrentTransaction, (outer): Effect.Effect<A, Error, R> =>
        outer !== undefined && outer === current
          ? Effect.fail(new TransactionError({ reason: "nested" }))
          : oneAtATime.withPermits(1)(run))
    }

    return {
      current: () =>
        current,
      transact
    }
  })

/** A reference is nobody's requirement, so there is none to be taken away. */
const within = <A, E, R>(effect: Effect.Effect<A, E, R>, transaction: Transaction): Effect.Effect<A, E, R> =>
  Effect.mapInputContext(effect, (context: Context.Context<R>) => Context.add(context, CurrentTransaction, transaction))
