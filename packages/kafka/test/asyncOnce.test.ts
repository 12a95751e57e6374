import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { asyncOnce, tryPromiseOnce } from "../src/engine/asyncOnce.ts"

describe("an effect that is run once", () => {
  it.effect("goes on with what it is told, at once or later", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* asyncOnce<number>((resume) => resume(Effect.succeed(1))), 1)
      let later: ((effect: Effect.Effect<number, string>) => void) | undefined
      const fiber = yield* Effect.fork(asyncOnce<number, string>((resume) => void (later = resume)))
      yield* Effect.yieldNow()
      assert.isNull(fiber.unsafePoll())
      later?.(Effect.fail("no"))
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail("no"))
    }))

  it.effect("dies if it is run again, and does not wait for what will never be told", () =>
    Effect.gen(function*() {
      const once = asyncOnce<number>((resume) => resume(Effect.succeed(1)))
      yield* once
      const exit = yield* Effect.exit(once)
      assert(Exit.isFailure(exit) && Cause.isDie(exit.cause))
    }))

  it.effect("can be interrupted", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(asyncOnce<number>(() => {}))
      yield* Effect.yieldNow()
      assert(Exit.isInterrupted(yield* Fiber.interrupt(fiber)))
    }))

  it.effect("takes what comes of a promise, and what its maker throws", () =>
    Effect.gen(function*() {
      const failing = (attempt: () => Promise<number>) =>
        tryPromiseOnce({ try: attempt, catch: (error) => ({ error }) })
      assert.strictEqual(yield* failing(() => Promise.resolve(1)), 1)
      assert.deepStrictEqual(yield* Effect.flip(failing(() => Promise.reject("no"))), { error: "no" })
      const thrown = failing(() => {
        throw "at once"
      })
      assert.deepStrictEqual(yield* Effect.flip(thrown), { error: "at once" })
    }))
})
