/**
 * A flag that can be waited for. Raised while nobody waits, it ends the next wait at once.
 */
import * as Effect from "effect/Effect"

export class Signal {
  private raised = false
  private resume: ((effect: Effect.Effect<void>) => void) | undefined
  private readonly taken = Effect.sync(() => {
    this.raised = false
  })

  get isRaised(): boolean {
    return this.raised
  }

  raise(): void {
    this.raised = true
    const { resume } = this
    this.resume = undefined
    resume?.(this.taken)
  }

  /** Whether it was raised since it was last taken. */
  take(): boolean {
    const { raised } = this
    this.raised = false
    return raised
  }

  /**
   * For one waiter at a time. Takes the flag, unless it is interrupted in the moment it is told: then it stays up. One
   * that was interrupted before is told for nothing, and the next does not wait: that needs no finalizer, which would be
   * garbage that gets old.
   */
  readonly wait: Effect.Effect<void> = Effect.async<void>((resume) => {
    if (this.raised) resume(this.taken)
    else this.resume = resume
  })
}
