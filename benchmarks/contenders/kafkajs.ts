/**
 * Raw kafkajs: what the library is measured against.
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import { Kafka, logLevel } from "kafkajs"
import { type ConsumeWork, type Contender, fetchSettings, Meter, Order } from "../work.ts"

const consume = async (work: ConsumeWork, onBatch: (messages: ReadonlyArray<Message>) => void) => {
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
export const bytes: Contender = (work) => {
  let size = 0
  return consume(work, (messages) => {
    for (const message of messages) size += message.value?.length ?? 0
  }).then((result) => ({ ...result, size }))
}

/** `eachBatch`, with the decoding that a careful hand would write: the schema is compiled once. */
export const json: Contender = (work) => {
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
export const eachMessage: Contender = async (work) => {
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
