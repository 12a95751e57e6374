/**
 * `send` for a fiber that is at hand already: one step of Effect less for every record.
 *
 * It is found on the function and not on the service, so that a `send` which somebody puts in its place is not passed by.
 */
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as RuntimeFlags from "effect/RuntimeFlags"
import type { ProduceError, Service } from "../../Producer.ts"
import type { ProducerRecord, RecordMetadata } from "../../ProducerRecord.ts"
import type * as Topic from "../../Topic.ts"

export type SendFrom = <Slug extends string, K, V, R>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  flags: RuntimeFlags.RuntimeFlags,
  topic: Topic.Topic<Slug, K, V, R>,
  record: ProducerRecord<K, V>
) => Effect.Effect<RecordMetadata, ProduceError, R>

const Key: unique symbol = Symbol.for("@coffeebuddy/kafka/engine/producer/sendFrom")

type Send = Service["send"] & { readonly [Key]?: SendFrom }

export const withSendFrom = (send: Service["send"], from: SendFrom): Service["send"] =>
  Object.assign(send, { [Key]: from })

export const sendFrom = (send: Send): SendFrom | undefined => send[Key]
