/** What a producer answers, and what is in the log then. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import * as Producer from "../../../src/Producer.ts"
import type { Suite } from "../Kafka.ts"
import { groupName, grown, makeTextTopic, member, texts, values, write } from "../support.ts"

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
  })
