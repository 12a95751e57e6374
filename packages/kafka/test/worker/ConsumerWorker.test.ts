import { describe, expect, it } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as TestClock from "effect/TestClock"
import * as ConsumerWorker from "../../src/ConsumerWorker.ts"
import { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import type { KafkaEvent } from "../../src/KafkaEvent.ts"
import * as KafkaHealth from "../../src/KafkaHealth.ts"
import * as Producer from "../../src/Producer.ts"
import { committedOf, eventsOf, kafka, logOf, Runs, texts, watching, write } from "./support.ts"

class NoMilk extends Data.TaggedError("NoMilk")<{ readonly message: string }> {}
class NoCups extends Data.TaggedError("NoCups") {}

const tag = <E>(worker: ConsumerWorker.Worker<E>) =>
  Effect.map(SubscriptionRef.get(worker.state), (state) => state._tag)

/** What is meant to fail says so in the log. */
const quietly = Logger.withMinimumLogLevel(LogLevel.None)

describe("a worker", () => {
  it.scoped("handles every record, says how it is doing, and commits what it did when it is stopped", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2", "b:1"])
      const seen: Array<string> = []
      const all = yield* Deferred.make<void>()
      const worker = yield* ConsumerWorker.make(Runs, (record, { attempt }) => {
        seen.push(`${record.value}#${attempt}`)
        return seen.length === 3 ? Deferred.succeed(all, undefined) : Effect.void
      }, { groupId: "group" })
      yield* worker.ready
      expect(yield* tag(worker)).toBe("Running")
      yield* Deferred.await(all)
      yield* worker.stop
      yield* worker.wait
      expect(seen).toEqual(["a:1#1", "a:2#1", "b:1#1"])
      expect(yield* tag(worker)).toBe("Stopped")
      expect(yield* committedOf("group")).toBe(3n)
    }).pipe(Effect.provide(kafka())))

  it.scoped("ends with its handler's own error, logs it, shows it, and leaves the record to others", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2", "a:3"])
      const events: Array<KafkaEvent> = []
      const worker = yield* watching(
        events,
        ConsumerWorker.make(
          Runs,
          (record) => record.value === "a:2" ? Effect.fail(new NoMilk({ message: "spilt" })) : Effect.void,
          { groupId: "group" }
        )
      )
      const error = yield* Effect.flip(worker.wait)
      expect(error).toBeInstanceOf(NoMilk)
      expect(yield* tag(worker)).toBe("Failed")
      expect(yield* committedOf("group")).toBe(1n)
      expect(eventsOf(events, "HandlerFailed").map((one) => [one.offset, one.action])).toEqual([[1n, "fail"]])
      expect(eventsOf(events, "Died").at(-1)?.error.message).toContain("spilt")
      const broker = yield* InMemoryBroker
      expect((yield* broker.group("group"))?.members ?? []).toEqual([])
    }).pipe(quietly, Effect.provide(kafka())))

  it.scoped("health shows a worker that has failed, whether or not anybody waits for it", () =>
    Effect.gen(function*() {
      yield* write(["a:1"])
      yield* ConsumerWorker.make(Runs, () => new NoMilk({ message: "spilt" }), { groupId: "group" })
      yield* TestClock.adjust("2 seconds")
      const report = yield* KafkaHealth.report
      expect(report).toMatchObject({ ready: false, live: false })
      expect(report.consumers[0]?.problems.join()).toContain("spilt")
    }).pipe(quietly, Effect.provide(KafkaHealth.layer), Effect.provide(kafka())))

  it.scoped("a retry holds up its own key alone, takes no worker, and tells the handler which attempt it is", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2", "b:1", "b:2", "c:1"])
      const seen: Array<string> = []
      const worker = yield* ConsumerWorker.make(Runs, (record, { attempt }) => {
        seen.push(`${record.value}#${attempt}`)
        return record.value === "a:1" && attempt < 3 ? Effect.fail(new NoCups()) : Effect.void
      }, { groupId: "group", ordering: "key", retry: Schedule.spaced("5 seconds") })
      yield* TestClock.adjust("1 second")
      expect(seen.toSorted()).toEqual(["a:1#1", "b:1#1", "b:2#1", "c:1#1"])
      expect(yield* committedOf("group")).toBe(undefined)
      yield* TestClock.adjust("5 seconds")
      expect(seen.slice(4)).toEqual(["a:1#2"])
      yield* TestClock.adjust("10 seconds")
      expect(seen.slice(5)).toEqual(["a:1#3", "a:2#1"])
      yield* worker.stop
      expect(yield* committedOf("group")).toBe(5n)
    }).pipe(Effect.provide(kafka())))

  it.scoped("more records of a key that waits than may wait in all hold up no other key", () =>
    Effect.gen(function*() {
      yield* write(["a:1", ...Array.from({ length: 2000 }, (_, index) => `a:${index + 2}`), "b:1"])
      const seen: Array<string> = []
      yield* ConsumerWorker.make(Runs, (record) => {
        seen.push(record.value)
        return record.value === "a:1" ? Effect.fail(new NoCups()) : Effect.void
      }, { groupId: "group", ordering: "key", retry: Schedule.spaced("1 hour") })
      yield* TestClock.adjust("3 seconds")
      expect(seen).toEqual(["a:1", "b:1"])
    }).pipe(Effect.provide(kafka())))

  it.scoped("a retry that never ends is given up on stop, at once where nothing behind it is done", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2"])
      const failed = yield* Deferred.make<void>()
      const worker = yield* ConsumerWorker.make(
        Runs,
        () => Effect.zipRight(Deferred.succeed(failed, undefined), Effect.fail(new NoCups())),
        { groupId: "group", retry: Schedule.spaced("1 hour") }
      )
      yield* Deferred.await(failed)
      // the clock stands still: nothing is waited for
      yield* worker.stop
      yield* worker.wait
      expect(yield* committedOf("group")).toBe(undefined)
    }).pipe(Effect.provide(kafka())))

  it.scoped("a record that waits to be tried again does not hold up a rebalance", () =>
    Effect.gen(function*() {
      yield* write(["a:1"])
      const failed = yield* Deferred.make<void>()
      yield* ConsumerWorker.make(
        Runs,
        () => Effect.zipRight(Deferred.succeed(failed, undefined), Effect.fail(new NoCups())),
        { groupId: "group", rebalanceProtocol: "eager", retry: Schedule.spaced("1 hour") }
      )
      yield* Deferred.await(failed)
      const broker = yield* InMemoryBroker
      yield* broker.join("group", ["runs"])
      yield* TestClock.adjust("4 seconds")
      expect((yield* broker.group("group"))?.members.length).toBe(2)
    }).pipe(Effect.provide(kafka())))

  it.scoped("errors are classified: tried again, dead letters, or the end", () =>
    Effect.gen(function*() {
      yield* write(["again", "dead", "end"])
      const seen: Array<string> = []
      const handle = (value: string, attempt: number): Effect.Effect<void, NoCups | NoMilk> => {
        seen.push(`${value}#${attempt}`)
        if (value !== "again") return new NoMilk({ message: value })
        return attempt === 1 ? new NoCups() : Effect.void
      }
      const worker = yield* ConsumerWorker.make(Runs, (record, { attempt }) => handle(record.value, attempt), {
        groupId: "group",
        retry: Schedule.recurs(3),
        retryWhile: (error) => error._tag === "NoCups",
        deadLetter: true,
        deadLetterWhen: (error) => error._tag === "NoMilk" && error.message === "dead"
      })
      const error = yield* Effect.flip(worker.wait)
      expect(error).toEqual(new NoMilk({ message: "end" }))
      expect(seen).toEqual(["again#1", "again#2", "dead#1", "end#1"])
      expect(yield* committedOf("group")).toBe(2n)
      expect((yield* logOf("runs.dlt")).map((one) => Buffer.from(one.value!).toString())).toEqual(["dead"])
    }).pipe(quietly, Effect.provide(kafka())))

  it.scoped("a handler that takes too long is interrupted, and has failed", () =>
    Effect.gen(function*() {
      yield* write(["a:1"])
      let interrupted = 0
      const worker = yield* ConsumerWorker.make(
        Runs,
        () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++)),
        { groupId: "group", timeout: "5 seconds", retry: Schedule.recurs(1) }
      )
      const ended = yield* Effect.fork(Effect.flip(worker.wait))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(ended)).toMatchObject({
        _tag: "HandlerTimeoutError",
        offset: 0n,
        attempt: 2,
        millis: 5000
      })
      expect(interrupted).toBe(2)
    }).pipe(quietly, Effect.provide(kafka())))

  it.scoped("a handler that throws has failed with a defect, which is not tried again, and is no defect of the worker", () =>
    Effect.gen(function*() {
      yield* write(["a:1"])
      const worker = yield* ConsumerWorker.make(Runs, (record) => {
        if (record.value === "a:1") throw new RangeError("too hot")
        return Effect.void
      }, { groupId: "group", retry: Schedule.forever })
      const exit = yield* Effect.exit(worker.wait)
      expect(Exit.isFailure(exit) && exit.cause._tag).toBe("Fail")
      const error = yield* Effect.flip(worker.wait)
      expect(error).toMatchObject({ _tag: "HandlerDefectError", attempt: 1, reason: "too hot" })
    }).pipe(quietly, Effect.provide(kafka())))

  it.scoped("a dead letter has the record's bytes and headers, and says where it came from and why", () =>
    Effect.gen(function*() {
      yield* Producer.send(Runs, {
        key: "a",
        value: "sour",
        partition: 1,
        headers: [["x", "1"], ["x", "2"]],
        timestamp: 1234n
      })
      const worker = yield* ConsumerWorker.make(Runs, () => Effect.fail(new NoMilk({ message: "sour milk" })), {
        groupId: "group",
        retry: Schedule.recurs(1),
        deadLetter: "runs.dlt"
      })
      yield* worker.ready
      yield* TestClock.adjust("2 seconds")
      const [letter] = yield* logOf("runs.dlt")
      expect(Buffer.from(letter!.key!).toString()).toBe("a")
      expect(Buffer.from(letter!.value!).toString()).toBe("sour")
      expect(texts(letter!.headers)).toEqual([
        ["x", "1"],
        ["x", "2"],
        ["kafka.dlt.topic", "runs"],
        ["kafka.dlt.partition", "1"],
        ["kafka.dlt.offset", "0"],
        ["kafka.dlt.timestamp", "1234"],
        ["kafka.dlt.group", "group"],
        ["kafka.dlt.attempt", "2"],
        ["kafka.dlt.error", "NoMilk"],
        ["kafka.dlt.message", "sour milk"]
      ])
      expect(yield* committedOf("group", "runs", 1)).toBe(1n)
    }).pipe(Effect.provide(kafka())))

  it.scoped("what can't be decoded is a dead letter too, in its turn", () =>
    Effect.gen(function*() {
      const broker = yield* InMemoryBroker
      yield* broker.produce({ topic: "runs", partition: 0 }, [
        { key: "a", value: "a:1" },
        { key: "a", value: Uint8Array.of(0xff) },
        { key: "a", value: "a:2" }
      ])
      const seen: Array<string> = []
      const events: Array<KafkaEvent> = []
      const worker = yield* watching(
        events,
        ConsumerWorker.make(Runs, (record) => Effect.sync(() => seen.push(record.value)), {
          groupId: "group",
          deadLetter: true
        })
      )
      yield* TestClock.adjust("2 seconds")
      yield* worker.stop
      expect(seen).toEqual(["a:1", "a:2"])
      const [letter] = yield* logOf("runs.dlt")
      expect(letter!.value).toEqual(Uint8Array.of(0xff))
      expect(texts(letter!.headers)).toContainEqual(["kafka.dlt.error", "DeserializationError"])
      expect(texts(letter!.headers)).toContainEqual(["kafka.dlt.attempt", "0"])
      expect(eventsOf(events, "DecodeFailed").map((one) => one.action)).toEqual(["dead-letter"])
      expect(eventsOf(events, "DeadLettered").map((one) => [one.offset, one.target])).toEqual([[1n, "runs.dlt"]])
      expect(yield* committedOf("group")).toBe(3n)
    }).pipe(Effect.provide(kafka())))

  it.scoped("where the dead-letter topic is missing, the worker ends, and nothing is skipped", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2"])
      const worker = yield* ConsumerWorker.make(
        Runs,
        (record) => record.value === "a:2" ? Effect.fail(new NoCups()) : Effect.void,
        { groupId: "group", deadLetter: true }
      )
      const ended = yield* Effect.fork(Effect.flip(worker.wait))
      yield* TestClock.adjust("5 minutes")
      expect(yield* Fiber.join(ended)).toMatchObject({
        _tag: "ForwardError",
        purpose: "dead-letter",
        target: "runs.dlt",
        offset: 1n
      })
      expect(yield* committedOf("group")).toBe(1n)
    }).pipe(quietly, Effect.provide(kafka([Runs]))))

  it.scoped("where the dead-letter topic refuses, the worker ends, and nothing is skipped", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2"])
      const broker = yield* InMemoryBroker
      const worker = yield* ConsumerWorker.make(
        Runs,
        (record) => record.value === "a:2" ? Effect.fail(new NoCups()) : Effect.void,
        { groupId: "group", deadLetter: true }
      )
      yield* broker.deny("topic", "runs.dlt")
      const ended = yield* Effect.fork(Effect.flip(worker.wait))
      yield* TestClock.adjust("5 minutes")
      expect(yield* Fiber.join(ended)).toMatchObject({ _tag: "ForwardError", target: "runs.dlt" })
      expect(yield* committedOf("group")).toBe(1n)
    }).pipe(quietly, Effect.provide(kafka())))

  it.scoped("dead letters that have nowhere to go are told of when the worker starts, and not with the first of them", () =>
    Effect.gen(function*() {
      const said = yield* Queue.unbounded<string>()
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        if (logLevel === LogLevel.Warning) said.unsafeOffer(String(message))
      })
      yield* Effect.gen(function*() {
        const worker = yield* ConsumerWorker.make(Runs, () => Effect.void, { groupId: "group", deadLetter: true })
        yield* worker.ready
        expect(yield* Queue.take(said)).toMatch(
          /^dead letters of group "group" have nowhere to go: .*"runs\.dlt" does not/
        )
        expect(yield* tag(worker)).toBe("Running")
        yield* worker.stop
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    }).pipe(Effect.provide(kafka([Runs]))))

  it.scoped("a batch is what is there of one partition, and is tried again as it was", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2", "b:1", "b:2", "c:1"])
      yield* write(["z:1"], 1)
      const seen: Array<string> = []
      const worker = yield* ConsumerWorker.makeBatch(Runs, (records, { attempt }) => {
        seen.push(`${records.map((one) => one.value).join()}#${attempt}`)
        return records[0].value === "a:1" && attempt === 1 ? Effect.fail(new NoCups()) : Effect.void
      }, { groupId: "group", batchSize: 3, retry: Schedule.spaced("5 seconds") })
      yield* TestClock.adjust("1 second")
      expect(seen.toSorted()).toEqual(["a:1,a:2,b:1#1", "z:1#1"])
      yield* write(["d:1"])
      yield* TestClock.adjust("10 seconds")
      expect(seen.slice(2)).toEqual(["a:1,a:2,b:1#2", "b:2,c:1,d:1#1"])
      yield* worker.stop
      expect(yield* committedOf("group")).toBe(6n)
    }).pipe(Effect.provide(kafka())))

  it.scoped("several workers in one program each see everything, in groups of their own", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2"])
      const seen: Array<string> = []
      for (const groupId of ["one", "two"]) {
        yield* ConsumerWorker.make(
          Runs,
          (record) => Effect.sync(() => seen.push(`${groupId} ${record.value}`)),
          { groupId }
        )
      }
      yield* TestClock.adjust("2 seconds")
      expect(seen.toSorted()).toEqual(["one a:1", "one a:2", "two a:1", "two a:2"])
    }).pipe(Effect.provide(kafka())))

  it.effect("a layer is built when its worker is started, and finishes what is in hand when it is closed", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2"])
      const begun = yield* Deferred.make<void>()
      const finish = yield* Deferred.make<void>()
      const Live = ConsumerWorker.layer(
        Runs,
        () => Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(finish)),
        { groupId: "group" }
      )
      const fiber = yield* Effect.fork(Effect.provide(
        Effect.gen(function*() {
          yield* ConsumerWorker.ready
          yield* ConsumerWorker.wait
        }),
        Live
      ))
      yield* Deferred.await(begun)
      const interrupting = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("1 second")
      yield* Deferred.succeed(finish, undefined)
      yield* Fiber.join(interrupting)
      expect(yield* committedOf("group")).toBe(1n)
    }).pipe(Effect.provide(kafka())))

  it.scoped("a handler that never returns is interrupted after the grace period", () =>
    Effect.gen(function*() {
      yield* write(["a:1"])
      const begun = yield* Deferred.make<void>()
      const worker = yield* ConsumerWorker.make(
        Runs,
        () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never),
        { groupId: "group", gracePeriod: "5 seconds" }
      )
      yield* Deferred.await(begun)
      const stopping = yield* Effect.fork(worker.stop)
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(stopping)
      yield* worker.wait
      expect(yield* committedOf("group")).toBe(undefined)
    }).pipe(Effect.provide(kafka())))

  it.scoped("options that contradict each other are refused, all at once", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(ConsumerWorker.make(Runs, () => Effect.void, {
        groupId: "group",
        timeout: 0,
        retryWhile: () => true,
        deadLetterWhen: () => true,
        onDecodeFailure: "dead-letter"
      }))
      for (const name of ["timeout", "retryWhile", "deadLetterWhen", "onDecodeFailure"]) {
        expect(String(error)).toContain(name)
      }
    }).pipe(Effect.provide(kafka())))

  it.scoped.each<readonly [options: Partial<ConsumerWorker.Options>, name: string]>([
    [{ concurrency: 0 }, "concurrency"],
    [{ maxAhead: Number.NaN }, "maxAhead"],
    [{ commitCount: 1.5 }, "commitCount"],
    [{ commitWithin: -1 }, "commitWithin"],
    [{ gracePeriod: Number.NaN }, "gracePeriod"],
    [{ timeout: Number.NaN }, "timeout"],
    [{ timeout: "soon" as "1 second" }, "timeout"],
    [{ onDecodeFailure: "junk" as "skip" }, "onDecodeFailure"],
    [{ deadLetter: "runs" }, "deadLetter"],
    [{ deadLetter: Runs }, "deadLetter"]
  ])(
    "options that make no sense are refused when the worker is made (%#)",
    ([options, name]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(ConsumerWorker.make(Runs, () => Effect.void, { groupId: "group", ...options }))
        expect(String(error)).toContain(`ConsumerWorker.${name}`)
      }).pipe(Effect.provide(kafka()))
  )
})
