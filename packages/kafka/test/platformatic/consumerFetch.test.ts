import { assert, describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import type { FetchResponse } from "../../src/drivers/platformatic/consumerApis.ts"
import { Portions, rotated } from "../../src/drivers/platformatic/consumerFetch.ts"

/** One batch of so many records, of so many bytes each. */
const response = (records: number, size: number): FetchResponse => ({
  throttleTimeMs: 0,
  errorCode: 0,
  sessionId: 0,
  responses: [{
    topicId: "a",
    partitions: [{
      partitionIndex: 0,
      errorCode: 0,
      highWatermark: 0n,
      lastStableOffset: 0n,
      logStartOffset: 0n,
      abortedTransactions: null,
      preferredReadReplica: -1,
      records: [{
        firstOffset: 0n,
        length: records * size,
        partitionLeaderEpoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
        lastOffsetDelta: records - 1,
        firstTimestamp: 0n,
        maxTimestamp: 0n,
        producerId: -1n,
        producerEpoch: 0,
        firstSequence: 0,
        records: Array.from({ length: records }, (_, offsetDelta) => ({
          length: size,
          attributes: 0,
          timestampDelta: 0n,
          offsetDelta,
          key: null,
          value: null,
          headers: []
        }))
      }]
    }]
  }]
})

describe("what a fetch asks for", () => {
  it("small records come in smaller answers than large ones, within what the program allows", () => {
    const portions = new Portions()
    const most = 32 << 20
    const limitOf = (size: number) => {
      portions.learn(response(10, size))
      return portions.limit(most)
    }
    expect(limitOf(200)).toBe(3_000_000)
    expect(limitOf(10)).toBe(1 << 20)
    expect(limitOf(100_000)).toBe(most)
    assert.strictEqual(portions.limit(1000), 1000)
    portions.learn(response(0, 0))
    assert.strictEqual(portions.limit(most), most)
  })

  it("each partition is the first in its turn, and none is forgotten", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.uniqueArray(FastCheck.nat()), FastCheck.nat({ max: 100 }), (all, turn) => {
        assert.deepStrictEqual([...rotated(all, turn)].sort(), [...all].sort())
        const first = all.map((_, i) => rotated(all, turn + i)[0])
        assert.deepStrictEqual([...first].sort(), [...all].sort())
      })
    )
  })
})
