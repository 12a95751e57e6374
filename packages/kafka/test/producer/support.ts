import * as InMemoryKafka from "@coffeebuddy/kafka/InMemoryKafka"
import * as KafkaClient from "@coffeebuddy/kafka/KafkaClient"
import * as Producer from "@coffeebuddy/kafka/Producer"
import * as TopicRegistry from "@coffeebuddy/kafka/TopicRegistry"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** An in-memory Kafka with a topic `coffee.orders` of three partitions. */
export const kafka = Layer.effectDiscard(
  Effect.scoped(Effect.gen(function*() {
    const client = yield* KafkaClient.KafkaClient
    const admin = yield* client.openAdmin
    yield* admin.createTopics([{ topic: "coffee.orders", partitions: 3, replicationFactor: 1, config: {} }])
  }))
).pipe(
  Layer.provideMerge(InMemoryKafka.layer),
  Layer.provideMerge(TopicRegistry.layerWith({ prefix: "coffee" })),
  Layer.orDie
)

/** A producer on it. */
export const producer = (options: Producer.Options = {}) =>
  Layer.orDie(Producer.layer(options)).pipe(Layer.provideMerge(kafka))

/** What is in a partition, as text, markers and what was aborted left out. */
export const values = (partition: number) =>
  Effect.flatMap(
    InMemoryKafka.InMemoryBroker,
    (broker) =>
      Effect.map(broker.log({ topic: "coffee.orders", partition }), (log) =>
        log.filter(({ aborted, kind }) =>
          kind === "data" && !aborted
        ).map(({ value }) => value === null ? null : Buffer.from(value).toString()))
  )

/** What is in all partitions, sorted. */
export const allValues = Effect.map(
  Effect.forEach([0, 1, 2], values),
  (all) => all.flat().sort()
)
