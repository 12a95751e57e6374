import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Consumer from "../src/Consumer.ts"
import { InMemoryBroker } from "../src/InMemoryKafka.ts"
import { ConsumerError } from "../src/KafkaError.ts"
import * as KafkaEvent from "../src/KafkaEvent.ts"
import * as KafkaHealth from "../src/KafkaHealth.ts"
import { broker, consumer, Orders, Runs, texts, write } from "./consumer/support.ts"

const groupId = "kitchen"
const zero = { topic: "orders", partition: 0 }
const one = { topic: "orders", partition: 1 }

const turned = { _tag: "LoopTurned", groupId, bufferedRecords: 0, bufferedBytes: 0 } as const
const assigned = { _tag: "Assigned", groupId, partitions: [zero, one], positions: [3n, 0n], millis: 1 } as const
const polled = {
  _tag: "Polled",
  groupId,
  topicPartition: zero,
  records: 4,
  bytes: 40,
  position: 7n,
  highWatermark: 9n,
  lastTimestamp: 0n,
  bufferedRecords: 4,
  bufferedBytes: 40
} as const

const tell = (...events: ReadonlyArray<KafkaEvent.KafkaEvent>) =>
  Effect.map(KafkaEvent.KafkaObserver, (observer) => events.forEach((event) => observer.onEvent(event)))

const only = Effect.map(KafkaHealth.report, ({ consumers }) => consumers[0]!)

describe("KafkaHealth", () => {
  it.effect("a process without consumers is ready and alive, unless some are expected", () =>
    Effect.gen(function*() {
      const expecting = KafkaHealth.layerWith({ groups: [groupId] })
      expect(yield* Effect.provide(KafkaHealth.report, KafkaHealth.layer)).toEqual({
        ready: true,
        live: true,
        consumers: []
      })
      const report = yield* Effect.provide(KafkaHealth.report, expecting)
      expect(report).toMatchObject({ ready: false, live: true })
      expect(report.consumers[0]?.problems).toEqual(["there is no consumer of this group yet"])
    }))

  it.effect("limits that nobody could keep are refused, all at once", () =>
    Effect.gen(function*() {
      for (const odd of [0, -1, Number.NaN, "soon"]) {
        // as a program without types has them
        const options = { loopTimeout: odd, progressTimeout: odd } as KafkaHealth.Options
        const error = yield* Effect.flip(Effect.provide(KafkaHealth.report, KafkaHealth.layerWith(options)))
        for (const name of ["loopTimeout", "progressTimeout"]) {
          expect(String(error)).toContain(`KafkaHealth.${name}`)
          expect(String(error)).toContain(`found "${odd}"`)
        }
      }
    }))

  it.effect("is ready from the assignment on, not while the group rebalances, and again after it", () =>
    Effect.gen(function*() {
      yield* tell(turned, { _tag: "Rebalancing", groupId })
      expect(yield* only).toMatchObject({ status: "joining", ready: false, live: true })
      yield* tell(assigned)
      expect(yield* only).toMatchObject({ status: "running", ready: true, live: true, problems: [] })
      yield* tell({ _tag: "Revoked", groupId, partitions: [zero, one] })
      expect(yield* only).toMatchObject({ ready: false, problems: ["its group rebalances"], partitions: [] })
      yield* tell({ ...assigned, partitions: [], positions: [] })
      expect(yield* only).toMatchObject({ ready: true, partitions: [] })
    }).pipe(Effect.provide(KafkaHealth.layer)))

  it.effect("says of each partition how far it is behind, and forgets it once it is lost", () =>
    Effect.gen(function*() {
      yield* tell(turned, assigned, polled)
      const [first, second] = (yield* only).partitions
      expect(first).toMatchObject({ ...zero, position: 3n, highWatermark: 9n, lag: 6n, problem: undefined })
      expect(second).toMatchObject({ ...one, position: 0n, highWatermark: undefined, lag: undefined })
      yield* tell({ _tag: "Stalled", groupId, partitions: [zero], millis: 300_000 })
      expect((yield* only).partitions[0]?.problem).toBe("its records are fetched, and the program does not take them")
      yield* tell({ _tag: "HandedOut", groupId, topicPartition: zero, records: 6, position: 9n })
      expect((yield* only).partitions[0]).toMatchObject({ lag: 0n, problem: undefined })
      yield* tell({ _tag: "Lost", groupId, partitions: [zero] })
      expect((yield* only).partitions.map(({ partition }) => partition)).toEqual([1])
    }).pipe(Effect.provide(KafkaHealth.layer)))

  it.effect("a run loop that does not turn is not alive", () =>
    Effect.gen(function*() {
      yield* tell(turned, assigned)
      yield* TestClock.adjust("29 seconds")
      expect(yield* only).toMatchObject({ live: true, loopAge: 29_000 })
      yield* TestClock.adjust("1 second")
      expect(yield* only).toMatchObject({
        ready: false,
        live: false,
        problems: ["its run loop has not turned for 30 seconds"]
      })
      yield* tell(turned)
      expect(yield* only).toMatchObject({ ready: true, live: true })
    }).pipe(Effect.provide(KafkaHealth.layer)))

  it.effect("a partition where records wait and nothing moves is not alive; one with nothing to do is", () =>
    Effect.gen(function*() {
      yield* tell(turned, assigned, polled)
      yield* TestClock.adjust("1 minute")
      yield* tell(turned)
      expect(yield* only).toMatchObject({
        live: false,
        problems: ["orders[0]: records are waiting, and none was handed out or committed for 60 seconds"]
      })
      yield* tell({ _tag: "HandedOut", groupId, topicPartition: zero, records: 6, position: 9n })
      yield* TestClock.adjust("1 hour")
      yield* tell(turned)
      expect((yield* only).live).toBe(true)
    }).pipe(Effect.provide(KafkaHealth.layerWith({ progressTimeout: "1 minute" }))))

  it.effect("one that died is neither ready nor alive, and says why; one that comes after it is looked at afresh", () =>
    Effect.gen(function*() {
      const error = new ConsumerError({ reason: "crashed", groupId, description: "no milk" })
      yield* tell(turned, assigned, { _tag: "Died", groupId, error })
      expect(yield* only).toMatchObject({ status: "died", ready: false, live: false, partitions: [] })
      expect((yield* only).problems[0]).toContain("no milk")
      yield* tell(turned)
      expect(yield* only).toMatchObject({ status: "joining", live: true })
    }).pipe(Effect.provide(KafkaHealth.layer)))

  it.effect("follows a consumer from its start to its stop", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(3))
      const handled = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(Consumer.forEach(
        Runs,
        (record) => record.offset === 2n ? Deferred.succeed(handled, undefined) : Effect.void
      ))
      yield* Deferred.await(handled)
      expect(yield* only).toMatchObject({ groupId: "group", status: "running", ready: true, live: true })
      expect((yield* only).partitions).toMatchObject([{ topic: "runs", partition: 0, position: 3n, lag: 0n }])
      yield* Consumer.stop
      yield* Fiber.join(fiber)
      expect(yield* only).toMatchObject({ status: "stopped", ready: false, live: true, partitions: [] })
    }).pipe(
      Effect.provide(consumer()),
      Effect.provide(broker(1)),
      Effect.provide(KafkaHealth.layer)
    ))

  it.effect("tells a stream that is not pulled from one that has nothing to do", () =>
    Effect.gen(function*() {
      yield* write("runs", 0, texts(2000))
      yield* write("orders", 0, texts(10))
      const reading = yield* Effect.fork(
        Effect.all([
          Stream.runForEach(Stream.chunks(Consumer.stream(Runs)), () => Effect.never),
          Stream.runDrain(Consumer.stream(Orders))
        ], { concurrency: "unbounded" })
      )
      const problems = Effect.map(only, ({ partitions }) =>
        Object.fromEntries(partitions.map(({ problem, topic }) => [topic, problem])))
      yield* TestClock.adjust("1900 millis")
      expect(yield* problems).toEqual({ runs: undefined, orders: undefined })
      yield* TestClock.adjust("200 millis")
      expect(yield* problems).toEqual({
        runs: "its records are fetched, and the program does not take them",
        orders: undefined
      })
      expect(yield* only).toMatchObject({ ready: true, live: true })
      yield* Fiber.interrupt(reading)
    }).pipe(
      Effect.provide(consumer({ stalledAfter: "2 seconds" })),
      Effect.provide(broker(1)),
      Effect.provide(KafkaHealth.layer)
    ))

  it.effect("a consumer that died stays dead, though its loop still looks after what is left", () =>
    Effect.gen(function*() {
      const kafka = yield* InMemoryBroker
      yield* write("runs", 0, texts(1))
      const handled = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        Effect.flip(Consumer.forEach(Runs, () => Deferred.succeed(handled, undefined)))
      )
      yield* Deferred.await(handled)
      yield* kafka.kill()
      yield* TestClock.adjust("1 minute")
      const error = yield* Fiber.join(fiber)
      yield* TestClock.adjust("1 minute")
      expect(yield* only).toMatchObject({ status: "died", ready: false, live: false })
      expect((yield* only).problems).toEqual([`it died: ${error.message}`])
    }).pipe(
      Effect.provide(consumer({ unavailableAfter: "2 seconds" })),
      Effect.provide(broker(1)),
      Effect.provide(KafkaHealth.layer)
    ))
})

describe("an observer that throws", () => {
  it.effect("harms no record and no commit, and is logged once", () => {
    const warnings: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      if (logLevel === LogLevel.Warning) warnings.push(String(message))
    })
    return Effect.gen(function*() {
      yield* write("runs", 0, texts(100))
      let seen = 0
      const all = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        Consumer.forEach(Runs, () => ++seen === 100 ? Deferred.succeed(all, undefined) : Effect.void)
      )
      yield* Deferred.await(all)
      yield* Consumer.stop
      yield* Fiber.join(fiber)
      const kafka = yield* InMemoryBroker
      expect(yield* kafka.committed("group")).toEqual([{ topic: "runs", partition: 0, offset: 100n }])
      expect(warnings.filter((warning) => warning.includes("KafkaObserver"))).toHaveLength(1)
    }).pipe(
      Effect.provide(consumer()),
      Effect.provide(broker(1)),
      Effect.provide(KafkaEvent.layerObserver(Effect.succeed({
        enabled: true,
        onEvent: () => {
          throw new Error("no milk")
        }
      }))),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
  })

  it.effect("is told to the others, who hear every event", () =>
    Effect.gen(function*() {
      const heard: Array<string> = []
      const listener = { enabled: true, onEvent: (event: KafkaEvent.KafkaEvent) => void heard.push(event._tag) }
      const broken = {
        enabled: true,
        onEvent: () => {
          throw new Error("no milk")
        }
      }
      const deaf = { enabled: false, onEvent: broken.onEvent }
      const all = KafkaEvent.layerObserver(Effect.succeed(deaf)).pipe(
        Layer.provideMerge(KafkaEvent.layerObserver(Effect.succeed(broken))),
        Layer.provideMerge(KafkaEvent.layerObserver(Effect.succeed(listener)))
      )
      const observer = yield* Effect.provide(KafkaEvent.KafkaObserver, all)
      expect(() => observer.onEvent(turned)).toThrow("no milk")
      expect(heard).toEqual(["LoopTurned", "ObserverFailed"])
    }))
})
