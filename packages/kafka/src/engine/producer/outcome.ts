/**
 * What becomes of something, for whoever wants to know, now or later.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { SendError } from "../../KafkaClient.ts"

type Resume<A> = (exit: Exit.Exit<A, SendError>) => void

export class Outcome<A> {
  exit: Exit.Exit<A, SendError> | undefined = undefined
  private waiting: Array<Resume<A>> | undefined = undefined

  settle(exit: Exit.Exit<A, SendError>): void {
    const { waiting } = this
    this.exit = exit
    this.waiting = undefined
    if (waiting !== undefined) { for (const resume of waiting) resume(exit) }
  }

  /** Tells as soon as it is known. */
  listen(resume: Resume<A>): void {
    if (this.exit !== undefined) resume(this.exit)
    else (this.waiting ??= []).push(resume)
  }

  /** For whoever asks, and as often as they do. */
  get await(): Effect.Effect<A, SendError> {
    return Effect.suspend(() =>
      this.exit ?? Effect.async((resume) => {
        this.listen(resume)
        return Effect.sync(() => {
          if (this.waiting !== undefined) this.waiting = this.waiting.filter((one) => one !== resume)
        })
      })
    )
  }
}
