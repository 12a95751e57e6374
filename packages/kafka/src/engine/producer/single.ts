/**
 * A record that one fiber waits for.
 */
import * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import type { RawProducerRecord, SendError } from "../../KafkaClient.ts"
import type { RecordMetadata } from "../../ProducerRecord.ts"
import { Entry, type TopicQueues } from "./accumulator.ts"

/**
 * That the fiber was interrupted is found out when the record is about to be sent: a finalizer for each record would
 * cost more than all the rest.
 */
export class Single extends Entry {
  /** `undefined` where it can not be interrupted here. */
  private readonly fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
  resume: (result: Effect.Effect<RecordMetadata, SendError>) => void = ignored

  constructor(
    topic: TopicQueues,
    partition: number,
    record: RawProducerRecord,
    size: number,
    deadline: number,
    fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
  ) {
    super(topic, partition, record, size, deadline)
    this.fiber = fiber
  }
  get alone(): boolean {
    return true
  }
  isWaiting(): boolean {
    return this.fiber === undefined || Cause.isEmptyType(this.fiber.getFiberRef(FiberRef.interruptedCause))
  }
  onAccepted(): void {}
  onStored(metadata: RecordMetadata): void {
    this.resume(Exit.succeed(metadata))
  }
  onFailed(error: SendError): void {
    this.resume(Exit.fail(error))
  }
}

const ignored = (): void => {}
