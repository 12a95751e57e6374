import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as FetchPlanner from "../../src/engine/consumer/FetchPlanner.ts"

const bounds = { partitionBytes: 1000, partitionRecords: 100, totalBytes: 3000, totalRecords: 400 }

const fills = FastCheck.array(
  FastCheck.record({
    bufferedBytes: FastCheck.integer({ min: 0, max: 2500 }),
    bufferedRecords: FastCheck.integer({ min: 0, max: 250 }),
    hungry: FastCheck.boolean(),
    withheld: FastCheck.boolean()
  }),
  { maxLength: 20 }
).map((all) =>
  all.map((one, index): FetchPlanner.PartitionFill => ({
    ...one,
    bufferedBytes: one.bufferedRecords === 0 ? 0 : one.bufferedBytes,
    key: `runs:${index}`
  }))
)

describe("FetchPlanner", () => {
  it.prop("every partition is either demanded or withheld", [fills], ([all]) => {
    const plan = FetchPlanner.plan(all, bounds)
    for (const { key } of all) expect(plan.demand.has(key)).toBe(!plan.withheld.has(key))
  })

  it.prop("a full partition is withheld until half of it is gone", [fills], ([all]) => {
    const plan = FetchPlanner.plan(all, bounds)
    for (const one of all) {
      if (one.bufferedBytes >= bounds.partitionBytes || one.bufferedRecords >= bounds.partitionRecords) {
        expect(plan.withheld.has(one.key)).toBe(true)
      }
      if (one.withheld && one.bufferedBytes * 2 >= bounds.partitionBytes) expect(plan.withheld.has(one.key)).toBe(true)
    }
  })

  it.prop("when all is full only what somebody waits for is fetched, and that always is", [fills], ([all]) => {
    const plan = FetchPlanner.plan(all, bounds)
    const full = all.reduce((sum, one) => sum + one.bufferedBytes, 0) >= bounds.totalBytes ||
      all.reduce((sum, one) => sum + one.bufferedRecords, 0) >= bounds.totalRecords
    for (const one of all) {
      if (one.bufferedRecords === 0 && one.hungry) expect(plan.demand.has(one.key)).toBe(true)
      else if (full) expect(plan.demand.has(one.key)).toBe(false)
      if (!full && one.bufferedRecords === 0) expect(plan.demand.has(one.key)).toBe(true)
    }
  })

  it.prop("never asks for more of a partition than fits", [fills], ([all]) => {
    const plan = FetchPlanner.plan(all, bounds)
    for (const one of all) {
      const demand = plan.demand.get(one.key)
      if (demand !== undefined) expect(demand.maxBytes + one.bufferedBytes).toBe(bounds.partitionBytes)
    }
  })
})
