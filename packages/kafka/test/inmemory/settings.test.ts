import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import { KafkaClient } from "../../src/KafkaClient.ts"

/** Why brokers like these can't be had. The options are those of a program without types. */
const refusal = (options: object) =>
  KafkaClient.pipe(
    Effect.provide(InMemoryKafka.layerWith(options)),
    Effect.match({ onFailure: String, onSuccess: () => "accepted" })
  )

it.effect("what is no number of brokers or partitions is refused at once", () =>
  Effect.gen(function*() {
    for (const name of ["brokers", "defaultPartitions"]) {
      for (const odd of [0, -1, 1.5, Number.NaN, Infinity, "two"]) {
        expect(yield* refusal({ [name]: odd })).toContain(`expected a whole number above zero, found "${odd}"`)
      }
      expect(yield* refusal({ [name]: 3 })).toBe("accepted")
    }
  }))

it.effect("so are durations that are none, all of them together", () =>
  Effect.gen(function*() {
    const names = ["initialRebalanceDelay", "minSessionTimeout"]
    const aboveZero = [
      "maxSessionTimeout",
      "offsetsRetention",
      "maxTransactionTimeout",
      "connectionTimeout",
      "metadataRefresh"
    ]
    const all = (names: ReadonlyArray<string>, value: unknown) => Object.fromEntries(names.map((name) => [name, value]))
    for (const odd of [-1, Number.NaN, "soon"]) {
      const text = yield* refusal(all([...names, ...aboveZero], odd))
      for (const name of [...names, ...aboveZero]) expect(text).toContain(`InMemoryKafka.${name}`)
    }
    expect(yield* refusal(all(names, 0))).toBe("accepted")
    const text = yield* refusal(all(aboveZero, 0))
    for (const name of aboveZero) expect(text).toContain(`InMemoryKafka.${name}`)
  }))

it.effect("and session timeouts that no member could have", () =>
  Effect.gen(function*() {
    expect(yield* refusal({ minSessionTimeout: "2 minutes", maxSessionTimeout: "1 minute" })).toContain(
      "120000 ms is more than maxSessionTimeout (60000 ms)"
    )
  }))
