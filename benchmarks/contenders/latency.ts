/**
 * From the call of `send` to the record in the reader's hand, at a fixed rate, in one process with one clock.
 */
import { Consumer, Producer, Serde, Topic } from "@coffeebuddy/kafka"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Stream from "effect/Stream"
import { Kafka, logLevel } from "kafkajs"
import { randomUUID } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import type { Result, Run, Work } from "../harness/model.ts"
import { percentiles } from "../harness/statistics.ts"
import { fetchSettings } from "../work.ts"
import { cluster } from "./library.ts"

const perSecond = 200

/** Gathers what arrives. Values of another run, or of before anything counts, are passed over. */
class Arrivals {
  readonly latencies: Array<number> = []
  private readonly run = randomUUID()
  private first: (() => void) | undefined
  readonly arrived = new Promise<void>((resolve) => {
    this.first = resolve
  })

  value(bytes: number, counts: boolean): Buffer {
    const said = `${this.run} ${counts ? performance.now() : "probe"} `
    return Buffer.from(said.padEnd(bytes, "x"))
  }

  add(value: Uint8Array | null): void {
    const [run, sentAt] = Buffer.from(value ?? []).toString().split(" ", 2)
    if (run !== this.run) return
    if (sentAt === "probe") this.first?.()
    else this.latencies.push(performance.now() - Number(sentAt))
  }
}

/** Sends at the rate, whatever the answers do, as those do who have no time to wait. */
const drive = async (
  work: Work,
  arrivals: Arrivals,
  send: (key: string, value: Buffer) => Promise<unknown>
): Promise<Result> => {
  let there = false
  const arrived = (async () => {
    await arrivals.arrived
    there = true
  })()
  // until the reader reads
  while (!there) {
    for (let partition = 0; partition < 8; partition++) {
      await send(`run-${partition}`, arrivals.value(work.bytes, false))
    }
    await Promise.race([arrived, sleep(100)])
  }
  // these clients get warm too, at the same rate, before anything counts
  const settling = Math.ceil(work.warmUp / 2)
  const startedAt = performance.now()
  const waiting: Array<Promise<unknown>> = []
  let cpu = process.cpuUsage()
  for (let index = 0; index < settling + work.records; index++) {
    const due = startedAt + (index * 1000) / perSecond
    const early = due - performance.now()
    if (early > 0) await sleep(early)
    if (index === settling) cpu = process.cpuUsage()
    waiting.push(send(`run-${index % 1000}`, arrivals.value(work.bytes, index >= settling)))
  }
  await Promise.all(waiting)
  while (arrivals.latencies.length < work.records) await sleep(20)
  const { system, user } = process.cpuUsage(cpu)
  return {
    records: work.records,
    seconds: (performance.now() - startedAt) / 1000 - settling / perSecond,
    cpuSeconds: (system + user) / 1e6,
    percentiles: percentiles(arrivals.latencies)
  }
}

export const kafkajs: Run = async (work) => {
  const arrivals = new Arrivals()
  const kafka = new Kafka({ clientId: "benchmark", brokers: [...work.brokers], logLevel: logLevel.NOTHING })
  const producer = kafka.producer({ allowAutoTopicCreation: false, idempotent: true, maxInFlightRequests: 1 })
  const consumer = kafka.consumer({ groupId: work.groupId, ...fetchSettings })
  await producer.connect()
  await consumer.connect()
  await consumer.subscribe({ topics: [work.sink], fromBeginning: false })
  await consumer.run({
    autoCommit: false,
    eachBatch: ({ batch }) => {
      for (const { value } of batch.messages) arrivals.add(value)
      return Promise.resolve()
    }
  })
  const result = await drive(
    work,
    arrivals,
    (key, value) => producer.send({ topic: work.sink, messages: [{ key, value }] })
  )
  await consumer.disconnect()
  await producer.disconnect()
  return result
}

export const library: Run = (work) => {
  const arrivals = new Arrivals()
  const topic = Topic.make(work.sink, { key: Serde.string, value: Serde.bytes })
  return Effect.gen(function*() {
    const reading = yield* Consumer.stream(topic).pipe(
      Stream.runForEachChunk((chunk) =>
        Effect.sync(() => {
          for (const record of chunk) arrivals.add(record.value)
        })
      ),
      Effect.forkScoped
    )
    const run = Runtime.runPromise(yield* Effect.runtime<Producer.Producer>())
    const measured = Effect.promise(() =>
      drive(work, arrivals, (key, value) => run(Producer.send(topic, { key, value })))
    )
    return yield* Effect.raceFirst(
      measured,
      Effect.zipRight(Effect.asVoid(reading.await), Effect.dieMessage("the reader ended"))
    )
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.merge(Producer.layer(), Consumer.layer({ groupId: work.groupId, autoOffsetReset: "latest" }))
    ),
    Effect.provide(cluster(work)),
    Effect.runPromise
  )
}
