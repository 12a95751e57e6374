/**
 * A record whose caller has gone on.
 */
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SendError } from "../../KafkaClient.ts"
import type { RecordMetadata } from "../../ProducerRecord.ts"
import { Entry } from "./accumulator.ts"
import { Outcome } from "./outcome.ts"

export class Enqueued extends Entry {
  private readonly outcome = new Outcome<RecordMetadata>()

  /** Where it is, or why it is not. */
  get acknowledged(): Effect.Effect<RecordMetadata, SendError> {
    return this.outcome.await
  }
  get alone(): boolean {
    return false
  }
  isWaiting(): boolean {
    return true
  }
  onAccepted(): void {}
  onStored(metadata: RecordMetadata): void {
    this.outcome.settle(Exit.succeed(metadata))
  }
  onFailed(error: SendError): void {
    this.outcome.settle(Exit.fail(error))
  }
}
