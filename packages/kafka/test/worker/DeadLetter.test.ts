import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Consumer from "../../src/Consumer.ts"
import * as ConsumerWorker from "../../src/ConsumerWorker.ts"
import * as DeadLetter from "../../src/DeadLetter.ts"
import { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import * as Producer from "../../src/Producer.ts"
import { kafka, logOf, Runs, texts, write } from "./support.ts"

const topics = [Runs, DeadLetter.topic(Runs)]

const reader = Consumer.layer({ groupId: "support" })

/** A worker that refuses what begins so, and sends it to the dead letters. */
const refusing = (start: string) =>
  Effect.scoped(Effect.gen(function*() {
    const worker = yield* ConsumerWorker.make(
      Runs,
      ({ value }) => value.startsWith(start) ? Effect.fail(new Error(`no ${value}`)) : Effect.void,
      { groupId: "group", deadLetter: true }
    )
    yield* TestClock.adjust("5 seconds")
    yield* worker.stop
  }))

describe("dead letters", () => {
  it.effect("are read with their origin, and decoded when asked for", () =>
    Effect.gen(function*() {
      const broker = yield* InMemoryBroker
      yield* broker.produce({ topic: "runs", partition: 1 }, [
        { key: "a", value: Uint8Array.of(0xff), headers: { x: "1" }, timestamp: 7n },
        { key: "bad", value: "bad:1" }
      ])
      yield* refusing("bad")
      const letters = yield* Stream.runCollect(DeadLetter.stream(Runs, { until: "end" })).pipe(Effect.provide(reader))
      const [first, second] = [...letters].toSorted((a, b) => Number(a.origin.offset - b.origin.offset))
      expect(first).toMatchObject({
        origin: { topic: "runs", partition: 1, offset: 0n, timestamp: 7n },
        group: "group",
        attempt: 0,
        error: "DeserializationError",
        replays: 0
      })
      expect(texts(first!.headers)).toEqual([["x", "1"]])
      expect(Exit.isFailure(yield* Effect.exit(first!.record))).toBe(true)
      expect(second).toMatchObject({ attempt: 1, error: "Error", message: "no bad:1" })
      expect(yield* second!.record).toMatchObject({
        topic: "runs",
        partition: 1,
        offset: 1n,
        key: "bad",
        value: "bad:1"
      })
    }).pipe(Effect.provide(kafka(topics))))

  it.effect("what nobody's worker has written is an error, or left out if asked", () =>
    Effect.gen(function*() {
      const broker = yield* InMemoryBroker
      yield* broker.produce({ topic: "runs.dlt", partition: 0 }, [{ value: "by hand" }])
      const error = yield* Effect.flip(Stream.runDrain(DeadLetter.stream(Runs, { until: "end" }))).pipe(
        Effect.provide(reader)
      )
      expect(error).toMatchObject({ _tag: "MalformedDeadLetterError", topic: "runs.dlt", offset: 0n })
      const left = yield* Stream.runCount(DeadLetter.stream(Runs, { until: "end", onMalformed: "skip" })).pipe(
        Effect.provide(reader)
      )
      expect(left).toBe(0)
    }).pipe(Effect.provide(kafka(topics))))

  it.effect("chosen ones go back as they were and say how often, and no second time", () =>
    Effect.gen(function*() {
      yield* Producer.send(Runs, { key: "bad", value: "bad:1", partition: 1, headers: { x: "1" } })
      yield* write(["bad:2", "good:1", "bad:3"])
      yield* refusing("bad")
      const replay = (options: DeadLetter.ReplayOptions<typeof Runs> = {}) =>
        DeadLetter.replay(Runs, options).pipe(Effect.provide(reader))
      const dry = yield* replay({ dryRun: true })
      expect(dry.replayed.map((one) => one.to)).toEqual([undefined, undefined, undefined])
      expect(yield* logOf("runs", 1)).toHaveLength(1)

      const done = yield* replay({ select: (letter) => letter.origin.partition === 1 })
      expect(done.passed).toBe(2)
      expect(done.replayed).toMatchObject([
        { origin: { partition: 1, offset: 0n }, to: { topic: "runs", partition: 1, offset: 1n } }
      ])
      const log = yield* logOf("runs", 1)
      expect(log[1]!.value).toEqual(log[0]!.value)
      expect(texts(log[1]!.headers)).toEqual([["x", "1"], ["kafka.replays", "1"]])
      expect(yield* replay()).toEqual({ replayed: [], passed: 0 })

      // it fails again
      yield* refusing("bad")
      const [again] = yield* Stream.runCollect(DeadLetter.stream(Runs, { until: "end" })).pipe(Effect.provide(reader))
      expect(again).toMatchObject({ replays: 1, origin: { offset: 1n } })
      yield* replay()
      expect(texts((yield* logOf("runs", 1))[2]!.headers)).toEqual([["x", "1"], ["kafka.replays", "2"]])
    }).pipe(Effect.provide(kafka(topics))))
})
