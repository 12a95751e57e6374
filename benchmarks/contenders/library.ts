/**
 * This library, on the driver that the work names: `kafkajs`, `platformatic` or `memory`.
 */
import { Consumer, KafkaConfig, Producer, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { Run, Work } from "../harness/model.ts"
import { Meter, Order } from "../work.ts"
import { driver } from "./driver.ts"

/** What `Producer.layer` and `Consumer.layer` are built on. */
export const cluster = (work: Work) =>
  Layer.unwrapEffect(Effect.promise(() => driver(work.parameters))).pipe(
    Layer.provideMerge(TopicRegistry.layer),
    Layer.provide(KafkaConfig.layer({ brokers: [...work.brokers], clientId: "benchmark" }))
  )

// -------------------------------------------------------------------------------------------------------------------
// consuming
// -------------------------------------------------------------------------------------------------------------------

const consumer = (work: Work) => Consumer.layer({ groupId: work.groupId }).pipe(Layer.provide(cluster(work)))

const read = <V>(value: Serde.Serde<V>, look: (value: V) => number): Run => async (work) => {
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
      Effect.provide(consumer(work))
    )
  )
  return { ...await meter.result, seen }
}

/** `Consumer.stream` over `Serde.bytes`, looking at each value's length. */
export const bytes: Run = read(Serde.bytes, (value) => value.length)

/** `Consumer.stream` over `Serde.json` of a schema. */
export const json: Run = read(Serde.json(Order), (value) => value.cups)

/** From the start of the process to the first record. */
export const startUp: Run = (work) =>
  Effect.runPromise(
    Stream.runHead(Consumer.stream(keyed(work.topic))).pipe(
      Effect.map(() => ({ records: 1, seconds: performance.now() / 1000 })),
      Effect.provide(consumer(work))
    )
  )

// -------------------------------------------------------------------------------------------------------------------
// processing
// -------------------------------------------------------------------------------------------------------------------

/** A topic with text as keys, and bytes. */
export const keyed = (name: string) => Topic.make(name, { key: Serde.string, value: Serde.bytes })

/** What a handler does that takes so many milliseconds. */
const handling = (work: Work): Effect.Effect<void> => {
  const millis = Number(work.parameters["handlerMillis"])
  return millis === 0 ? Effect.void : Effect.sleep(millis)
}

/** `Consumer.forEach`, by `ordering` and `concurrency`. */
export const forEach: Run = async (work) => {
  const meter = new Meter(work.records)
  const handled = handling(work)
  const enough = Effect.fail("enough" as const)
  await Effect.runPromise(
    Consumer.forEach(keyed(work.topic), () => {
      meter.begin()
      return Effect.flatMap(handled, () => meter.add(1) ? enough : Effect.void)
    }, {
      concurrency: Number(work.parameters["concurrency"]),
      ordering: work.parameters["ordering"] as "partition" | "key" | "unordered"
    }).pipe(
      Effect.catchIf((error) => error === "enough", () => Effect.void),
      Effect.provide(consumer(work))
    )
  )
  return meter.result
}

/** What `forEach` is to beat: `Stream.mapEffect`. */
export const mapEffect: Run = async (work) => {
  const meter = new Meter(work.records)
  const handled = handling(work)
  await Effect.runPromise(
    Consumer.stream(keyed(work.topic)).pipe(
      Stream.mapEffect(() => {
        meter.begin()
        return Effect.map(handled, () => !meter.add(1))
      }, { concurrency: Number(work.parameters["concurrency"]) }),
      Stream.takeWhile((more) => more),
      Stream.runDrain,
      Effect.provide(consumer(work))
    )
  )
  return meter.result
}

// -------------------------------------------------------------------------------------------------------------------
// producing
// -------------------------------------------------------------------------------------------------------------------

const batchSize = 1000
const callers = 1000
const key = (index: number): string => `run-${index % 1000}`

const produce = (
  work: Work,
  run: (
    topic: Topic.Topic<string, string, Uint8Array>,
    value: Uint8Array
  ) => Effect.Effect<unknown, Producer.ProduceError, Producer.Producer>
) => {
  const topic = keyed(work.sink)
  const value = Buffer.alloc(work.bytes, "x")
  return Effect.runPromise(
    Effect.gen(function*() {
      // metadata, connections and the producer id are there before the clock starts
      yield* Producer.send(topic, { key: "warm", value })
      const startedAt = process.hrtime.bigint()
      yield* run(topic, value)
      return { records: work.records, seconds: Number(process.hrtime.bigint() - startedAt) / 1e9 }
    }).pipe(Effect.provide(Producer.layer()), Effect.provide(cluster(work)))
  )
}

/** Records in batches of 1,000. */
export const batches = (work: Work, value: Uint8Array) =>
  Array.from(
    { length: Math.ceil(work.records / batchSize) },
    (_, batch) =>
      Array.from({ length: Math.min(batchSize, work.records - batch * batchSize) }, (_, index) => ({
        key: key(batch * batchSize + index),
        value
      }))
  )

/** `Producer.sendAll` of 1,000, one after the other. */
export const sendAll: Run = (work) =>
  produce(
    work,
    (topic, value) =>
      Effect.forEach(batches(work, value), (records) => Producer.sendAll(topic, records), { discard: true })
  )

/** `Producer.sink` of a stream in chunks of 1,000. */
export const sink: Run = (work) =>
  produce(work, (topic, value) =>
    Stream.fromIterable(batches(work, value)).pipe(
      Stream.flatMap((records) => Stream.fromIterable(records)),
      Stream.rechunk(batchSize),
      Stream.run(Producer.sink(topic))
    ))

/** One `Producer.send` per record from 1,000 fibers. */
export const sendSingles: Run = (work) =>
  produce(work, (topic, value) =>
    Effect.forEach(
      Array.from({ length: callers }, (_, caller) => caller),
      (caller) =>
        Effect.gen(function*() {
          for (let index = caller; index < work.records; index += callers) {
            yield* Producer.send(topic, { key: key(index), value })
          }
        }),
      { concurrency: "unbounded", discard: true }
    ))

/** One record after the other. */
export const sendLone: Run = (work) =>
  produce(work, (topic, value) =>
    Effect.gen(function*() {
      for (let index = 0; index < work.records; index++) yield* Producer.send(topic, { key: key(index), value })
    }))

// -------------------------------------------------------------------------------------------------------------------
// from topic to topic
// -------------------------------------------------------------------------------------------------------------------

/** At least once: what was read is committed when what was made of it is acknowledged. */
export const passOn: Run = async (work) => {
  const meter = new Meter(work.records)
  await Effect.runPromise(
    Consumer.stream(keyed(work.topic)).pipe(
      Stream.mapChunks((chunk) => {
        meter.begin()
        return chunk
      }),
      Producer.produceMap(keyed(work.sink), (record) => ({ key: record.key, value: record.value })),
      Stream.map(([record]) => record),
      Consumer.commitWithin(5000, "1 second"),
      Stream.chunks,
      Stream.takeWhile((chunk) => !meter.add(chunk.length)),
      Stream.runDrain,
      Effect.provide(Layer.merge(Producer.layer(), Consumer.layer({ groupId: work.groupId }))),
      Effect.provide(cluster(work))
    )
  )
  return meter.result
}

/** Exactly once. */
export const transform: Run = async (work) => {
  const meter = new Meter(work.records)
  await Effect.runPromise(
    Consumer.transform(keyed(work.topic), (record) => {
      meter.begin()
      meter.add(1)
      return Effect.succeed({ key: record.key, value: record.value })
    }, keyed(work.sink)).pipe(
      Effect.raceFirst(Effect.promise(() => meter.result)),
      Effect.provide(
        Layer.merge(
          Producer.layer({ transactionalId: work.groupId }),
          Consumer.layer({ groupId: work.groupId })
        )
      ),
      Effect.provide(cluster(work))
    )
  )
  return meter.result
}
