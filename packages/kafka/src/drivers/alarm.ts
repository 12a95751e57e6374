/**
 * What one fiber waits for that goes to sleep again and again: until somebody wakes it, and at the latest until a time
 * that it names anew each time.
 *
 * It is made for many short naps: to race each with a timer of its own would cost more than all else that is done in
 * between.
 */
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import type * as Scope from "effect/Scope"
import { Signal } from "./signal.ts"

export interface Alarm {
  /** Wakes the sleeper, or the next one. */
  readonly ring: () => void
  /** Whether it has rung is forgotten. */
  readonly silence: () => void
  /**
   * Sleeps until it rings, if it has not yet. It does at this time, in milliseconds, and perhaps earlier: where it was
   * set to an earlier time once, it is left at that. With `Infinity` only somebody else ends it.
   */
  readonly sleep: (until: number) => Effect.Effect<void>
}

export const make: Effect.Effect<Alarm, never, Scope.Scope> = Effect.gen(function*() {
  const clock = yield* Effect.clock
  const timer = yield* FiberHandle.make<void>()
  const signal = new Signal()
  let setTo = Infinity

  const timeout = Effect.sync(() => {
    setTo = Infinity
    signal.raise()
  })
  // it counts as set when it runs: who goes to sleep may be interrupted while setting it
  const set = (at: number) =>
    FiberHandle.run(
      timer,
      Effect.suspend(() => {
        setTo = at
        return Effect.delay(timeout, Math.max(0, at - clock.unsafeCurrentTimeMillis()))
      })
    )
  const sleep = (until: number): Effect.Effect<void> =>
    Effect.suspend(() => until < setTo && !signal.isRaised ? Effect.zipRight(set(until), signal.wait) : signal.wait)

  return { ring: () => signal.raise(), silence: () => void signal.take(), sleep }
})
