import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Lease } from "../../src/engine/consumer/Lease.ts"

const timeout = 6000

describe("a member's lease", () => {
  it("is not over where none was ever given: outside of groups nobody takes partitions away", () => {
    expect(new Lease(timeout).isOver(Number.MAX_SAFE_INTEGER)).toBe(false)
  })

  it("ends a session timeout after the request was sent that was answered last, whenever the answer was read", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.array(FastCheck.record({ wait: FastCheck.nat(10_000), took: FastCheck.nat(10_000) }), { minLength: 1 }),
      FastCheck.nat(20_000),
      (answers, later) => {
        const lease = new Lease(timeout)
        let now = 1_000_000
        let sentAt = 0
        for (const { took, wait } of answers) {
          now += wait
          const before = lease.isOver(now)
          sentAt = now - took
          const wakes = lease.confirm(now, took)
          expect(wakes).toBe(before && took < timeout)
          expect(lease.isOver(now)).toBe(took >= timeout)
        }
        expect(lease.isOver(now + later)).toBe(now + later - sentAt >= timeout)
        // what is fresh stays good for half a session
        expect(lease.isFresh(now + later) && lease.isOver(now + later + timeout / 2)).toBe(false)
      }
    ))
  })
})
