/**
 * The topics that are read: records of JSON whose size is given, dealt out over the partitions in turn, a batch each.
 */
import { Kafka, logLevel } from "kafkajs"

export interface Shape {
  readonly partitions: number
  readonly bytes: number
  readonly records: number
}

/** The value of a record: an `Order` of work.ts, as JSON of so many bytes. */
export const orderOf = (index: number, bytes: number): string => {
  const order = {
    runId: `run-${index % 1000}`,
    type: "ordered",
    barista: `barista-${index % 10}`,
    cups: index % 7,
    note: ""
  }
  const bare = JSON.stringify(order).length
  return JSON.stringify({ ...order, note: "x".repeat(Math.max(0, bytes - bare)) })
}

/** Fills a topic, and makes the one beside it that is written to. */
export const load = async (brokers: ReadonlyArray<string>, topic: string, shape: Shape): Promise<void> => {
  const kafka = new Kafka({ clientId: "load", brokers: [...brokers], logLevel: logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({
    topics: [topic, sinkOf(topic)].map((one) => ({
      topic: one,
      numPartitions: shape.partitions,
      replicationFactor: 1,
      configEntries: [{ name: "max.message.bytes", value: "20000000" }]
    }))
  })
  await admin.disconnect()
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await producer.connect()
  // a batch is of one partition, and as large whatever the number of partitions: small ones cost more for each record
  const batch = Math.max(
    1,
    Math.min(800, Math.floor(1_000_000 / shape.bytes), Math.floor(shape.records / shape.partitions))
  )
  let partition = 0
  for (let sent = 0; sent < shape.records;) {
    const count = Math.min(batch, shape.records - sent)
    await producer.send({
      topic,
      acks: 1,
      messages: Array.from({ length: count }, (_, index) => ({
        key: `run-${(sent + index) % 1000}`,
        partition,
        value: orderOf(sent + index, shape.bytes)
      }))
    })
    partition = (partition + 1) % shape.partitions
    sent += count
  }
  await producer.disconnect()
}

export const sinkOf = (topic: string): string => `${topic}-sink`
