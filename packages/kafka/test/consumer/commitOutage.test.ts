import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Consumer from "../../src/Consumer.ts"
import { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import { broker, consumer, Runs, texts, write } from "./support.ts"

const pass = (seconds: number) => Effect.repeatN(TestClock.adjust("1 second"), seconds - 1)

const options = { commitTimeout: "10 seconds", unavailableAfter: "1 minute" } as const

/** A stream whose commits do not arrive from now on. */
const reading = Effect.gen(function*() {
  const kafka = yield* InMemoryBroker
  yield* write("runs", 0, texts(3))
  const fault = yield* kafka.failNext("commit", 1000, "connection-refused")
  const fiber = yield* Effect.fork(
    Consumer.stream(Runs).pipe(Consumer.commitWithin(1000, "1 second"), Stream.runDrain)
  )
  return { kafka, fault, fiber }
})

describe("commits that nobody waits for, while the coordinator does not answer", () => {
  it.effect("are sent once it answers again, however often their time was over", () =>
    Effect.gen(function*() {
      const { fault, fiber, kafka } = yield* reading
      yield* pass(40)
      expect(fiber.unsafePoll()).toBeNull()
      expect(yield* kafka.committed("group")).toEqual([])
      yield* fault.disarm
      yield* pass(5)
      expect(yield* kafka.committed("group")).toEqual([{ topic: "runs", partition: 0, offset: 3n }])
      expect(fiber.unsafePoll()).toBeNull()
    }).pipe(Effect.provide(consumer(options)), Effect.provide(broker(1))))

  it.effect("end their stream where it stays silent for as long as the consumer bears", () =>
    Effect.gen(function*() {
      const { fiber } = yield* reading
      yield* pass(90)
      const error = yield* Effect.flip(Fiber.join(fiber))
      expect(error).toMatchObject({ _tag: "CommitError", reason: "timeout" })
    }).pipe(Effect.provide(consumer(options)), Effect.provide(broker(1))))
})
