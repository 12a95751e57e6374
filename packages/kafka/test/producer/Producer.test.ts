import * as InMemoryKafka from "@coffeebuddy/kafka/InMemoryKafka"
import * as KafkaClient from "@coffeebuddy/kafka/KafkaClient"
import type * as KafkaError from "@coffeebuddy/kafka/KafkaError"
import * as Producer from "@coffeebuddy/kafka/Producer"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { allValues, kafka, producer, values } from "./support.ts"

const Orders = Topic.make("orders", { key: Serde.nullable(Serde.string), value: Serde.nullable(Serde.string) })
const bytes = (text: string) => new Uint8Array(Buffer.from(text))
const recordAt = (metadata: { topic: string; partition: number; offset: bigint }) =>
  Effect.map(
    Effect.flatMap(InMemoryKafka.InMemoryBroker, (broker) => broker.log(metadata)),
    (log) => log.find(({ offset }) => offset === metadata.offset)!
  )
const nothingSent = Effect.map(allValues, (all) => assert.deepStrictEqual(all, []))

describe("a record", () => {
  it.effect("is where its metadata says, with all it was given", () =>
    Effect.gen(function*() {
      const metadata = yield* Producer.send(Orders, {
        key: "table-4",
        value: "two espressi",
        headers: [["tag", "a"], ["tag", new Uint8Array([0, 255])], ["none", null]],
        partition: 2,
        timestamp: 9_007_199_254_740_993n
      })
      assert.deepStrictEqual(metadata, {
        topic: "coffee.orders",
        partition: 2,
        offset: 0n,
        timestamp: 9_007_199_254_740_993n
      })
      const stored = yield* recordAt(metadata)
      assert.deepStrictEqual(new Uint8Array(stored.key!), bytes("table-4"))
      assert.deepStrictEqual(new Uint8Array(stored.value!), bytes("two espressi"))
      assert.strictEqual(stored.timestamp, 9_007_199_254_740_993n)
      assert.deepStrictEqual(
        stored.headers.map(([name, value]) => [name, value && [...value]]),
        [["tag", [97]], ["tag", [0, 255]], ["none", null]]
      )
    }).pipe(Effect.provide(producer())))

  it.effect("without a time is stamped by Effect's Clock when it is sent", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(1_000_000)
      const first = yield* Producer.send(Orders, { key: "a", value: "a" })
      yield* TestClock.adjust("1 second")
      const second = yield* Producer.sendAll(Orders, [{ key: "a", value: "a" }, { key: "a", value: "a", timestamp: 5 }])
      assert.deepStrictEqual([first, ...second].map(({ timestamp }) => timestamp), [1_000_000n, 1_001_000n, 5n])
    }).pipe(Effect.provide(producer())))

  it.effect("may be a tombstone, and may have no key", () =>
    Effect.gen(function*() {
      const tombstone = yield* recordAt(yield* Producer.send(Orders, { key: "table-4", value: null }))
      assert.deepStrictEqual([Buffer.from(tombstone.key!).toString(), tombstone.value], ["table-4", null])
      const keyless = yield* recordAt(yield* Producer.send(Orders, { key: null, value: "coffee" }))
      assert.isNull(keyless.key)
    }).pipe(Effect.provide(producer())))

  it.effect("with a key always goes to the partition of its key, and all partitions are used without", () =>
    Effect.gen(function*() {
      const keyed = yield* Effect.replicateEffect(Producer.send(Orders, { key: "table-4", value: "" }), 20)
      assert.strictEqual(new Set(keyed.map(({ partition }) => partition)).size, 1)
      const keyless = yield* Effect.replicateEffect(Producer.send(Orders, { key: null, value: "" }), 100)
      assert.strictEqual(new Set(keyless.map(({ partition }) => partition)).size, 3)
    }).pipe(Effect.provide(producer())))

  it.effect("goes where the producer's own partitioner says", () =>
    Effect.gen(function*() {
      const metadata = yield* Producer.send(Orders, { key: "abc", value: "" })
      assert.strictEqual(metadata.partition, 0)
      const longer = yield* Producer.send(Orders, { key: "abcd", value: "" })
      assert.strictEqual(longer.partition, 1)
    }).pipe(Effect.provide(producer({ partitioner: (key, count) => key!.length % count }))))

  it.effect("of an effectful serde is sent when the effect has ended, with the services it needs", () =>
    Effect.gen(function*() {
      class Cipher extends Context.Tag("test/Cipher")<Cipher, (text: string) => string>() {}
      const Secrets = Topic.make("orders", {
        key: Serde.string,
        value: Serde.make<string, Cipher>({
          serialize: (text) => Effect.map(Effect.delay(Cipher, "1 second"), (cipher) => bytes(cipher(text))),
          deserialize: () => Effect.die("unused")
        })
      })
      const sending = yield* Effect.fork(
        Producer.sendAll(Secrets, [{ key: "a", value: "one" }, { key: "a", value: "two" }]).pipe(
          Effect.provideService(Cipher, (text) => [...text].reverse().join(""))
        )
      )
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(sending)
      assert.deepStrictEqual(yield* allValues, ["eno", "owt"])
    }).pipe(Effect.provide(producer())))
})

describe("what can not be sent", () => {
  const Drinks = Topic.make("orders", {
    key: Serde.string,
    value: Serde.json(Schema.Struct({ cups: Schema.Int.pipe(Schema.positive()) }))
  })

  it.effect("a value that its schema refuses", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Producer.send(Drinks, { key: "a", value: { cups: -1 } }))
      assert(error._tag === "SerializationError")
      assert.deepStrictEqual([error.topic, error.part], ["coffee.orders", "value"])
      assert.include(error.reason, "positive")
      yield* nothingSent
    }).pipe(Effect.provide(producer())))

  it.effect("one such value among many keeps all of them back", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Producer.sendAll(Drinks, [{ key: "a", value: { cups: 1 } }, { key: "a", value: { cups: 0.5 } }])
      )
      assert.strictEqual(error._tag, "SerializationError")
      yield* nothingSent
    }).pipe(Effect.provide(producer())))

  it.effect("a key that is no key", () =>
    Effect.gen(function*() {
      // what a caller without types might do
      const record: { key: string; value: { cups: number } } = JSON.parse(`{ "value": { "cups": 1 } }`)
      const error = yield* Effect.flip(Producer.send(Drinks, record))
      assert(error._tag === "SerializationError")
      assert.strictEqual(error.part, "key")
    }).pipe(Effect.provide(producer())))

  it.effect("a header that Kafka can not hold", () =>
    Effect.gen(function*() {
      const headers: Record<string, string> = JSON.parse(`{ "retries": 3 }`)
      const error = yield* Effect.flip(Producer.send(Orders, { key: "a", value: "b", headers }))
      assert(error._tag === "SerializationError")
      assert.strictEqual(error.part, "header")
      assert.include(error.reason, "retries")
    }).pipe(Effect.provide(producer())))

  it.effect("a serde that fails, or answers no bytes", () =>
    Effect.gen(function*() {
      const failing = (serialize: () => Effect.Effect<Uint8Array, unknown>) =>
        Topic.make("orders", { key: Serde.string, value: Serde.make<string>({ serialize, deserialize: () => "" }) })
      const refused = yield* Effect.flip(
        Producer.send(failing(() => Effect.fail("no registry")), { key: "a", value: "b" })
      )
      assert(refused._tag === "SerializationError")
      assert.strictEqual(refused.reason, "no registry")
      const wrong = yield* Effect.flip(
        Producer.send(failing(() => Effect.sync(() => JSON.parse(`"text"`))), { key: "a", value: "b" })
      )
      assert.strictEqual(wrong._tag, "SerializationError")
      yield* nothingSent
    }).pipe(Effect.provide(producer())))

  it.effect("a topic that does not exist", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Producer.send(Topic.make("teas", { key: Serde.string, value: Serde.string }), { key: "a", value: "b" })
      )
      assert(error._tag === "UnknownTopicError")
      assert.strictEqual(error.topic, "coffee.teas")
    }).pipe(Effect.provide(producer())))

  it.effect("a partition that does not exist", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Producer.send(Orders, { key: "a", value: "b", partition: 3 }))
      assert(error._tag === "UnknownTopicError")
      assert.deepStrictEqual([error.topic, error.partition], ["coffee.orders", 3])
      for (const partition of [-1, 0.5, NaN]) {
        const error = yield* Effect.flip(Producer.send(Orders, { key: "a", value: "b", partition }))
        assert(error._tag === "ProducerError")
        assert.deepStrictEqual([error.reason, error.retriable], ["invalid", false])
      }
      yield* nothingSent
    }).pipe(Effect.provide(producer())))

  it.effect("a time that is none", () =>
    Effect.gen(function*() {
      // and what a caller without types might give
      const untyped: ReadonlyArray<number> = JSON.parse(`["12", "2026-11-29T20:00:00.000Z", null]`)
      for (const timestamp of [-1, 1.5, NaN, -1n, 2n ** 63n, ...untyped]) {
        const error = yield* Effect.flip(Producer.send(Orders, { key: "a", value: "b", timestamp }))
        assert(error._tag === "ProducerError")
        assert.strictEqual(error.reason, "invalid")
      }
    }).pipe(Effect.provide(producer())))

  it.effect("what the partitioner fails at", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Producer.send(Orders, { key: "a", value: "b" }))
      assert(error._tag === "ProducerError" && error.cause instanceof RangeError)
      assert.strictEqual(error.reason, "invalid")
    }).pipe(Effect.provide(producer({
      partitioner: () => {
        throw new RangeError("no such shop")
      }
    }))))

  it.effect("a record larger than the limit", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Producer.send(Orders, { key: "a", value: "x".repeat(1000) }))
      assert(error._tag === "ProducerError")
      assert.deepStrictEqual([error.reason, error.retriable], ["too-large", false])
      assert.include(error.message, "maxRequestSize is 1000")
      yield* Producer.send(Orders, { key: "a", value: "x".repeat(900) })
    }).pipe(Effect.provide(producer({ maxRequestSize: 1000 }))))

  it.effect("to a topic without permission", () =>
    Effect.gen(function*() {
      const broker = yield* InMemoryKafka.InMemoryBroker
      assert.isTrue(yield* broker.deny("topic", "coffee.orders"))
      assert.strictEqual(
        (yield* Effect.flip(Producer.send(Orders, { key: "a", value: "b" })))._tag,
        "KafkaAuthorizationError"
      )
      yield* broker.allow("topic", "coffee.orders")
      yield* Producer.send(Orders, { key: "a", value: "b" })
    }).pipe(Effect.provide(producer())))
})

describe("many records", () => {
  it.effect("from a thousand fibers are all stored once, each fiber's in its order", () =>
    Effect.gen(function*() {
      const fiber = (id: number) =>
        Effect.forEach([0, 1, 2, 3, 4], (n) => Producer.send(Orders, { key: `${id}`, value: `${id}:${n}` }))
      yield* Effect.forEach(Array.from({ length: 1000 }, (_, id) => id), fiber, {
        concurrency: "unbounded",
        discard: true
      })
      const logs = yield* Effect.forEach([0, 1, 2], values)
      assert.strictEqual(logs.flat().length, 5000)
      for (const log of logs) {
        const last = new Map<string, number>()
        for (const value of log) {
          const [id, n] = value!.split(":")
          assert.strictEqual(Number(n), (last.get(id!) ?? -1) + 1)
          last.set(id!, Number(n))
        }
      }
    }).pipe(Effect.provide(producer())))

  it.effect("given to sendAll come back with their places in the order they were given", () =>
    Effect.gen(function*() {
      const records = Array.from({ length: 500 }, (_, i) => ({ key: `${i % 11}`, value: `${i}` }))
      const metadata = yield* Producer.sendAll(Orders, new Set(records))
      const logs = yield* Effect.forEach([0, 1, 2], values)
      assert.deepStrictEqual(
        metadata.map(({ offset, partition }) => logs[partition]![Number(offset)]),
        records.map(({ value }) => value)
      )
      assert.deepStrictEqual(yield* Producer.sendAll(Orders, []), [])
    }).pipe(Effect.provide(producer({ batchSize: 2000 }))))

  it.effect("without keys stay together in batches rather than being scattered", () =>
    Effect.gen(function*() {
      yield* Producer.sendAll(Orders, Array.from({ length: 100 }, (_, i) => ({ key: null, value: `${i}` })))
      const logs = yield* Effect.forEach([0, 1, 2], values)
      assert.deepStrictEqual(logs.map(({ length }) => length).sort(), [0, 0, 100])
    }).pipe(Effect.provide(producer())))

  it.effect("enqueued one after the other are stored in that order, acknowledged later", () =>
    Effect.gen(function*() {
      const acknowledgements = yield* Effect.forEach(
        [0, 1, 2, 3, 4],
        (n) => Producer.enqueue(Orders, { key: "a", value: `${n}` })
      )
      const metadata = yield* Effect.all(acknowledgements)
      assert.deepStrictEqual(metadata.map(({ offset }) => offset), [0n, 1n, 2n, 3n, 4n])
      assert.deepStrictEqual(yield* allValues, ["0", "1", "2", "3", "4"])
    }).pipe(Effect.provide(producer())))

  it.effect("are all stored once they were flushed, though nobody waited for them", () =>
    Effect.gen(function*() {
      yield* Producer.enqueueAll(Orders, [{ key: "a", value: "1" }, { key: "b", value: "2" }])
      yield* Producer.flush
      assert.deepStrictEqual(yield* allValues, ["1", "2"])
    }).pipe(Effect.provide(producer({ linger: "1 hour", deliveryTimeout: "2 hours" }))))

  it.effect("are sent when the producer is closed", () =>
    Effect.gen(function*() {
      yield* Producer.enqueue(Orders, { key: "a", value: "1" }).pipe(
        Effect.provide(Producer.layer({ linger: "1 hour", deliveryTimeout: "2 hours" }))
      )
      assert.deepStrictEqual(yield* allValues, ["1"])
    }).pipe(Effect.provide(kafka)))
})

describe("a cluster in trouble", () => {
  const numbers = Array.from({ length: 60 }, (_, i) => i)
  const inTrouble = (faults: Effect.Effect<unknown, never, InMemoryKafka.InMemoryBroker>) =>
    Effect.gen(function*() {
      yield* Producer.send(Orders, { key: null, value: "warm", partition: 0 })
      yield* faults
      const sending = yield* Effect.fork(Effect.forEach(numbers, (n) =>
        Effect.zipRight(
          Effect.sleep("10 millis"),
          Producer.send(Orders, { key: null, value: `${n}`, partition: n % 3 })
        )))
      yield* TestClock.adjust("1 minute")
      const metadata = yield* Fiber.join(sending)
      const logs = yield* Effect.forEach([0, 1, 2], values)
      assert.deepStrictEqual(
        metadata.map(({ offset, partition }) => logs[partition]![Number(offset)]),
        numbers.map(String),
        "each record is where it was said to be"
      )
      assert.strictEqual(logs.flat().length, 61, "and nowhere else")
    })
  const faulty = (times: number, fault: InMemoryKafka.Fault) =>
    Effect.flatMap(InMemoryKafka.InMemoryBroker, (broker) => broker.failNext("produce", times, fault))

  it.effect("whose answers are lost stores each record once, in order", () =>
    inTrouble(faulty(5, "response-lost")).pipe(Effect.provide(producer())))

  it.effect("whose requests are lost stores each record once, in order", () =>
    inTrouble(faulty(5, "request-lost")).pipe(Effect.provide(producer())))

  it.effect("whose leaders move stores each record once, in order", () =>
    inTrouble(faulty(20, "NOT_LEADER_OR_FOLLOWER")).pipe(Effect.provide(producer())))

  it.effect("that is down for a while stores each record once, in order", () =>
    inTrouble(Effect.gen(function*() {
      const broker = yield* InMemoryKafka.InMemoryBroker
      yield* Effect.fork(
        Effect.zipRight(
          Effect.zipRight(Effect.sleep("200 millis"), broker.kill()),
          Effect.zipRight(Effect.sleep("10 seconds"), broker.restart())
        )
      )
    })).pipe(Effect.provide(producer())))

  it.effect("that is down for too long fails what was not sent, in time", () =>
    Effect.gen(function*() {
      const broker = yield* InMemoryKafka.InMemoryBroker
      yield* Producer.send(Orders, { key: "a", value: "1" })
      yield* broker.kill()
      const sending = yield* Effect.fork(Effect.flip(Producer.send(Orders, { key: "a", value: "2" })))
      yield* TestClock.adjust("2 minutes")
      const error: KafkaError.KafkaError = yield* Fiber.join(sending)
      assert(error._tag === "ProducerError")
      assert.include(["timeout", "unknown-outcome"], error.reason)
    }).pipe(Effect.provide(producer())))
})

describe("opening", () => {
  it.effect("says which options contradict each other, all at once", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Effect.scoped(Producer.make({ acks: "leader", idempotent: true, batchSize: 100, bufferMemory: 10 }))
      )
      assert.include(String(error), "idempotent")
      assert.include(String(error), "batchSize")
    }).pipe(Effect.provide(kafka)))

  it.effect("fails where the cluster can not be reached", () =>
    Effect.gen(function*() {
      yield* Effect.flatMap(InMemoryKafka.InMemoryBroker, (broker) => broker.kill())
      const opening = yield* Effect.fork(Effect.flip(Effect.scoped(Producer.make())))
      yield* TestClock.adjust("1 minute")
      const error = yield* Fiber.join(opening)
      assert.include(["KafkaConnectionError", "KafkaTimeoutError"], "_tag" in error ? error._tag : error)
    }).pipe(Effect.provide(kafka)))

  it.effect("gives the driver what it was told", () =>
    Effect.gen(function*() {
      let given: KafkaClient.ProducerSessionOptions | undefined
      const client = yield* KafkaClient.KafkaClient
      const spying = Layer.succeed(KafkaClient.KafkaClient, {
        ...client,
        openProducer: (options) => {
          given = options
          return client.openProducer(options)
        }
      })
      yield* Effect.scoped(Layer.build(Layer.provide(
        Producer.layer({
          acks: "leader",
          clientId: "till-4",
          compression: "gzip",
          deliveryTimeout: "1 minute",
          requestTimeout: "5 seconds"
        }),
        spying
      )))
      assert.deepStrictEqual(given, {
        clientId: "till-4",
        acks: "leader",
        idempotent: false,
        compression: "gzip",
        transactionalId: undefined,
        transactionTimeout: 20_000,
        requestTimeout: 5000,
        deliveryTimeout: 60_000
      })
    }).pipe(Effect.provide(kafka)))
})
