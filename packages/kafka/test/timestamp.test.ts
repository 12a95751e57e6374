import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { notBefore } from "../src/engine/timestamp.ts"

describe("a time, as Kafka is asked for it", () => {
  it("is the first whole millisecond that is not before it", () => {
    expect(notBefore(1.5)).toBe(2n)
    expect(notBefore(2)).toBe(2n)
    expect(notBefore(new Date(1234))).toBe(1234n)
    FastCheck.assert(FastCheck.property(FastCheck.double({ min: 0, max: 1e15, noNaN: true }), (time) => {
      const found = Number(notBefore(time))
      expect(found).toBeGreaterThanOrEqual(time)
      expect(found - 1).toBeLessThan(time)
    }))
  })

  it("lies between 1970 and the last that Kafka knows, whatever is given", () => {
    for (const early of [-1, -1n, -0.5, -Infinity, new Date(-1)]) expect(notBefore(early)).toBe(0n)
    for (const late of [Infinity, Number.MAX_VALUE, 2n ** 70n]) expect(notBefore(late)).toBe(2n ** 63n - 1n)
  })

  it("is none where there is none", () => {
    expect(notBefore(Number.NaN)).toBeUndefined()
    expect(notBefore(new Date("when the milk boils"))).toBeUndefined()
  })
})
