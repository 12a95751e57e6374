import { InMemoryKafka, KafkaClient, TopicPartition, TopicRegistry } from "@coffeebuddy/kafka"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Fiber, Layer, Option, Random, TestClock } from "effect"
import * as Kafka from "../run-events/kafka.ts"
import * as Plan from "../run-events/Plan.ts"
import { program } from "../run-events/program.ts"
import * as Projection from "../run-events/projection.ts"
import { SummaryWrong } from "../run-events/summary.ts"
import { RUN_EVENTS_TOPIC } from "../run-events/topic.ts"
import { fakeTerminal, forgetful, services, withCapturedConsole } from "./support.ts"

/** The program from start to end, in test time, with the same plan each time. */
const morning = Effect.gen(function*() {
  const running = yield* Effect.fork(withCapturedConsole(program({ patience: "10 seconds" })))
  yield* TestClock.adjust("1 minute")
  return yield* Fiber.join(running)
})

const options: Plan.Options = { runs: 4, within: "2 seconds" }

const on = (kafka: typeof Kafka.inMemory, terminal = fakeTerminal(false), projection = Projection.layer) =>
  services(options).pipe(Layer.provideMerge(Layer.mergeAll(kafka, projection, terminal.layer)))

const text = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString("utf8")

/** A Kafka that stores something else than what it is sent. */
const tampering = (change: (value: Uint8Array | null) => Uint8Array | null) =>
  Layer.map(Kafka.inMemory, (context) => {
    const client = Context.get(context, KafkaClient.KafkaClient)
    return Context.add(context, KafkaClient.KafkaClient, {
      ...client,
      openProducer: (options) =>
        Effect.map(client.openProducer(options), (session) => ({
          ...session,
          send: (batches) =>
            session.send(batches.map(({ partition, records, topic }) => ({
              topic,
              partition,
              records: records.map(({ headers, key, timestamp, value }) => ({
                key,
                value: change(value),
                headers,
                timestamp
              }))
            })))
        }))
    })
  })

/** The third event of one run is lost, and the second comes twice. */
const lossy = tampering((value) => {
  const event = JSON.parse(text(value))
  return event.runId.endsWith("-1") && event.sequence === 3
    ? Buffer.from(JSON.stringify({ ...event, sequence: 2 }))
    : value
})

/** The last event of one run is replaced by one of a run that nobody planned. */
const truncating = tampering((value) => {
  const event = JSON.parse(text(value))
  return event.runId.endsWith("-1") && event.type === "run_completed"
    ? Buffer.from(JSON.stringify({ ...event, runId: "another" }))
    : value
})

const failure = <A, E>(exit: Exit.Exit<A, E>): E | undefined =>
  Exit.isFailure(exit) ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined

const seeded = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.withRandom(effect, Random.make("a morning"))

describe("the run-events example", () => {
  it.effect("ends well, and says so", () =>
    Effect.gen(function*() {
      const { exit, lines } = yield* morning
      const { total } = yield* Plan.Plan
      assert.deepStrictEqual(exit, Exit.void)
      assert.deepStrictEqual(
        lines.slice(lines.findIndex((line) => line.startsWith("4 runs and"))).map((line) => line.trim()),
        [
          `4 runs and ${total} events in 2.0 s`,
          `ok  producer: ${total} of ${total} events acknowledged`,
          "ok  projection: 4 of 4 runs are in the state that was planned",
          `ok  projection: ${total} of ${total} events, each run in its order`,
          `ok  printer: ${total} of ${total} events, each run in its order`,
          "ok  projection: everything is committed, in 3 partitions",
          "ok  printer: everything is committed, in 3 partitions"
        ]
      )
    }).pipe(Effect.provide(on(Kafka.inMemory)), seeded))

  it.effect("leaves all events in the log, a run's events in one partition and in order", () =>
    Effect.gen(function*() {
      yield* morning
      const plan = yield* Plan.Plan
      const broker = yield* InMemoryKafka.InMemoryBroker
      const topic = yield* TopicRegistry.resolve(RUN_EVENTS_TOPIC)
      const logs = yield* Effect.forEach([0, 1, 2], (partition) => broker.log(TopicPartition.make(topic, partition)))
      for (const run of plan.runs) {
        const found = logs.map((log) =>
          log.filter(({ key }) => text(key) === run.runId).map(({ value }) => JSON.parse(text(value)))
        )
        assert.deepStrictEqual(found.filter((events) => events.length > 0), [
          run.events.map((event) => ({ ...event }))
        ])
      }
    }).pipe(Effect.provide(on(Kafka.inMemory)), seeded))

  it.effect("prints each payload, and the progress, line by line in a pipe", () =>
    Effect.gen(function*() {
      const { lines } = yield* morning
      const { runs, total } = yield* Plan.Plan
      const payloads = lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line))
      assert.strictEqual(payloads.length, total)
      for (const run of runs) {
        assert.deepStrictEqual(
          payloads.filter(({ runId }) => runId === run.runId),
          run.events.map((event) => ({ ...event }))
        )
      }
      assert.isNotEmpty(lines.filter((line) => /^-- \d+ of \d+ events produced/.test(line)))
      assert.notInclude(lines.join("\n"), "\x1b")
    }).pipe(Effect.provide(on(Kafka.inMemory)), seeded))

  it.effect("redraws one board in a terminal, and gives the cursor back", () =>
    Effect.gen(function*() {
      const terminal = fakeTerminal(true)
      const { exit, lines } = yield* Effect.provide(morning, on(Kafka.inMemory, terminal))
      assert.deepStrictEqual(exit, Exit.void)
      // the payloads are on the board; only the summary is printed
      assert.isEmpty(lines.filter((line) => line.startsWith("{")))
      assert.isNotEmpty(lines.filter((line) => line.startsWith("4 runs and")))
      const [hide, first, ...others] = terminal.displayed
      const last = others.pop()
      assert.strictEqual(hide, "\x1b[?25l")
      assert.match(first ?? "", /^CoffeeBuddy: 4 coffee runs over Kafka in this process/)
      for (const frame of others) assert.isTrue(frame.startsWith("\x1b["))
      assert.match(others.at(-1) ?? "", /completed[^]*run_completed/)
      assert.strictEqual(last, "\x1b[?25h")
    }).pipe(seeded))

  it.effect("fails and says what is wrong when the projection forgets an event", () =>
    Effect.gen(function*() {
      const { exit, lines } = yield* morning
      const { runs } = yield* Plan.Plan
      assert.instanceOf(failure(exit), SummaryWrong)
      const forgotten = runs[0]?.runId
      assert.include(lines, `  WRONG  projection: 3 of 4 runs are in the state that was planned, not ${forgotten}`)
    }).pipe(Effect.provide(on(Kafka.inMemory, fakeTerminal(false), forgetful)), seeded))

  it.effect("fails and says what is wrong when an event is lost and another one comes twice", () =>
    Effect.gen(function*() {
      const { exit, lines } = yield* morning
      const { total } = yield* Plan.Plan
      assert.instanceOf(failure(exit), SummaryWrong)
      for (const reader of ["projection", "printer"]) {
        assert.include(
          lines,
          `  WRONG  ${reader}: ${
            total - 1
          } of ${total} events, each run in its order, 1 missing in between, 1 delivered again`
        )
      }
    }).pipe(Effect.provide(on(lossy)), seeded))

  it.effect("does not wait for ever for what never comes", () =>
    Effect.gen(function*() {
      const { exit, lines } = yield* morning
      assert.instanceOf(failure(exit), SummaryWrong)
      assert.match(lines.join("\n"), /WRONG {2}printer: \d+ of \d+ events/)
    }).pipe(Effect.provide(on(truncating)), seeded))
})
