/**
 * A deadline that holds everywhere.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/**
 * `Effect.timeoutFail` waits for the effect where it can't be interrupted, as the end of a transaction can't be: for ever,
 * if the effect tries again for ever. Here it is a fiber of its own that can.
 */
export const inTime = <A, E, R, E2>(
  effect: Effect.Effect<A, E, R>,
  options: { readonly duration: Duration.DurationInput; readonly onTimeout: () => E2 }
): Effect.Effect<A, E | E2, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      Effect.forkDaemon(Effect.interruptible(Effect.timeoutFail(effect, options))),
      (fiber) => Effect.onInterrupt(restore(Fiber.join(fiber)), () => Fiber.interrupt(fiber))
    )
  )
