import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { program } from "../kitchen/program.ts"
import { inMemory } from "../run-events/kafka.ts"
import { withCapturedConsole } from "./support.ts"

describe("the kitchen", () => {
  it.live("makes a cup of each order, and each once", () =>
    Effect.gen(function*() {
      const { exit } = yield* withCapturedConsole(program)
      const { cups, ordered } = yield* exit
      assert.isAbove(ordered, 20)
      assert.strictEqual(Object.values(cups).reduce((sum, many) => sum + many, 0), ordered)
    }).pipe(Effect.provide(inMemory)))
})
