/**
 * Transactions: one at a time, each with an effect whose records are committed together, or not at all.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { GroupMetadata, OffsetAndMetadata, ProducerSession, SendError } from "../../KafkaClient.ts"
import { type CommitError, ProducerError, ProducerFencedError, TransactionError } from "../../KafkaError.ts"
import type { Emit } from "../observe.ts"
import { invalid } from "./partition.ts"
import type { Sender } from "./sender.ts"

/** The transaction that an effect is in. Whoever consumes and produces exactly once sends its offsets through it. */
export interface Transaction {
  /** The one it is inside of, which is another producer's. */
  readonly outer: Transaction | undefined
  /** `false` from the moment its effect has ended. */
  open: boolean
  /** Whether the producer is closed before its effect has ended, and sees to the abort itself. */
  abandoned: boolean
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

/** Whether a transaction is this one, or inside of it. */
export const isWithin = (innermost: Transaction | undefined, one: Transaction): boolean => {
  for (let at = innermost; at !== undefined; at = at.outer) if (at === one) return true
  return false
}

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
  /** In milliseconds. */
  readonly closeTimeout: number
  readonly emit: Emit
}): Effect.Effect<Transactions, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { closeTimeout, emit, sender, session, transactionTimeout, transactionalId } = options
    const oneAtATime = yield* Effect.makeSemaphore(1)
    let current: Transaction | undefined

    /** What the driver says of a transaction. A producer that is fenced never sends again. */
    const asked = <A, E extends SendError | CommitError>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.tapError(effect, (error) =>
        Effect.sync(() => {
          if (error._tag === "ProducerFencedError") sender.die(error)
        }))

    const unlessOver = Effect.suspend(() => {
      const over = sender.refusal("a transaction")
      return over === undefined ? Effect.void : Effect.fail(over)
    })

    const begin = (outer: Transaction | undefined): Effect.Effect<Transaction, SendError> => {
      const transaction: Transaction = {
        outer,
        open: true,
        abandoned: false,
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
      return unlessOver.pipe(
        Effect.zipRight(asked(session.begin)),
        Effect.zipRight(unlessOver),
        Effect.map(() => current = transaction)
      )
    }

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
        Effect.matchCauseEffect(transaction.abandoned ? Effect.void : abort, {
          onFailure: (andToo) =>
            Effect.failCause(Cause.sequential(cause, andToo)),
          onSuccess: () => Effect.failCause(cause)
        }))
    }

    /**
     * The broker fences a producer whose transaction took too long as it does one that was followed by another. The
     * clock tells which of the two is the reason, unless it is both. A commit in doubt stays in doubt.
     */
    const timedOut = <E>(cause: Cause.Cause<E>, startedAt: number): Cause.Cause<E | TransactionError> => {
      const failures = Cause.failures(cause)
      if (sender.now() - startedAt < transactionTimeout || Chunk.some(failures, isCommitInDoubt)) {
        return cause
      }
      const fenced = Chunk.findFirst(failures, (error) =>
        error instanceof ProducerFencedError)
      return Option.isNone(fenced)
        ? cause
        : Cause.fail(new TransactionError({ reason: "timed-out", transactionTimeout, cause: fenced.value }))
    }

    const listeners: Array<() => void> = []
    const ended = Effect.async<void>((resume) => {
      if (current === undefined) resume(Effect.void)
      else listeners.push(() => resume(Effect.void))
    })
    // one that is being ended may be; one whose effect still runs has lost its producer
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        sender.close()
        const over = sender.refusal("a transaction")
        const transaction = current
        if (transaction === undefined || over === undefined) return Effect.void
        if (transaction.open) {
          transaction.open = false
          transaction.abandoned = true
          transaction.failure ??= over
        }
        return Effect.timeoutOption(
          Effect.interruptible(transaction.abandoned ? Effect.ignore(abort) : ended),
          closeTimeout
        )
      })
    )

    const transact: Transactions["transact"] = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
      type Error = E | SendError | CommitError | TransactionError
      if (transactionalId === undefined) return Effect.fail(new TransactionError({ reason: "not-transactional" }))
      const run = (outer: Transaction | undefined): Effect.Effect<A, Error, R> =>
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(begin(outer), (transaction) => {
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
                  for (const listener of listeners.splice(0)) listener()
                  if (!emit.enabled) return
                  const outcome = Exit.isSuccess(exit) ? "committed" : "aborted"
                  emit({ _tag: "TransactionEnded", transactionalId, outcome, millis: sender.now() - startedAt })
                })
              )
            )
          })
        )
      return Effect.flatMap(CurrentTransaction, (outer): Effect.Effect<A, Error, R> =>
        current !== undefined && isWithin(outer, current)
          ? Effect.fail(new TransactionError({ reason: "nested" }))
          : oneAtATime.withPermits(1)(run(outer)))
    }

    return {
      current: () =>
        current,
      transact
    }
  })

/** A record in doubt has a topic. */
const isCommitInDoubt = (error: unknown): boolean =>
  error instanceof ProducerError && error.reason === "unknown-outcome" && error.topic === ""

/** A reference is nobody's requirement, so there is none to be taken away. */
const within = <A, E, R>(effect: Effect.Effect<A, E, R>, transaction: Transaction): Effect.Effect<A, E, R> =>
  Effect.mapInputContext(effect, (context: Context.Context<R>) => Context.add(context, CurrentTransaction, transaction))
