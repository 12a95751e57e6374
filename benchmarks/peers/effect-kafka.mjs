/** effect-kafka 0.9 on kafkajs. */
import { Effect, Layer, Runtime, Stream } from "effect"
import { Consumer, Producer } from "effect-kafka"
import { KafkaJS } from "effect-kafka/KafkaJS"
import { fetchSettings, Meter, timed, writing } from "./common.mjs"

const kafka = (work) => KafkaJS.layer({ brokers: [...work.brokers], clientId: "benchmark", logLevel: 0 })

/** `serveStream`, looking at each value's length. */
export const bytes = async (work) => {
  const meter = new Meter(work.records)
  let size = 0
  const live = Consumer.layer({ groupId: work.groupId, fromBeginning: true, autoCommit: false, ...fetchSettings }).pipe(
    Layer.provide(kafka(work))
  )
  await Effect.runPromise(
    Consumer.serveStream(work.topic).pipe(
      Stream.takeWhile((record) => {
        meter.begin()
        size += record.value?.length ?? 0
        return !meter.add(1)
      }),
      Stream.runDrain,
      Effect.scoped,
      Effect.provide(live)
    )
  )
  return { ...(await meter.result), size }
}

export const { sendBatches, sendLone, sendSingles } = writing((work, run) => {
  const value = Buffer.alloc(work.bytes, "x")
  const live = Producer.layer({ allowAutoTopicCreation: false, idempotent: true, maxInFlightRequests: 1 }).pipe(
    Layer.provide(kafka(work))
  )
  return Effect.runPromise(
    Effect.flatMap(Effect.runtime(), (runtime) => {
      const send = (keys) =>
        Runtime.runPromise(runtime)(
          Producer.send({ topic: work.sink, messages: keys.map((key) => ({ key, value })) })
        )
      return Effect.promise(async () => {
        await send(["warm"])
        return timed(work.records, () => run(send))
      })
    }).pipe(Effect.scoped, Effect.provide(live))
  )
})
