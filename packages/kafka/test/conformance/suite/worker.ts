/** Workers: handlers in the background, with retries, retry topics and dead letters. */
import { describe, expect } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import * as Consumer from "../../../src/Consumer.ts"
import * as ConsumerWorker from "../../../src/ConsumerWorker.ts"
import * as DeadLetter from "../../../src/DeadLetter.ts"
import * as Producer from "../../../src/Producer.ts"
import * as RetryTopics from "../../../src/RetryTopics.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import {
  eventually,
  groupName,
  makeTextTopic,
  MemberDefaults,
  Seen,
  text,
  type TextTopic,
  textTopic
} from "../support.ts"

class NoMilk extends Data.TaggedError("NoMilk")<{ readonly message: string }> {}

/** A worker's options in the test's own group. */
const group = (name = "group") =>
  Effect.gen(function*() {
    const defaults = yield* MemberDefaults
    return {
      fetch: { maxWait: "100 millis" },
      heartbeatInterval: "250 millis",
      commitWithin: "100 millis",
      ...defaults,
      groupId: yield* groupName(name)
    } as const
  })

/** For what is meant to fail, and says so in the log. */
const quietly = Logger.withMinimumLogLevel(LogLevel.None)

/** Writes `key:number` texts, each to the partition of its key. */
const write = (topic: TextTopic, values: ReadonlyArray<string>) =>
  Producer.sendAll(topic, values.map((value) => ({ key: value.split(":")[0]!, value })))

/** How many records of a topic a group has committed. */
const committed = (groupId: string, topic: Topic.Any) =>
  Effect.gen(function*() {
    const name = yield* TopicRegistry.resolve(topic)
    const all = yield* Admin.groupOffsets(groupId)
    return all.filter((one) => one.topic === name).reduce((sum, one) => sum + Number(one.offset), 0)
  })

export const worker = (kafka: Suite) =>
  describe("workers", () => {
    kafka.test(
      "a worker is ready, handles everything, and has committed and left when it was stopped",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(3)
        const options = yield* group()
        const seen = new Seen<string>()
        const worker = yield* ConsumerWorker.make(
          topic,
          (record) => Effect.sync(() => seen.push(record.value)),
          options
        )
        yield* worker.ready
        yield* write(topic, ["a:1", "b:1", "c:1", "a:2"])
        yield* seen.count(4)
        yield* worker.stop
        yield* worker.wait
        expect(yield* committed(options.groupId, topic)).toBe(4)
        const [described] = yield* Admin.describeGroups([options.groupId])
        expect(described!.members).toEqual([])
      })
    )

    kafka.test(
      "a handler's failure ends the worker with it, and the group is left",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const options = yield* group()
        yield* write(topic, ["a:1", "a:2", "a:3"])
        const worker = yield* ConsumerWorker.make(
          topic,
          ({ value }) => value === "a:2" ? new NoMilk({ message: "spilt" }) : Effect.void,
          options
        )
        expect(yield* Effect.flip(worker.wait)).toEqual(new NoMilk({ message: "spilt" }))
        expect(yield* committed(options.groupId, topic)).toBe(1)
        const [described] = yield* Admin.describeGroups([options.groupId])
        expect(described!.members).toEqual([])
      }).pipe(quietly)
    )

    kafka.test(
      "a retry in place holds up its own key alone, and says which attempt it is",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, ["a:1", "a:2", "b:1", "c:1"])
        const seen = new Seen<string>()
        yield* ConsumerWorker.make(topic, ({ value }, { attempt }) =>
          Effect.suspend(() => {
            seen.push(`${value}#${attempt}`)
            return value === "a:1" && attempt < 3 ? new NoMilk({ message: value }) : Effect.void
          }), { ...(yield* group()), ordering: "key", retry: Schedule.spaced("500 millis") })
        const all = yield* seen.count(6)
        expect(all.slice(0, 3).toSorted()).toEqual(["a:1#1", "b:1#1", "c:1#1"])
        expect(all.slice(3)).toEqual(["a:1#2", "a:1#3", "a:2#1"])
      })
    )

    kafka.test(
      "a batch is records of one partition, in order",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* write(topic, Array.from({ length: 40 }, (_, index) => `${index % 7}:${index}`))
        const seen = new Seen<string>()
        const sizes: Array<number> = []
        yield* ConsumerWorker.makeBatch(topic, (records) =>
          Effect.sync(() => {
            sizes.push(records.length)
            expect(new Set(records.map((record) => record.partition)).size).toBe(1)
            for (const { value } of records) seen.push(value)
          }), { ...(yield* group()), batchSize: 8, concurrency: 2 })
        const all = yield* seen.count(40)
        expect(Math.max(...sizes)).toBeLessThanOrEqual(8)
        expect(sizes.length).toBeLessThan(40)
        for (let key = 0; key < 7; key++) {
          const own = all.filter((value) => value.startsWith(`${key}:`)).map((value) => Number(value.split(":")[1]))
          expect(own).toEqual(own.toSorted((a, b) => a - b))
        }
      })
    )

    kafka.test(
      "dead letters: unchanged, with where they came from and why; committed once stored; read, sent back, and handled",
      Effect.gen(function*() {
        const topic = textTopic("runs", 2)
        yield* TopicRegistry.ensure([topic, DeadLetter.topic(topic)])
        const name = yield* TopicRegistry.resolve(topic)
        const bytes = Topic.make("runs", { key: Serde.nullable(Serde.bytes), value: Serde.bytes })
        yield* Producer.send(topic, { key: "a", value: "a:1", partition: 1, headers: [["x", "1"], ["x", "2"]] })
        yield* Producer.send(bytes, { key: null, value: Uint8Array.of(0xff), partition: 1 })
        yield* Producer.send(topic, { key: "a", value: "a:2", partition: 1 })
        const options = yield* group()
        const seen = new Seen<string>()
        let milk = false
        const worker = yield* ConsumerWorker.make(topic, ({ value }) =>
          Effect.suspend(() => {
            if (value === "a:1" && !milk) return new NoMilk({ message: "spilt" })
            seen.push(value)
            return Effect.void
          }), { ...options, deadLetter: true })
        yield* seen.count(1)
        yield* eventually("all is committed", committed(options.groupId, topic), (all) => all === 3)

        const reader = Consumer.layer({ groupId: yield* groupName("support") })
        const letters = yield* Stream.runCollect(DeadLetter.stream(topic, { until: "end" })).pipe(
          Effect.provide(reader)
        )
        const [first, second] = [...letters].toSorted((a, b) => Number(a.origin.offset - b.origin.offset))
        expect(first).toMatchObject({
          origin: { topic: name, partition: 1, offset: 0n },
          group: options.groupId,
          attempt: 1,
          error: "NoMilk",
          message: "spilt"
        })
        expect(text(first!.rawKey)).toBe("a")
        expect(first!.headers.map(([header, value]) => [header, text(value)])).toEqual([["x", "1"], ["x", "2"]])
        expect((yield* first!.record).value).toBe("a:1")
        expect(second).toMatchObject({ origin: { offset: 1n }, attempt: 0, error: "DeserializationError" })
        expect([...second!.rawValue!]).toEqual([0xff])

        milk = true
        const replayed = yield* DeadLetter.replay(topic, { select: (letter) => letter.error === "NoMilk" }).pipe(
          Effect.provide(reader)
        )
        expect(replayed).toMatchObject({ passed: 1, replayed: [{ to: { topic: name, partition: 1, offset: 3n } }] })
        expect(yield* seen.count(2)).toEqual(["a:2", "a:1"])
        yield* worker.stop
      })
    )

    kafka.test(
      "a dead-letter topic that is missing ends the worker, and nothing is skipped",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const options = yield* group()
        yield* write(topic, ["a:1", "a:2", "a:3"])
        const worker = yield* ConsumerWorker.make(
          topic,
          ({ value }) => value === "a:2" ? new NoMilk({ message: "spilt" }) : Effect.void,
          { ...options, deadLetter: true }
        )
        const error = yield* Effect.flip(worker.wait)
        expect(error).toMatchObject({ _tag: "ForwardError", purpose: "dead-letter", offset: 1n })
        expect(yield* committed(options.groupId, topic)).toBe(1)
      }).pipe(quietly)
    )

    kafka.test(
      "retry topics without order: a record waits in one after the other, others go on, then it is a dead letter",
      Effect.gen(function*() {
        const topic = textTopic("runs", 2)
        const retryTopics = RetryTopics.make(topic, { delays: ["300 millis", "600 millis"], order: "none" })
        yield* TopicRegistry.ensure([topic, DeadLetter.topic(topic), ...retryTopics.topics])
        yield* write(topic, ["a:1", "a:2", "b:1"])
        const options = yield* group()
        const seen = new Seen<string>()
        const times: Array<number> = []
        yield* ConsumerWorker.make(topic, ({ value }, { attempt }) =>
          Effect.clockWith((clock) =>
            Effect.suspend(() => {
              seen.push(`${value}#${attempt}`)
              if (value !== "a:1") return Effect.void
              times.push(clock.unsafeCurrentTimeMillis())
              return new NoMilk({ message: value })
            })
          ), { ...options, retryTopics, deadLetter: true })
        const all = yield* seen.count(5)
        expect(all.slice(0, 3).toSorted()).toEqual(["a:1#1", "a:2#1", "b:1#1"])
        expect(all.slice(3)).toEqual(["a:1#2", "a:1#3"])
        // not before its time, but for the rounding of clocks
        expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(299)
        expect(times[2]! - times[1]!).toBeGreaterThanOrEqual(599)
        const ends = eventually(
          "the dead letter",
          Admin.listOffsets([DeadLetter.topic(topic)], "latest"),
          (offsets) => offsets.reduce((sum, one) => sum + Number(one.offset), 0) === 1
        )
        yield* ends
      })
    )

    kafka.test(
      "retry topics with order: a key's later records follow the one that waits, through a restart",
      Effect.gen(function*() {
        const topic = textTopic("runs", 2)
        const retryTopics = RetryTopics.make(topic, { delays: ["1 second", "1 second", "1 second"] })
        yield* TopicRegistry.ensure([topic, ...retryTopics.topics])
        const options = { ...(yield* group()), ordering: "key", concurrency: 2, retryTopics } as const
        const seen = new Seen<string>()
        const handle = (fails: boolean) => ({ value }: { readonly value: string }) =>
          Effect.suspend(() => {
            if (value === "a:1" && fails) return new NoMilk({ message: value })
            seen.push(value)
            return Effect.void
          })
        yield* write(topic, ["a:1", "a:2", "b:1"])
        yield* Effect.scoped(Effect.gen(function*() {
          const worker = yield* ConsumerWorker.make(topic, handle(true), options)
          yield* seen.count(1)
          yield* eventually("all is committed", committed(options.groupId, topic), (all) => all === 3)
          yield* worker.stop
        }))
        yield* write(topic, ["a:3", "b:2"])
        yield* ConsumerWorker.make(topic, handle(false), options)
        const all = yield* seen.count(5)
        expect(all[0]).toBe("b:1")
        expect(all.filter((value) => value.startsWith("a"))).toEqual(["a:1", "a:2", "a:3"])
      })
    )
  })
