/**
 * Producing: raw kafkajs and this library on it. The work's `topic` is written to; records are of about 200 bytes.
 */
import { KafkaConfig, Producer, Serde, Topic, TopicRegistry } from "@coffeebuddy/kafka"
import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Kafka, logLevel } from "kafkajs"
import type { ConsumeWork, Contender } from "../work.ts"

const value = Buffer.alloc(190, "x")
const BATCH = 1000
const CALLERS = 1000

const timed = async (records: number, run: () => Promise<void>) => {
  const startedAt = process.hrtime.bigint()
  await run()
  return { records, seconds: Number(process.hrtime.bigint() - startedAt) / 1e9 }
}

const raw = async (work: ConsumeWork, run: (producer: ReturnType<Kafka["producer"]>) => Promise<void>) => {
  const kafka = new Kafka({ clientId: "benchmark", brokers: [...work.brokers], logLevel: logLevel.NOTHING })
  const producer = kafka.producer({ allowAutoTopicCreation: false, idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  // metadata, connections and the producer id are there before the clock starts
  await producer.send({ topic: work.topic, messages: [{ key: "warm", value }] })
  const result = await timed(work.records, () => run(producer))
  await producer.disconnect()
  return result
}

const ours = (
  work: ConsumeWork,
  run: (
    topic: Topic.Topic<string, string, Uint8Array>
  ) => Effect.Effect<unknown, Producer.ProduceError, Producer.Producer>
) => {
  const topic = Topic.make(work.topic, { key: Serde.string, value: Serde.bytes })
  const live = Producer.layer().pipe(
    Layer.provide(KafkaJs.layer),
    Layer.provide(TopicRegistry.layer),
    Layer.provide(KafkaConfig.layer({ brokers: [...work.brokers], clientId: "benchmark" }))
  )
  return Effect.runPromise(
    Effect.gen(function*() {
      yield* Producer.send(topic, { key: "warm", value })
      const startedAt = process.hrtime.bigint()
      yield* run(topic)
      return { records: work.records, seconds: Number(process.hrtime.bigint() - startedAt) / 1e9 }
    }).pipe(Effect.provide(live))
  )
}

const key = (index: number): string => `run-${index % 1000}`

/** Batches of 1,000, one after the other: what kafkajs does best. */
export const rawBatches: Contender = (work) =>
  raw(work, async (producer) => {
    for (let sent = 0; sent < work.records; sent += BATCH) {
      await producer.send({
        topic: work.topic,
        messages: Array.from({ length: BATCH }, (_, index) => ({ key: key(sent + index), value }))
      })
    }
  })

/** One `send` per record from 1,000 callers. */
export const rawSingles: Contender = (work) =>
  raw(work, async (producer) => {
    await Promise.all(Array.from({ length: CALLERS }, async (_, caller) => {
      for (let index = caller; index < work.records; index += CALLERS) {
        await producer.send({ topic: work.topic, messages: [{ key: key(index), value }] })
      }
    }))
  })

/** One record after the other: latency. */
export const rawLone: Contender = (work) =>
  raw(work, async (producer) => {
    for (let index = 0; index < work.records; index++) {
      await producer.send({ topic: work.topic, messages: [{ key: key(index), value }] })
    }
  })

export const sendAll: Contender = (work) =>
  ours(work, (topic) =>
    Effect.forEach(
      Array.from({ length: work.records / BATCH }, (_, batch) => batch * BATCH),
      (sent) =>
        Producer.sendAll(topic, Array.from({ length: BATCH }, (_, index) => ({ key: key(sent + index), value }))),
      { discard: true }
    ))

export const sendSingles: Contender = (work) =>
  ours(work, (topic) =>
    Effect.forEach(
      Array.from({ length: CALLERS }, (_, caller) => caller),
      (caller) =>
        Effect.gen(function*() {
          for (let index = caller; index < work.records; index += CALLERS) {
            yield* Producer.send(topic, { key: key(index), value })
          }
        }),
      { concurrency: "unbounded", discard: true }
    ))

export const sendLone: Contender = (work) =>
  ours(work, (topic) =>
    Effect.gen(function*() {
      for (let index = 0; index < work.records; index++) yield* Producer.send(topic, { key: key(index), value })
    }))
