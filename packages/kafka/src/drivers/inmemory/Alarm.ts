/**
 * Raises a signal at a time. One that is set already for as early or earlier is enough: whoever it wakes looks at the
 * clock and sets it again, so that waiting a thousand times does not make a thousand timers.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Signal } from "./Signal.ts"

export class Alarm {
  private readonly signal: Signal
  private readonly scope: Scope.Scope
  private at = Number.POSITIVE_INFINITY

  constructor(signal: Signal, scope: Scope.Scope) {
    this.signal = signal
    this.scope = scope
  }

  /** Raises the signal at this time at the latest, and perhaps before. */
  set(at: number, now: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (at >= this.at) return Effect.void
      this.at = at
      const ring = Effect.sync(() => {
        if (this.at === at) this.at = Number.POSITIVE_INFINITY
        this.signal.raise()
      })
      return Effect.asVoid(Effect.forkIn(Effect.zipRight(Clock.sleep(at - now), ring), this.scope))
    })
  }
}
