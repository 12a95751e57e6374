import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import type { BatchResult, ProducerSession } from "../../src/KafkaClient.ts"
import { batch, consumerOptions, producerOptions, record, settle, setup, values } from "./fixtures.ts"

const outcome = (result: BatchResult | undefined): string =>
  result === undefined
    ? "nothing"
    : result._tag === "Stored"
    ? `stored at ${result.baseOffset}`
    : `${result.outcome}: ${result.error._tag}`

const sendOne = (producer: ProducerSession, ...values: ReadonlyArray<string>) =>
  Effect.map(producer.send([batch(0, ...values)]), ([result]) => outcome(result))

describe("a producer", () => {
  it.scoped("an answer that is lost does not make an idempotent producer store anything twice", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer(producerOptions)
      const lost = yield* broker.failNext("produce", 2, "response-lost")
      const sending = yield* Effect.fork(sendOne(producer, "a", "b"))
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* Fiber.join(sending), "stored at 0")
      assert.strictEqual(yield* lost.fired, 2)
      assert.strictEqual(yield* sendOne(producer, "c"), "stored at 2")
      assert.deepStrictEqual(yield* values(broker), ["a", "b", "c"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("one that is not idempotent says that it does not know", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...producerOptions, idempotent: false })
      yield* broker.failNext("produce", 1, "response-lost")
      assert.strictEqual(yield* sendOne(producer, "a"), "unknown: KafkaConnectionError")
      yield* broker.failNext("produce", 1, "request-lost")
      assert.strictEqual(yield* sendOne(producer, "b"), "unknown: KafkaConnectionError")
      assert.deepStrictEqual(yield* values(broker), ["a"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("what was certainly not stored is tried again, and after the delivery timeout may be sent again", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...producerOptions, deliveryTimeout: 5000 })
      yield* broker.failNext("produce", 3, "NOT_LEADER_OR_FOLLOWER")
      const sending = yield* Effect.fork(sendOne(producer, "a"))
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* Fiber.join(sending), "stored at 0")
      yield* broker.failNext("produce", 100, "connection-refused")
      const failing = yield* Effect.fork(sendOne(producer, "b"))
      yield* TestClock.adjust(5000)
      assert.strictEqual(yield* Fiber.join(failing), "retry: KafkaConnectionError")
      assert.deepStrictEqual(yield* values(broker), ["a"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("after an unknown outcome it goes on under a new identity, and nothing is refused as out of order", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...producerOptions, deliveryTimeout: 0 })
      yield* broker.failNext("produce", 1, "response-lost")
      assert.strictEqual(yield* sendOne(producer, "a"), "unknown: KafkaConnectionError")
      assert.strictEqual(yield* sendOne(producer, "b"), "stored at 1")
      assert.deepStrictEqual(yield* values(broker), ["a", "b"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("what is slow counts as lost after the request timeout, and arrives all the same", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...producerOptions, requestTimeout: 1000 })
      const slow = yield* broker.delay("produce", "3 seconds")
      const sending = yield* Effect.fork(sendOne(producer, "a"))
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* slow.disarm, 1)
      yield* TestClock.adjust(2500)
      assert.strictEqual(yield* Fiber.join(sending), "stored at 0")
      assert.deepStrictEqual(yield* values(broker), ["a"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("one batch that is refused does not touch the others of its request", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2, { config: { "max.message.bytes": "1000" } })
      const producer = yield* client.openProducer(producerOptions)
      const results = yield* producer.send([
        batch(0, "a"),
        batch(1, "x".repeat(1000)),
        batch(7, "b"),
        { topic: "nowhere", partition: 0, records: [record("c")] }
      ])
      assert.deepStrictEqual(results.map(outcome), [
        "stored at 0",
        "refuse: ProducerError",
        "refuse: UnknownTopicError",
        "refuse: UnknownTopicError"
      ])
      const large = results[1]?._tag === "Failed" ? results[1].error : undefined
      assert.strictEqual(large?._tag === "ProducerError" && large.reason, "too-large")
      yield* broker.deny("topic", "t")
      assert.strictEqual(yield* sendOne(producer, "d"), "refuse: KafkaAuthorizationError")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("LogAppendTime is the broker's clock, and the producer is told", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(1, { config: { "message.timestamp.type": "LogAppendTime" } })
      yield* TestClock.adjust(5000)
      const producer = yield* client.openProducer(producerOptions)
      const results = yield* producer.send([batch(0, "a")])
      assert.deepStrictEqual(results, [{ _tag: "Stored", baseOffset: 0n, logAppendTime: 5000n }])
      assert.strictEqual((yield* broker.log({ topic: "t", partition: 0 }))[0]!.timestamp, 5000n)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("with too few replicas in sync, acks=all waits for them and acks=leader does not", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(1, {
        replicationFactor: 2,
        config: { "min.insync.replicas": "2" }
      })
      const all = yield* client.openProducer(producerOptions)
      const leader = yield* client.openProducer({ ...producerOptions, idempotent: false, acks: "leader" })
      yield* broker.kill(0)
      const sending = yield* Effect.fork(sendOne(all, "a"))
      yield* TestClock.adjust(3000)
      assert.strictEqual(yield* sendOne(leader, "b"), "stored at 0")
      yield* broker.restart(0)
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* Fiber.join(sending), "stored at 1")
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ brokers: 2 }))))

  it.scoped("each leader fails for itself", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup(2)
      const producer = yield* client.openProducer({ ...producerOptions, deliveryTimeout: 0 })
      yield* broker.kill(1)
      const results = yield* producer.send([batch(0, "a"), batch(1, "b")])
      assert.deepStrictEqual(results.map(outcome), ["stored at 0", "retry: ProducerError"])
    }).pipe(Effect.provide(InMemoryKafka.layerWith({ brokers: 2 }))))

  it.scoped("without an acknowledgement asked for, nothing is known and nothing fails", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...producerOptions, idempotent: false, acks: "none" })
      yield* broker.failNext("produce", 1, "request-lost")
      assert.strictEqual(yield* sendOne(producer, "a"), "stored at -1")
      assert.strictEqual(yield* sendOne(producer, "b"), "stored at -1")
      assert.deepStrictEqual(yield* values(broker), ["b"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a cluster that is not there is a typed failure within the connection timeout", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      yield* broker.kill()
      const opening = yield* Effect.fork(Effect.flip(Effect.scoped(client.openProducer(producerOptions))))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(opening))._tag, "KafkaConnectionError")
    }).pipe(Effect.provide(InMemoryKafka.layer)))
})

describe("a transaction", () => {
  const transactional = { ...producerOptions, transactionalId: "tx" }

  it.scoped("is read when it is committed, and never when it is aborted", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer(transactional)
      yield* producer.begin
      yield* producer.send([batch(0, "a")])
      yield* producer.abort
      yield* producer.begin
      yield* producer.send([batch(0, "b")])
      assert.deepStrictEqual(yield* broker.openTransactions, ["tx"])
      yield* producer.commit
      assert.deepStrictEqual(yield* values(broker), ["a", "[abort]", "b", "[commit]"])
      assert.deepStrictEqual(yield* broker.openTransactions, [])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("one in which nothing was sent leaves no trace", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer(transactional)
      yield* producer.begin
      yield* producer.commit
      yield* producer.begin
      yield* producer.abort
      assert.deepStrictEqual(yield* values(broker), [])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("outside of one nothing can be sent, and there is none in another", () =>
    Effect.gen(function*() {
      const { client } = yield* setup()
      const producer = yield* client.openProducer(transactional)
      assert.strictEqual(yield* sendOne(producer, "a"), "refuse: ProducerError")
      yield* producer.begin
      assert.strictEqual((yield* Effect.flip(producer.begin))._tag, "ProducerError")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a newer producer of the same id aborts what the older one left, and fences it", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const older = yield* client.openProducer(transactional)
      yield* older.begin
      yield* older.send([batch(0, "a")])
      const newer = yield* client.openProducer(transactional)
      assert.deepStrictEqual(yield* values(broker), ["a", "[abort]"])
      assert.strictEqual(yield* sendOne(older, "b"), "refuse: ProducerFencedError")
      assert.strictEqual((yield* Effect.flip(older.commit))._tag, "ProducerFencedError")
      yield* newer.begin
      yield* newer.send([batch(0, "c")])
      yield* newer.commit
      assert.deepStrictEqual(yield* values(broker), ["a", "[abort]", "c", "[commit]"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("is aborted and its producer fenced when it takes longer than its timeout", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...transactional, transactionTimeout: 10_000 })
      yield* producer.begin
      yield* producer.send([batch(0, "a")])
      yield* TestClock.adjust(9999)
      assert.deepStrictEqual(yield* values(broker), ["a"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* values(broker), ["a", "[abort]"])
      assert.strictEqual((yield* Effect.flip(producer.commit))._tag, "ProducerFencedError")
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a commit whose answer is lost is committed once", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer(transactional)
      yield* producer.begin
      yield* producer.send([batch(0, "a")])
      yield* broker.failNext("end-txn", 2, "response-lost")
      const committing = yield* Effect.fork(producer.commit)
      yield* TestClock.adjust(1000)
      yield* Fiber.join(committing)
      assert.deepStrictEqual(yield* values(broker), ["a", "[commit]"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("with a batch of unknown outcome it can only be aborted, and the next one works", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...transactional, deliveryTimeout: 0 })
      yield* producer.begin
      yield* broker.failNext("produce", 1, "response-lost")
      assert.strictEqual(yield* sendOne(producer, "a"), "unknown: KafkaConnectionError")
      assert.strictEqual((yield* Effect.flip(producer.commit))._tag, "ProducerError")
      yield* producer.abort
      yield* producer.begin
      assert.strictEqual(yield* sendOne(producer, "b"), "stored at 2")
      yield* producer.commit
      assert.deepStrictEqual(yield* values(broker), ["a", "[abort]", "b", "[commit]"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("one whose end nobody answered is aborted before the next begins", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const producer = yield* client.openProducer({ ...transactional, deliveryTimeout: 1000 })
      yield* producer.begin
      yield* producer.send([batch(0, "a")])
      const lost = yield* broker.failNext("end-txn", 100, "request-lost")
      const committing = yield* Effect.fork(Effect.flip(producer.commit))
      yield* TestClock.adjust(1000)
      assert.strictEqual((yield* Fiber.join(committing))._tag, "KafkaConnectionError")
      yield* lost.disarm
      yield* producer.begin
      yield* producer.send([batch(0, "b")])
      yield* producer.commit
      assert.deepStrictEqual(yield* values(broker), ["a", "[abort]", "b", "[commit]"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("is aborted when its producer is closed", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      yield* Effect.scoped(Effect.gen(function*() {
        const producer = yield* client.openProducer(transactional)
        yield* producer.begin
        yield* producer.send([batch(0, "a")])
      }))
      assert.deepStrictEqual(yield* values(broker), ["a", "[abort]"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("one that can not be aborted does not hold up the end of its producer for long", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const closing = yield* Effect.fork(Effect.scoped(Effect.gen(function*() {
        const producer = yield* client.openProducer(transactional)
        yield* producer.begin
        yield* producer.send([batch(0, "a")])
        yield* broker.kill()
      })))
      yield* TestClock.adjust("5 seconds")
      assert.isNotNull(closing.unsafePoll())
      yield* broker.restart()
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* values(broker), ["a", "[abort]"])
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("its offsets count when it is committed, are waited for until then, and forgotten when it is aborted", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const group = { groupId: "group", memberId: "", generation: -1 }
      const producer = yield* client.openProducer(transactional)
      const consumer = yield* client.openConsumer({
        ...consumerOptions,
        callbacks: {
          onAssigned: () => Effect.succeed(new Map()),
          onRevoked: () => Effect.void,
          onLost: () => Effect.void,
          onNotice: () => {}
        }
      })
      const committed = Effect.map(
        consumer.committed([{ topic: "t", partition: 0 }]),
        (offsets) => offsets.get("t:0")?.offset
      )
      yield* producer.begin
      yield* producer.sendOffsets([{ topic: "t", partition: 0, offset: 5n }], group)
      const waiting = yield* Effect.fork(committed)
      yield* settle
      assert.deepStrictEqual(yield* broker.committed("group"), [])
      yield* producer.commit
      yield* TestClock.adjust(1000)
      assert.strictEqual(yield* Fiber.join(waiting), 5n)
      yield* producer.begin
      yield* producer.sendOffsets([{ topic: "t", partition: 0, offset: 9n }], group)
      yield* producer.abort
      assert.strictEqual(yield* committed, 5n)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("its offsets are refused from a member that is none, or of an earlier generation", () =>
    Effect.gen(function*() {
      const { broker, client } = yield* setup()
      const member = yield* broker.join("group", ["t"])
      yield* settle
      const memberId = (yield* member.memberId)!
      const { generation } = (yield* broker.group("group"))!
      const producer = yield* client.openProducer(transactional)
      yield* producer.begin
      const send = (memberId: string, generation: number) =>
        producer.sendOffsets([{ topic: "t", partition: 0, offset: 1n }], { groupId: "group", memberId, generation })
      const stranger = yield* Effect.flip(send("stranger", generation))
      assert.strictEqual(stranger._tag === "CommitError" && stranger.reason, "fenced")
      const stale = yield* Effect.flip(send(memberId, generation - 1))
      assert.strictEqual(stale._tag === "CommitError" && stale.reason, "stale")
      yield* send(memberId, generation)
      yield* producer.commit
      assert.strictEqual((yield* broker.committed("group"))[0]!.offset, 1n)
    }).pipe(Effect.provide(InMemoryKafka.layer)))

  it.scoped("a timeout that the broker does not allow is refused", () =>
    Effect.gen(function*() {
      const { client } = yield* setup()
      const error = yield* Effect.flip(client.openProducer({ ...transactional, transactionTimeout: 900_001 }))
      assert.strictEqual(error._tag === "KafkaRequestError" && error.code, "INVALID_TRANSACTION_TIMEOUT")
    }).pipe(Effect.provide(InMemoryKafka.layer)))
})
