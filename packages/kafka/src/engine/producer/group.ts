/**
 * Several records of one caller: when all have their place in the buffer, and what became of all of them.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { RawProducerRecord, SendError } from "../../KafkaClient.ts"
import { ProducerError, SerializationError } from "../../KafkaError.ts"
import type { RecordMetadata } from "../../ProducerRecord.ts"
import { asyncOnce } from "../asyncOnce.ts"
import { Entry, type TopicQueues } from "./accumulator.ts"
import { Outcome } from "./outcome.ts"

export class Group {
  /** Those that are not settled, while there are any: who holds on to the list is not to hold on to the records. */
  readonly entries: Array<Entry> = []
  private readonly topic: string
  private readonly indexed: boolean
  private readonly metadata: Array<RecordMetadata>
  private readonly errors = new Map<number, SendError>()
  private unsettled: number
  /** The records before this index are in the buffer, or have failed: the line before the buffer keeps their order. */
  private decidedTo = 0
  private onDecided: { readonly upTo: number; readonly resume: (done: Effect.Effect<void>) => void } | undefined
  private readonly outcome = new Outcome<ReadonlyArray<RecordMetadata>>()
  /** Why a record did not get into the buffer. */
  turnedAway: SendError | undefined = undefined

  /** `indexed`: errors say which records they are about. */
  constructor(topic: string, records: number, indexed: boolean) {
    this.topic = topic
    this.indexed = indexed
    this.metadata = new Array(records)
    this.unsettled = records
    if (records === 0) this.outcome.settle(Exit.succeed(this.metadata))
  }

  get records(): number {
    return this.metadata.length
  }

  /** Until the records before this index are in the buffer, or have failed. For one fiber. */
  decided(upTo: number): Effect.Effect<void> {
    if (this.decidedTo >= upTo) return Effect.void
    return asyncOnce((resume) => {
      if (this.decidedTo >= upTo) resume(Effect.void)
      else this.onDecided = { upTo, resume }
    })
  }

  /** Where all of the records are, or what went wrong with which. For one fiber. */
  get settled(): Effect.Effect<ReadonlyArray<RecordMetadata>, SendError> {
    const { outcome } = this
    return asyncOnce((resume) => outcome.listen(resume))
  }

  /** The same, for whoever asks, and as often as they do. */
  get acknowledged(): Effect.Effect<ReadonlyArray<RecordMetadata>, SendError> {
    return this.outcome.await
  }

  /** How to wait for all of the records, once they are decided; fails where there was no room and nothing is left. */
  get handedOver(): Effect.Effect<Effect.Effect<ReadonlyArray<RecordMetadata>, SendError>, SendError> {
    const { exit } = this.outcome
    return this.turnedAway !== undefined && exit !== undefined && Exit.isFailure(exit)
      ? Effect.failCause(exit.cause)
      : Effect.succeed(this.acknowledged)
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
    if (index >= this.decidedTo) this.turnedAway ??= error
    this.settle()
    this.decide(index)
  }

  private decide(index: number): void {
    if (index < this.decidedTo) return
    this.decidedTo = index + 1
    const waiting = this.onDecided
    if (waiting === undefined || this.decidedTo < waiting.upTo) return
    this.onDecided = undefined
    waiting.resume(Effect.void)
  }

  private settle(): void {
    if (--this.unsettled > 0) return
    this.entries.length = 0
    this.outcome.settle(this.errors.size === 0 ? Exit.succeed(this.metadata) : Exit.fail(this.failure()))
  }

  /**
   * One error for what went wrong with some of the records. Where none was stored it is the first one's own; where some
   * were, a `ProducerError` that says which were not.
   */
  private failure(): SendError {
    const records = [...this.errors.keys()].sort((a, b) => a - b)
    const first = this.errors.get(records[0]!)!
    if (!this.indexed) return first
    const errors = [...this.errors.values()]
    const retriable = errors.every((error) => error._tag === "ProducerError" && error.retriable)
    if (first._tag === "ProducerError") return withRecords(first, records, retriable)
    if (records.length === this.metadata.length) return first
    return new ProducerError({
      topic: this.topic,
      reason: "refused",
      retriable,
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
  get alone(): boolean {
    return false
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
export const withRecords = (
  error: ProducerError,
  records: ReadonlyArray<number>,
  retriable: boolean = error.retriable
): ProducerError =>
  new ProducerError({
    topic: error.topic,
    ...(error.partition === undefined ? {} : { partition: error.partition }),
    reason: error.reason,
    ...(error.code === undefined ? {} : { code: error.code }),
    retriable,
    records,
    description: error.description,
    ...(error.cause === undefined ? {} : { cause: error.cause })
  })

/** The same error of a record that could not become one, naming it. */
export const naming = (
  error: SerializationError | ProducerError,
  record: number
): SerializationError | ProducerError =>
  error._tag === "ProducerError" ? withRecords(error, [record]) : new SerializationError({
    topic: error.topic,
    part: error.part,
    reason: error.reason,
    records: [record],
    cause: error.cause
  })
