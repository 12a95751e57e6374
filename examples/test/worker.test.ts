import { Producer } from "@coffeebuddy/kafka"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"
import { inMemory } from "../run-events/kafka.ts"
import { TillLive } from "../worker/loyalty.ts"
import { program } from "../worker/program.ts"
import { withCapturedConsole } from "./support.ts"

describe("the worker with retries and dead letters", () => {
  it.live("stamps every order once, those of a guest without a card when there is one", () =>
    Effect.gen(function*() {
      const { exit, lines } = yield* withCapturedConsole(program)
      assert.deepStrictEqual(exit, Exit.void)
      assert.match(lines[0]!, /^stamped: /)
      assert.match(lines[1]!, /^dead letter: NoCard, \w+ has no loyalty card \(attempt 2\)$/)
      assert.match(lines.at(-1)!, /^stamped after \d+ were sent back: \w+$/)
    }).pipe(Effect.provide(Layer.merge(Producer.layer(), TillLive)), Effect.provide(inMemory)))
})
