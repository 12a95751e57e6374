import {
  KafkaConnectionError,
  ProducerError,
  ProducerFencedError,
  UnknownTopicError
} from "@coffeebuddy/kafka/KafkaError"
import * as KafkaEvent from "@coffeebuddy/kafka/KafkaEvent"
import * as Producer from "@coffeebuddy/kafka/Producer"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { Orders, producer, Script, timeout } from "./ScriptedSession.ts"

const send = (value: string, partition = 0) => Producer.send(Orders, { key: null, value, partition })
const forkAll = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.forEach(effects, (effect) => Effect.tap(Effect.fork(effect), () => Effect.yieldNow()))
/** Lets every fiber go on as far as it can without time. */
const settled = TestClock.adjust(0)
const reasonOf = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit) && exit.cause._tag === "Fail" && exit.cause.error instanceof ProducerError
    ? exit.cause.error.reason
    : exit._tag

describe("coalescing", () => {
  it.effect("a lone record goes at once, and what comes meanwhile goes together, in order", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const [first] = yield* forkAll([send("a")])
      const request = yield* script.request
      assert.deepStrictEqual(request.values, [["a"]])
      const others = yield* forkAll(["b", "c", "d"].map((value) => send(value)))
      assert.strictEqual(yield* script.waiting, 0)
      yield* request.answer([{ _tag: "Stored", baseOffset: 41n }])
      assert.deepInclude(yield* Fiber.join(first!), { topic: "orders", partition: 0, offset: 41n })
      const next = yield* script.request
      assert.deepStrictEqual(next.values, [["b", "c", "d"]])
      yield* next.answer([{ _tag: "Stored", baseOffset: 42n }])
      const metadata = yield* Effect.forEach(others, (fiber) => Fiber.join(fiber))
      assert.deepStrictEqual(metadata.map(({ offset }) => offset), [42n, 43n, 44n])
    }).pipe(Effect.provide(producer())))

  it.effect("with a linger a record waits for company, unless its batch is full or somebody flushes", () =>
    Effect.gen(function*() {
      const script = yield* Script
      yield* forkAll([send("a")])
      yield* TestClock.adjust("49 millis")
      yield* forkAll([send("b")])
      assert.strictEqual(yield* script.waiting, 0)
      yield* TestClock.adjust("1 millis")
      const both = yield* script.request
      assert.deepStrictEqual(both.values, [["a", "b"]])
      yield* both.store
      yield* forkAll([send("c".repeat(900)), send("d".repeat(900))])
      const full = yield* script.request
      assert.deepStrictEqual(full.values, [["c".repeat(900)]])
      yield* full.store
      const flushing = yield* Effect.fork(Producer.flush)
      const hurried = yield* script.request
      assert.deepStrictEqual(hurried.values, [["d".repeat(900)]])
      assert.isNull(flushing.unsafePoll())
      yield* hurried.store
      yield* Fiber.join(flushing)
    }).pipe(Effect.provide(producer({ linger: "50 millis", batchSize: 1000 }))))

  it.effect("a driver that may have several requests under way gets several, one for each partition at a time", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.partitions(3)
      const [a0] = yield* forkAll([send("a0", 0)])
      const first = yield* script.request
      const [a1] = yield* forkAll([send("a1", 1)])
      const second = yield* script.request
      assert.deepStrictEqual([first.values, second.values], [[["a0"]], [["a1"]]])
      const fibers = [a0!, a1!, ...yield* forkAll([send("b0", 0), send("b1", 1)])]
      assert.strictEqual(yield* script.waiting, 0)
      yield* second.store
      const third = yield* script.request
      assert.deepStrictEqual(third.values, [["b1"]])
      yield* first.store
      yield* third.store
      yield* Effect.flatMap(script.request, (request) => request.store)
      yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
    }).pipe(Effect.provide(producer({}, { maxInFlight: 2 }))))
})

describe("what stands in for a producer", () => {
  it.effect("is asked, whatever of the real one it is made of", () =>
    Effect.gen(function*() {
      const real = yield* Producer.Producer
      const spied: Array<unknown> = []
      const spy: Producer.Service = {
        ...real,
        send: (topic, record) => {
          spied.push(record.value)
          return real.send(topic, record)
        }
      }
      const fiber = yield* Effect.fork(Effect.provideService(send("a"), Producer.Producer, spy))
      const script = yield* Script
      yield* Effect.flatMap(script.request, (request) => request.store)
      assert.deepStrictEqual(yield* Fiber.join(fiber), { topic: "orders", partition: 0, offset: 0n, timestamp: 0n })
      assert.deepStrictEqual(spied, ["a"])
    }).pipe(Effect.provide(producer())))
})

describe("each caller its own result", () => {
  it.effect("a record the broker finds too large does not fail those it was sent with", () =>
    Effect.gen(function*() {
      const script = yield* Script
      yield* forkAll([send("first")])
      const first = yield* script.request
      const fibers = yield* forkAll(["a", "b", "large", "c"].map((value) => send(value)))
      yield* first.store
      const tooLarge = new ProducerError({ topic: "orders", reason: "too-large", retriable: false, description: "" })
      const stored: Array<string> = []
      for (let open = 4; open > 0;) {
        const request = yield* script.request
        const values = request.values[0]!
        if (values.includes("large")) {
          if (values.length === 1) open--
          yield* request.fail("refuse", tooLarge)
        } else {
          yield* request.answer([{ _tag: "Stored", baseOffset: BigInt(stored.length) }])
          stored.push(...values)
          open -= values.length
        }
      }
      assert.deepStrictEqual(stored, ["a", "b", "c"])
      const exits = yield* Effect.forEach(fibers, (fiber) => Fiber.await(fiber))
      assert.deepStrictEqual(exits.map(reasonOf), ["Success", "Success", "too-large", "Success"])
    }).pipe(Effect.provide(producer())))

  it.effect("a partition that fails does not fail the others in its request", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.partitions(2)
      yield* forkAll([send("first")])
      const first = yield* script.request
      const [a, b] = yield* forkAll([send("a", 0), send("b", 1)])
      yield* first.store
      const request = yield* script.request
      const unknown = new UnknownTopicError({ operation: "produce", topic: "orders" })
      yield* request.answer(request.batches.map(({ partition }) =>
        partition === 1
          ? { _tag: "Stored", baseOffset: 5n }
          : { _tag: "Failed", outcome: "refuse", error: unknown }
      ))
      assert.strictEqual(yield* Effect.flip(Fiber.join(a!)), unknown)
      assert.strictEqual((yield* Fiber.join(b!)).offset, 5n)
    }).pipe(Effect.provide(producer())))

  it.effect("sendAll says which records were not stored, and the others are", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.partitions(2)
      const sending = yield* Effect.fork(
        Producer.sendAll(Orders, ["a", "b", "c", "d"].map((value, i) => ({ key: null, value, partition: i % 2 })))
      )
      const request = yield* script.request
      assert.deepStrictEqual(request.values, [["a", "c"], ["b", "d"]])
      yield* request.answer([
        { _tag: "Stored", baseOffset: 0n },
        { _tag: "Failed", outcome: "refuse", error: new UnknownTopicError({ operation: "produce", topic: "orders" }) }
      ])
      const error = yield* Effect.flip(Fiber.join(sending))
      assert(error._tag === "ProducerError")
      assert.deepStrictEqual([error.reason, error.records], ["refused", [1, 3]])
      assert(error.cause instanceof UnknownTopicError)
    }).pipe(Effect.provide(producer())))

  it.effect("sendAll with a record that is too large sends nothing, and says which", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const large = "x".repeat(2000)
      const error = yield* Effect.flip(
        Producer.sendAll(Orders, ["a", large, "b", large].map((value) => ({ key: null, value })))
      )
      assert(error._tag === "ProducerError")
      assert.deepStrictEqual([error.reason, error.retriable, error.records], ["too-large", false, [1, 3]])
      yield* settled
      assert.strictEqual(yield* script.waiting, 0)
    }).pipe(Effect.provide(producer({ maxRequestSize: 1000 }))))

  it.effect("sendAll with a record that can not become one says which", () =>
    Effect.gen(function*() {
      const fit = { key: null, value: "a" }
      const half = yield* Effect.flip(Producer.sendAll(Orders, [fit, fit, { key: null, value: "\ud83d" }]))
      assert(half._tag === "SerializationError")
      assert.deepStrictEqual(half.records, [2])
      const early = yield* Effect.flip(Producer.sendAll(Orders, [fit, { ...fit, timestamp: -1n }]))
      assert(early._tag === "ProducerError")
      assert.deepStrictEqual([early.reason, early.records], ["invalid", [1]])
      const alone = yield* Effect.flip(Producer.send(Orders, { key: null, value: "\ud83d" }))
      assert(alone._tag === "SerializationError")
      assert.isUndefined(alone.records)
    }).pipe(Effect.provide(producer())))
})

describe("retries", () => {
  it.effect("what was certainly not stored is sent again first, while other partitions go on", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.partitions(2)
      const [a] = yield* forkAll([send("a", 0)])
      yield* Effect.flatMap(script.request, (request) => request.fail("retry"))
      const [b, other] = yield* forkAll([send("b", 0), send("other", 1)])
      const beside = yield* script.request
      assert.deepStrictEqual(beside.values, [["other"]])
      yield* beside.store
      yield* Fiber.join(other!)
      assert.strictEqual(yield* script.waiting, 0)
      yield* TestClock.adjust("200 millis")
      const again = yield* script.request
      assert.deepStrictEqual(again.values, [["a"]])
      yield* again.store
      const after = yield* script.request
      assert.deepStrictEqual(after.values, [["b"]])
      yield* after.store
      yield* Fiber.join(a!)
      yield* Fiber.join(b!)
    }).pipe(Effect.provide(producer())))

  it.effect("they end with the delivery timeout, and the error has the last reason", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const sending = yield* Effect.fork(send("a"))
      yield* Effect.fork(Effect.forever(Effect.flatMap(script.request, (request) => request.fail("retry"))))
      yield* TestClock.adjust("9999 millis")
      assert.isNull(sending.unsafePoll())
      yield* TestClock.adjust("1 millis")
      const error = yield* Effect.flip(Fiber.join(sending))
      assert(error._tag === "ProducerError")
      assert.deepStrictEqual([error.reason, error.retriable, error.cause], ["timeout", true, timeout])
    }).pipe(Effect.provide(producer({ deliveryTimeout: "10 seconds" }))))

  it.effect("what may have been stored is not sent again", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const sending = yield* Effect.fork(send("a"))
      yield* Effect.flatMap(script.request, (request) => request.fail("unknown"))
      const error = yield* Effect.flip(Fiber.join(sending))
      assert(error._tag === "ProducerError")
      assert.deepStrictEqual([error.reason, error.retriable, error.cause], ["unknown-outcome", false, timeout])
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* script.waiting, 0)
    }).pipe(Effect.provide(producer())))

  it.effect("unless the producer may store it twice", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const sending = yield* Effect.fork(send("a"))
      yield* Effect.flatMap(script.request, (request) => request.fail("unknown"))
      yield* TestClock.adjust("1 second")
      yield* Effect.flatMap(script.request, (request) => request.store)
      yield* Fiber.join(sending)
    }).pipe(Effect.provide(producer({ onUnknownOutcome: "resend" }))))
})

describe("bounds", () => {
  const large = "x".repeat(500)
  const small = { bufferMemory: 1300, maxRequestSize: 700, deliveryTimeout: "10 seconds" } as const

  it.effect("a send waits for room in the buffer, first come first served", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const fibers = yield* forkAll(["1", "2", "3", "4"].map((id) => send(large + id)))
      for (const id of ["1", "2", "3", "4"]) {
        const request = yield* script.request
        assert.deepStrictEqual(request.values, [[large + id]])
        yield* request.store
      }
      yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
    }).pipe(Effect.provide(producer(small))))

  it.effect("a send that finds no room in time fails, and was not sent", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const fibers = yield* forkAll(["1", "2", "3"].map((id) => send(large + id)))
      const request = yield* script.request
      yield* TestClock.adjust("10 seconds")
      const errors = yield* Effect.forEach(fibers, (fiber) => Effect.flip(Fiber.join(fiber)))
      assert.deepStrictEqual(
        errors.map((error) => error._tag === "ProducerError" && [error.reason, error.retriable]),
        [["timeout", false], ["timeout", true], ["timeout", true]]
      )
      yield* request.store
      yield* settled
      assert.strictEqual(yield* script.waiting, 0)
    }).pipe(Effect.provide(producer(small))))

  it.effect("where it is asked for, a full buffer is an error at once", () =>
    Effect.gen(function*() {
      const script = yield* Script
      yield* forkAll(["1", "2"].map((id) => send(large + id)))
      const first = yield* script.request
      const error = yield* Effect.flip(send(large))
      assert(error._tag === "BufferFullError")
      assert.strictEqual(error.limitBytes, 1300)
      const all = yield* Effect.flip(Producer.sendAll(Orders, [{ key: null, value: large }]))
      assert.strictEqual(all._tag, "BufferFullError")
      yield* first.store
      const second = yield* script.request
      assert.deepStrictEqual(second.values, [[`${large}2`]])
      yield* forkAll([send("again")])
      yield* second.store
      assert.deepStrictEqual((yield* script.request).values, [["again"]])
    }).pipe(Effect.provide(producer({ ...small, onBufferFull: "fail" }))))

  it.effect("sendAll may be given more than the buffer holds", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const values = Array.from({ length: 20 }, (_, i) => large + i)
      const sending = yield* Effect.fork(
        Producer.sendAll(Orders, values.map((value) => ({ key: null, value, partition: 0 })))
      )
      const seen: Array<string> = []
      while (seen.length < 20) {
        const request = yield* script.request
        yield* request.answer([{ _tag: "Stored", baseOffset: BigInt(seen.length) }])
        seen.push(...request.values[0]!)
      }
      assert.deepStrictEqual(seen, values)
      const metadata = yield* Fiber.join(sending)
      assert.deepStrictEqual(metadata.map(({ offset }) => offset), values.map((_, i) => BigInt(i)))
    }).pipe(Effect.provide(producer(small))))

  it.effect("sendAll has its time from when it is its turn, and lets others come between", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const sending = yield* Effect.fork(
        Producer.sendAll(Orders, Array.from({ length: 12 }, (_, i) => ({ key: null, value: large + i })))
      )
      yield* settled
      const [other] = yield* forkAll([send("between")])
      const seen: Array<string> = []
      while (seen.length < 13) {
        const request = yield* script.request
        yield* TestClock.adjust("3 seconds")
        seen.push(...request.values[0]!.map((value) => value.replace(large, "")))
        yield* request.store
      }
      assert.strictEqual((yield* Fiber.join(sending)).length, 12)
      yield* Fiber.join(other!)
      assert.deepStrictEqual(seen.filter((value) => value !== "between"), Array.from({ length: 12 }, (_, i) => `${i}`))
      assert.isBelow(seen.indexOf("between"), 6)
    }).pipe(Effect.provide(producer({ ...small, deliveryTimeout: "20 seconds" }))))

  it.effect("sendAll that finds no room any more fails the rest without waiting for each", () =>
    Effect.gen(function*() {
      yield* Script
      const sending = yield* Effect.fork(
        Producer.sendAll(Orders, Array.from({ length: 20 }, (_, i) => ({ key: null, value: large + i })))
      )
      yield* TestClock.adjust("10 seconds")
      const error = yield* Effect.flip(Fiber.join(sending))
      assert(error._tag === "ProducerError")
      assert.deepStrictEqual([error.reason, error.records], ["timeout", Array.from({ length: 20 }, (_, i) => i)])
      assert.isFalse(error.retriable, "the first may have been stored")
    }).pipe(Effect.provide(producer(small))))

  it.effect("enqueue ends when there is room, and its effect when there is an acknowledgement", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const enqueue = (id: string) => Producer.enqueue(Orders, { key: null, value: large + id })
      const first = yield* enqueue("1")
      yield* enqueue("2")
      const third = yield* Effect.fork(enqueue("3"))
      const request = yield* script.request
      assert.isNull(third.unsafePoll())
      yield* request.answer([{ _tag: "Stored", baseOffset: 9n }])
      assert.strictEqual((yield* first).offset, 9n)
      assert.strictEqual((yield* first).offset, 9n, "it can be asked twice")
      const acknowledged = yield* Effect.fork(yield* Fiber.join(third))
      yield* Effect.flatMap(script.request, (request) => request.store)
      assert.isNull(acknowledged.unsafePoll())
      yield* Effect.flatMap(script.request, (request) => request.store)
      yield* Fiber.join(acknowledged)
    }).pipe(Effect.provide(producer(small))))

  it.effect("all who wait for what was enqueued hear of it, but for who gave up", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const acknowledged = yield* Producer.enqueue(Orders, { key: null, value: "1" })
      const [first, second, gone] = yield* forkAll([acknowledged, acknowledged, acknowledged])
      yield* Fiber.interrupt(gone!)
      yield* Effect.flatMap(script.request, (request) => request.answer([{ _tag: "Stored", baseOffset: 9n }]))
      assert.strictEqual((yield* Fiber.join(first!)).offset, 9n)
      assert.strictEqual((yield* Fiber.join(second!)).offset, 9n)
    }).pipe(Effect.provide(producer(small))))

  it.effect("enqueue asks a serde once, whether it answers at once, later, or not at all", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const asked: Array<string> = []
      const topic = Topic.make("orders", {
        key: Serde.nullable(Serde.string),
        value: Serde.make<string>({
          serialize: (text) => {
            asked.push(text)
            if (text === "no") throw new Error("not this one")
            const bytes = Buffer.from(text)
            return text === "later" ? Effect.delay(Effect.succeed(bytes), "1 second") : bytes
          },
          deserialize: String
        })
      })
      const enqueue = (value: string) => Producer.enqueue(topic, { key: null, value, partition: 0 })
      yield* enqueue("at once")
      yield* Effect.flatMap(script.request, (request) => request.store)
      const later = yield* Effect.fork(enqueue("later"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(later)
      const request = yield* script.request
      assert.deepStrictEqual(request.values, [["later"]])
      assert.strictEqual((yield* Effect.flip(enqueue("no")))._tag, "SerializationError")
      assert.deepStrictEqual(asked, ["at once", "later", "no"])
    }).pipe(Effect.provide(producer())))

  it.effect("enqueue that finds no room in time fails", () =>
    Effect.gen(function*() {
      yield* forkAll(["1", "2"].map((id) => send(large + id)))
      const waiting = yield* Effect.fork(Producer.enqueue(Orders, { key: null, value: large }))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(reasonOf(yield* Fiber.await(waiting)), "timeout")
    }).pipe(Effect.provide(producer(small))))

  it.effect("a request that never ends fails its callers in time, and those behind it", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const [first] = yield* forkAll([send("a")])
      yield* script.request
      yield* TestClock.adjust("1 second")
      const [second] = yield* forkAll([send("b")])
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(reasonOf(yield* Fiber.await(first!)), "timeout")
      assert.isNull(second!.unsafePoll())
      yield* TestClock.adjust("1 second")
      assert.strictEqual(reasonOf(yield* Fiber.await(second!)), "timeout")
    }).pipe(Effect.provide(producer(small))))
})

describe("interruption", () => {
  it.effect("before its record is taken withdraws it, and afterwards tears no batch", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const [a] = yield* forkAll([send("a")])
      const first = yield* script.request
      const [b, c] = yield* forkAll([send("b"), send("c")])
      yield* Fiber.interrupt(a!)
      yield* Fiber.interrupt(b!)
      yield* first.store
      const second = yield* script.request
      assert.deepStrictEqual(second.values, [["c"]])
      yield* second.store
      yield* Fiber.join(c!)
    }).pipe(Effect.provide(producer())))

  it.effect("in the line for room gives the place to the next", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const large = "x".repeat(500)
      const [a, b, c] = yield* forkAll(["1", "2", "3"].map((id) => send(large + id)))
      const request = yield* script.request
      yield* Fiber.interrupt(b!)
      yield* request.store
      const next = yield* script.request
      assert.deepStrictEqual(next.values, [[`${large}3`]])
      yield* next.store
      yield* Fiber.join(a!)
      yield* Fiber.join(c!)
    }).pipe(Effect.provide(producer({ bufferMemory: 700, maxRequestSize: 700 }))))

  it.effect("of sendAll withdraws those of its records that are not taken", () =>
    Effect.gen(function*() {
      const script = yield* Script
      yield* forkAll([send("a")])
      const first = yield* script.request
      const many = yield* Effect.fork(
        Producer.sendAll(Orders, [{ key: null, value: "b" }, { key: null, value: "c" }])
      )
      yield* settled
      const [d] = yield* forkAll([send("d")])
      yield* Fiber.interrupt(many)
      yield* first.store
      const second = yield* script.request
      assert.deepStrictEqual(second.values, [["d"]])
      yield* second.store
      yield* Fiber.join(d!)
    }).pipe(Effect.provide(producer())))

  it.effect("does not reach a send that can not be interrupted", () =>
    Effect.gen(function*() {
      const script = yield* Script
      yield* forkAll([send("a")])
      const first = yield* script.request
      const [b] = yield* forkAll([Effect.uninterruptible(send("b"))])
      yield* Fiber.interruptFork(b!)
      yield* settled
      yield* first.store
      const second = yield* script.request
      assert.deepStrictEqual(second.values, [["b"]])
      yield* second.store
      assert.strictEqual((yield* Fiber.await(b!))._tag, "Failure")
    }).pipe(Effect.provide(producer())))
})

describe("the end", () => {
  const open = (options: Producer.Options = {}) =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const service = yield* Effect.orDie(Scope.extend(Producer.make(options), scope))
      return { close: Scope.close(scope, Exit.void), service }
    })
  const record = (value: string) => ({ key: null, value, partition: 0 })

  it.effect("closing sends what is buffered without lingering, then refuses at once", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const { close, service } = yield* open({ linger: "1 minute" })
      const sending = yield* Effect.fork(service.send(Orders, record("a")))
      yield* settled
      const closing = yield* Effect.fork(close)
      const request = yield* script.request
      assert.deepStrictEqual(request.values, [["a"]])
      assert.strictEqual(reasonOf(yield* Effect.exit(service.send(Orders, record("b")))), "closed")
      yield* request.store
      yield* Fiber.join(sending)
      yield* Fiber.join(closing)
      assert.strictEqual(reasonOf(yield* Effect.exit(service.sendAll(Orders, [record("c")]))), "closed")
      assert.strictEqual(reasonOf(yield* Effect.exit(service.enqueue(Orders, record("c")))), "closed")
      yield* service.flush
    }).pipe(Effect.provide(producer())))

  it.effect("closing waits no longer than it may, and then fails the rest", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const { close, service } = yield* open({ closeTimeout: "3 seconds" })
      const [inFlight] = yield* forkAll([service.send(Orders, record("a"))])
      yield* script.request
      const [queued] = yield* forkAll([service.send(Orders, record("b"))])
      const closing = yield* Effect.fork(close)
      yield* TestClock.adjust("2999 millis")
      assert.isNull(closing.unsafePoll())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      const errors = yield* Effect.forEach([inFlight!, queued!], (fiber) => Effect.flip(Fiber.join(fiber)))
      assert.deepStrictEqual(
        errors.map((error) => error._tag === "ProducerError" && [error.reason, error.retriable]),
        [["closed", false], ["closed", true]]
      )
    }).pipe(Effect.provide(producer())))

  it.effect("closing while a topic is looked up fails who waits for it", () =>
    Effect.gen(function*() {
      const { close, service } = yield* open()
      const sending = yield* Effect.fork(service.send(Orders, record("a")))
      yield* close
      const exit = yield* Fiber.await(sending)
      assert.isTrue(Exit.isSuccess(exit) || reasonOf(exit) === "closed")
    }).pipe(Effect.provide(producer())))

  it.effect("a driver that breaks fails everybody who waits, and all who come later", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const fibers = yield* forkAll([send("a"), send("b")])
      const request = yield* script.request
      yield* request.die(new Error("a bug in the driver"))
      const errors = yield* Effect.forEach(fibers, (fiber) => Effect.flip(Fiber.join(fiber)))
      const later = yield* Effect.flip(send("c"))
      for (const error of [...errors, later]) {
        assert(error._tag === "ProducerError")
        assert.deepStrictEqual([error.reason, error.retriable], ["closed", false])
        assert.include(String(error.cause), "a bug in the driver")
      }
    }).pipe(Effect.provide(producer())))

  it.effect("a fenced producer never sends again", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const fibers = yield* forkAll([send("a"), send("b")])
      const fenced = new ProducerFencedError({ transactionalId: "orders-1" })
      yield* Effect.flatMap(script.request, (request) => request.fail("refuse", fenced))
      for (const fiber of fibers) assert.strictEqual(yield* Effect.flip(Fiber.join(fiber)), fenced)
      assert.strictEqual(yield* Effect.flip(send("c")), fenced)
    }).pipe(Effect.provide(producer())))
})

describe("topics", () => {
  it.effect("are looked up once, however many ask at the same time", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const fibers = yield* Effect.forEach(Array.from({ length: 50 }), () => Effect.fork(send("a")))
      yield* settled
      assert.strictEqual(script.lookups(), 1)
      yield* Effect.flatMap(script.request, (request) => request.store)
      yield* Effect.forEach(fibers, (fiber) => Fiber.interrupt(fiber))
    }).pipe(Effect.provide(producer())))

  it.effect("are looked up again after a while, which holds up nobody even where it fails", () =>
    Effect.gen(function*() {
      const script = yield* Script
      const stored = (value: string) =>
        Effect.gen(function*() {
          const sending = yield* Effect.fork(send(value))
          yield* Effect.flatMap(script.request, (request) => request.store)
          yield* Fiber.join(sending)
        })
      yield* stored("a")
      yield* TestClock.adjust("5 minutes")
      script.partitions(timeout)
      yield* stored("b")
      assert.strictEqual(script.lookups(), 2)
      script.partitions(2)
      yield* stored("c")
      yield* settled
      assert.strictEqual(script.lookups(), 3)
      const sending = yield* Effect.fork(send("d", 1))
      assert.strictEqual((yield* script.request).batches[0]!.partition, 1)
      assert.strictEqual(script.lookups(), 3)
      yield* Fiber.interrupt(sending)
    }).pipe(Effect.provide(producer())))

  it.effect("have their new partitions at once where one is asked for", () =>
    Effect.gen(function*() {
      const script = yield* Script
      yield* Effect.fork(send("a"))
      yield* Effect.flatMap(script.request, (request) => request.store)
      const error = yield* Effect.flip(send("b", 3))
      assert(error._tag === "UnknownTopicError")
      assert.deepStrictEqual([error.topic, error.partition], ["orders", 3])
      script.partitions(4)
      yield* Effect.fork(send("b", 3))
      assert.strictEqual((yield* script.request).batches[0]!.partition, 3)
    }).pipe(Effect.provide(producer())))

  it.effect("that can not be looked up fail their callers, and are asked for again", () =>
    Effect.gen(function*() {
      const script = yield* Script
      script.partitions(new UnknownTopicError({ operation: "produce", topic: "orders" }))
      assert.strictEqual((yield* Effect.flip(send("a")))._tag, "UnknownTopicError")
      script.partitions(timeout)
      assert.strictEqual(yield* Effect.flip(send("a")), timeout)
      script.partitions(1)
      yield* Effect.fork(send("a"))
      assert.deepStrictEqual((yield* script.request).values, [["a"]])
    }).pipe(Effect.provide(producer())))
})

describe("what the observer hears", () => {
  it.effect("batches stored, retried and failed, and what is buffered", () => {
    const events: Array<KafkaEvent.KafkaEvent> = []
    const observer = Layer.succeed(KafkaEvent.KafkaObserver, {
      enabled: true,
      onEvent: (event) => void events.push(event)
    })
    return Effect.gen(function*() {
      const script = yield* Script
      const sending = yield* Effect.fork(send("a"))
      const request = yield* script.request
      yield* TestClock.adjust("7 millis")
      yield* request.store
      yield* Fiber.join(sending)
      const refused = yield* Effect.fork(send("b"))
      yield* Effect.flatMap(script.request, (request) => request.fail("retry"))
      yield* TestClock.adjust("200 millis")
      yield* Effect.flatMap(script.request, (request) => request.fail("refuse"))
      yield* Fiber.await(refused)
      const tooLarge = yield* Effect.flip(send("x".repeat(2000)))
      assert(tooLarge._tag === "ProducerError")
      const clientId = "till-4"
      const where = { clientId, topic: "orders", partition: 0, records: 1 }
      assert.deepStrictEqual(events.filter(({ _tag }) => _tag !== "ProducerBuffered"), [
        { _tag: "Connection", clientId, state: "connected" },
        { _tag: "Produced", ...where, bytes: 84, millis: 7 },
        { _tag: "ProduceRetried", ...where, attempt: 1 },
        { _tag: "ProduceFailed", ...where, error: timeout },
        { _tag: "ProduceFailed", ...where, partition: undefined, error: tooLarge }
      ])
      assert.deepInclude(events, { _tag: "ProducerBuffered", clientId, records: 1, bytes: 23 })
    }).pipe(Effect.provide(Layer.provide(producer({ clientId: "till-4", maxRequestSize: 1000 }), observer)))
  })

  it.effect("whether the cluster is there, as its answers show it, and the end", () => {
    const events: Array<string> = []
    const observer = Layer.succeed(KafkaEvent.KafkaObserver, {
      enabled: true,
      onEvent: (event) => {
        if (event._tag === "Connection") events.push(event.state)
        if (event._tag === "ProducerClosed") events.push("closed")
      }
    })
    const gone = new KafkaConnectionError({ operation: "send", brokers: ["till:9092"], reason: "ECONNREFUSED" })
    return Effect.gen(function*() {
      const script = yield* Script
      const sending = yield* Effect.fork(send("a"))
      for (let attempt = 0; attempt < 2; attempt++) {
        yield* Effect.flatMap(script.request, (request) => request.fail("retry", gone))
        yield* TestClock.adjust("1 second")
      }
      yield* Effect.flatMap(script.request, (request) => request.fail("retry"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(events, ["connected", "disconnected"])
      yield* Effect.flatMap(script.request, (request) => request.store)
      yield* Fiber.join(sending)
      assert.deepStrictEqual(events, ["connected", "disconnected", "connected"])
    }).pipe(
      Effect.provide(Layer.provide(producer(), observer)),
      Effect.andThen(() => assert.deepStrictEqual(events.at(-1), "closed"))
    )
  })

  it.effect("an observer that throws is told of once, and harms nothing", () => {
    const logged: Array<unknown> = []
    const logger = Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ message }) => void logged.push(message))
    )
    const observer = Layer.succeed(KafkaEvent.KafkaObserver, {
      enabled: true,
      onEvent: () => {
        throw new Error("no disk")
      }
    })
    return Effect.gen(function*() {
      const script = yield* Script
      const sending = yield* Effect.fork(send("a"))
      yield* Effect.flatMap(script.request, (request) => request.store)
      yield* Fiber.join(sending)
      yield* settled
      assert.strictEqual(logged.length, 1)
    }).pipe(Effect.provide(Layer.provide(producer(), Layer.merge(observer, logger))))
  })
})
