/**
 * The transaction that a fiber is in. `Producer.transaction` provides it to its effect; whoever consumes and produces
 * exactly once sends the consumed offsets through it.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { GroupMetadata, OffsetAndMetadata, SendError } from "../../KafkaClient.ts"
import type { CommitError } from "../../KafkaError.ts"

export interface Transaction {
  /** `false` from the moment its effect has ended. */
  open: boolean
  /** The first failure of a record or of offsets in it: it can only be aborted. */
  failure: SendError | CommitError | undefined
  /** The offsets are committed with the records, or not at all. */
  readonly sendOffsets: (
    offsets: ReadonlyArray<OffsetAndMetadata>,
    group: GroupMetadata
  ) => Effect.Effect<void, SendError | CommitError>
}

export class CurrentTransaction extends Context.Reference<CurrentTransaction>()(
  "@coffeebuddy/kafka/engine/CurrentTransaction",
  { defaultValue: (): Transaction | undefined => undefined }
) {}
