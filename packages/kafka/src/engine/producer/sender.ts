/**
 * The fibers around the accumulator: what is ready goes to the driver's session, answers go back. There are as many
 * lanes as the session may have requests under way, mostly one; and one timer.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberHandle from "effect/FiberHandle"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { PCGRandom } from "effect/Utils"
import type { BatchResult, ProducerSession, SendError } from "../../KafkaClient.ts"
import { ProducerError } from "../../KafkaError.ts"
import type { Emit } from "../observe.ts"
import { Accumulator, type Batch, type Entry } from "./accumulator.ts"
import type { Settings } from "./settings.ts"

export interface Sender {
  readonly accumulator: Accumulator
  /** Milliseconds since the producer was opened, by Effect's Clock: small numbers are cheap to keep. */
  readonly now: () => number
  /** The same moment as milliseconds since 1970. */
  readonly timestamp: (now: number) => bigint
  /** Why nothing is taken any more, for a record of this topic. */
  readonly refusal: (topic: string) => SendError | undefined
  /** Nothing is taken from now on. What was taken goes on. */
  readonly close: () => void
  readonly append: (entry: Entry, now: number) => void
  readonly withdraw: (entry: Entry) => void
  /** Until all that was taken before is settled. */
  readonly flush: Effect.Effect<void>
  /** Until no request is under way. One may outlive its records, whose time can be over before it is answered. */
  readonly quiet: Effect.Effect<void>
  /** From now on everything fails with this, what waits included. */
  readonly die: (error: SendError) => void
}

const backoffFirst = 100
const backoffMost = 1000
const smallRequest = 32_768

export const make = (options: {
  readonly session: ProducerSession
  readonly settings: Settings
  readonly clientId: string
  readonly emit: Emit
  /** Told of records that failed after they were taken. */
  readonly onFailed: (error: SendError) => void
}): Effect.Effect<Sender, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { clientId, emit, session, settings } = options
    const clock = yield* Effect.clock
    const openedAt = clock.unsafeCurrentTimeMillis()
    const now = () => clock.unsafeCurrentTimeMillis() - openedAt
    const random = new PCGRandom(yield* Random.nextInt)
    const timer = yield* FiberHandle.make<void>()

    const accumulator = new Accumulator({
      batchSize: settings.batchSize,
      maxRequestSize: settings.maxRequestSize,
      smallRequest,
      bufferMemory: settings.bufferMemory,
      linger: settings.linger,
      resendUnknown: settings.onUnknownOutcome === "resend",
      // whole milliseconds: a timer that is a fraction early would find nothing to do, again and again
      backoff: (attempt) =>
        Math.round(Math.min(backoffMost, backoffFirst * 2 ** (attempt - 1)) * (0.8 + 0.4 * random.number())),
      random: (limit) => random.integer(limit),
      onFailed: (topic, partition, records, error) => {
        options.onFailed(error)
        if (emit.enabled) emit({ _tag: "ProduceFailed", clientId, topic, partition, records, error })
      }
    })

    // -- waking ---------------------------------------------------------------------------------------------------

    const parked: Array<() => void> = []
    let signalled = false
    const wake = (): void => {
      const lane = parked.pop()
      if (lane === undefined) signalled = true
      else lane()
    }
    const park = Effect.async<void>((resume) => {
      if (signalled) {
        signalled = false
        resume(Effect.void)
      } else {
        parked.push(() => resume(Effect.void))
      }
    })

    let underWay = 0
    const listeners: Array<() => void> = []
    const setUnderWay = (requests: number): void => {
      underWay = requests
      if (requests === 0) { for (const listener of listeners.splice(0)) listener() }
    }
    const quiet = Effect.async<void>((resume) => {
      if (underWay === 0) resume(Effect.void)
      else listeners.push(() => resume(Effect.void))
    })

    // -- the timer ------------------------------------------------------------------------------------------------

    let armedFor = Infinity
    const sleepUntil = (at: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        armedFor = at
        return Effect.sleep(Math.max(0, at - now()))
      }).pipe(
        Effect.flatMap(() => {
          accumulator.expire(now())
          wake()
          armedFor = accumulator.nextDeadline
          return armedFor === Infinity ? Effect.void : sleepUntil(armedFor)
        })
      )
    /** Mostly it is set for something earlier already. */
    const arming = (): Effect.Effect<unknown> | undefined => {
      const at = Math.min(accumulator.nextReady, accumulator.nextDeadline)
      return at < armedFor ? FiberHandle.run(timer, sleepUntil(at)) : undefined
    }

    // -- the lanes ------------------------------------------------------------------------------------------------

    const settle = (batches: ReadonlyArray<Batch>, results: ReadonlyArray<BatchResult>, sentAt: number): void => {
      const at = now()
      for (let i = 0; i < batches.length; i++) {
        const batch = batches[i]!
        const result = results[i]!
        const { bytes, partition, topic } = batch
        const records = batch.records.length
        const meaning = accumulator.settle(batch, result, at)
        if (result._tag === "Failed" && result.error._tag === "ProducerFencedError") die(result.error)
        if (!emit.enabled) continue
        tellConnection(result._tag === "Stored" ? "connected" : result.error._tag)
        if (meaning === "stored") {
          emit({ _tag: "Produced", clientId, topic, partition, records, bytes, millis: at - sentAt })
        } else if (meaning !== "failed") {
          emit({ _tag: "ProduceRetried", clientId, topic, partition, records, attempt: batch.attempts })
        }
      }
      tellBuffered()
    }

    let connected = true
    /** Whether the cluster is there, as the answers show it; what else went wrong says nothing of it. */
    const tellConnection = (answer: "connected" | SendError["_tag"]): void => {
      if (answer !== "connected" && answer !== "KafkaConnectionError") return
      if (connected === (answer === "connected")) return
      connected = !connected
      emit({ _tag: "Connection", clientId, state: connected ? "connected" : "disconnected" })
    }

    const tellBuffered = (): void => {
      if (!emit.enabled) return
      emit({ _tag: "ProducerBuffered", clientId, records: accumulator.pending, bytes: accumulator.bufferedBytes })
    }

    const round = (): Effect.Effect<void> => {
      const at = now()
      accumulator.expire(at)
      // two requests that take turns: one is made while the broker sees to the other
      const batches = accumulator.drain(at, underWay === 0 && session.maxInFlight > 1)
      const arm = arming()
      if (batches.length === 0) return arm === undefined ? park : Effect.zipRight(arm, park)
      if (accumulator.nextReady <= at) wake()
      tellBuffered()
      underWay++
      const sent = Effect.map(session.send(batches), (results) => {
        setUnderWay(underWay - 1)
        settle(batches, results, at)
      })
      return arm === undefined ? sent : Effect.zipRight(arm, sent)
    }
    const lane = Effect.whileLoop({ while: () => true, body: round, step: () => {} }).pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          // one that ends takes the producer with it
          setUnderWay(0)
          if (Exit.isFailure(exit)) crashed(exit.cause)
        })
      )
    )

    // -- the end --------------------------------------------------------------------------------------------------

    let refusal: ((topic: string) => SendError) | undefined
    const closed = (topic: string, partition?: number, inFlight = false): SendError =>
      new ProducerError({
        topic,
        ...(partition === undefined ? {} : { partition }),
        reason: "closed",
        retriable: !inFlight,
        description: inFlight ? "closed before the broker answered" : "the producer is closed"
      })
    const refuse = (error: (topic: string) => SendError): void => {
      if (refusal !== undefined) return
      refusal = error
      accumulator.failAll((_, topic) => error(topic))
    }
    const die = (error: SendError): void => refuse(() => error)
    const crashed = (cause: Cause.Cause<never>): void =>
      refuse((topic) =>
        new ProducerError({
          topic,
          reason: "closed",
          retriable: false,
          description: "the producer died of a defect in its driver or in itself: see the cause",
          cause
        })
      )

    const flush = Effect.async<void>((resume) => {
      const cancel = accumulator.flush(() => resume(Effect.void))
      wake()
      return Effect.sync(cancel)
    })

    yield* Effect.forEach(Array.from({ length: Math.max(1, session.maxInFlight) }), () => Effect.forkScoped(lane), {
      discard: true
    })
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        refusal ??= closed
        accumulator.hurry()
        wake()
        return Effect.timeoutOption(Effect.interruptible(flush), settings.closeTimeout)
      }).pipe(
        Effect.zipRight(
          Effect.sync(() => accumulator.failAll((inFlight, topic, partition) => closed(topic, partition, inFlight)))
        )
      )
    )

    let stampedAt = -1
    let stamp = 0n

    return {
      accumulator,
      now,
      timestamp: (now) => {
        if (now !== stampedAt) {
          stampedAt = now
          stamp = BigInt(Math.floor(openedAt + now))
        }
        return stamp
      },
      refusal: (topic) => refusal?.(topic),
      close: () => void (refusal ??= closed),
      append: (entry, now) => {
        if (accumulator.append(entry, now)) wake()
      },
      withdraw: (entry) => accumulator.withdraw(entry, now()),
      flush,
      quiet,
      die
    }
  })
