/**
 * Trying again what may succeed later, until a deadline.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { ClientError } from "../../KafkaError.ts"

const FIRST = 100
const MOST = 1000

/** Whether the same request may succeed later. */
export const isRetriable = (error: ClientError | { readonly _tag: string }): boolean =>
  error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
  (error._tag === "KafkaRequestError" && (error as ClientError & { readonly retriable: boolean }).retriable)

/**
 * Repeats an effect as long as its failure is retriable and the next try would begin before the deadline, with pauses
 * that double from 100 milliseconds up to a second.
 */
export const until = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: {
    /** In milliseconds since 1970, by Effect's Clock. */
    readonly deadline: number
    readonly retriable: (error: E) => boolean
    readonly onRetry?: ((error: E) => void) | undefined
  }
): Effect.Effect<A, E, R> => {
  const attempt = (pause: number): Effect.Effect<A, E, R> =>
    Effect.catchAll(effect, (error) =>
      Effect.clockWith((clock) => {
        if (!options.retriable(error) || clock.unsafeCurrentTimeMillis() + pause > options.deadline) {
          return Effect.fail(error)
        }
        options.onRetry?.(error)
        return Effect.zipRight(clock.sleep(Duration.millis(pause)), attempt(Math.min(pause * 2, MOST)))
      }))
  return attempt(FIRST)
}
