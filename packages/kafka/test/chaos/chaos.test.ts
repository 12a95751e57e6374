import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RealKafka from "../support/RealKafka.ts"
import { type Act, chaos, type Options } from "./chaos.ts"
import { report } from "./report.ts"

class Own extends Context.Tag("Own")<Own, RealKafka.OwnKafka>() {}

/** What a person at the command would see, where something is wrong. */
const told = (acts: ReadonlyArray<Act>, options: Partial<Options>) =>
  Effect.gen(function*() {
    const { cluster } = yield* Own
    const lines: Array<string> = []
    const result = yield* chaos(cluster, {
      seed: 1,
      members: 2,
      partitions: 4,
      calm: false,
      acts,
      pace: [200, 2000],
      sessionTimeout: 10_000,
      rate: 100,
      patience: 60_000,
      log: (line) => void lines.push(line),
      ...options
    })
    if (result.violations.length > 0) console.error([...lines, report(result)].join("\n"))
    expect(result.violations).toEqual([])
    return result
  })

RealKafka.suiteOfOwn("processes in a group on a real Kafka", () => {
  layer(Layer.scoped(Own, RealKafka.start()), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    it.effect("members that come and leave in order, and handle no record twice", () =>
      Effect.gen(function*() {
        const { duplicates, handled, records } = yield* told(["join", "burst", "leave", "join", "leave"], {
          calm: true
        })
        expect(duplicates).toEqual(new Map())
        expect(handled).toBe(records)
      }), 120_000)

    it.effect(
      "a member and a broker that are killed, and no record is skipped",
      () => told(["burst", "kill", "kill broker", "join", "leave"], { sessionTimeout: 6000 }),
      120_000
    )
  })
})
