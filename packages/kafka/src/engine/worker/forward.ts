/**
 * Sending records on: to a retry topic, or to the dead letters. What was read stays uncommitted until it is acknowledged.
 */
import * as Effect from "effect/Effect"
import { ForwardError } from "../../KafkaError.ts"
import type { ProduceError, Service as Producer } from "../../Producer.ts"
import type { RecordMetadata } from "../../ProducerRecord.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import type { Delivery } from "./Delivery.ts"
import type { RawTopic } from "./raw.ts"

export type Deliveries = readonly [Delivery, ...ReadonlyArray<Delivery>]

/** Keys and values as they came, other headers. Answers where each is now. */
export type Forward = (
  purpose: ForwardError["purpose"],
  target: RawTopic,
  deliveries: Deliveries,
  options: {
    readonly headers: (delivery: Delivery) => RecordHeaders
    /** By key if absent. */
    readonly partition?: ((delivery: Delivery) => number) | undefined
  }
) => Effect.Effect<ReadonlyArray<RecordMetadata>, ForwardError>

export const make = (producer: Producer, resolve: (slug: string) => string): Forward =>
(
  purpose,
  target,
  deliveries,
  options
) =>
  Effect.suspend(() =>
    producer.sendAll(
      target,
      deliveries.map((delivery) => ({
        key: delivery.key,
        value: delivery.value,
        headers: options.headers(delivery),
        partition: options.partition?.(delivery)
      }))
    )
  ).pipe(
    Effect.mapError((cause: ProduceError) =>
      new ForwardError({
        purpose,
        target: resolve(target.slug),
        topic: deliveries[0].topic,
        partition: deliveries[0].partition,
        offset: deliveries[0].offset,
        reason: cause.message,
        cause
      })
    )
  )
