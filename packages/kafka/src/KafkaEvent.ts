/**
 * Everything notable that happens inside, as values. Sent once for each chunk, request or rebalance, never for each
 * record, to the {@link KafkaObserver}, whose default does nothing and costs nothing.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
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
  /** Its scope was closed: it is gone. */
  | { readonly _tag: "ProducerClosed"; readonly clientId: string }
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
  /** Where partitions end from which nothing has come for a while: looked up every ten seconds, if anybody looks. */
  | {
    readonly _tag: "EndOffsets"
    readonly groupId: string
    readonly offsets: ReadonlyArray<TopicPartition & { readonly offset: bigint }>
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
    /** What the group had committed in each, in the same order, as far as it was looked up. */
    readonly committed?: ReadonlyArray<bigint | undefined> | undefined
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
  /** The next record of a partition is not due yet: it waits in its retry topic. Nothing is wrong. */
  | {
    readonly _tag: "Delayed"
    readonly groupId: string
    readonly topicPartition: TopicPartition
    /** Milliseconds since 1970. */
    readonly until: number
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
    readonly action: "fail" | "skip" | "either" | "handler" | "dead-letter"
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
  /** A producer by its `clientId`, a consumer by its group. */
  | { readonly _tag: "Connection"; readonly clientId: string; readonly state: "connected" | "disconnected" }
  | { readonly _tag: "Heartbeat"; readonly groupId: string }
  /** The run loop begins a turn: after at most five seconds there is another, as long as it is alive. */
  | {
    readonly _tag: "LoopTurned"
    readonly groupId: string
    readonly bufferedRecords: number
    readonly bufferedBytes: number
  }
  | { readonly _tag: "Stopped"; readonly groupId: string; readonly millis: number }
  | { readonly _tag: "Died"; readonly groupId: string; readonly error: KafkaError }
  /** Its scope was closed: it is gone. */
  | { readonly _tag: "ConsumerClosed"; readonly groupId: string }
  // watching
  /** One of several observers threw, on an event of this tag: the others are told. See `combine`. */
  | { readonly _tag: "ObserverFailed"; readonly event: string }

/**
 * Whoever tells events: the same object for all that one consumer or one producer tells. There is nothing in it; it
 * tells several of one group, or of one client id, apart.
 *
 * @since 0.1.0
 * @category models
 */
export type Source = object

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
  readonly onEvent: (event: KafkaEvent, source?: Source) => void
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

/**
 * Several observers as one. Each is told of every event, even where another throws. What one throws is told to the
 * others as `ObserverFailed`, and thrown on, so that it is logged.
 *
 * @since 0.1.0
 * @category combinators
 */
export const combine = (...observers: ReadonlyArray<Observer>): Observer => ({
  get enabled() {
    return observers.some((one) => one.enabled)
  },
  onEvent: (event, source) => {
    let failure: { readonly error: unknown } | undefined
    for (const observer of observers) {
      if (!observer.enabled) continue
      try {
        observer.onEvent(event, source)
      } catch (error) {
        failure ??= { error }
        for (const other of observers) if (other !== observer && other.enabled) tellOfFailure(other, event._tag)
      }
    }
    if (failure !== undefined) throw failure.error
  }
})

const tellOfFailure = (observer: Observer, event: string): void => {
  try {
    observer.onEvent({ _tag: "ObserverFailed", event })
  } catch {
    // the first failure is the one that is logged: to tell of this one too would never end
  }
}

/**
 * Adds an observer to the one that is there already, so that metrics, health and your own see the same events.
 *
 * Stack such layers with `Layer.provideMerge`. Side by side in `Layer.mergeAll` each would know only itself, and the
 * last would be the only one.
 *
 * @example
 * ```ts
 * import { KafkaEvent } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 *
 * const Watching = KafkaEvent.layerObserver(Effect.succeed({
 *   enabled: true,
 *   onEvent: (event) => {
 *     if (event._tag === "Died") console.error(event.error.message)
 *   }
 * }))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerObserver = <E, R>(observer: Effect.Effect<Observer, E, R>): Layer.Layer<KafkaObserver, E, R> =>
  Layer.effect(KafkaObserver, Effect.zipWith(KafkaObserver, observer, (before, added) => combine(before, added)))
