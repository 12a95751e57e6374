/**
 * Producing through kafkajs.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { CompressionTypes, type Message } from "kafkajs"
import type {
  BatchResult,
  Capabilities,
  ProducerBatch,
  ProducerSession,
  ProducerSessionOptions,
  RawProducerRecord
} from "../../KafkaClient.ts"
import { type ClientError, ProducerFencedError, UnsupportedFeatureError } from "../../KafkaError.ts"
import * as Admin from "./admin.ts"
import * as Connection from "./connection.ts"
import { clientError, withoutTopic } from "./errors.ts"

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const message = (record: RawProducerRecord, partition: number): Message => ({
  key: record.key === null ? null : asBuffer(record.key),
  value: record.value === null ? null : asBuffer(record.value),
  timestamp: String(record.timestamp),
  partition
})

export const open = (
  environment: Connection.Environment,
  capabilities: Capabilities,
  options: ProducerSessionOptions
): Effect.Effect<
  ProducerSession,
  ClientError | ProducerFencedError | UnsupportedFeatureError,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const { ask } = yield* Admin.client(environment, options.clientId)
    const connection = Connection.make(environment, {
      clientId: options.clientId,
      requestTimeout: options.requestTimeout
    })
    const producer = connection.kafka.producer({
      createPartitioner: () => ({ message }) => message.partition ?? 0,
      allowAutoTopicCreation: false,
      idempotent: options.idempotent,
      retry: { retries: 5, initialRetryTime: 100, maxRetryTime: 1000 }
    })
    yield* Connection.connect(environment, connection, producer, "connect")
    const todo = new UnsupportedFeatureError({ driver: "kafkajs", feature: "transactions", reason: "not yet" })
    const acks = options.acks === "all" ? -1 : options.acks === "leader" ? 1 : 0
    const send = (batches: ReadonlyArray<ProducerBatch>): Effect.Effect<ReadonlyArray<BatchResult>> => {
      const topics = new Map<string, Array<Message>>()
      for (const { partition, records, topic } of batches) {
        const messages = topics.get(topic) ?? []
        topics.set(topic, messages)
        for (const record of records) messages.push(message(record, partition))
      }
      return Effect.tryPromise({
        try: () =>
          producer.sendBatch({
            acks,
            timeout: options.requestTimeout,
            compression: options.compression === "gzip" ? CompressionTypes.GZIP : CompressionTypes.None,
            topicMessages: Array.from(topics, ([topic, messages]) => ({ topic, messages }))
          }),
        catch: (error) => clientError(error, Connection.attempt(environment, "produce", { topic: batches[0]?.topic }))
      }).pipe(Effect.match({
        onFailure: (error) => batches.map((): BatchResult => ({ _tag: "Failed", error, outcome: "unknown" })),
        onSuccess: (stored) =>
          batches.map(({ partition, topic }): BatchResult => ({
            _tag: "Stored",
            baseOffset: BigInt(stored.find((s) => s.topicName === topic && s.partition === partition)?.baseOffset ?? -1)
          }))
      }))
    }
    return {
      capabilities,
      maxInFlight: 1,
      send,
      partitionCount: (topic) =>
        Effect.map(Admin.topicMetadata(ask, "produce", topic), ({ partitions }) => partitions.length),
      begin: Effect.die(todo),
      sendOffsets: () => Effect.die(todo),
      commit: Effect.die(todo),
      abort: Effect.die(todo)
    }
  }).pipe(Effect.mapError((error) => error._tag === "KafkaConnectionError" ? withoutTopic(error) : error))
