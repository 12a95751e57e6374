import * as InMemoryKafka from "@coffeebuddy/kafka/InMemoryKafka"
import * as Producer from "@coffeebuddy/kafka/Producer"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import * as TopicRegistry from "@coffeebuddy/kafka/TopicRegistry"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"

const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
const live = (options?: Producer.Options) =>
  Producer.layer(options).pipe(
    Layer.provideMerge(InMemoryKafka.layerWith({ autoCreateTopics: true, defaultPartitions: 3 })),
    Layer.provideMerge(TopicRegistry.layerWith({}))
  )

describe("Producer", () => {
  it.effect("a record is where the metadata says", () =>
    Effect.gen(function*() {
      const broker = yield* InMemoryKafka.InMemoryBroker
      const metadata = yield* Producer.send(Orders, { key: "a", value: "one" })
      const log = yield* broker.log(metadata)
      assert.strictEqual(Buffer.from(log[Number(metadata.offset)]!.value!).toString(), "one")
    }).pipe(Effect.provide(live())))
  it.effect("sendAll", () =>
    Effect.gen(function*() {
      const all = yield* Producer.sendAll(
        Orders,
        Array.from({ length: 1000 }, (_, i) => ({ key: `${i % 7}`, value: `${i}` }))
      )
      assert.strictEqual(all.length, 1000)
      yield* Effect.forEach(Array.from({ length: 1000 }, (_, i) => i), (i) =>
        Producer.send(Orders, { key: `${i % 7}`, value: `${i}` }), { concurrency: "unbounded" })
    }).pipe(Effect.provide(live())))
})
