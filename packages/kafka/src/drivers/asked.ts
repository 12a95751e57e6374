/**
 * Credentials and TLS settings, asked for where a client library wants a promise of them.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import type * as KafkaConfig from "../KafkaConfig.ts"
import { KafkaAuthenticationError } from "../KafkaError.ts"

/** They come within the connection timeout. It rejects with the error itself, to be found in what the library throws. */
export const asked = <A>(
  environment: {
    readonly config: KafkaConfig.Service
    readonly runtime: Runtime.Runtime<never>
    /** For errors to name. */
    readonly mechanism: string
  },
  effect: Effect.Effect<A, KafkaAuthenticationError>
): Promise<A> => {
  const bounded = Effect.timeoutFail(effect, {
    duration: environment.config.connectionTimeout,
    onTimeout: () =>
      new KafkaAuthenticationError({
        operation: "credentials",
        mechanism: environment.mechanism,
        kind: "unobtainable",
        reason: "they did not come within the connection timeout"
      })
  })
  return Runtime.runPromiseExit(environment.runtime)(bounded).then((exit) => {
    if (Exit.isSuccess(exit)) return exit.value
    throw Cause.squash(exit.cause)
  })
}
