/** Records come out as they went in. */
import { describe, expect } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InMemoryBroker } from "../../../src/InMemoryKafka.ts"
import * as Producer from "../../../src/Producer.ts"
import * as RecordHeaders from "../../../src/RecordHeaders.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import { makeTextTopic, member, partitionOf, text, texts, values, write } from "../support.ts"

export const records = (kafka: Suite) =>
  describe("records", () => {
    kafka.test(
      "headers keep several values under one name in order, and values that are null or empty",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const binary = Uint8Array.from({ length: 256 }, (_, byte) => byte)
        yield* Producer.send(topic, {
          key: "key",
          value: "value",
          headers: [["b", "1"], ["b", "2"], ["a", null], ["a", ""], ["größe ☕", binary]]
        })
        yield* Producer.send(topic, { key: "key", value: "none" })
        const consumer = yield* member()
        const [record, bare] = yield* consumer.stream(topic).pipe(Stream.take(2), Stream.runCollect)
        const { headers } = record!
        expect(headers.map(([name]) => name)).toEqual(["b", "b", "a", "a", "größe ☕"])
        expect(headers.slice(0, 4).map(([, value]) => text(value))).toEqual(["1", "2", null, ""])
        expect(Array.from(headers[4]![1]!)).toEqual(Array.from(binary))
        expect(RecordHeaders.getAll(headers, "b").map(text)).toEqual(["1", "2"])
        expect(bare!.headers).toEqual([])
      })
    )

    kafka.exceptOn(
      "KafkaJs",
      "headers of different names keep their order among each other",
      "it holds headers as an object, and gathers those of one name",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* Producer.send(topic, { key: null, value: "", headers: [["b", "1"], ["a", "2"], ["b", "3"], ["1", "4"]] })
        const consumer = yield* member()
        const [record] = yield* consumer.stream(topic).pipe(Stream.take(1), Stream.runCollect)
        expect(record!.headers.map(([name, value]) => [name, text(value)])).toEqual(
          [["b", "1"], ["a", "2"], ["b", "3"], ["1", "4"]]
        )
      })
    )

    kafka.test(
      "a null key, an empty key, a tombstone and an empty value are four different things",
      Effect.gen(function*() {
        const topic = Topic.make("runs", { key: Serde.nullable(Serde.string), value: Serde.nullable(Serde.string) })
        yield* TopicRegistry.ensure([topic])
        const sent = [["key", null], [null, "value"], ["", ""], [null, null], ["key", "value"]] as const
        yield* Producer.sendAll(topic, sent.map(([key, value]) => ({ key, value })))
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(sent.length), Stream.runCollect)
        expect(Array.from(read, ({ key, value }) => [key, value])).toEqual(sent)
        expect(Array.from(read, ({ rawKey, rawValue }) => [text(rawKey), text(rawValue)])).toEqual(sent)
      })
    )

    kafka.test(
      "an explicit partition wins over the key, and explicit timestamps stay to the millisecond",
      Effect.gen(function*() {
        // or records of 1970 are deleted for their age
        const topic = yield* makeTextTopic(3, { "retention.ms": "-1" })
        const timestamps = [0n, 1n, 1_700_000_000_123n, 946_684_800_000n]
        const metadata = yield* Producer.sendAll(
          topic,
          timestamps.flatMap((timestamp) =>
            [0, 1, 2].map((partition) => ({ key: "same key", value: `${timestamp}`, partition, timestamp }))
          )
        )
        expect(metadata.map((one) => [one.partition, one.timestamp])).toEqual(
          timestamps.flatMap((timestamp) => [0, 1, 2].map((partition) => [partition, timestamp]))
        )
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(12), Stream.runCollect)
        for (const partition of [0, 1, 2]) {
          const own = Array.from(read).filter((record) => record.partition === partition)
          expect(own.map((record) => record.timestamp)).toEqual(timestamps)
          expect(own.map((record) => record.value)).toEqual(timestamps.map(String))
        }
      })
    )

    kafka.test(
      "a record without a timestamp has the time of its sending",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const before = yield* Clock.currentTimeMillis
        const [metadata] = yield* write(topic, ["now"])
        const after = yield* Clock.currentTimeMillis
        const consumer = yield* member()
        const [record] = yield* consumer.stream(topic).pipe(Stream.take(1), Stream.runCollect)
        expect(record!.timestamp).toBe(metadata!.timestamp)
        expect(Number(record!.timestamp)).toBeGreaterThanOrEqual(before)
        expect(Number(record!.timestamp)).toBeLessThanOrEqual(after)
      })
    )

    kafka.test(
      "where a topic stamps by the broker's clock, producer and consumer are told the same time",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1, { "message.timestamp.type": "LogAppendTime" })
        const metadata = yield* Producer.send(topic, { key: null, value: "a", timestamp: 5n })
        expect(metadata.timestamp).toBeGreaterThan(1_700_000_000_000n)
        const consumer = yield* member()
        const [record] = yield* consumer.stream(topic).pipe(Stream.take(1), Stream.runCollect)
        expect(record!.timestamp).toBe(metadata.timestamp)
      })
    )

    kafka.test(
      "bytes of every kind and of nearly a megabyte arrive whole",
      Effect.gen(function*() {
        const topic = Topic.make("runs", { key: Serde.bytes, value: Serde.bytes, partitions: 1 })
        yield* TopicRegistry.ensure([topic])
        const key = Uint8Array.from({ length: 256 }, (_, byte) => byte)
        const large = Uint8Array.from({ length: 1_000_000 }, (_, index) => (index * 31 + (index >> 8)) & 0xff)
        yield* Producer.sendAll(topic, [{ key, value: large }, { key, value: new Uint8Array(0) }])
        const consumer = yield* member()
        const [first, second] = yield* consumer.stream(topic).pipe(Stream.take(2), Stream.runCollect)
        expect(Buffer.compare(first!.key, key)).toBe(0)
        expect(Buffer.compare(first!.value, large)).toBe(0)
        expect(second!.value.length).toBe(0)
      })
    )

    kafka.test(
      "producer and consumer name the same topic, partition and offset, from 0 on without gaps",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const first = yield* write(topic, texts(500), 1)
        const second = yield* write(topic, texts(500, 500), 1)
        const { topic: name } = yield* partitionOf(topic)
        const expected = Array.from({ length: 1000 }, (_, offset) => [name, 1, BigInt(offset)])
        expect([...first, ...second].map((one) => [one.topic, one.partition, one.offset])).toEqual(expected)
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(1000), Stream.runCollect)
        expect(
          Array.from(read, ({ offset, topicPartition }) => [topicPartition.topic, topicPartition.partition, offset])
        )
          .toEqual(expected)
        expect(Array.from(read, (record) => record.nextOffset)).toEqual(
          Array.from({ length: 1000 }, (_, offset) => BigInt(offset) + 1n)
        )
        expect(values(read)).toEqual(texts(1000))
        expect(new Set(Array.from(read, (record) => record.topic))).toEqual(new Set(["runs"]))
      })
    )

    kafka.onlyInMemory(
      "offsets are exact beyond 2^53: read, committed, sought and resumed",
      "no log of a real broker gets that far in a test",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        const broker = yield* InMemoryBroker
        const start = 2n ** 53n + 1n
        expect(yield* broker.skipTo(tp, start)).toBe(true)
        const metadata = yield* write(topic, texts(5))
        expect(metadata.map((one) => one.offset)).toEqual([0n, 1n, 2n, 3n, 4n].map((i) => start + i))
        yield* Effect.scoped(Effect.gen(function*() {
          const consumer = yield* member()
          const read = yield* consumer.stream(topic).pipe(Stream.take(3), Stream.runCollect)
          expect(Array.from(read, (record) => record.offset)).toEqual([start, start + 1n, start + 2n])
          yield* consumer.commit(read)
          expect([...(yield* consumer.committed([tp])).values()]).toEqual([start + 3n])
        }))
        const consumer = yield* member()
        const [record] = yield* consumer.stream(topic).pipe(Stream.take(1), Stream.runCollect)
        expect([record!.offset, record!.value]).toEqual([start + 3n, "value-3"])
      })
    )
  })
