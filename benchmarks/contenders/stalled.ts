/**
 * Consumers that read little or nothing of a long backlog, and stay: what they hold meanwhile.
 */
import { Consumer } from "@coffeebuddy/kafka"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Kafka, logLevel } from "kafkajs"
import type { Run, Work } from "../harness/model.ts"
import { fetchSettings } from "../work.ts"
import { cluster, keyed } from "./library.ts"

const millis = (work: Work): number => Number(work.parameters["seconds"]) * 1000

const stayed = (work: Work, records: number) => ({ records, seconds: Number(work.parameters["seconds"]) })

/** kafkajs, paused after its first batch. */
export const paused: Run = async (work) => {
  const kafka = new Kafka({ clientId: "benchmark", brokers: [...work.brokers], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId: work.groupId, ...fetchSettings })
  let records = 0
  await consumer.connect()
  await consumer.subscribe({ topics: [work.topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: ({ batch, pause }) => {
      records += batch.messages.length
      pause()
      return Promise.resolve()
    }
  })
  await new Promise((resolve) => setTimeout(resolve, millis(work)))
  await consumer.disconnect()
  return stayed(work, records)
}

const stay = <E>(work: Work, read: Effect.Effect<number, E, Consumer.Consumer>) =>
  read.pipe(
    Effect.map((records) => stayed(work, records)),
    Effect.provide(Consumer.layer({ groupId: work.groupId }).pipe(Layer.provide(cluster(work)))),
    Effect.runPromise
  )

/** The streams of all partitions are there, and none of them is ever pulled. */
export const neverPulled: Run = (work) =>
  stay(
    work,
    Consumer.partitionedStream(keyed(work.topic)).pipe(
      Stream.runDrain,
      Effect.timeoutOption(millis(work)),
      Effect.as(0)
    )
  )

/** A stream whose first records are worked on for as long as it lasts. */
export const pulledOnce: Run = (work) => {
  let records = 0
  return stay(
    work,
    Consumer.stream(keyed(work.topic)).pipe(
      Stream.chunks,
      Stream.runForEach((chunk) => {
        records += chunk.length
        return Effect.never
      }),
      Effect.timeoutOption(millis(work)),
      Effect.map(() => records)
    )
  )
}
