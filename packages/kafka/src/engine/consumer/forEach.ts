/**
 * `forEach`: a handler for each record, many at a time, in the order asked for. A fixed number of workers takes records
 * from the scheduler; no fiber is made for a record.
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as ConsumerRecord from "../../ConsumerRecord.ts"
import type { Lane } from "./Lane.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"
import type { RunLoop } from "./RunLoop.ts"
import { type Ordering, Scheduler, type Task } from "./Scheduler.ts"
import type { StreamError } from "./StreamError.ts"
import type * as streams from "./streams.ts"

export interface ForEachOptions {
  readonly concurrency: number
  readonly ordering: Ordering
  /** After how many handled records a commit is sent, in any case. */
  readonly commitCount: number
  /** How long a handled record may wait for its commit, in milliseconds. */
  readonly commitWithin: number
  /** How far a partition may be ahead of its watermark, in records. */
  readonly maxAhead: number
  /** How long running handlers may go on once the consumer stops, in milliseconds. */
  readonly gracePeriod: number
  readonly hooks?: Hooks | undefined
}

/** What a worker asks of `forEach`, beside what everybody may. */
export interface Hooks {
  /** The earliest time for a record, in milliseconds since 1970: it holds up what has to wait for it, and no worker. */
  readonly notBefore?: ((record: ConsumerRecord.Any) => number) | undefined
  /** Records of a chain are handled together, so many at most: the handler is given all of them as well. */
  readonly batch?: number | undefined
  /** The first assignment has come, and it is known where to start. */
  readonly onPositioned?: (() => void) | undefined
}

/** Under this name a worker's hooks are among the options of `forEach`. */
export const HooksId = "~@coffeebuddy/kafka/forEach/Hooks"

/** What a handler answers that is to be asked again later about the same record, or the same records. */
export class Postponed {
  /** In milliseconds since 1970. */
  readonly until: number
  constructor(until: number) {
    this.until = until
  }
}

export type Handler<E, R> = (
  record: ConsumerRecord.Any,
  batch?: ReadonlyArray<ConsumerRecord.Any>
) => Effect.Effect<unknown, E, R>

/** Records of one partition, decoded, in order; fails with `None` at the end. */
export type Pull<E, R> = Effect.Effect<Chunk.Chunk<streams.Element>, Option.Option<E>, R>

/** Waiters that are woken one by one. */
class Bell {
  private readonly waiting: Array<() => void> = []
  private readonly idle: () => boolean
  /** Who comes to wait while there is something to do does not: it may have missed the bell. */
  constructor(idle: () => boolean) {
    this.idle = idle
  }
  readonly wait: Effect.Effect<void> = Effect.async<void>((resume) => {
    const ring = () => resume(Effect.void)
    if (!this.idle()) return ring()
    this.waiting.push(ring)
    return Effect.sync(() => {
      const index = this.waiting.indexOf(ring)
      if (index >= 0) this.waiting.splice(index, 1)
    })
  })
  ring(count: number): void {
    for (let i = 0; i < count; i++) {
      const next = this.waiting.pop()
      if (next === undefined) return
      next()
    }
  }
}

/** How long handlers take, to the millisecond: gathered for a chunk's worth of records, and only where somebody looks. */
class Times {
  private readonly loop: RunLoop
  private readonly taken = new Map<PartitionBuffer, Array<number>>()
  constructor(loop: RunLoop) {
    this.loop = loop
  }
  get enabled(): boolean {
    return this.loop.emit.enabled
  }
  add(partition: PartitionBuffer, millis: number): void {
    const taken = this.taken.get(partition)
    if (taken === undefined) this.taken.set(partition, [millis])
    else if (taken.push(millis) >= this.loop.settings.maxPollRecords) this.tell(partition)
  }
  tell(partition: PartitionBuffer): void {
    const millis = this.taken.get(partition)
    if (millis === undefined) return
    this.taken.delete(partition)
    this.loop.emit({
      _tag: "Handled",
      groupId: this.loop.settings.groupId,
      topicPartition: partition.topicPartition,
      millis
    })
  }
}

export const run = <E, R, E2, R2>(
  loop: RunLoop,
  lane: Lane<StreamError>,
  pull: Pull<E2, R2>,
  handler: Handler<E, R>,
  options: ForEachOptions
): Effect.Effect<void, E | E2 | StreamError, R | R2 | Scope.Scope> =>
  Effect.gen(function*() {
    const { settings } = loop
    const scheduler = new Scheduler<ConsumerRecord.Any>(options.ordering, {
      waiting: settings.maxPollRecords,
      ahead: Math.max(options.maxAhead, settings.maxPollRecords)
    }, { now: loop.now, notBefore: options.hooks?.notBefore ?? (() => 0) })
    let ended = false
    const allDone = () => ended && !scheduler.inHand
    const bell = new Bell(() => !allDone() && (scheduler.available === 0 || loop.isHeldBack))
    const over = yield* Deferred.make<void>()

    const deferred = yield* Effect.acquireRelease(
      Effect.sync(() =>
        loop.commits.makeDeferred(options.commitCount, options.commitWithin, function*() {
          for (const partition of scheduler.works.keys()) {
            const watermark = scheduler.watermark(partition)
            if (watermark !== undefined) yield [partition, watermark] as const
          }
        })
      ),
      (deferred) =>
        Effect.zipRight(
          Effect.ignore(loop.commits.flush(deferred)),
          Effect.sync(() => loop.commits.dropDeferred(deferred))
        )
    )

    lane.commits = true
    lane.inHand = (partition) => {
      const work = scheduler.works.get(partition)
      if (work === undefined) return false
      if (work.inHand) return true
      const watermark = scheduler.watermark(partition)
      return watermark !== undefined && watermark > (partition.committed ?? partition.start)
    }
    lane.onRemoved = (partition) => {
      scheduler.withdraw(partition, loop.now() + settings.revokeTimeout)
      if (partition.status === "ended") scheduler.remove(partition)
      if (allDone()) bell.ring(options.concurrency)
    }
    lane.onGoOn = () => bell.ring(options.concurrency)

    /** What the timekeeper waits for now, in milliseconds. */
    let watched = Infinity
    const alarm = new Bell(() => scheduler.dueAt >= watched)
    const watchTime = (): void => {
      if (scheduler.dueAt < watched) alarm.ring(1)
    }
    /** Lets records be handled whose time has come. */
    const keepTime = Effect.forever(Effect.suspend(() => {
      scheduler.release()
      bell.ring(Math.min(options.concurrency, scheduler.available))
      watched = scheduler.dueAt
      return watched === Infinity
        ? alarm.wait
        : Effect.raceFirst(Effect.sleep(Duration.millis(watched - loop.now())), alarm.wait)
    }))

    /** Takes records from the lane until a partition has enough of them. */
    const feed: Effect.Effect<void, E2, R2> = Effect.matchEffect(pull, {
      onSuccess: (chunk) => {
        // a chunk comes from one slice, so its records share their assignment, which is one of this consumer's buffers
        const records = Chunk.toReadonlyArray(chunk) as ReadonlyArray<ConsumerRecord.Any>
        const partition = records[0]?.assignment as PartitionBuffer
        if (partition.status === "active") {
          scheduler.add(partition, records)
          const work = scheduler.works.get(partition)
          if (work !== undefined && scheduler.isSaturated(work)) lane.hold(partition)
          watchTime()
          bell.ring(Math.min(options.concurrency, scheduler.available))
        }
        return feed
      },
      onFailure: Option.match({
        onNone: () => Effect.void,
        onSome: (error: E2) => Effect.fail(error)
      })
    })

    const times = new Times(loop)
    /** A worker is done with a record, or with several: for good, or for now. */
    const settled = (tasks: ReadonlyArray<Task<ConsumerRecord.Any>>, answer: unknown, now: number): void => {
      const { work } = tasks[0]!
      if (answer instanceof Postponed) scheduler.postpone(tasks, answer.until)
      else if (tasks.length === 1 ? scheduler.finish(tasks[0]!) : scheduler.finishAll(tasks)) {
        loop.commits.touch(deferred, tasks.length, now)
        if (work.ahead === 0) times.tell(work.partition)
      }
      watchTime()
      if (work.withdrawn) {
        if (work.inHand) return
        loop.wake()
        if (work.partition.status === "ended") scheduler.remove(work.partition)
        if (allDone()) bell.ring(options.concurrency)
      } else if (scheduler.hasRoom(work)) lane.release(work.partition)
    }

    const batch = options.hooks?.batch

    const worker: Effect.Effect<void, E, R> = Effect.suspend(() => {
      let task: Task<ConsumerRecord.Any> | undefined
      let tasks: ReadonlyArray<Task<ConsumerRecord.Any>> = []
      const timed = times.enabled
      // the end of one record is the beginning of the next: one look at the clock for each
      let now = loop.now()
      return Effect.whileLoop({
        while: () => {
          task = loop.isHeldBackAt(now) ? undefined : scheduler.next()
          return task !== undefined
        },
        body: () => {
          if (scheduler.available > 0) bell.ring(1)
          if (batch === undefined) {
            tasks = [task!]
            return handler(task!.record)
          }
          tasks = scheduler.following(task!, batch)
          return handler(task!.record, tasks.map((one) => one.record))
        },
        step: (answer) => {
          const startedAt = now
          now = loop.now()
          if (timed) times.add(task!.work.partition, Math.max(0, now - startedAt))
          settled(tasks, answer, now)
        }
      })
    }).pipe(
      Effect.flatMap(() => allDone() ? Effect.void : Effect.flatMap(bell.wait, () => worker))
    )

    const workers = Effect.forEach(Array.from({ length: options.concurrency }), () => worker, {
      concurrency: "unbounded",
      discard: true
    })
    const ending = Effect.sync(() => {
      ended = true
      scheduler.withdrawAll(loop.now() + options.gracePeriod)
      bell.ring(options.concurrency)
    }).pipe(Effect.zipRight(Deferred.succeed(over, undefined)))
    const grace = Deferred.await(over).pipe(Effect.zipRight(Effect.sleep(Duration.millis(options.gracePeriod))))

    // one failure ends all the others: what they were interrupted by is not part of the answer
    yield* Effect.catchAllCause(
      Effect.all([Effect.zipRight(feed, ending), Effect.raceFirst(Effect.raceFirst(workers, grace), keepTime)], {
        concurrency: "unbounded",
        discard: true
      }),
      (cause) =>
        Option.match(Cause.failureOption(cause), { onNone: () => Effect.failCause(cause), onSome: Effect.fail })
    )
    yield* loop.commits.flush(deferred)
  })
