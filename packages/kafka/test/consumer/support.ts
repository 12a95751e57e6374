/**
 * A broker in this process, a topic of text, and a consumer: what most tests of streams start from.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Consumer from "../../src/Consumer.ts"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import { KafkaClient } from "../../src/KafkaClient.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"

export const Runs = Topic.make("runs", { key: Serde.nullable(Serde.string), value: Serde.string })
export const Orders = Topic.make("orders", { key: Serde.nullable(Serde.string), value: Serde.string })

/** A broker of its own for each test, with the topics `runs` and `orders`. */
export const broker = (partitions: number) =>
  Layer.provideMerge(
    Layer.effectDiscard(Effect.scoped(Effect.gen(function*() {
      const client = yield* KafkaClient
      const admin = yield* client.openAdmin
      yield* admin.createTopics(["runs", "orders"].map((topic) => ({
        topic,
        partitions,
        replicationFactor: 1,
        config: {}
      })))
    }))),
    Layer.merge(InMemoryKafka.layer, TopicRegistry.layerWith({}))
  )

export const consumer = (options: Partial<Consumer.Options> = {}) => Consumer.layer({ groupId: "group", ...options })

/** Writes texts to a partition, past our own producer. */
export const write = (topic: string, partition: number, values: ReadonlyArray<string>) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* KafkaClient
    const session = yield* client.openProducer({
      acks: "all",
      idempotent: false,
      compression: "none",
      transactionTimeout: 60_000,
      requestTimeout: 30_000,
      deliveryTimeout: 120_000
    })
    const encoder = new TextEncoder()
    yield* session.send([{
      topic,
      partition,
      records: values.map((value) => ({ key: null, value: encoder.encode(value), headers: [], timestamp: 0n }))
    }])
  }))

export const texts = (count: number, from = 0): Array<string> =>
  Array.from({ length: count }, (_, index) => `value-${from + index}`)
