/** What has failed: the library, the handler as it may, or the handler by a fault of its own. */
import * as Cause from "effect/Cause"
import * as ConfigError from "effect/ConfigError"
import type { Failure } from "../../ConsumerWorker.ts"
import { ConsumerError, isKafkaError, type KafkaError } from "../../KafkaError.ts"

/** A handler that threw or died has a fault that does not go away. */
export const isDefect = (error: unknown): boolean => isKafkaError(error) && error._tag === "HandlerDefectError"

/** Of this library, and not the handler's own. */
export const isOwn = <E>(error: E | Failure): error is Failure =>
  isKafkaError(error) || ConfigError.isConfigError(error)

/** What ended a worker, for those who watch. */
export const ofWorker = (groupId: string, cause: Cause.Cause<unknown>): KafkaError => {
  const error = Cause.squash(cause)
  if (isKafkaError(error)) return error
  return new ConsumerError({
    reason: "crashed",
    groupId,
    description: `its worker has failed: ${error instanceof Error ? error.message : String(error)}`,
    cause: error
  })
}
