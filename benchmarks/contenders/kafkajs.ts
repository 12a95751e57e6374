/**
 * Raw kafkajs: what the library is measured against.
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import { Kafka, logLevel } from "kafkajs"
import type { Run, Work } from "../harness/model.ts"
import { fetchSettings, Meter, Order } from "../work.ts"

const consume = async (work: Work, onBatch: (messages: ReadonlyArray<Message>) => void) => {
  const kafka = new Kafka({ clientId: "benchmark", brokers: [...work.brokers], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId: work.groupId, ...fetchSettings })
  const meter = new Meter(work.records)
  await consumer.connect()
  await consumer.subscribe({ topics: [work.topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset }) => {
      meter.begin()
      onBatch(batch.messages)
      resolveOffset(batch.lastOffset())
      meter.add(batch.messages.length)
    }
  })
  const result = await meter.result
  await consumer.disconnect()
  return result
}

interface Message {
  readonly key: Buffer | null
  readonly value: Buffer | null
}

/** `eachBatch`, looking at each value's length. */
export const bytes: Run = (work) => {
  let size = 0
  return consume(work, (messages) => {
    for (const message of messages) size += message.value?.length ?? 0
  }).then((result) => ({ ...result, size }))
}

/** `eachBatch`, with the decoding that a careful hand would write: the schema is compiled once. */
export const json: Run = (work) => {
  const decode = ParseResult.decodeUnknownEither(Order)
  let cups = 0
  return consume(work, (messages) => {
    const records: Array<{ readonly key: string | null; readonly value: typeof Order.Type }> = []
    for (const message of messages) {
      const value = decode(JSON.parse(message.value!.toString()))
      if (Either.isLeft(value)) throw value.left
      records.push({ key: message.key === null ? null : message.key.toString(), value: value.right })
    }
    for (const record of records) cups += record.value.cups
  }).then((result) => ({ ...result, cups }))
}

/** `eachMessage`. */
export const eachMessage: Run = async (work) => {
  const kafka = new Kafka({ clientId: "benchmark", brokers: [...work.brokers], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId: work.groupId, ...fetchSettings })
  const meter = new Meter(work.records)
  let size = 0
  await consumer.connect()
  await consumer.subscribe({ topics: [work.topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ message }) => {
      meter.begin()
      size += message.value?.length ?? 0
      meter.add(1)
    }
  })
  const result = await meter.result
  await consumer.disconnect()
  return { ...result, size }
}

const BATCH = 1000
const CALLERS = 1000

const timed = async (records: number, run: () => Promise<void>) => {
  const startedAt = process.hrtime.bigint()
  await run()
  return { records, seconds: Number(process.hrtime.bigint() - startedAt) / 1e9 }
}

const produce = async (
  work: Work,
  run: (producer: ReturnType<Kafka["producer"]>, value: Buffer) => Promise<void>
) => {
  const value = Buffer.alloc(work.bytes, "x")
  const kafka = new Kafka({ clientId: "benchmark", brokers: [...work.brokers], logLevel: logLevel.NOTHING })
  const producer = kafka.producer({ allowAutoTopicCreation: false, idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  // metadata, connections and the producer id are there before the clock starts
  await producer.send({ topic: work.sink, messages: [{ key: "warm", value }] })
  const result = await timed(work.records, () => run(producer, value))
  await producer.disconnect()
  return result
}

const key = (index: number): string => `run-${index % 1000}`

/** Batches of 1,000, one after the other: what kafkajs does best. */
export const sendBatches: Run = (work) =>
  produce(work, async (producer, value) => {
    for (let sent = 0; sent < work.records; sent += BATCH) {
      await producer.send({
        topic: work.sink,
        messages: Array.from({ length: BATCH }, (_, index) => ({ key: key(sent + index), value }))
      })
    }
  })

/** One `send` per record from 1,000 callers. */
export const sendSingles: Run = (work) =>
  produce(work, async (producer, value) => {
    await Promise.all(Array.from({ length: CALLERS }, async (_, caller) => {
      for (let index = caller; index < work.records; index += CALLERS) {
        await producer.send({ topic: work.sink, messages: [{ key: key(index), value }] })
      }
    }))
  })

/** One record after the other: latency. */
export const sendLone: Run = (work) =>
  produce(work, async (producer, value) => {
    for (let index = 0; index < work.records; index++) {
      await producer.send({ topic: work.sink, messages: [{ key: key(index), value }] })
    }
  })

/** From the start of the process to the first record. */
export const startUp: Run = async (work) => {
  let first = 0
  await consume({ ...work, records: 1 }, () => {
    if (first === 0) first = performance.now()
  })
  return { records: 1, seconds: first / 1000 }
}

/** Each batch is sent on as one, and committed afterwards. */
export const passOn: Run = async (work) => {
  const kafka = new Kafka({ clientId: "benchmark", brokers: [...work.brokers], logLevel: logLevel.NOTHING })
  const producer = kafka.producer({ allowAutoTopicCreation: false, idempotent: true, maxInFlightRequests: 1 })
  const consumer = kafka.consumer({ groupId: work.groupId, ...fetchSettings })
  const meter = new Meter(work.records)
  await producer.connect()
  await consumer.connect()
  await consumer.subscribe({ topics: [work.topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch, commitOffsetsIfNecessary, resolveOffset }) => {
      meter.begin()
      for (let begin = 0; begin < batch.messages.length; begin += 2500) {
        const messages = batch.messages.slice(begin, begin + 2500)
        await producer.send({ topic: work.sink, messages: messages.map(({ key, value }) => ({ key, value })) })
      }
      resolveOffset(batch.lastOffset())
      await commitOffsetsIfNecessary({
        topics: [{
          topic: batch.topic,
          partitions: [{ partition: batch.partition, offset: String(BigInt(batch.lastOffset()) + 1n) }]
        }]
      })
      meter.add(batch.messages.length)
    }
  })
  const result = await meter.result
  await consumer.disconnect()
  await producer.disconnect()
  return result
}
