/** Opens what there is to open, closes it, and has nothing more to do. Its argument is where the brokers are. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as KafkaClient from "../../../src/KafkaClient.ts"
import * as KafkaConfig from "../../../src/KafkaConfig.ts"
import * as KafkaJs from "../../../src/KafkaJs.ts"
import { defaults } from "../support.ts"

const use = Effect.gen(function*() {
  const client = yield* KafkaClient.KafkaClient
  const admin = yield* client.openAdmin
  const producer = yield* client.openProducer(defaults)
  const topic = `open-and-close-${process.pid}`
  yield* admin.createTopics([{ topic, partitions: 1, replicationFactor: 1, config: {} }])
  yield* producer.send([{
    topic,
    partition: 0,
    records: [{ key: null, value: null, headers: [], timestamp: BigInt(Date.now()) }]
  }])
  yield* admin.deleteTopics([topic])
})

const Live = KafkaJs.layer.pipe(Layer.provideMerge(KafkaConfig.layer({ brokers: process.argv[2] ?? "" })))

await Effect.runPromise(Effect.provide(Effect.scoped(use), Live))
console.log("closed")
