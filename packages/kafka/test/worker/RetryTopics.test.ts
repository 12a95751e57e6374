import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as ConsumerWorker from "../../src/ConsumerWorker.ts"
import * as DeadLetter from "../../src/DeadLetter.ts"
import type { KafkaEvent } from "../../src/KafkaEvent.ts"
import * as KafkaHealth from "../../src/KafkaHealth.ts"
import * as RetryTopics from "../../src/RetryTopics.ts"
import * as Topic from "../../src/Topic.ts"
import { committedOf, eventsOf, kafka, logOf, Runs, texts, watching, write } from "./support.ts"

const unordered = RetryTopics.make(Runs, { delays: ["5 seconds", "20 seconds"], order: "none" })
const ordered = RetryTopics.make(Runs, { delays: ["5 seconds", "20 seconds"] })
const withRetries = kafka([Runs, DeadLetter.topic(Runs), ...unordered.topics, ...ordered.topics])

/** What is meant to fail says so in the log. */
const quietly = Logger.withMinimumLogLevel(LogLevel.None)

class Cold extends Error {
  readonly _tag = "Cold"
}

/** What was handled, and when, in seconds. */
const journal = () => {
  const seen: Array<string> = []
  const note = (text: string) =>
    Effect.clockWith((clock) =>
      Effect.map(clock.currentTimeMillis, (now) => void seen.push(`${Math.floor(now / 1000)} ${text}`))
    )
  return { seen, note }
}

describe("a declaration", () => {
  it("names a topic for each delay, or one for all where order is kept", () => {
    expect(unordered.topics.map((topic) => topic.slug)).toEqual(["runs.retry.5s", "runs.retry.20s"])
    expect(ordered.topics.map((topic) => [topic.slug, topic.partitions])).toEqual([["runs.retry", 2]])
    const delays = [250, "90 seconds", "2 hours", "1 day", "1 day"] as const
    expect(
      RetryTopics.make(Runs, { delays, order: "none" }).stages.map((stage) => [stage.topic.slug, stage.delay])
    ).toEqual([
      ["runs.retry.250ms", 250],
      ["runs.retry.90s", 90_000],
      ["runs.retry.2h", 7_200_000],
      ["runs.retry.1d", 86_400_000],
      ["runs.retry.1d.5", 86_400_000]
    ])
  })

  it("refuses what is no delay", () => {
    for (const delay of [0, -1, Infinity, 0.5, Number.NaN, "soon" as "1 second"]) {
      expect(() => RetryTopics.make(Runs, { delays: [delay] })).toThrow(TypeError)
    }
  })
})

describe("without order", () => {
  it.scoped("a record waits in one topic after the other, others are handled meanwhile, and then it is a dead letter", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2", "b:1"])
      const { note, seen } = journal()
      const events: Array<KafkaEvent> = []
      const worker = yield* watching(
        events,
        ConsumerWorker.make(Runs, (record, { attempt }) =>
          Effect.zipRight(
            note(
              `${record.value}#${attempt} ${record.topic} ${record.partition}:${record.offset} ${record.headers.length}`
            ),
            record.value === "a:1" ? Effect.fail(new Cold("cold")) : Effect.void
          ), { groupId: "group", retryTopics: unordered, deadLetter: true })
      )
      yield* worker.ready
      yield* TestClock.adjust("40 seconds")
      yield* worker.stop
      expect(seen).toEqual([
        "0 a:1#1 runs 0:0 0",
        "0 a:2#1 runs 0:1 0",
        "0 b:1#1 runs 0:2 0",
        "5 a:1#2 runs 0:0 0",
        "25 a:1#3 runs 0:0 0"
      ])
      expect(eventsOf(events, "HandlerFailed").map((one) => [one.attempt, one.action])).toEqual([
        [1, "retry-topic"],
        [2, "retry-topic"],
        [3, "dead-letter"]
      ])
      const letters = [...(yield* logOf("runs.dlt", 0)), ...(yield* logOf("runs.dlt", 1))]
      expect(texts(letters[0]!.headers)).toEqual([
        ["kafka.dlt.topic", "runs"],
        ["kafka.dlt.partition", "0"],
        ["kafka.dlt.offset", "0"],
        ["kafka.dlt.timestamp", "0"],
        ["kafka.dlt.group", "group"],
        ["kafka.dlt.attempt", "3"],
        ["kafka.dlt.error", "Cold"],
        ["kafka.dlt.message", "cold"]
      ])
    }).pipe(Effect.provide(withRetries)))

  it.scoped("retries in place come first, at each delivery", () =>
    Effect.gen(function*() {
      yield* write(["a:1"])
      const { note, seen } = journal()
      const worker = yield* ConsumerWorker.make(
        Runs,
        (record, { attempt }) =>
          Effect.zipRight(note(`${record.value}#${attempt}`), attempt < 4 ? Effect.fail(new Cold()) : Effect.void),
        { groupId: "group", retry: Schedule.addDelay(Schedule.recurs(1), () => "1 second"), retryTopics: unordered }
      )
      yield* worker.ready
      yield* TestClock.adjust("10 seconds")
      expect(seen).toEqual(["0 a:1#1", "1 a:1#2", "6 a:1#3", "7 a:1#4"])
    }).pipe(Effect.provide(withRetries)))

  it.scoped("a restart while records wait loses none, and keeps their time", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "b:1"])
      const { note, seen } = journal()
      const session = (fails: boolean, duration: Duration.DurationInput) =>
        Effect.scoped(Effect.gen(function*() {
          const worker = yield* ConsumerWorker.make(
            Runs,
            (record) => Effect.zipRight(note(record.value), fails ? Effect.fail(new Cold()) : Effect.void),
            { groupId: "group", retryTopics: unordered }
          )
          yield* worker.ready
          yield* TestClock.adjust(duration)
          yield* worker.stop
        }))
      yield* session(true, "1 second")
      yield* session(true, "1 second")
      yield* session(false, "30 seconds")
      expect(seen).toEqual(["0 a:1", "0 b:1", "5 a:1", "5 b:1"])
    }).pipe(Effect.provide(withRetries)))

  it.scoped("waiting is no standstill: health stays well, however long a delay is", () =>
    Effect.gen(function*() {
      yield* write(["a:1"])
      const worker = yield* ConsumerWorker.make(
        Runs,
        (_, { attempt }) => attempt === 1 ? Effect.fail(new Cold()) : Effect.void,
        { groupId: "group", retryTopics: unordered }
      )
      yield* worker.ready
      for (let second = 0; second < 10; second++) {
        yield* TestClock.adjust("1 second")
        expect(yield* KafkaHealth.report).toMatchObject({ live: true })
      }
      expect(yield* committedOf("group.retry", "runs.retry.5s", 0)).toBe(1n)
    }).pipe(
      Effect.provide(KafkaHealth.layerWith({ progressTimeout: "3 seconds" })),
      Effect.provide(withRetries)
    ))

  it.scoped("groups that share retry topics see to their own records alone", () =>
    Effect.gen(function*() {
      yield* write(["a:1"])
      const seen: Array<string> = []
      for (const groupId of ["one", "two"]) {
        yield* ConsumerWorker.make(Runs, (record, { attempt }) => {
          seen.push(`${groupId} ${record.value}#${attempt}`)
          return groupId === "one" && attempt === 1 ? Effect.fail(new Cold()) : Effect.void
        }, { groupId, retryTopics: unordered })
      }
      yield* TestClock.adjust("10 seconds")
      expect(seen.toSorted()).toEqual(["one a:1#1", "one a:1#2", "two a:1#1"])
    }).pipe(Effect.provide(withRetries)))

  it.scoped("a retry topic that is missing ends the worker", () =>
    Effect.gen(function*() {
      const worker = yield* ConsumerWorker.make(Runs, () => Effect.void, { groupId: "group", retryTopics: unordered })
      const ended = yield* Effect.fork(Effect.flip(worker.wait))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(ended)).toMatchObject({ _tag: "UnknownTopicError", topic: "runs.retry.5s" })
    }).pipe(quietly, Effect.provide(kafka([Runs]))))

  it.scoped("retry topics of another topic are refused", () =>
    Effect.gen(function*() {
      const other = RetryTopics.make(Topic.make("others", Runs), { delays: [1000] })
      const error = yield* Effect.flip(
        ConsumerWorker.make(Runs, () => Effect.void, { groupId: "group", retryTopics: other })
      )
      expect(String(error)).toContain("others")
    }).pipe(Effect.provide(withRetries)))
})

describe("with order by key", () => {
  it.scoped("later records of the key follow the one that waits, other keys go on, and then all is as before", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2", "b:1"])
      const { note, seen } = journal()
      const worker = yield* ConsumerWorker.make(Runs, (record, { attempt }) =>
        Effect.zipRight(
          note(`${record.value}#${attempt}`),
          record.value === "a:1" && attempt < 3 ? Effect.fail(new Cold()) : Effect.void
        ), { groupId: "group", ordering: "key", retryTopics: ordered })
      yield* worker.ready
      yield* TestClock.adjust("3 seconds")
      yield* write(["a:3", "b:2"])
      yield* TestClock.adjust("30 seconds")
      yield* write(["a:4"])
      yield* TestClock.adjust("5 seconds")
      expect(seen.filter((one) => one.includes("a:"))).toEqual([
        "0 a:1#1",
        "5 a:1#2",
        "25 a:1#3",
        "25 a:2#1",
        "25 a:3#1",
        "33 a:4#1"
      ])
      expect(seen.filter((one) => one.includes("b:"))).toEqual(["0 b:1#1", "3 b:2#1"])
      // the topic itself was not held up, and what was done waits nowhere
      expect((yield* logOf("runs.retry", 0)).length).toBe(3)
    }).pipe(Effect.provide(withRetries)))

  it.scoped("whoever takes a partition over knows which keys are waiting", () =>
    Effect.gen(function*() {
      yield* write(["a:1", "a:2"])
      const { note, seen } = journal()
      const session = (fails: boolean, duration: Duration.DurationInput) =>
        Effect.scoped(Effect.gen(function*() {
          const worker = yield* ConsumerWorker.make(
            Runs,
            (record) => Effect.zipRight(note(record.value), fails ? Effect.fail(new Cold()) : Effect.void),
            { groupId: "group", ordering: "key", retryTopics: ordered }
          )
          yield* worker.ready
          yield* TestClock.adjust(duration)
          yield* worker.stop
        }))
      yield* session(true, "3 seconds")
      yield* write(["a:3", "c:1"])
      yield* session(false, "30 seconds")
      expect(seen).toEqual(["0 a:1", "3 c:1", "5 a:1", "5 a:2", "5 a:3"])
    }).pipe(Effect.provide(withRetries)))

  it.scoped("fewer partitions for the retries than the topic has are refused", () =>
    Effect.gen(function*() {
      const worker = yield* ConsumerWorker.make(Runs, () => Effect.void, { groupId: "group", retryTopics: ordered })
      expect(yield* Effect.flip(worker.wait)).toMatchObject({
        _tag: "TopicMismatchError",
        differences: [{ topic: "runs.retry", setting: "partitions", actual: "1" }]
      })
    }).pipe(quietly, Effect.provide(kafka([Runs, Topic.make("runs.retry", { ...Runs, partitions: 1 })]))))

  it.scoped("order among records that may come in any order is refused", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        ConsumerWorker.make(Runs, () => Effect.void, { groupId: "group", ordering: "unordered", retryTopics: ordered })
      )
      expect(String(error)).toContain("retryTopics")
    }).pipe(Effect.provide(withRetries)))
})

// ---------------------------------------------------------------------------------------------------------------------
// a group's life
// ---------------------------------------------------------------------------------------------------------------------

type Step =
  | { readonly _tag: "Write"; readonly key: number; readonly partition: number }
  | { readonly _tag: "Wait"; readonly seconds: number }
  | { readonly _tag: "Join" }
  | { readonly _tag: "Leave" }
  | { readonly _tag: "Fail"; readonly key: number; readonly times: number }

const steps: FastCheck.Arbitrary<Array<Step>> = FastCheck.array(
  FastCheck.oneof(
    {
      weight: 6,
      arbitrary: FastCheck.record({
        _tag: FastCheck.constant("Write" as const),
        key: FastCheck.nat({ max: 3 }),
        partition: FastCheck.nat({ max: 1 })
      })
    },
    {
      weight: 3,
      arbitrary: FastCheck.record({
        _tag: FastCheck.constant("Wait" as const),
        seconds: FastCheck.integer({ min: 1, max: 8 })
      })
    },
    { weight: 1, arbitrary: FastCheck.record({ _tag: FastCheck.constant("Join" as const) }) },
    { weight: 1, arbitrary: FastCheck.record({ _tag: FastCheck.constant("Leave" as const) }) },
    {
      weight: 3,
      arbitrary: FastCheck.record({
        _tag: FastCheck.constant("Fail" as const),
        key: FastCheck.nat({ max: 3 }),
        times: FastCheck.integer({ min: 1, max: 4 })
      })
    }
  ),
  { minLength: 5, maxLength: 40 }
)

interface Lived {
  /** For each key what was written, in order. */
  readonly written: Map<string, Array<string>>
  /** For each key what was handled, in order. */
  readonly done: Map<string, Array<string>>
}

const note = (where: Map<string, Array<string>>, key: string, value: string): void => {
  const known = where.get(key)
  if (known === undefined) where.set(key, [value])
  else known.push(value)
}

const live = (script: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const lived: Lived = { written: new Map(), done: new Map() }
    const failing = new Map<string, number>()
    const members: Array<Scope.CloseableScope> = []
    let total = 0

    const handle = (key: string, value: string) =>
      Effect.suspend(() => {
        const left = failing.get(key) ?? 0
        failing.set(key, left - 1)
        if (left > 0) return Effect.fail(new Cold())
        note(lived.done, key, value)
        return Effect.void
      })
    const join = Effect.gen(function*() {
      const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
      members.push(scope)
      yield* Scope.extend(
        ConsumerWorker.make(Runs, (record) => handle(record.key!, record.value), {
          groupId: "group",
          ordering: "key",
          concurrency: 3,
          retryTopics: ordered,
          deadLetter: true
        }),
        scope
      )
    })
    const leave = Effect.gen(function*() {
      const scope = members.shift()
      if (scope === undefined) return
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      while (Option.isNone(yield* Fiber.poll(closing))) yield* TestClock.adjust("1 second")
    })

    yield* join
    for (const step of script) {
      if (step._tag === "Write") {
        const key = `${step.partition}-${step.key}`
        const value = `${key}:${total++}`
        note(lived.written, key, value)
        yield* write([value], step.partition)
      } else if (step._tag === "Wait") yield* TestClock.adjust(Duration.seconds(step.seconds))
      else if (step._tag === "Fail") {
        for (const partition of [0, 1]) failing.set(`${partition}-${step.key}`, step.times)
      } else if (step._tag === "Join") { if (members.length < 3) yield* join }
      else {
        yield* leave
        if (members.length === 0) yield* join
      }
    }
    failing.clear()
    yield* TestClock.adjust("40 seconds")
    while (members.length > 0) yield* leave
    return lived
  }).pipe(Effect.scoped)

const lettersOf = Effect.map(
  Effect.all([logOf("runs.dlt", 0), logOf("runs.dlt", 1)]),
  (logs) => new Set(logs.flat().map((one) => Buffer.from(one.value!).toString()))
)

describe("a group whose members come and go while records fail", () => {
  for (const seed of [1, 2, 3, 4]) {
    it.effect(`loses none, and keeps each key's order: seed ${seed}`, () =>
      Effect.gen(function*() {
        for (const script of FastCheck.sample(steps, { numRuns: 3, seed })) {
          yield* Effect.gen(function*() {
            const { done, written } = yield* live(script)
            const letters = yield* lettersOf
            for (const [key, values] of written) {
              const first = [...new Set(done.get(key) ?? [])]
              expect([key, first]).toEqual([
                key,
                values.filter((value) => first.includes(value) || !letters.has(value))
              ])
            }
          }).pipe(
            Effect.provide(withRetries),
            Effect.tapErrorCause(() => Effect.sync(() => console.error(JSON.stringify(script))))
          )
        }
      }))
  }
})
