import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Signal } from "../../src/drivers/signal.ts"

it.effect("a signal that was raised before is taken once", () =>
  Effect.gen(function*() {
    const signal = new Signal()
    signal.raise()
    yield* signal.wait
    expect(signal.take()).toBe(false)
  }))

it.effect("who waits is told", () =>
  Effect.gen(function*() {
    const signal = new Signal()
    const waiter = yield* Effect.fork(signal.wait)
    yield* Effect.yieldNow()
    signal.raise()
    yield* Fiber.join(waiter)
    expect(signal.take()).toBe(false)
  }))

it.effect("a signal is not lost on somebody who is interrupted in the same moment", () =>
  Effect.gen(function*() {
    const signal = new Signal()
    const waiter = yield* Effect.fork(signal.wait)
    yield* Effect.yieldNow()
    signal.raise()
    yield* Fiber.interrupt(waiter)
    // the next one is told
    yield* signal.wait
  }))

it.effect("nor on somebody who was interrupted before", () =>
  Effect.gen(function*() {
    const signal = new Signal()
    const waiter = yield* Effect.fork(signal.wait)
    yield* Effect.yieldNow()
    yield* Fiber.interrupt(waiter)
    signal.raise()
    yield* signal.wait
    expect(signal.isRaised).toBe(false)
  }))
