/**
 * This library on its kafkajs driver.
 */
import { Consumer, KafkaConfig, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { type ConsumeWork, type Contender, Meter, Order } from "../work.ts"

const live = (work: ConsumeWork) =>
  Consumer.layer({ groupId: work.groupId }).pipe(
    Layer.provide(KafkaJs.layer),
    Layer.provide(TopicRegistry.layer),
    Layer.provide(KafkaConfig.layer({ brokers: [...work.brokers], clientId: "benchmark" }))
  )

const measure = <V>(value: Serde.Serde<V>, look: (value: V) => number): Contender => async (work) => {
  const topic = Topic.make(work.topic, { key: Serde.nullable(Serde.bytes), value })
  const meter = new Meter(work.records)
  let seen = 0
  await Effect.runPromise(
    Consumer.stream(topic).pipe(
      Stream.chunks,
      Stream.takeWhile((chunk) => {
        meter.begin()
        for (const record of chunk) seen += look(record.value)
        return !meter.add(chunk.length)
      }),
      Stream.runDrain,
      Effect.provide(live(work))
    )
  )
  return { ...await meter.result, seen }
}

/** `Consumer.stream` over `Serde.bytes`, looking at each value's length. */
export const bytes: Contender = measure(Serde.bytes, (value) => value.length)

/** `Consumer.stream` over `Serde.json` of a schema. */
export const json: Contender = measure(Serde.json(Order), (value) => value.cups)

const handled = (concurrency: number, ordering: "partition" | "key" | "unordered"): Contender => async (work) => {
  const topic = Topic.make(work.topic, { key: Serde.string, value: Serde.bytes })
  const meter = new Meter(work.records)
  await Effect.runPromise(
    Consumer.forEach(topic, () => {
      meter.begin()
      return meter.add(1) ? Effect.fail("enough") : Effect.void
    }, { concurrency, ordering }).pipe(
      Effect.catchIf((error) => error === "enough", () => Effect.void),
      Effect.provide(live(work))
    )
  )
  return meter.result
}

/** `Consumer.forEach` with a trivial handler, 16 at once. */
export const forEachPartition: Contender = handled(16, "partition")
export const forEachKey: Contender = handled(16, "key")
export const forEachUnordered: Contender = handled(16, "unordered")

/** What `forEach` is to beat: `Stream.mapEffect` with a trivial handler, 16 at once. */
export const mapEffect: Contender = async (work) => {
  const topic = Topic.make(work.topic, { key: Serde.string, value: Serde.bytes })
  const meter = new Meter(work.records)
  await Effect.runPromise(
    Consumer.stream(topic).pipe(
      Stream.mapEffect(() => {
        meter.begin()
        return Effect.succeed(!meter.add(1))
      }, { concurrency: 16 }),
      Stream.takeWhile((more) => more),
      Stream.runDrain,
      Effect.provide(live(work))
    )
  )
  return meter.result
}
