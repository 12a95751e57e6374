/** What a producer answers, and what is in the log then. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import * as Producer from "../../../src/Producer.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import { groupName, grown, makeTextTopic, member, texts, textTopic, values, write } from "../support.ts"

export const producing = (kafka: Suite) =>
  describe("producing", () => {
    kafka.test(
      "sendAll answers in the order it was given, whatever the partitions; of nothing, nothing",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        const metadata = yield* Producer.sendAll(
          topic,
          texts(30).map((value, index) => ({ key: null, value, partition: index % 3 }))
        )
        expect(metadata.map(({ offset, partition }) => [partition, offset])).toEqual(
          Array.from({ length: 30 }, (_, index) => [index % 3, BigInt(Math.floor(index / 3))])
        )
        expect(yield* Producer.sendAll(topic, [])).toEqual([])
      })
    )

    kafka.test(
      "a thousand sends at once are each acknowledged with an offset of their own",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const metadata = yield* Effect.forEach(
          texts(1000),
          (value, index) => Producer.send(topic, { key: null, value, partition: index % 2 }),
          { concurrency: "unbounded" }
        )
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(1000), Stream.runCollect)
        const placed = new Map(Array.from(read, (record) => [`${record.partition}/${record.offset}`, record.value]))
        expect(placed.size).toBe(1000)
        expect(metadata.map((one) => placed.get(`${one.partition}/${one.offset}`))).toEqual(texts(1000))
      })
    )

    kafka.test(
      "what was enqueued is stored in order, whether or not anybody waits for it",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const acknowledged = yield* Effect.forEach(
          texts(50),
          (value) => Producer.enqueue(topic, { key: null, value, partition: 0 })
        )
        const last = yield* acknowledged[49]!
        expect(last.offset).toBe(49n)
        yield* Producer.enqueue(topic, { key: null, value: "unattended", partition: 0 })
        yield* Producer.flush
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(51), Stream.runCollect)
        expect(values(read)).toEqual([...texts(50), "unattended"])
      })
    )

    kafka.test(
      "closing a producer sends what it holds",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* Effect.scoped(Effect.gen(function*() {
          const producer = yield* Producer.make({ linger: "1 hour" })
          yield* producer.enqueueAll(topic, texts(10).map((value) => ({ key: null, value, partition: 0 })))
        }))
        expect(yield* Admin.listOffsets([topic], "latest")).toMatchObject([{ partition: 0, offset: 10n }])
      })
    )

    kafka.test(
      "compressed records are read as if they were not",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const producer = yield* Producer.make({ compression: "gzip" })
        yield* producer.sendAll(topic, texts(200).map((value) => ({ key: value, value, headers: { a: value } })))
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(200), Stream.runCollect)
        expect(values(read)).toEqual(texts(200))
        expect(Array.from(read, (record) => record.key)).toEqual(texts(200))
      })
    )

    kafka.test(
      "a transaction is seen as a whole or not at all, and readers of everything see both",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const producer = yield* Producer.make({ transactionalId: yield* groupName("transactions") })
        const send = (value: string) => producer.send(topic, { key: null, value, partition: 0 })
        yield* producer.transaction(Effect.all([send("kept-1"), send("kept-2")]))
        const failed = yield* Effect.exit(
          producer.transaction(Effect.zipRight(send("dropped"), Effect.fail("no milk" as const)))
        )
        expect(failed).toMatchObject({ _tag: "Failure", cause: { error: "no milk" } })
        yield* producer.transaction(send("kept-3"))
        yield* grown(topic, [7n])

        const committed = yield* member()
        const seen = yield* Stream.runCollect(committed.streamUntil(topic, "end"))
        expect(values(seen)).toEqual(["kept-1", "kept-2", "kept-3"])

        const everything = yield* member({ groupId: "everything", isolationLevel: "read_uncommitted" })
        const all = yield* Stream.runCollect(everything.streamUntil(topic, "end"))
        expect(values(all)).toEqual(["kept-1", "kept-2", "dropped", "kept-3"])
      })
    )

    kafka.test(
      "what one producer stored, the next goes on behind",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(3))
        const [metadata] = yield* Effect.scoped(
          Effect.flatMap(Producer.make(), (producer) => producer.sendAll(topic, [{ key: null, value: "later" }]))
        )
        expect(metadata!.offset).toBe(3n)
      })
    )

    kafka.test(
      "a header that is neither text nor bytes is refused, and nothing is sent",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        // as a program without types may have it
        const headers: Record<string, string> = { retries: "3" }
        Object.assign(headers, { retries: 3 })
        const bad = { key: null, value: "", headers }
        const refused = { _tag: "SerializationError", part: "header" }
        expect(yield* Effect.flip(Producer.send(topic, bad))).toMatchObject(refused)
        expect(yield* Effect.flip(Producer.sendAll(topic, [{ key: null, value: "" }, bad]))).toMatchObject(refused)
        expect(yield* Effect.flip(Producer.enqueue(topic, bad))).toMatchObject(refused)
        expect(yield* Admin.listOffsets([topic], "latest")).toMatchObject([{ offset: 0n }])
      })
    )

    kafka.test(
      "a producer that is closed says so, whatever it is asked",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const id = yield* groupName("closed")
        const closed = { _tag: "ProducerError", reason: "closed", retriable: true }
        const record = { key: null, value: "late" }
        const plain = yield* Effect.scoped(Effect.tap(Producer.make(), (one) => one.send(topic, record)))
        expect(yield* Effect.flip(plain.send(topic, record))).toMatchObject(closed)
        expect(yield* Effect.flip(plain.sendAll(topic, [record]))).toMatchObject(closed)
        expect(yield* Effect.flip(plain.enqueue(topic, record))).toMatchObject(closed)
        yield* plain.flush
        const transactional = yield* Effect.scoped(Producer.make({ transactionalId: id }))
        expect(yield* Effect.flip(transactional.transaction(Effect.void))).toMatchObject(closed)
        expect(yield* Admin.listOffsets([topic], "latest")).toMatchObject([{ offset: 1n }])
      })
    )

    kafka.test(
      "of two producers with one transactional id the newer fences the older, which never sends again",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const transactionalId = yield* groupName("fenced")
        const send = (producer: Producer.Service, value: string) =>
          producer.transaction(producer.send(topic, { key: null, value, partition: 0 }))
        const older = yield* Producer.make({ transactionalId })
        yield* send(older, "older")
        const newer = yield* Producer.make({ transactionalId })
        const fenced = { _tag: "ProducerFencedError", transactionalId }
        expect(yield* Effect.flip(send(older, "lost"))).toMatchObject(fenced)
        expect(yield* Effect.flip(send(older, "lost too"))).toMatchObject(fenced)
        yield* send(newer, "newer")
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(2), Stream.runCollect)
        expect(values(read)).toEqual(["older", "newer"])
      })
    )

    kafka.test(
      "a transaction timeout above what the brokers allow is refused when the producer is made",
      Effect.gen(function*() {
        const transactionalId = yield* groupName("patient")
        const made = Producer.make({ transactionalId, transactionTimeout: "20 days" })
        expect(yield* Effect.flip(Effect.scoped(made))).toMatchObject({
          _tag: "KafkaRequestError",
          code: "INVALID_TRANSACTION_TIMEOUT",
          retriable: false
        })
      })
    )

    kafka.test(
      "what is transformed is written once, and its offsets with it, though it fails in the middle",
      Effect.gen(function*() {
        const source = yield* makeTextTopic()
        const target = textTopic("target")
        yield* TopicRegistry.ensure([target])
        yield* write(source, texts(40))
        const producer = yield* Producer.make({ transactionalId: yield* groupName("transforming") })
        const groupId = "transformers"
        const shout = (value: string) => ({ key: null, value: value.toUpperCase(), partition: 0 })
        const failing = yield* member({ groupId, maxPollRecords: 10 })
        const failed = failing.transform(
          source,
          (record) => record.offset === 25n ? Effect.fail("no milk" as const) : Effect.succeed(shout(record.value)),
          target,
          { maxRecords: 10 }
        )
        const provided = Effect.provideService(Producer.Producer, producer)
        expect(yield* Effect.flip(provided(failed))).toBe("no milk")
        yield* failing.stop
        const next = yield* member({ groupId })
        yield* Effect.fork(
          provided(next.transform(source, (record) => Effect.succeed(shout(record.value)), target))
        )
        const reader = yield* member({ groupId: "readers" })
        const read = yield* reader.stream(target).pipe(Stream.take(40), Stream.runCollect)
        expect(values(read)).toEqual(texts(40).map((value) => value.toUpperCase()))
        yield* next.stop
        // the broker marks each partition that a transaction was about by itself
        yield* Effect.repeat(Admin.groupOffsets(yield* groupName(groupId)), {
          until: ([committed]) => committed?.offset === 40n,
          schedule: Schedule.spaced("20 millis")
        })
      })
    )
  })
