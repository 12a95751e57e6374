/**
 * How a program is tested with its Kafka as a layer: one to copy from.
 *
 * The suite is written once. It runs in memory, within milliseconds, and on a real Kafka, where there is one. Neither the
 * program nor a test knows which it is.
 */
import { Consumer, KafkaConfig, Producer, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
import * as InMemoryKafka from "@coffeebuddy/kafka/InMemoryKafka"
import type { KafkaClient } from "@coffeebuddy/kafka/KafkaClient"
import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema, Stream } from "effect"
import * as RealKafka from "../../packages/kafka/test/support/RealKafka.ts"

// ---------------------------------------------------------------------------------------------------------------------
// the program
// ---------------------------------------------------------------------------------------------------------------------

class Order extends Schema.Class<Order>("Order")({ table: Schema.String, drink: Schema.String }) {}

const ORDERS_TOPIC = Topic.make("orders", { key: Serde.string, value: Serde.json(Order), partitions: 3 })

const place = (table: string, drink: string) =>
  Producer.send(ORDERS_TOPIC, { key: table, value: new Order({ table, drink }) })

/** Serves so many orders. What is served is committed. */
const serve = (count: number, toTable: (order: Order) => Effect.Effect<void>) =>
  Consumer.stream(ORDERS_TOPIC).pipe(
    Stream.take(count),
    Stream.tap(({ value }) => toTable(value)),
    Consumer.commitWithin(100, "1 second"),
    Stream.runDrain,
    Effect.provide(Consumer.layer({ groupId: "baristas" }))
  )

// ---------------------------------------------------------------------------------------------------------------------
// its tests
// ---------------------------------------------------------------------------------------------------------------------

/** What the program needs. Each test is given a new one. */
type Kafka = Layer.Layer<KafkaClient | TopicRegistry.TopicRegistry, unknown>

/** `test` says how a test runs, `kafka` on what. */
const suite = (test: typeof it.effect | typeof it.live, kafka: Kafka) => {
  const services = Layer.provideMerge(Producer.layer(), kafka)

  /** What was served to each table. */
  const serveTo = (count: number, tables: Map<string, Array<string>>) =>
    serve(count, ({ drink, table }) => Effect.sync(() => tables.set(table, [...tables.get(table) ?? [], drink])))

  test("a table gets what it ordered, in the order it did", () =>
    Effect.gen(function*() {
      yield* TopicRegistry.ensure([ORDERS_TOPIC])
      yield* place("window", "espresso")
      yield* place("corner", "tea")
      yield* place("window", "water")

      const tables = new Map<string, Array<string>>()
      yield* serveTo(3, tables)
      assert.deepStrictEqual(tables, new Map([["window", ["espresso", "water"]], ["corner", ["tea"]]]))
    }).pipe(Effect.provide(services)))

  test("whoever comes next goes on where the last one stopped", () =>
    Effect.gen(function*() {
      yield* TopicRegistry.ensure([ORDERS_TOPIC])
      yield* Effect.forEach(["espresso", "tea", "water"], (drink) => place("window", drink))

      const first = new Map<string, Array<string>>()
      yield* serveTo(2, first)
      const second = new Map<string, Array<string>>()
      yield* serveTo(1, second)
      assert.deepStrictEqual([first.get("window"), second.get("window")], [["espresso", "tea"], ["water"]])
    }).pipe(Effect.provide(services)))
}

// ---------------------------------------------------------------------------------------------------------------------
// the layers
// ---------------------------------------------------------------------------------------------------------------------

describe("in memory", () => {
  suite(it.effect, Layer.merge(InMemoryKafka.layer, TopicRegistry.layerWith({})))
})

RealKafka.suite("on a real Kafka", ({ bootstrapServers }) => {
  // The cluster is shared: each test gets names of its own.
  const config = Layer.unwrapEffect(
    Effect.sync(() => KafkaConfig.layer({ brokers: bootstrapServers, topicPrefix: `swap-${crypto.randomUUID()}` }))
  )
  suite(it.live, Layer.merge(KafkaJs.layer, TopicRegistry.layer).pipe(Layer.provide(config)))
})
