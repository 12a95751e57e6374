/** kafka-ts. */
import { createKafkaClient, setLogger } from "kafka-ts"
import { fetchSettings, Meter, timed, writing } from "./common.mjs"

const quiet = () => {}
setLogger({ debug: quiet, info: quiet, warn: quiet, error: quiet })

const client = (work) =>
  createKafkaClient({
    clientId: "benchmark",
    bootstrapServers: work.brokers.map((broker) => {
      const [host, port] = broker.split(":")
      return { host, port: Number(port) }
    })
  })

/** `onBatch`, looking at each value's length. */
export const bytes = async (work) => {
  const meter = new Meter(work.records)
  let size = 0
  const consumer = await client(work).startConsumer({
    groupId: work.groupId,
    topics: [work.topic],
    fromBeginning: true,
    maxWaitMs: fetchSettings.maxWaitTimeInMs,
    minBytes: fetchSettings.minBytes,
    maxBytes: fetchSettings.maxBytes,
    partitionMaxBytes: fetchSettings.maxBytesPerPartition,
    onBatch: (messages) => {
      meter.begin()
      for (const message of messages) size += message.value?.length ?? 0
      meter.add(messages.length)
    }
  })
  const result = await meter.result
  await consumer.close(true)
  return { ...result, size }
}

export const { sendBatches, sendLone, sendSingles } = writing(async (work, run) => {
  const value = Buffer.alloc(work.bytes, "x")
  const producer = client(work).createProducer({})
  const send = (keys) => producer.send(keys.map((key) => ({ topic: work.sink, key, value })))
  await send(["warm"])
  const result = await timed(work.records, () => run(send))
  await producer.close()
  return result
})
