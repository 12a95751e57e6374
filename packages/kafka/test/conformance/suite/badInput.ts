/** What can't be done is said at once, typed, by the one who was asked. */
import { describe, expect } from "@effect/vitest"
import * as ConfigError from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import * as Consumer from "../../../src/Consumer.ts"
import { isKafkaError } from "../../../src/KafkaError.ts"
import * as Producer from "../../../src/Producer.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import { event, makeTextTopic, member, partitionOf, running, texts, textTopic, values, write } from "../support.ts"

/** Far more than the half second that is configured, and far less than an endless retry. */
const within = Effect.timeoutFail({ duration: "15 seconds", onTimeout: () => "it still tries" })

export const badInput = (kafka: Suite) =>
  describe("bad input", () => {
    kafka.test(
      "where no broker is, producers, consumers and admins fail within the configured time, and name the address",
      Effect.gen(function*() {
        const nowhere = Effect.provide(
          Effect.all([
            Effect.flip(Effect.scoped(Producer.make())),
            Effect.flip(Effect.scoped(Consumer.make({ groupId: "nobody" }))),
            Effect.flip(Effect.scoped(Effect.flatMap(Admin.make, (admin) => admin.listTopics())))
          ], { concurrency: "unbounded" }),
          Layer.merge(kafka.driver.unreachable, TopicRegistry.layerWith({}))
        )
        for (const error of yield* within(nowhere)) {
          expect(isKafkaError(error)).toBe(true)
          expect(error).toMatchObject({ _tag: "KafkaConnectionError", brokers: [expect.stringContaining(":")] })
        }
      })
    )

    kafka.test(
      "an unknown topic: each way to use it says which",
      Effect.gen(function*() {
        const missing = textTopic("missing")
        const name = yield* TopicRegistry.resolve(missing)
        const unknown = { _tag: "UnknownTopicError", topic: name }
        const consumer = yield* member()
        expect(yield* Effect.flip(Producer.send(missing, { key: null, value: "" }))).toMatchObject(unknown)
        expect(yield* Effect.flip(write(missing, texts(3)))).toMatchObject(unknown)
        expect(yield* Effect.flip(Stream.runDrain(consumer.stream(missing)))).toMatchObject(unknown)
        expect(yield* Effect.flip(Stream.runDrain(consumer.streamUntil(missing, "end")))).toMatchObject(unknown)
        expect(yield* Effect.flip(Stream.runDrain(consumer.stream(missing, { partitions: [0] })))).toMatchObject(
          unknown
        )
        expect(yield* Effect.flip(Stream.runDrain(consumer.partitionedStream(missing)))).toMatchObject(unknown)
        expect(yield* Effect.flip(consumer.forEach(missing, () => Effect.void))).toMatchObject(unknown)
        expect(yield* Effect.flip(Admin.describeTopics([missing]))).toMatchObject(unknown)
        // and the consumer is none the worse
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(2))
        const read = yield* consumer.stream(topic).pipe(Stream.take(2), Stream.runCollect)
        expect(values(read)).toEqual(texts(2))
      })
    )

    kafka.test(
      "a partition that does not exist",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const send = (partition: number) => Effect.flip(Producer.send(topic, { key: null, value: "", partition }))
        expect((yield* send(-1))._tag).toBe("ProducerError")
        expect((yield* send(1.5))._tag).toBe("ProducerError")
        expect(["ProducerError", "UnknownTopicError"]).toContain((yield* send(2))._tag)
        const consumer = yield* member()
        expect(yield* Effect.flip(Stream.runDrain(consumer.stream(topic, { partitions: [7] })))).toMatchObject({
          _tag: "UnknownTopicError",
          partition: 7
        })
      })
    )

    kafka.test(
      "a record that is too large for the producer: nothing is sent",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const producer = yield* Producer.make({ maxRequestSize: 2000 })
        const large = { key: null, value: "x".repeat(3000) }
        expect(yield* Effect.flip(producer.send(topic, large))).toMatchObject({
          _tag: "ProducerError",
          reason: "too-large"
        })
        expect(yield* Effect.flip(producer.sendAll(topic, [{ key: null, value: "" }, large]))).toMatchObject({
          _tag: "ProducerError",
          reason: "too-large"
        })
        expect(yield* Admin.listOffsets([topic], "latest")).toMatchObject([{ offset: 0n }])
      })
    )

    kafka.test(
      "a record that is too large for the topic fails its own caller, and no other",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1, { "max.message.bytes": "2000" })
        const results = yield* Effect.forEach(
          ["small", "x".repeat(5000), "small too"],
          (value) => Effect.either(Producer.send(topic, { key: null, value })),
          { concurrency: "unbounded" }
        )
        expect(results.map((result) => result._tag)).toEqual(["Right", "Left", "Right"])
        expect(results[1]).toMatchObject({ left: { _tag: "ProducerError", reason: "too-large", retriable: false } })
        const consumer = yield* member()
        const read = yield* Stream.runCollect(consumer.streamUntil(topic, "end"))
        expect(values(read).sort()).toEqual(["small", "small too"])
      })
    )

    kafka.test(
      "a value that its schema refuses to encode: nothing is sent, and the caller is told why",
      Effect.gen(function*() {
        const topic = Topic.make("cups", {
          key: Serde.string,
          value: Serde.json(Schema.Struct({ cups: Schema.Int.pipe(Schema.positive()) })),
          partitions: 1
        })
        yield* TopicRegistry.ensure([topic])
        const name = yield* TopicRegistry.resolve(topic)
        const bad = { key: "a", value: { cups: -1 } }
        const refused = { _tag: "SerializationError", topic: name, part: "value" }
        const error = yield* Effect.flip(Producer.send(topic, bad))
        expect(error).toMatchObject(refused)
        expect(error.message).toContain("positive")
        const good = { key: "a", value: { cups: 1 } }
        expect(yield* Effect.flip(Producer.sendAll(topic, [good, bad, good]))).toMatchObject(refused)
        expect(yield* Effect.flip(Producer.enqueue(topic, bad))).toMatchObject(refused)
        expect(yield* Effect.flip(Producer.send(topic, { key: "half \ud800", value: { cups: 1 } }))).toMatchObject({
          _tag: "SerializationError",
          part: "key"
        })
        yield* Producer.flush
        expect(yield* Admin.listOffsets([topic], "latest")).toMatchObject([{ offset: 0n }])
      })
    )

    kafka.test(
      "a failing stream leaves its consumer usable, and a stopped consumer says that it is",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(5))
        const consumer = yield* member()
        const failed = yield* consumer.stream(topic).pipe(
          Stream.mapEffect((record) => record.offset === 2n ? Effect.fail("no milk" as const) : Effect.succeed(record)),
          Stream.runDrain,
          Effect.flip
        )
        expect(failed).toBe("no milk")
        const stream = yield* running(consumer.stream(topic))
        yield* stream.count(1)
        yield* consumer.stop
        const closed = { _tag: "ConsumerError", reason: "closed" }
        expect(yield* Effect.flip(Stream.runDrain(consumer.stream(topic)))).toMatchObject(closed)
        expect(yield* Effect.flip(consumer.forEach(topic, () => Effect.void))).toMatchObject(closed)
        expect(yield* Effect.flip(consumer.committed([yield* partitionOf(topic)]))).toMatchObject(closed)
      })
    )

    kafka.test(
      "settings that contradict each other are refused, all at once, with the reason",
      Effect.gen(function*() {
        const error = yield* Effect.flip(member({
          sessionTimeout: "3 seconds",
          heartbeatInterval: "2 seconds",
          rebalanceTimeout: "10 seconds",
          revokeTimeout: "20 seconds",
          commitTimeout: "150 millis",
          fetch: { maxWait: "200 millis", maxBytesPerPartition: 1000 },
          prefetch: { partitionBytes: 500 }
        }))
        expect(ConfigError.isConfigError(error)).toBe(true)
        for (const name of ["heartbeatInterval", "revokeTimeout", "commitTimeout", "prefetch"]) {
          expect(String(error)).toContain(name)
        }
      })
    )

    kafka.test(
      "a session timeout that the brokers refuse fails the streams at once, and says what they allow",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const consumer = yield* member({ sessionTimeout: 999 })
        const error = yield* within(Effect.flip(Stream.runDrain(consumer.stream(topic))))
        expect(error).toMatchObject({ _tag: "ConsumerError" })
        expect(error).toHaveProperty(
          "message",
          expect.stringMatching(/sessionTimeout of 999 ms .* 1000 to 1800000 ms .*group\.min\.session\.timeout\.ms/)
        )
        expect(yield* event(consumer, "Died")).toMatchObject({ error })
      })
    )

    kafka.test(
      "streams that can't share a consumer are refused",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const orders = textTopic("orders")
        yield* TopicRegistry.ensure([orders])
        yield* write(topic, texts(1))
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        yield* stream.count(1)
        const refused = { _tag: "ConsumerError", reason: "subscription" }
        expect(yield* Effect.flip(Stream.runDrain(consumer.stream(orders, { partitions: [0] })))).toMatchObject(refused)
        const pattern = Topic.pattern(/.*/, { key: Serde.nullable(Serde.string), value: Serde.string })
        expect(yield* Effect.flip(Stream.runDrain(consumer.stream(pattern)))).toMatchObject(refused)
        expect(yield* Effect.flip(Stream.runDrain(consumer.stream([])))).toMatchObject(refused)
      })
    )
  })
