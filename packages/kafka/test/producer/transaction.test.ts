import * as InMemoryKafka from "@coffeebuddy/kafka/InMemoryKafka"
import { CommitError, ProducerError, ProducerFencedError } from "@coffeebuddy/kafka/KafkaError"
import * as KafkaEvent from "@coffeebuddy/kafka/KafkaEvent"
import * as Producer from "@coffeebuddy/kafka/Producer"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { CurrentTransaction } from "../../src/engine/producer/transaction.ts"
import { Orders, producer as scripted, Script, timeout } from "./ScriptedSession.ts"
import { allValues, kafka, producer } from "./support.ts"

const transactional = { transactionalId: "tills" }
const record = (value: string) => ({ key: value, value })
const send = (value: string) => Producer.send(Orders, record(value))
const settled = TestClock.adjust(0)
const openTransactions = Effect.flatMap(InMemoryKafka.InMemoryBroker, (broker) => broker.openTransactions)

describe("a transaction", () => {
  it.effect("commits all records of its effect, and answers what the effect does", () =>
    Effect.gen(function*() {
      const answer = yield* Producer.transaction(
        Effect.all([send("a"), send("b"), Producer.sendAll(Orders, [record("c"), record("d")])]).pipe(
          Effect.as("done")
        )
      )
      assert.strictEqual(answer, "done")
      assert.deepStrictEqual(yield* allValues, ["a", "b", "c", "d"])
      assert.deepStrictEqual(yield* openTransactions, [])
    }).pipe(Effect.provide(producer(transactional))))

  it.effect("waits for what was enqueued, before it commits", () =>
    Effect.gen(function*() {
      yield* Producer.transaction(Producer.enqueueAll(Orders, [record("a"), record("b")]))
      assert.deepStrictEqual(yield* allValues, ["a", "b"])
    }).pipe(Effect.provide(producer({ ...transactional, linger: "1 hour", deliveryTimeout: "2 hours" }))))

  it.effect("whose effect fails leaves nothing", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Producer.transaction(Effect.zipRight(send("a"), Effect.fail("no milk"))))
      assert.strictEqual(error, "no milk")
      const defect = yield* Effect.exit(Producer.transaction(Effect.zipRight(send("b"), Effect.die("no beans"))))
      assert(Exit.isFailure(defect) && Cause.isDieType(defect.cause))
      assert.deepStrictEqual(yield* allValues, [])
      assert.deepStrictEqual(yield* openTransactions, [])
      yield* Producer.transaction(send("c"))
      assert.deepStrictEqual(yield* allValues, ["c"])
    }).pipe(Effect.provide(producer(transactional))))

  it.effect("goes on where the program handles what could not be sent, and may send something else instead", () =>
    Effect.gen(function*() {
      const circular: { self?: unknown } = {}
      circular.self = circular
      const Receipts = Topic.make("orders", { key: Serde.string, value: Serde.json(Schema.Unknown) })
      const unfit = {
        "too-large": Producer.sendAll(Orders, [record("b"), record("x".repeat(2000))]),
        SerializationError: Producer.send(Receipts, { key: "c", value: circular }),
        UnknownTopicError: Producer.enqueue(Orders, { ...record("d"), partition: 3 })
      }
      yield* Producer.transaction(Effect.gen(function*() {
        yield* send("a")
        for (const [reason, sent] of Object.entries(unfit)) {
          const error: Producer.ProduceError = yield* Effect.flip<unknown, Producer.ProduceError, Producer.Producer>(
            sent
          )
          assert.strictEqual(error._tag === "ProducerError" ? error.reason : error._tag, reason)
          yield* send(`instead: ${reason}`)
        }
      }))
      assert.deepStrictEqual(yield* allValues, [
        "a",
        "instead: SerializationError",
        "instead: UnknownTopicError",
        "instead: too-large"
      ])
    }).pipe(Effect.provide(producer({ ...transactional, maxRequestSize: 1000, batchSize: 1000 }))))

  it.effect("leaves nothing where the program does not handle what could not be sent", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Producer.transaction(Effect.zipRight(send("a"), send("x".repeat(2000)))))
      assert(error._tag === "ProducerError" && error.reason === "too-large")
      assert.deepStrictEqual(yield* allValues, [])
      assert.deepStrictEqual(yield* openTransactions, [])
    }).pipe(Effect.provide(producer({ ...transactional, maxRequestSize: 1000, batchSize: 1000 }))))

  it.effect("that is interrupted leaves nothing", () =>
    Effect.gen(function*() {
      const sent = yield* Deferred.make<void>()
      const running = yield* Effect.fork(
        Producer.transaction(Effect.all([send("a"), Deferred.succeed(sent, undefined), Effect.never]))
      )
      yield* Deferred.await(sent)
      yield* Fiber.interrupt(running)
      assert.deepStrictEqual(yield* allValues, [])
      yield* Producer.transaction(send("b"))
      assert.deepStrictEqual(yield* allValues, ["b"])
    }).pipe(Effect.provide(producer(transactional))))

  it.effect("covers the fibers of its effect, and not those that outlive it", () =>
    Effect.gen(function*() {
      const over = yield* Deferred.make<void>()
      const late = yield* Producer.transaction(
        Effect.gen(function*() {
          yield* Effect.all([send("a"), send("b")], { concurrency: "unbounded" })
          yield* Fiber.join(yield* Effect.fork(send("c")))
          return yield* Effect.forkDaemon(Effect.zipRight(Deferred.await(over), send("d")))
        })
      )
      yield* Deferred.succeed(over, undefined)
      const error = yield* Effect.flip(Fiber.join(late))
      assert(error._tag === "ProducerError")
      assert.strictEqual(error.reason, "invalid")
      assert.deepStrictEqual(yield* allValues, ["a", "b", "c"])
    }).pipe(Effect.provide(producer(transactional))))

  it.effect("is aborted where one of its records failed, even if the effect got over it", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const running = yield* Effect.fork(Producer.transaction(Effect.ignore(send("a"))))
      const refused = new ProducerError({ topic: "orders", reason: "refused", retriable: false, description: "" })
      yield* Effect.flatMap(script.request, (request) => request.fail("refuse", refused))
      assert.strictEqual(yield* Effect.flip(Fiber.join(running)), refused)
      assert.deepStrictEqual(script.calls, ["begin", "abort"])
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("is not concerned by a record that could not become one", () =>
    Effect.gen(function*() {
      yield* Producer.transaction(
        Effect.orElse(Producer.send(Orders, { ...record("a"), partition: -1 }), () => send("b"))
      )
      assert.deepStrictEqual(yield* allValues, ["b"])
    }).pipe(Effect.provide(producer(transactional))))

  it.effect("that is aborted takes back what was not sent, and waits for what was", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const fail = yield* Deferred.make<void>()
      const enqueued = yield* Deferred.make<ReadonlyArray<Effect.Effect<unknown, unknown>>>()
      const running = yield* Effect.fork(
        Producer.transaction(
          Effect.gen(function*() {
            const first = yield* Producer.enqueue(Orders, record("a"))
            yield* Deferred.await(fail)
            const second = yield* Producer.enqueue(Orders, record("b"))
            yield* Deferred.succeed(enqueued, [first, second])
            return yield* Effect.fail("no milk")
          })
        )
      )
      const request = yield* script.request
      yield* Deferred.succeed(fail, undefined)
      const [first, second] = yield* Deferred.await(enqueued)
      yield* settled
      assert.deepStrictEqual(script.calls, ["begin"])
      yield* request.store
      assert.strictEqual(yield* Effect.flip(Fiber.join(running)), "no milk")
      assert.deepStrictEqual(script.calls, ["begin", "abort"])
      assert.strictEqual(yield* script.waiting, 0)
      yield* first!
      const error = yield* Effect.flip(second!)
      assert(error instanceof ProducerError)
      assert.deepStrictEqual([error.reason, error.retriable], ["closed", true])
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("whose request outlives its records is aborted only when that request has ended", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const running = yield* Effect.fork(Producer.transaction(send("a")))
      const request = yield* script.request
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(script.calls, ["begin"])
      yield* request.store
      const error = yield* Effect.flip(Fiber.join(running))
      assert(error._tag === "ProducerError")
      assert.strictEqual(error.reason, "timeout")
      assert.deepStrictEqual(script.calls, ["begin", "abort"])
    }).pipe(Effect.provide(scripted({ ...transactional, requestTimeout: "1 second", deliveryTimeout: "2 seconds" }))))

  it.effect("whose request arrives after its records have had their time leaves nothing, and keeps no reader waiting", () =>
    Effect.gen(function*() {
      const broker = yield* InMemoryKafka.InMemoryBroker
      const slow = yield* broker.delay("produce", "10 seconds")
      const running = yield* Effect.fork(Producer.transaction(send("a")))
      yield* TestClock.adjust("5 seconds")
      yield* slow.disarm
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(Exit.isFailure(yield* Fiber.await(running)))
      yield* Producer.transaction(send("b"))
      assert.deepStrictEqual(yield* allValues, ["b"])
      assert.deepStrictEqual(yield* openTransactions, [])
    }).pipe(Effect.provide(producer({ ...transactional, requestTimeout: "1 second", deliveryTimeout: "2 seconds" }))))

  it.effect("is one at a time", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const gate = yield* Deferred.make<void>()
      const first = yield* Effect.fork(Producer.transaction(Deferred.await(gate)))
      const second = yield* Effect.fork(Producer.transaction(Effect.void))
      yield* settled
      assert.deepStrictEqual(script.calls, ["begin"])
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(first)
      yield* Fiber.join(second)
      assert.deepStrictEqual(script.calls, ["begin", "commit", "begin", "commit"])
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("inside another of the same producer is refused", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Producer.transaction(Effect.zipRight(send("a"), Producer.transaction(send("b"))))
      )
      assert(error._tag === "TransactionError")
      assert.strictEqual(error.reason, "nested")
      assert.deepStrictEqual(yield* allValues, [])
    }).pipe(Effect.provide(producer(transactional))))

  it.effect("inside one of another producer is that producer's own", () =>
    Effect.gen(function*() {
      const other = yield* Producer.make({ transactionalId: "other" })
      yield* Producer.transaction(
        Effect.gen(function*() {
          yield* send("a")
          yield* other.transaction(other.send(Orders, record("b")))
          const error = yield* Effect.flip(other.send(Orders, record("c")))
          assert(error._tag === "ProducerError" && error.reason === "invalid")
          return yield* Effect.fail("no milk")
        })
      ).pipe(Effect.ignore)
      assert.deepStrictEqual(yield* allValues, ["b"])
    }).pipe(Effect.scoped, Effect.provide(producer(transactional))))

  it.effect("inside one of another producer inside one of the same is still that one", () =>
    Effect.gen(function*() {
      const other = yield* Producer.make({ transactionalId: "other" })
      yield* Producer.transaction(other.transaction(Effect.zipRight(other.send(Orders, record("a")), send("b"))))
      assert.deepStrictEqual(yield* allValues, ["a", "b"])
      const error = yield* Effect.flip(Producer.transaction(other.transaction(Producer.transaction(send("c")))))
      assert(error._tag === "TransactionError")
      assert.strictEqual(error.reason, "nested")
    }).pipe(Effect.scoped, Effect.provide(producer(transactional))))

  it.effect("needs a transactional id, and with one there are no records outside", () =>
    Effect.gen(function*() {
      const plain = yield* Producer.make()
      const error = yield* Effect.flip(plain.transaction(Effect.void))
      assert(error._tag === "TransactionError")
      assert.strictEqual(error.reason, "not-transactional")
      for (
        const outside of [
          Effect.flip(send("a")),
          Effect.flip(Producer.sendAll(Orders, [record("a")])),
          Effect.flip(Producer.enqueue(Orders, record("a")))
        ]
      ) {
        const error = yield* outside
        assert(error._tag === "ProducerError")
        assert.strictEqual(error.reason, "invalid")
      }
      assert.deepStrictEqual(yield* allValues, [])
    }).pipe(Effect.scoped, Effect.provide(producer(transactional))))
})

describe("what can go wrong with a transaction", () => {
  it.effect("it can not begin", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.failCall("begin", timeout)
      let ran = false
      assert.strictEqual(yield* Effect.flip(Producer.transaction(Effect.sync(() => ran = true))), timeout)
      assert.isFalse(ran)
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("it can not be committed, and is aborted", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.failCall("commit", timeout)
      assert.strictEqual(yield* Effect.flip(Producer.transaction(Effect.void)), timeout)
      assert.deepStrictEqual(script.calls, ["begin", "commit", "abort"])
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("it can not be aborted either, and both are told", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.failCall("abort", timeout)
      const exit = yield* Effect.exit(Producer.transaction(Effect.fail("no milk")))
      assert(Exit.isFailure(exit))
      assert.deepStrictEqual([...Cause.failures(exit.cause)], ["no milk", timeout])
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("another producer takes over: this one never sends again", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        Producer.transaction(
          Effect.zipRight(send("a"), Effect.scoped(Producer.make(transactional)))
        )
      )
      assert.strictEqual(error._tag, "ProducerFencedError")
      assert.strictEqual((yield* Effect.flip(Producer.transaction(send("b"))))._tag, "ProducerFencedError")
      assert.deepStrictEqual(yield* allValues, [])
    }).pipe(Effect.provide(producer(transactional))))

  it.effect("its producer is closed before its effect has ended: nothing of it is left, and it says so", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const till = yield* Scope.extend(Producer.make(transactional), scope)
      const sent = yield* Deferred.make<void>()
      const closed = yield* Deferred.make<void>()
      const running = yield* Effect.fork(
        till.transaction(
          till.send(Orders, record("a")).pipe(
            Effect.zipRight(Deferred.succeed(sent, undefined)),
            Effect.zipRight(Deferred.await(closed))
          )
        )
      )
      yield* Deferred.await(sent)
      const next = yield* Effect.fork(till.transaction(till.send(Orders, record("b"))))
      yield* settled
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* openTransactions, [])
      yield* Deferred.succeed(closed, undefined)
      for (const ended of [Fiber.await(running), Fiber.await(next)]) {
        const exit: Exit.Exit<unknown, unknown> = yield* ended
        assert(Exit.isFailure(exit) && exit.cause._tag === "Fail" && exit.cause.error instanceof ProducerError)
        assert.strictEqual(exit.cause.error.reason, "closed")
      }
      assert.deepStrictEqual(yield* allValues, [])
    }).pipe(Effect.provide(kafka)))

  it.effect("its producer is closed while it is committed: that is waited for", () =>
    Effect.gen(function*() {
      const broker = yield* InMemoryKafka.InMemoryBroker
      const scope = yield* Scope.make()
      const till = yield* Scope.extend(Producer.make(transactional), scope)
      yield* broker.delay("end-txn", "1 second")
      const running = yield* Effect.fork(till.transaction(till.send(Orders, record("a"))))
      yield* TestClock.adjust("500 millis")
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("500 millis")
      yield* Fiber.join(closing)
      yield* Fiber.join(running)
      assert.deepStrictEqual(yield* allValues, ["a"])
    }).pipe(Effect.provide(kafka)))

  it.effect("it takes longer than the broker allows: it says so, and that it is not the work of another producer", () =>
    Effect.gen(function*() {
      for (const late of [Effect.void, send("b")]) {
        const running = yield* Effect.fork(
          Effect.scoped(Effect.flatMap(
            Producer.make({ ...transactional, transactionTimeout: "20 seconds" }),
            (producer) =>
              producer.transaction(
                producer.send(Orders, record("a")).pipe(
                  Effect.zipRight(Effect.sleep("30 seconds")),
                  Effect.zipRight(Effect.provideService(late, Producer.Producer, producer))
                )
              )
          ))
        )
        yield* TestClock.adjust("40 seconds")
        const error = yield* Effect.flip(Fiber.join(running))
        assert(error._tag === "TransactionError")
        assert.deepStrictEqual([error.reason, error.transactionTimeout], ["timed-out", 20_000])
        assert.include(error.message, "raise transactionTimeout")
        assert.instanceOf(error.cause, ProducerFencedError)
      }
      assert.deepStrictEqual(yield* allValues, [])
      assert.deepStrictEqual(yield* openTransactions, [])
    }).pipe(Effect.provide(kafka)))

  it.effect("one whose commit is in doubt is not said to have timed out, which would say that it is not committed", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const doubt = new ProducerError({ topic: "", reason: "unknown-outcome", retriable: false, description: "lost" })
      script.failCall("commit", doubt)
      script.failCall("abort", new ProducerFencedError({ transactionalId: "tills" }))
      const running = yield* Effect.fork(Effect.flip(Producer.transaction(Effect.sleep("1 hour"))))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* Fiber.join(running), doubt)
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("fenced at its commit: what waits fails, and everything later", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const fenced = new ProducerFencedError({ transactionalId: "tills" })
      script.failCall("commit", fenced)
      script.failCall("abort", fenced)
      const failed = yield* Effect.exit(Producer.transaction(Effect.void))
      assert(Exit.isFailure(failed))
      assert.isTrue([...Cause.failures(failed.cause)].every((error) => error === fenced))
      assert.strictEqual(yield* Effect.flip(Producer.transaction(Effect.void)), fenced)
    }).pipe(Effect.provide(scripted(transactional))))
})

describe("offsets in a transaction", () => {
  const offsets = [{ topic: "teas", partition: 0, offset: 42n }]
  const group = { groupId: "brewers", memberId: "m", generation: 3 }
  const sendOffsets = Effect.flatMap(CurrentTransaction, (transaction) => transaction!.sendOffsets(offsets, group))

  it.effect("are sent through it", () =>
    Effect.gen(function*() {
      const script = yield* Script
      yield* Producer.transaction(sendOffsets)
      assert.deepStrictEqual(script.calls, ["begin", "sendOffsets", "brewers: 42", "commit"])
      assert.isUndefined(yield* CurrentTransaction)
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("that are refused leave it only to be aborted", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.failCall("sendOffsets", timeout)
      assert.strictEqual(yield* Effect.flip(Producer.transaction(Effect.ignore(sendOffsets))), timeout)
      assert.deepStrictEqual(script.calls, ["begin", "sendOffsets", "abort"])
    }).pipe(Effect.provide(scripted(transactional))))

  it.effect("can not be sent after it", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const ended = yield* Producer.transaction(CurrentTransaction)
      const error: unknown = yield* Effect.flip(ended!.sendOffsets(offsets, group))
      assert(error instanceof ProducerError || error instanceof CommitError)
      assert.deepStrictEqual(script.calls, ["begin", "commit"])
    }).pipe(Effect.provide(scripted(transactional))))
})

it.effect("the observer hears how a transaction ended", () => {
  const events: Array<KafkaEvent.KafkaEvent> = []
  const observer = Layer.succeed(KafkaEvent.KafkaObserver, {
    enabled: true,
    onEvent: (event) => void events.push(event)
  })
  return Effect.gen(function*() {
    const taking = (millis: number) => Effect.zipRight(Effect.sleep(millis), Effect.void)
    const first = yield* Effect.fork(Producer.transaction(taking(30)))
    yield* TestClock.adjust(30)
    yield* Fiber.join(first)
    yield* Effect.exit(Producer.transaction(Effect.interrupt))
    const about = { _tag: "TransactionEnded", transactionalId: "tills" } as const
    assert.deepStrictEqual(events.filter(({ _tag }) => _tag === "TransactionEnded"), [
      { ...about, outcome: "committed", millis: 30 },
      { ...about, outcome: "aborted", millis: 0 }
    ])
  }).pipe(Effect.provide(Layer.provide(producer(transactional), observer)), Effect.provide(kafka))
})
