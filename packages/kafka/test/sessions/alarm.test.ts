import { expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as Alarm from "../../src/drivers/alarm.ts"

/** When somebody woke who had set the alarm to that time, from one time to the next. */
const naps = (alarm: Alarm.Alarm, times: ReadonlyArray<number>) =>
  Effect.forEach(times, (until) => Effect.zipRight(alarm.sleep(until), Clock.currentTimeMillis))

it.scoped("wakes at the time at the latest, whether that is later or earlier than the last one", () =>
  Effect.gen(function*() {
    const alarm = yield* Alarm.make
    const sleeper = yield* Effect.fork(naps(alarm, [100, 500, 200, 1000]))
    yield* TestClock.adjust(2000)
    expect(yield* Fiber.join(sleeper)).toEqual([100, 500, 500, 1000])

    const between = yield* Effect.fork(naps(alarm, [5000, 3000]))
    yield* TestClock.adjust(500)
    alarm.ring()
    yield* TestClock.adjust(500)
    expect(yield* Fiber.join(between)).toEqual([2500, 3000])
  }))

it.scoped("who has rung before anybody slept keeps the next from it, once, unless it is forgotten", () =>
  Effect.gen(function*() {
    const alarm = yield* Alarm.make
    alarm.ring()
    yield* alarm.sleep(1000)
    const sleeper = yield* Effect.fork(alarm.sleep(1000))
    yield* TestClock.adjust(999)
    expect(sleeper.unsafePoll()).toBe(null)
    yield* TestClock.adjust(1)
    yield* Fiber.join(sleeper)

    alarm.ring()
    alarm.silence()
    const other = yield* Effect.fork(alarm.sleep(2000))
    yield* TestClock.adjust(999)
    expect(other.unsafePoll()).toBe(null)
    yield* Fiber.interrupt(other)
    alarm.ring()
    yield* alarm.sleep(9000)
    expect(yield* Clock.currentTimeMillis).toBe(1999)
  }))
