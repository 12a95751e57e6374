import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Kafka, logLevel } from "kafkajs"
import * as RealKafka from "./RealKafka.ts"

const client = (bootstrapServers: string) =>
  new Kafka({ brokers: bootstrapServers.split(","), logLevel: logLevel.NOTHING, retry: { retries: 8 } })

const createTopic = (bootstrapServers: string, topic: string, replicationFactor = 1) =>
  Effect.promise(async () => {
    const admin = client(bootstrapServers).admin()
    await admin.connect()
    await admin.createTopics({
      waitForLeaders: false,
      topics: [{ topic, numPartitions: 1, replicationFactor }]
    })
    await admin.disconnect()
  })

const produce = (bootstrapServers: string, topic: string, values: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const producer = client(bootstrapServers).producer({ allowAutoTopicCreation: false })
    await producer.connect()
    await producer.send({ topic, messages: values.map((value) => ({ value })) })
    await producer.disconnect()
  })

const consume = (bootstrapServers: string, topic: string, count: number) =>
  Effect.promise(async () => {
    const consumer = client(bootstrapServers).consumer({ groupId: `${topic}-${Date.now()}` })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    const values: Array<string> = []
    await new Promise<void>((resolve, reject) => {
      consumer.run({
        eachMessage: async ({ message }) => {
          values.push(String(message.value))
          if (values.length === count) resolve()
        }
      }).catch(reject)
    })
    await consumer.disconnect()
    return values
  })

RealKafka.suite("the shared Kafka", (kafka) => {
  it.live("takes records and gives them back", () =>
    Effect.gen(function*() {
      const topic = `harness-${process.pid}-${Date.now()}`
      yield* createTopic(kafka.bootstrapServers, topic)
      yield* produce(kafka.bootstrapServers, topic, ["espresso", "flat white"])
      expect(yield* consume(kafka.bootstrapServers, topic, 2)).toEqual(["espresso", "flat white"])
    }))
})

RealKafka.suiteOfOwn("a Kafka of one's own", () => {
  it.scopedLive("is at the same address with the same records after a kill", () =>
    Effect.gen(function*() {
      const kafka = yield* RealKafka.start()
      yield* createTopic(kafka.bootstrapServers, "orders")
      yield* produce(kafka.bootstrapServers, "orders", ["espresso"])
      const broker = kafka.broker(1)
      yield* broker.kill
      expect(kafka.cluster.broker(1).running).toBe(false)
      yield* broker.start
      yield* produce(kafka.bootstrapServers, "orders", ["ristretto"])
      expect(yield* consume(kafka.bootstrapServers, "orders", 2)).toEqual(["espresso", "ristretto"])
      yield* broker.stop
      yield* broker.start
      expect(yield* consume(kafka.bootstrapServers, "orders", 2)).toEqual(["espresso", "ristretto"])
    }))
})

describe("without a Kafka", () => {
  it("tests are skipped where none can run, and fail where one is required or broke", () => {
    const unavailable = { _tag: "Unavailable", reason: "no Java" } as const
    expect(RealKafka.withoutKafka(unavailable, {})).toBe("skip")
    expect(RealKafka.withoutKafka(unavailable, { REQUIRE_KAFKA: "1" })).toBe("fail")
    expect(RealKafka.withoutKafka({ _tag: "Failed", reason: "it died" }, {})).toBe("fail")
  })
})
