/**
 * Several records of one caller: when all have their place in the buffer, and what became of all of them.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { RawProducerRecord, SendError } from "../../KafkaClient.ts"
import { ProducerError } from "../../KafkaError.ts"
import type { RecordMetadata } from "../../ProducerRecord.ts"
import { Entry, type TopicQueues } from "./accumulator.ts"

type Outcome = Exit.Exit<ReadonlyArray<RecordMetadata>, SendError>

export class Group {
  private readonly topic: string
  private readonly indexed: boolean
  private readonly metadata: Array<RecordMetadata>
  private readonly errors = new Map<number, SendError>()
  private unsettled: number
  /** The records before this index have left the line before the buffer, which keeps their order. */
  private decided = 0
  private outcome: Outcome | undefined = undefined
  private onDecided: (() => void) | undefined = undefined
  private readonly onOutcome: Array<(outcome: Outcome) => void> = []

  /** `indexed`: errors say which records they are about. */
  constructor(topic: string, records: number, indexed: boolean) {
    this.topic = topic
    this.indexed = indexed
    this.metadata = new Array(records)
    this.unsettled = records
    if (records === 0) this.outcome = Exit.succeed(this.metadata)
  }

  /** Until every record is in the buffer. Fails where none is and none will be, for lack of room. For one fiber. */
  readonly accepted: Effect.Effect<void, SendError> = Effect.async((resume) => {
    const done = (): void =>
      resume(this.outcome !== undefined && Exit.isFailure(this.outcome) ? this.outcome : Effect.void)
    if (this.decided === this.metadata.length) done()
    else this.onDecided = done
  })

  /** Where all of the records are, or what went wrong with which. */
  readonly acknowledged: Effect.Effect<ReadonlyArray<RecordMetadata>, SendError> = Effect.async((resume) => {
    if (this.outcome !== undefined) return resume(this.outcome)
    this.onOutcome.push(resume)
    return Effect.sync(() => void this.onOutcome.splice(this.onOutcome.indexOf(resume), 1))
  })

  get isAcknowledged(): boolean {
    return this.outcome !== undefined
  }

  onAccepted(index: number): void {
    this.decide(index)
  }
  onStored(index: number, metadata: RecordMetadata): void {
    this.metadata[index] = metadata
    this.settle()
  }
  onFailed(index: number, error: SendError): void {
    this.errors.set(index, error)
    this.settle()
    this.decide(index)
  }

  private decide(index: number): void {
    if (index < this.decided) return
    this.decided = index + 1
    if (this.decided === this.metadata.length) this.onDecided?.()
  }

  private settle(): void {
    if (--this.unsettled > 0) return
    this.outcome = this.errors.size === 0
      ? Exit.succeed(this.metadata)
      : Exit.fail(this.failure())
    for (const resume of this.onOutcome.splice(0)) resume(this.outcome)
  }

  /**
   * One error for what went wrong with some of the records. Where none was stored it is the first one's own; where some
   * were, a `ProducerError` that says which were not.
   */
  private failure(): SendError {
    const records = [...this.errors.keys()].sort((a, b) => a - b)
    const first = this.errors.get(records[0]!)!
    if (!this.indexed) return first
    if (first._tag === "ProducerError") return withRecords(first, records)
    if (records.length === this.metadata.length) return first
    return new ProducerError({
      topic: this.topic,
      reason: "refused",
      retriable: false,
      records,
      description: `${records.length} of ${this.metadata.length} records were not stored: ${first.message}`,
      cause: first
    })
  }
}

/** One record of a group. */
export class GroupEntry extends Entry {
  private readonly group: Group
  private readonly index: number
  constructor(
    topic: TopicQueues,
    partition: number,
    record: RawProducerRecord,
    size: number,
    deadline: number,
    group: Group,
    index: number
  ) {
    super(topic, partition, record, size, deadline)
    this.group = group
    this.index = index
  }
  isWaiting(): boolean {
    return true
  }
  onAccepted(): void {
    this.group.onAccepted(this.index)
  }
  onStored(metadata: RecordMetadata): void {
    this.group.onStored(this.index, metadata)
  }
  onFailed(error: SendError): void {
    this.group.onFailed(this.index, error)
  }
}

/** The same error, naming the records of `sendAll` that it is about. */
export const withRecords = (error: ProducerError, records: ReadonlyArray<number>): ProducerError =>
  new ProducerError({
    topic: error.topic,
    ...(error.partition === undefined ? {} : { partition: error.partition }),
    reason: error.reason,
    ...(error.code === undefined ? {} : { code: error.code }),
    retriable: error.retriable,
    records,
    description: error.description,
    ...(error.cause === undefined ? {} : { cause: error.cause })
  })
