/**
 * Everything notable that happens inside, as values. Sent once for each chunk, request or rebalance, never for each
 * record, to the {@link KafkaObserver}, whose default does nothing and costs nothing.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { KafkaError } from "./KafkaError.ts"
import type { TopicPartition } from "./TopicPartition.ts"

/**
 * Times are in milliseconds, sizes in bytes, topic names physical.
 *
 * @since 0.1.0
 * @category models
 */
export type KafkaEvent =
  // producing
  | {
    readonly _tag: "Produced"
    readonly clientId: string
    readonly topic: string
    readonly partition: number
    readonly records: number
    readonly bytes: number
    /** From handing the batch to the driver until its acknowledgement. */
    readonly millis: number
  }
  | {
    readonly _tag: "ProduceFailed"
    readonly clientId: string
    readonly topic: string
    readonly partition: number | undefined
    readonly records: number
    readonly error: KafkaError
  }
  | {
    readonly _tag: "ProduceRetried"
    readonly clientId: string
    readonly topic: string
    readonly partition: number
    readonly records: number
    readonly attempt: number
  }
  | { readonly _tag: "ProducerBuffered"; readonly clientId: string; readonly records: number; readonly bytes: number }
  | {
    readonly _tag: "TransactionEnded"
    readonly transactionalId: string
    readonly outcome: "committed" | "aborted"
    readonly millis: number
  }
  // consuming
  | {
    readonly _tag: "Polled"
    readonly groupId: string
    readonly topicPartition: TopicPartition
    readonly records: number
    readonly bytes: number
    /** The position after what was fetched. */
    readonly position: bigint
    readonly highWatermark: bigint
    /** The timestamp of the last record, where there is one. */
    readonly lastTimestamp: bigint | undefined
    /** What the consumer holds in its buffers after this. */
    readonly bufferedRecords: number
    readonly bufferedBytes: number
  }
  | {
    readonly _tag: "HandedOut"
    readonly groupId: string
    readonly topicPartition: TopicPartition
    readonly records: number
    /** The offset after the last record handed out. */
    readonly position: bigint
  }
  | {
    readonly _tag: "Committed"
    readonly groupId: string
    readonly offsets: ReadonlyArray<TopicPartition & { readonly offset: bigint }>
    readonly millis: number
  }
  | {
    readonly _tag: "CommitFailed"
    readonly groupId: string
    readonly partitions: ReadonlyArray<TopicPartition>
    readonly error: KafkaError
    readonly willRetry: boolean
  }
  | { readonly _tag: "Rebalancing"; readonly groupId: string }
  | {
    readonly _tag: "Assigned"
    readonly groupId: string
    readonly partitions: ReadonlyArray<TopicPartition>
    /** Where each starts, in the same order. */
    readonly positions: ReadonlyArray<bigint>
    /** How long the rebalance took, from its first sign. */
    readonly millis: number
  }
  | { readonly _tag: "Revoked"; readonly groupId: string; readonly partitions: ReadonlyArray<TopicPartition> }
  | { readonly _tag: "Lost"; readonly groupId: string; readonly partitions: ReadonlyArray<TopicPartition> }
  | {
    readonly _tag: "GateWaited"
    readonly groupId: string
    readonly millis: number
    /** Partitions whose records in hand were not settled when the deadline was over. */
    readonly unsettled: ReadonlyArray<TopicPartition>
  }
  | {
    readonly _tag: "OffsetReset"
    readonly groupId: string
    readonly topicPartition: TopicPartition
    readonly from: bigint | undefined
    readonly to: bigint
  }
  /** A stream has had records waiting and was not pulled for longer than the set time. */
  | {
    readonly _tag: "Stalled"
    readonly groupId: string
    readonly partitions: ReadonlyArray<TopicPartition>
    readonly millis: number
  }
  | {
    readonly _tag: "DecodeFailed"
    readonly groupId: string
    readonly topicPartition: TopicPartition
    readonly offset: bigint
    readonly action: "fail" | "skip" | "either" | "handler"
  }
  | {
    readonly _tag: "Handled"
    readonly groupId: string
    readonly topicPartition: TopicPartition
    /** How long the handler took for each of some records. */
    readonly millis: ReadonlyArray<number>
  }
  | {
    readonly _tag: "HandlerFailed"
    readonly groupId: string
    readonly topicPartition: TopicPartition
    readonly offset: bigint
    readonly attempt: number
    readonly action: "retry" | "retry-topic" | "dead-letter" | "fail"
  }
  | {
    readonly _tag: "DeadLettered"
    readonly groupId: string
    readonly topicPartition: TopicPartition
    readonly offset: bigint
    readonly target: string
  }
  | { readonly _tag: "Connection"; readonly clientId: string; readonly state: "connected" | "disconnected" }
  | { readonly _tag: "Heartbeat"; readonly groupId: string }
  | { readonly _tag: "Stopped"; readonly groupId: string; readonly millis: number }
  | { readonly _tag: "Died"; readonly groupId: string; readonly error: KafkaError }

/**
 * @since 0.1.0
 * @category models
 */
export interface Observer {
  /**
   * Whether anybody looks. While `false`, no event is even built.
   */
  readonly enabled: boolean
  /**
   * Called in the middle of things: it must be quick. What it throws is caught, logged once, and harms nothing.
   */
  readonly onEvent: (event: KafkaEvent) => void
}

/**
 * Where events go. A `Context.Reference`: nobody has to provide it.
 *
 * @example
 * ```ts
 * import { KafkaEvent } from "@coffeebuddy/kafka"
 * import { Layer } from "effect"
 *
 * const events: Array<KafkaEvent.KafkaEvent> = []
 * const watching = Layer.succeed(KafkaEvent.KafkaObserver, {
 *   enabled: true,
 *   onEvent: (event) => void events.push(event)
 * })
 * ```
 *
 * @since 0.1.0
 * @category references
 */
export class KafkaObserver extends Context.Reference<KafkaObserver>()("@coffeebuddy/kafka/KafkaObserver", {
  defaultValue: (): Observer => ({ enabled: false, onEvent: () => {} })
}) {}
