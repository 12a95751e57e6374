/** @platformatic/kafka's own consumer and producer. */
import { Consumer, Producer } from "@platformatic/kafka"
import { fetchSettings, Meter, timed, writing } from "./common.mjs"

/** The messages stream, looking at each value's length. */
export const bytes = async (work) => {
  const meter = new Meter(work.records)
  let size = 0
  const consumer = new Consumer({
    clientId: "benchmark",
    groupId: work.groupId,
    bootstrapBrokers: [...work.brokers]
  })
  const stream = await consumer.consume({
    topics: [work.topic],
    mode: "earliest",
    autocommit: false,
    maxWaitTime: fetchSettings.maxWaitTimeInMs,
    minBytes: fetchSettings.minBytes,
    maxBytes: fetchSettings.maxBytes,
    maxBytesPerPartition: fetchSettings.maxBytesPerPartition
  })
  stream.on("data", (message) => {
    meter.begin()
    size += message.value?.length ?? 0
    meter.add(1)
  })
  const result = await meter.result
  await consumer.close(true)
  return { ...result, size }
}

export const { sendBatches, sendLone, sendSingles } = writing(async (work, run) => {
  const value = Buffer.alloc(work.bytes, "x")
  const producer = new Producer({
    clientId: "benchmark",
    bootstrapBrokers: [...work.brokers],
    idempotent: true,
    acks: -1
  })
  const send = (keys) =>
    producer.send({ messages: keys.map((key) => ({ topic: work.sink, key: Buffer.from(key), value })) })
  await send(["warm"])
  const result = await timed(work.records, () => run(send))
  await producer.close()
  return result
})
