import { assert, describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Portions } from "../../src/drivers/portions.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import { planOf } from "../sessions/plan.ts"

/** A chunk of so many records that take so many bytes each. */
const answer = (records: number, size: number) => {
  const topicPartition = TopicPartition.make("a", 0)
  return {
    _tag: "Records" as const,
    wanted: planOf(topicPartition).wanted[0]!,
    chunk: {
      _tag: "Chunk" as const,
      topicPartition,
      records: Array.from({ length: records }),
      view: {} as never,
      bytes: records * size,
      nextOffset: BigInt(records),
      highWatermark: BigInt(records)
    }
  }
}

describe("what a fetch asks for", () => {
  it("small records come in smaller answers than large ones, within what the program allows", () => {
    const portions = new Portions()
    const most = 32 << 20
    const limitOf = (size: number) => {
      portions.learn([answer(10, size), { _tag: "Moved", wanted: answer(0, 0).wanted }])
      return portions.limit(most)
    }
    expect(limitOf(200)).toBe(3_000_000)
    expect(limitOf(10)).toBe(1 << 20)
    expect(limitOf(100_000)).toBe(most)
    assert.strictEqual(portions.limit(1000), 1000)
    portions.learn([answer(0, 0)])
    assert.strictEqual(portions.limit(most), most)
  })

  it("each partition is the first in its turn, and none is forgotten", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.uniqueArray(FastCheck.nat()), FastCheck.nat({ max: 100 }), (all, before) => {
        const portions = new Portions()
        for (let i = 0; i < before; i++) portions.inTurn(all)
        const turns = all.map(() => portions.inTurn(all))
        for (const turn of turns) assert.deepStrictEqual([...turn].sort(), [...all].sort())
        assert.deepStrictEqual(turns.map(([first]) => first!).sort(), [...all].sort())
      })
    )
  })
})
