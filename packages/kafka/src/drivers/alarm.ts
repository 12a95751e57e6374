/**
 * What one fiber waits for that goes to sleep again and again: until somebody wakes it, and at the latest until a time
 * that it names anew each time.
 *
 * It is made for many short naps: to race each with a timer of its own would cost more than all else that is done in
 * between, and what waits with a finalizer is garbage that gets old.
 */
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import type * as Scope from "effect/Scope"

export interface Alarm {
  /** Wakes the sleeper, or the next one. */
  readonly ring: () => void
  /** Whether it has rung is forgotten. */
  readonly silence: () => void
  /**
   * Sleeps until it rings, if it has not yet. It does at this time, in milliseconds, and perhaps earlier: where it was
   * set to an earlier time once, it is left at that.
   */
  readonly sleep: (until: number) => Effect.Effect<void>
}

export const make: Effect.Effect<Alarm, never, Scope.Scope> = Effect.gen(function*() {
  const clock = yield* Effect.clock
  const timer = yield* FiberHandle.make<void>()
  let ringing = false
  let sleeper: ((effect: Effect.Effect<void>) => void) | undefined = undefined
  let setTo = Infinity

  const ring = (): void => {
    ringing = true
    const resume = sleeper
    sleeper = undefined
    resume?.(Effect.void)
  }
  const silence = (): void => {
    ringing = false
  }
  const timeout = Effect.sync(() => {
    setTo = Infinity
    ring()
  })
  const set = (at: number) => {
    setTo = at
    return FiberHandle.run(timer, Effect.delay(timeout, Math.max(0, at - clock.unsafeCurrentTimeMillis())))
  }
  // one that was interrupted is rung for nothing, and the next does not sleep
  const asleep = Effect.async<void>((resume) => {
    if (ringing) resume(Effect.void)
    else sleeper = resume
  })
  const sleep = (until: number): Effect.Effect<void> =>
    Effect.map(
      Effect.suspend(() => until < setTo && !ringing ? Effect.zipRight(set(until), asleep) : asleep),
      silence
    )

  return { ring, silence, sleep }
})
