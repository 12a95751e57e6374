import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { KeyLocks } from "../../src/engine/worker/KeyLocks.ts"

const steps = FastCheck.array(FastCheck.oneof(
  FastCheck.record({ _tag: FastCheck.constant("send" as const), key: FastCheck.constantFrom("a", "b", "c") }),
  FastCheck.record({ _tag: FastCheck.constant("commit" as const), by: FastCheck.integer({ min: 1, max: 3 }) })
))

describe("KeyLocks", () => {
  it.prop("a key is locked as long as a record of it is not covered by what was committed", [steps], ([steps]) => {
    const locks = new KeyLocks()
    const log: Array<string> = []
    let committed = 0
    for (const step of steps) {
      if (step._tag === "send") {
        locks.lock(step.key, BigInt(log.length))
        log.push(step.key)
      } else {
        committed = Math.min(log.length, committed + step.by)
        locks.release(BigInt(committed))
      }
      const unfinished = new Set(log.slice(committed))
      for (const key of ["a", "b", "c"]) expect(locks.isLocked(key)).toBe(unfinished.has(key))
      expect(locks.size).toBe(unfinished.size)
      expect(locks.isEmpty).toBe(unfinished.size === 0)
    }
  })
})
