import { assert, describe, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import { help, parse } from "../run-events/settings.ts"

describe("the arguments of npm start", () => {
  it.effect("all have a default", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* parse([]), {
        help: false,
        "start-kafka": false,
        runs: 8,
        seconds: 4,
        "metrics-port": 0,
        "keep-serving": false
      })
    }))

  it.effect("are read", () =>
    Effect.gen(function*() {
      const args = ["--runs", "20", "--seconds=0.5", "--start-kafka", "--metrics-port", "9464", "--keep-serving"]
      assert.deepStrictEqual(yield* parse(args), {
        help: false,
        "start-kafka": true,
        runs: 20,
        seconds: 0.5,
        "metrics-port": 9464,
        "keep-serving": true
      })
    }))

  for (
    const [args, complaint] of [
      [["--runs", "some"], /^--runs: .*"some"/],
      [["--runs", "0"], /^--runs: /],
      [["--seconds", "1.5e9"], /^--seconds: /],
      [["--metrics-port", "70000"], /^--metrics-port: /],
      [["--faster"], /--faster/],
      [["later"], /later/]
    ] as const
  ) {
    it.effect(`${args.join(" ")} is refused, and the help says what is not`, () =>
      Effect.gen(function*() {
        const refused = yield* Effect.either(parse(args))
        assert.isTrue(Either.isLeft(refused))
        if (Either.isLeft(refused)) {
          assert.match(refused.left.message, complaint)
          assert.include(refused.left.message, help)
        }
      }))
  }
})
