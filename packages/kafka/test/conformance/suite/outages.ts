/** Brokers that go away: for a while, or for ever. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import { isKafkaError } from "../../../src/KafkaError.ts"
import * as Producer from "../../../src/Producer.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import { Outage, type Test, type World } from "../Kafka.ts"
import {
  event,
  makeTextTopic,
  member,
  owning,
  running,
  Seen,
  type TextRecord,
  texts,
  textTopic,
  values,
  write
} from "../support.ts"

export const outages = (test: Test<World | Outage>) =>
  describe("outages", () => {
    test(
      "brokers that are gone for a while: streams and producers go on where they were, and nothing is lost or doubled",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const outage = yield* Outage
        yield* write(topic, texts(100))
        const a = yield* member()
        const stream = yield* running(a.stream(topic).pipe(a.commitWithin(10, "100 millis")))
        yield* stream.count(100)
        yield* outage.begin
        const sending = yield* Effect.fork(
          Effect.forEach(texts(50, 100), (value) => Producer.send(topic, { key: null, value, partition: 0 }))
        )
        yield* event(a, "Connection", (one) => one.state === "disconnected")
        yield* outage.end
        const sent = yield* Fiber.join(sending)
        expect(sent.map((one) => one.offset)).toEqual(sent.map((_, index) => 100n + BigInt(index)))
        expect(values(yield* stream.count(150))).toEqual(texts(150))
        yield* write(topic, texts(10, 150))
        expect(values(yield* stream.count(160))).toEqual(texts(160))
        yield* event(a, "Committed", (one) => one.offsets[0]!.offset === 160n)
      })
    )

    test(
      "producers, consumers and admins that start while the brokers restart wait for them",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(5))
        const outage = yield* Outage
        yield* outage.begin
        const read = Effect.flatMap(member(), (a) => a.stream(topic).pipe(Stream.take(6), Stream.runCollect))
        const sent = Effect.flatMap(
          Producer.make(),
          (producer) => producer.send(topic, { key: null, value: "value-5" })
        )
        const listed = Effect.flatMap(Admin.make, (admin) => admin.listOffsets([topic], "earliest"))
        const starting = yield* Effect.fork(Effect.all([read, sent, listed], { concurrency: "unbounded" }))
        // longer than the first tries take
        yield* Effect.sleep("1 second")
        yield* outage.end
        const [records, metadata, offsets] = yield* Fiber.join(starting)
        expect(values(records)).toEqual(texts(6))
        expect(metadata.offset).toBe(5n)
        expect(offsets).toMatchObject([{ offset: 0n }])
      })
    )

    test(
      "failure 6: the loop dies and the streams hang: brokers that are gone for ever fail every stream with the reason",
      Effect.gen(function*() {
        const [one, two, three] = [textTopic("one"), textTopic("two"), textTopic("three")]
        yield* TopicRegistry.ensure([one, two, three])
        yield* Effect.forEach([one, two, three], (topic) => write(topic, texts(1)))
        const a = yield* member({ unavailableAfter: "2 seconds" })
        const plain = yield* running(a.stream(one))
        const each = yield* running(a.partitionedStream(two).pipe(Stream.flatMap(([, records]) => records)))
        const handled = new Seen<TextRecord>()
        const handling = yield* Effect.forkScoped(a.forEach(three, (record) => Effect.sync(() => handled.push(record))))
        yield* Effect.all([plain.count(1), each.count(1), handled.count(1)])
        yield* (yield* Outage).begin
        const committing = yield* Effect.fork(Effect.flip(a.commit(plain.seen.all)))
        const exits = yield* Effect.all([Fiber.await(plain.fiber), Fiber.await(each.fiber), Fiber.await(handling)])
        const died = yield* event(a, "Died")
        expect(isKafkaError(died.error)).toBe(true)
        expect(["ConsumerError", "KafkaConnectionError"]).toContain(died.error._tag)
        for (const exit of exits) expect(exit).toEqual(Exit.fail(died.error))
        expect((yield* Fiber.join(committing))._tag).toBe("CommitError")
        expect(yield* Effect.flip(Stream.runDrain(a.stream(one)))).toEqual(died.error)
        expect(yield* Effect.flip(a.commit(plain.seen.all))).toMatchObject({ _tag: "CommitError", reason: "closed" })
        yield* a.stop
      })
    )

    test(
      "a commit that can't be confirmed fails as timed out, and the same commit goes through later",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const outage = yield* Outage
        yield* write(topic, texts(10))
        const a = yield* member({ commitTimeout: "500 millis" })
        const stream = yield* running(a.stream(topic))
        const records = yield* stream.count(10)
        yield* outage.begin
        expect(yield* Effect.flip(a.commit(records))).toMatchObject({ _tag: "CommitError", reason: "timeout" })
        yield* outage.end
        yield* write(topic, texts(1, 10))
        const more = yield* stream.count(11)
        yield* Effect.retry(a.commit(more), { times: 20, while: (error) => error.reason === "timeout" })
        yield* event(a, "Committed", (one) => one.offsets[0]!.offset === 11n)
      })
    )

    test(
      "records that can't be delivered fail their own callers, typed, when their time is over",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const producer = yield* Producer.make({
          deliveryTimeout: "1500 millis",
          requestTimeout: "1 second",
          closeTimeout: "500 millis"
        })
        yield* producer.send(topic, { key: null, value: "before" })
        yield* (yield* Outage).begin
        const errors = yield* Effect.forEach(
          texts(5),
          (value) => Effect.flip(producer.send(topic, { key: null, value })),
          { concurrency: "unbounded" }
        )
        for (const error of errors) {
          expect(isKafkaError(error)).toBe(true)
          expect(["ProducerError", "KafkaConnectionError", "KafkaTimeoutError"]).toContain(error._tag)
        }
      })
    )

    test(
      "failure 10: shutdown that hangs: stop ends in its time while the brokers are gone",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(10))
        const a = yield* member({ stopTimeout: "1 second" })
        const stream = yield* running(a.stream(topic).pipe(a.commitWithin(1_000_000, "1 hour")))
        yield* stream.count(10)
        yield* owning(a, 1)
        yield* (yield* Outage).begin
        yield* a.stop
        yield* event(a, "Stopped")
        yield* Fiber.await(stream.fiber)
      })
    )
  })
