/**
 * A flag that can be waited for. Raised while nobody waits, it ends the next wait at once.
 */
import * as Effect from "effect/Effect"

export class Signal {
  private raised = false
  private resume: (() => void) | undefined

  raise(): void {
    this.raised = true
    const { resume } = this
    this.resume = undefined
    resume?.()
  }

  /** Whether it was raised since it was last taken. */
  take(): boolean {
    const { raised } = this
    this.raised = false
    return raised
  }

  /** For one waiter at a time. Takes the flag, unless it is interrupted in the moment it is told: then it stays up. */
  readonly wait: Effect.Effect<void> = Effect.async<void>((resume) => {
    const taken = Effect.sync(() => {
      this.raised = false
    })
    if (this.raised) return resume(taken)
    this.resume = () => resume(taken)
    return Effect.sync(() => {
      this.resume = undefined
    })
  })
}
