/**
 * A broker in this process with one topic, and how to produce to and consume from it.
 */
import { Consumer, InMemoryKafka, KafkaClient, Producer, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"

export const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })

const topics = Layer.effectDiscard(Effect.scoped(Effect.gen(function*() {
  const client = yield* KafkaClient.KafkaClient
  const admin = yield* client.openAdmin
  yield* admin.createTopics([
    { topic: "shop.orders", partitions: 2, replicationFactor: 1, config: {} },
    { topic: "shop.refused", partitions: 1, replicationFactor: 1, config: {} }
  ])
})))

/** The topic `orders`, which is `shop.orders` on the broker. */
export const broker = Layer.provideMerge(
  topics,
  Layer.merge(InMemoryKafka.layer, TopicRegistry.layerWith({ prefix: "shop" }))
)

export const clients = Layer.mergeAll(Producer.layer({ clientId: "till" }), Consumer.layer({ groupId: "kitchen" }))

export const produce = (count: number, partition = 0) =>
  Effect.flatMap(Producer.Producer, (producer) =>
    producer.sendAll(
      Orders,
      Array.from({ length: count }, (_, index) => ({ key: `table-${index}`, value: "cortado", partition }))
    ))

/** Handles so many records, then runs the effect while the consumer is still there, then stops it. */
export const consuming = <A, E, R>(count: number, then: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const all = yield* Deferred.make<void>()
    let seen = 0
    const fiber = yield* Effect.fork(
      Consumer.forEach(Orders, () => ++seen === count ? Deferred.succeed(all, undefined) : Effect.void, {
        commitCount: 1
      })
    )
    yield* Deferred.await(all)
    const result = yield* then
    yield* Consumer.stop
    yield* Fiber.join(fiber)
    return result
  })
