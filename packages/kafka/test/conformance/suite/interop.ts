/** What others write we read, and the reverse: Kafka's own Java clients and tools as the counterpart. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import * as Crypto from "node:crypto"
import {
  javaConsume,
  javaMember,
  type JavaMemberEvent,
  javaPartitions,
  javaProduce,
  type JavaTarget,
  javaTools
} from "../../../../../scripts/kafka/index.ts"
import { isKafkaError } from "../../../src/KafkaError.ts"
import * as Producer from "../../../src/Producer.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Test, World } from "../Kafka.ts"
import {
  event,
  groupName,
  grown,
  makeTextTopic,
  member,
  partitionOf,
  running,
  Seen,
  text,
  texts,
  values,
  write
} from "../support.ts"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

const hex = (bytes: Uint8Array | null): string | null => bytes === null ? null : Buffer.from(bytes).toString("hex")

const makeRawTopic = (partitions: number, config: Readonly<Record<string, string>> = {}) => {
  const serde = Serde.nullable(Serde.bytes)
  const topic = Topic.make("runs", { key: serde, value: serde, partitions, config })
  return Effect.as(TopicRegistry.ensure([topic]), topic)
}

export const interop = (test: Test<World>, target: JavaTarget) => {
  const tools = javaTools(target)
  const ask = <A>(evaluate: () => Promise<A>) => Effect.tryPromise({ try: evaluate, catch: (error) => error as Error })

  describe("what Java writes", () => {
    test(
      "records of the Java producer are read to the byte: headers, nulls, partitions, times",
      Effect.gen(function*() {
        const topic = yield* makeRawTopic(3)
        const name = yield* TopicRegistry.resolve(topic)
        const all = Crypto.randomBytes(300)
        const now = BigInt(Date.now())
        const sent = [
          { partition: 0, timestamp: now - 5n, key: bytes("key"), value: bytes("größe ☕") },
          { partition: 1, timestamp: now - 4n, key: null, value: bytes("no key") },
          { partition: 2, timestamp: now - 3n, key: bytes("tombstone"), value: null },
          { partition: 2, timestamp: now - 2n, key: new Uint8Array(0), value: new Uint8Array(0) },
          { partition: 0, timestamp: now - 1n, key: all, value: all }
        ].map((record, index) => ({
          ...record,
          topic: name,
          headers: index === 0
            ? [["a", bytes("1")], ["a", bytes("2")], ["none", null], ["empty", new Uint8Array(0)], ["ü", all]] as const
            : []
        }))
        const metadata = yield* ask(() => javaProduce(target, sent))
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(sent.length), Stream.runCollect)
        const found = new Map(Array.from(read, (record) => [`${record.partition}/${record.offset}`, record]))
        for (const [index, record] of sent.entries()) {
          const { offset, partition } = metadata[index]!
          const own = found.get(`${partition}/${offset}`)!
          expect([hex(own.key), hex(own.value), own.timestamp]).toEqual([
            hex(record.key),
            hex(record.value),
            record.timestamp
          ])
          expect(own.headers.map(([name, value]) => [name, hex(value)])).toEqual(
            record.headers.map(([name, value]) => [name, hex(value)])
          )
        }
      })
    )

    test(
      "records of the console producer are read",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const name = yield* TopicRegistry.resolve(topic)
        const sent = [
          { key: "anna", value: "ein Espresso", headers: [["table", "4"], ["note", null]] as const },
          { key: null, value: "nobody's", headers: [] }
        ]
        yield* ask(() => tools.consoleProduce(name, sent))
        const consumer = yield* member()
        const read = yield* consumer.stream(topic).pipe(Stream.take(2), Stream.runCollect)
        expect(
          Array.from(read, ({ headers, key, value }) => ({
            key,
            value,
            headers: headers.map(([name, value]) => [name, text(value)])
          }))
        ).toEqual(sent)
      })
    )

    test(
      "records of the perf tool, compressed too, are read",
      Effect.gen(function*() {
        const topic = yield* makeRawTopic(2)
        const name = yield* TopicRegistry.resolve(topic)
        yield* ask(() => tools.perfProduce({ topic: name, records: 2000, recordSize: 200 }))
        const properties = { "compression.type": "gzip" }
        yield* ask(() => tools.perfProduce({ topic: name, records: 2000, recordSize: 200, properties }))
        const consumer = yield* member()
        const read = yield* Stream.runCollect(consumer.streamUntil(topic, "end"))
        expect(read.length).toBe(4000)
        expect(new Set(Array.from(read, (record) => record.value!.length))).toEqual(new Set([200]))
      })
    )

    for (const compression of ["snappy", "lz4", "zstd"]) {
      test(
        `${compression} is read, or refused with the reason`,
        Effect.gen(function*() {
          const topic = yield* makeTextTopic()
          const name = yield* TopicRegistry.resolve(topic)
          yield* ask(() =>
            javaProduce(target, texts(50).map((value) => ({ topic: name, value: bytes(value) })), {
              properties: { "compression.type": compression }
            })
          )
          const consumer = yield* member()
          const read = yield* Effect.either(Stream.runCollect(Stream.take(consumer.stream(topic), 50)))
          if (Either.isRight(read)) expect(values(read.right)).toEqual(texts(50))
          else {
            expect(isKafkaError(read.left)).toBe(true)
            expect(String(read.left.message).toLowerCase()).toContain(compression)
          }
        })
      )
    }

    test(
      "of Java's transactions, those that were committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const name = yield* TopicRegistry.resolve(topic)
        const id = yield* groupName("java")
        for (
          const [transaction, value] of [["commit", "kept"], ["abort", "dropped"], ["commit", "kept too"]] as const
        ) {
          yield* ask(() =>
            javaProduce(target, [{ topic: name, value: bytes(value) }], {
              transaction,
              properties: { "transactional.id": id }
            })
          )
        }
        yield* grown(topic, [6n])
        const consumer = yield* member()
        expect(values(yield* Stream.runCollect(consumer.streamUntil(topic, "end")))).toEqual(["kept", "kept too"])
      })
    )
  })

  describe("what we write", () => {
    test(
      "our records are read to the byte by the Java consumer: headers, nulls, partitions, times",
      Effect.gen(function*() {
        const topic = yield* makeRawTopic(3)
        const name = yield* TopicRegistry.resolve(topic)
        const all = Crypto.randomBytes(300)
        const now = BigInt(Date.now())
        const sent = [
          { partition: 0, timestamp: now - 5n, key: bytes("key"), value: bytes("größe ☕") },
          { partition: 1, timestamp: now - 4n, key: null, value: bytes("no key") },
          { partition: 2, timestamp: now - 3n, key: bytes("tombstone"), value: null },
          { partition: 2, timestamp: now - 2n, key: new Uint8Array(0), value: new Uint8Array(0) },
          { partition: 0, timestamp: now - 1n, key: all, value: all }
        ]
        const headers = [["a", "1"], ["a", "2"], ["none", null], ["empty", ""], ["ü", all]] as const
        const metadata = yield* Producer.sendAll(
          topic,
          sent.map((record, index) => index === 0 ? { ...record, headers } : record)
        )
        const read = yield* ask(() => javaConsume(target, name))
        expect(read.length).toBe(sent.length)
        for (const [index, record] of sent.entries()) {
          const { offset, partition, timestamp } = metadata[index]!
          const own = read.find((one) => one.partition === partition && one.offset === offset)!
          expect([hex(own.key), hex(own.value), own.timestamp]).toEqual([
            hex(record.key),
            hex(record.value),
            timestamp
          ])
          expect(own.headers.map(([name, value]) => [name, hex(value)])).toEqual(
            index === 0
              ? headers.map(([name, value]) => [name, hex(typeof value === "string" ? bytes(value) : value)])
              : []
          )
        }
      })
    )

    test(
      "our records are read by the console consumer, compressed too",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const name = yield* TopicRegistry.resolve(topic)
        const producer = yield* Producer.make({ compression: "gzip" })
        yield* Producer.send(topic, { key: "anna", value: "ein Espresso", headers: { table: "4", note: null } })
        yield* producer.send(topic, { key: null, value: "nobody's" })
        const read = yield* ask(() => tools.consoleConsume(name, { records: 2 }))
        expect(read).toMatchObject([
          { key: "anna", value: "ein Espresso", headers: [["table", "4"], ["note", null]], offset: 0n },
          { key: null, value: "nobody's", headers: [], offset: 1n }
        ])
      })
    )

    test(
      "a thousand random keys land where the Java producer puts them",
      Effect.gen(function*() {
        const topic = yield* makeRawTopic(12)
        const keys = Array.from({ length: 1000 }, (_, index) => Crypto.randomBytes(index % 50))
        const expected = yield* ask(() => javaPartitions(target, 12, keys))
        const metadata = yield* Producer.sendAll(topic, keys.map((key) => ({ key, value: null })))
        expect(metadata.map((one) => one.partition)).toEqual(expected)
        expect(new Set(expected).size).toBe(12)
      })
    )

    test(
      "of our transactions, Java reads those that were committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const name = yield* TopicRegistry.resolve(topic)
        const producer = yield* Producer.make({ transactionalId: yield* groupName("ours") })
        const send = (value: string) => producer.send(topic, { key: null, value })
        yield* producer.transaction(send("kept"))
        yield* Effect.flip(producer.transaction(Effect.zipRight(send("dropped"), Effect.fail("no milk"))))
        yield* producer.transaction(send("kept too"))
        yield* grown(topic, [6n])
        const read = (isolation: string) =>
          ask(() => javaConsume(target, name, { properties: { "isolation.level": isolation } }))
        expect((yield* read("read_committed")).map((one) => text(one.value))).toEqual(["kept", "kept too"])
        expect((yield* read("read_uncommitted")).map((one) => text(one.value))).toEqual(["kept", "dropped", "kept too"])
      })
    )
  })

  describe("groups", () => {
    test(
      "we go on where Java's consumer committed, and Kafka's tools show what we committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(10))
        const groupId = yield* groupName()
        const events = new Seen<JavaMemberEvent>()
        yield* Effect.scoped(Effect.gen(function*() {
          const java = yield* Effect.acquireRelease(
            ask(() => javaMember(target, { topics: [tp.topic], groupId, onEvent: (event) => events.push(event) })),
            (java) => Effect.promise(() => java.kill())
          )
          yield* events.until("ten records", (all) => all.filter((one) => one.event === "record").length === 10)
          java.commit()
          yield* events.until("the commit", (all) => all.some((one) => one.event === "committed"))
          yield* ask(() => java.stop())
        }))
        yield* write(topic, texts(10, 10))
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        expect((yield* event(consumer, "Assigned")).positions).toEqual([10n])
        const records = yield* stream.count(10)
        expect(values(records)).toEqual(texts(10, 10))
        yield* consumer.commit(records[4]!)
        const [position] = yield* ask(() => tools.describeGroup(groupId))
        expect(position).toMatchObject({ ...tp, committed: 15n, end: 20n, lag: 5n })
        expect(position!.memberId).toBeDefined()
      })
    )
  })
}
