/**
 * Commits: taken in from streams, merged into one request at a time, tried again while that may help, and answered.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Assignment } from "../../ConsumerRecord.ts"
import { type ClientError, CommitError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { type Batch, CommitBook, Deferred as DeferredCommits, isCurrent } from "./CommitBook.ts"
import type { EngineContext } from "./EngineContext.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"
import * as Retry from "./Retry.ts"
import type { StreamError } from "./StreamError.ts"

/** The broker knew another generation than the request. */
const generational: ReadonlySet<CommitError["reason"]> = new Set(["rebalancing", "stale", "fenced"])

export class Commits {
  readonly book = new CommitBook()
  /** When the last request was confirmed, in milliseconds. */
  lastAt: number | undefined = undefined
  /** Since when the broker has not answered to commits, in milliseconds. */
  private unansweredSince: number | undefined = undefined
  /** Whether the request that failed last may succeed later. */
  private recoverable = false
  private readonly context: EngineContext
  /** Why nothing is committed any more. */
  private closed: StreamError | undefined = undefined

  constructor(context: EngineContext) {
    this.context = context
  }

  /** The assignment as one of this consumer's own that may still commit. */
  private ownOf(assignment: Assignment): PartitionBuffer | undefined {
    const partition = this.context.partitions.get(TopicPartition.key(assignment.topicPartition))
    return partition === assignment && isCurrent(partition) ? partition : undefined
  }

  commit(offsets: ReadonlyMap<Assignment, bigint>): Effect.Effect<void, CommitError> {
    return Effect.async<void, CommitError>((resume) => {
      const stale: Array<Assignment> = []
      const current: Array<readonly [PartitionBuffer, bigint]> = []
      for (const [assignment, offset] of offsets) {
        const partition = this.ownOf(assignment)
        if (partition === undefined) stale.push(assignment)
        else current.push([partition, offset])
      }
      if (this.closed !== undefined) {
        return resume(Effect.fail(this.commitError("closed", [...offsets.keys()], this.closed)))
      }
      if (current.length === 0) {
        return resume(stale.length === 0 ? Effect.void : Effect.fail(this.commitError("stale", stale)))
      }
      this.book.add(current, (failure, ended) => {
        if (failure !== undefined) return resume(Effect.fail(failure))
        for (const [partition] of current) if (ended.has(partition)) stale.push(partition)
        resume(stale.length === 0 ? Effect.void : Effect.fail(this.commitError("stale", stale)))
      })
      this.context.session.wake()
    })
  }

  /** Offsets that may wait for company. */
  makeDeferred(
    limit: number,
    within: number,
    collect?: () => Iterable<readonly [PartitionBuffer, bigint]>
  ): DeferredCommits {
    const deferred = new DeferredCommits(limit, within, collect)
    this.book.deferred.add(deferred)
    return deferred
  }

  defer(deferred: DeferredCommits, assignment: Assignment, offset: bigint, records: number): void {
    const partition = this.ownOf(assignment)
    if (partition === undefined) return this.reportStale([assignment])
    this.book.defer(deferred, partition, offset)
    this.touch(deferred, records)
    if (partition.status === "revoking") this.context.session.wake()
  }

  /** So many more records are done, whose offsets will be collected. */
  touch(deferred: DeferredCommits, records: number, now: number = this.context.now()): void {
    if (deferred.touch(records, now)) this.context.session.wake()
  }

  /** Sends what was deferred, and waits for it. */
  flush(deferred: DeferredCommits): Effect.Effect<void, CommitError> {
    return Effect.suspend(() => {
      const offsets = deferred.drain()
      for (const partition of offsets.keys()) {
        if (isCurrent(partition)) continue
        offsets.delete(partition)
        this.reportStale([partition])
      }
      return Effect.catchIf(this.commit(offsets), (error) => error.reason === "stale", () => Effect.void)
    })
  }

  dropDeferred(deferred: DeferredCommits): void {
    this.book.deferred.delete(deferred)
  }

  private commitError(
    reason: CommitError["reason"],
    partitions: Iterable<Assignment>,
    cause?: unknown
  ): CommitError {
    return new CommitError({ reason, partitions: [...partitions].map((one) => one.topicPartition), cause })
  }

  /** Deferred offsets that came too late: their records are read again by whoever owns the partition now. */
  private reportStale(partitions: ReadonlyArray<Assignment>): void {
    if (!this.context.emit.enabled || partitions.length === 0) return
    this.context.emit({
      _tag: "CommitFailed",
      groupId: this.context.settings.groupId,
      partitions: partitions.map((one) => one.topicPartition),
      error: this.commitError("stale", partitions),
      willRetry: false
    })
  }

  /** Sends what is to be sent, where nothing is under way. */
  send(): Effect.Effect<void> {
    const batch = this.book.begin()
    if (batch === undefined) return Effect.void
    const startedAt = this.context.now()
    const attempt = Effect.suspend(() => {
      this.book.dropStale()
      const offsets = [...batch.offsets].map(([one, offset]) => ({ ...one.topicPartition, offset }))
      return offsets.length === 0 ? Effect.void : this.context.session.commit(offsets)
    })
    const toError = ({ error, retriable }: {
      readonly error: CommitError | ClientError
      readonly retriable: boolean
    }): CommitError => {
      this.recoverable = retriable
      if (error._tag === "CommitError") return error
      const reason = error._tag === "KafkaAuthorizationError" || error._tag === "KafkaAuthenticationError" ||
          (error._tag === "KafkaRequestError" && !error.retriable)
        ? "refused"
        : "timeout"
      return this.commitError(reason, batch.offsets.keys(), error)
    }
    const request = Retry.until(attempt, {
      deadline: startedAt + this.context.settings.commitTimeout,
      // The broker knew another generation: where the assignment outlives it the next try says the new one, and where it
      // does not, its partitions are taken out before the next try.
      retriable: ({ error, retriable }) =>
        retriable || (error._tag === "CommitError" && generational.has(error.reason)),
      onRetry: (failure) => this.emitCommitFailed(batch, failure.error, true)
    }).pipe(
      Effect.mapError(toError),
      Effect.timeoutFail({
        duration: this.context.settings.commitTimeout,
        onTimeout: () => {
          this.recoverable = true
          return this.commitError("timeout", batch.offsets.keys())
        }
      }),
      Effect.tap(() =>
        Effect.sync(() => {
          this.lastAt = this.context.now()
          this.unansweredSince = undefined
          if (!this.context.emit.enabled || batch.offsets.size === 0) return
          this.context.emit({
            _tag: "Committed",
            groupId: this.context.settings.groupId,
            offsets: [...batch.offsets].map(([one, offset]) => ({ ...one.topicPartition, offset })),
            millis: this.lastAt - startedAt
          })
        })
      ),
      Effect.exit,
      Effect.flatMap((exit) => Effect.sync(() => this.context.tell({ _tag: "CommitEnded", exit })))
    )
    return Effect.asVoid(Effect.forkIn(request, this.context.scope))
  }

  private emitCommitFailed(batch: Batch, error: CommitError | ClientError, willRetry: boolean): void {
    if (!this.context.emit.enabled) return
    this.context.emit({
      _tag: "CommitFailed",
      groupId: this.context.settings.groupId,
      partitions: [...batch.offsets.keys()].map((one) => one.topicPartition),
      error,
      willRetry
    })
  }

  /** Whether commits have gone unanswered for so long that streams, which nobody waits for, have to be told. */
  private isUnavailable(): boolean {
    const { commitTimeout, unavailableAfter } = this.context.settings
    const now = this.context.now()
    this.unansweredSince ??= now - commitTimeout
    return now - this.unansweredSince >= unavailableAfter
  }

  /** What became of the request under way. */
  onEnded(exit: Exit.Exit<void, CommitError>): void {
    if (Exit.isSuccess(exit)) {
      const batch = this.book.confirm()
      if (batch === undefined) return
      if (batch.deferred && batch.stale.size > 0) this.reportStale([...batch.stale])
      for (const settle of batch.waiting) settle(undefined, batch.stale)
      return
    }
    const batch = this.book.reject()
    if (batch === undefined) return
    const error = Option.getOrElse(
      Cause.failureOption(exit.cause),
      () => this.commitError("closed", batch.offsets.keys(), Cause.squash(exit.cause))
    )
    const again = batch.deferred && error.reason === "timeout" && this.recoverable && !this.isUnavailable()
    this.emitCommitFailed(batch, error, again)
    for (const settle of batch.waiting) settle(error, batch.stale)
    if (again) return this.book.again(batch)
    if (!batch.deferred || error.reason === "stale") return
    for (const partition of batch.offsets.keys()) this.context.laneOf(partition)?.finish(Option.some(error))
  }

  /** Nothing is sent any more: everybody who waits is told. */
  close(reason: StreamError): void {
    this.closed = reason
    for (const batch of this.book.abandon()) {
      if (batch.waiting.length === 0) continue
      const failure = this.commitError("closed", batch.offsets.keys(), reason)
      for (const settle of batch.waiting) settle(failure, batch.stale)
    }
  }
}
