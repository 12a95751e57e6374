/**
 * How the engine tells the {@link KafkaObserver} what happens: at no cost where nobody looks, and at no risk where the
 * observer throws.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import { type KafkaEvent, KafkaObserver } from "../KafkaEvent.ts"

/** Tells the observer. Look at `enabled` before an event is built. */
export interface Emit {
  (event: KafkaEvent): void
  readonly enabled: boolean
}

/**
 * The observer in scope, to whom one consumer or producer is a source of its own. What it throws is logged the first time, and harms nothing.
 *
 * ```ts
 * import { Effect } from "effect"
 * import * as Observe from "./observe.ts"
 *
 * Effect.gen(function*() {
 *   const emit = yield* Observe.make
 *   if (emit.enabled) emit({ _tag: "Rebalancing", groupId: "kitchen" })
 * })
 * ```
 */
export const make: Effect.Effect<Emit> = Effect.gen(function*() {
  const observer = yield* KafkaObserver
  const runFork = Runtime.runFork(yield* Effect.runtime())
  const source = {}
  let warned = false
  const emit = (event: KafkaEvent): void => {
    if (!observer.enabled) return
    try {
      observer.onEvent(event, source)
    } catch (error) {
      if (warned) return
      warned = true
      runFork(Effect.logWarning(`the KafkaObserver threw on ${event._tag}; said once`, Cause.die(error)))
    }
  }
  return Object.defineProperty(emit as typeof emit & { enabled: boolean }, "enabled", { get: () => observer.enabled })
})
