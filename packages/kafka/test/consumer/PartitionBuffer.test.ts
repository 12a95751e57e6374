import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { PartitionBuffer } from "../../src/engine/consumer/PartitionBuffer.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import { chunk } from "./chunks.ts"

const make = (start = 0): PartitionBuffer => {
  const buffer = new PartitionBuffer(TopicPartition.make("runs", 0), 1)
  buffer.startAt(BigInt(start))
  buffer.status = "active"
  return buffer
}

/** Logs with gaps: each number is the distance to the offset before, each list a chunk, with a gap behind it. */
const logs = FastCheck.array(
  FastCheck.record({
    gaps: FastCheck.array(FastCheck.integer({ min: 1, max: 4 }), { maxLength: 8 }),
    behind: FastCheck.integer({ min: 0, max: 3 })
  }),
  { maxLength: 8 }
)

describe("PartitionBuffer", () => {
  it.prop(
    "hands out exactly what was appended, in order, whatever the sizes, and counts what is left",
    [logs, FastCheck.array(FastCheck.integer({ min: 1, max: 5 }), { minLength: 1 })],
    ([log, sizes]) => {
      const buffer = make()
      const appended: Array<bigint> = []
      const taken: Array<bigint> = []
      let next = 0
      let turn = 0
      const take = () => {
        const slice = buffer.take(sizes[turn++ % sizes.length]!)
        if (slice === undefined) return false
        const records = slice.chunk.records.slice(slice.from, slice.to) as Array<bigint>
        taken.push(...records)
        expect(records.length).toBeGreaterThan(0)
        return true
      }
      for (const { behind, gaps } of log) {
        const offsets = gaps.map((gap) => {
          const offset = next + gap - 1
          next = offset + 1
          return offset
        })
        next += behind
        buffer.append(chunk(offsets, { nextOffset: next }))
        appended.push(...offsets.map(BigInt))
        take()
        expect(buffer.bufferedRecords).toBe(appended.length - taken.length)
        expect(buffer.fetched).toBe(BigInt(next))
      }
      while (take());
      expect(taken).toEqual(appended)
      expect(buffer.bufferedRecords).toBe(0)
      expect(buffer.bufferedBytes).toBe(0)
      expect(buffer.position).toBe(BigInt(next))
    }
  )

  it.prop("hands out nothing from the bound on, and knows when it is reached", [
    logs,
    FastCheck.integer({ min: 0, max: 40 })
  ], ([log, end]) => {
    const buffer = make()
    buffer.end = BigInt(end)
    const taken: Array<bigint> = []
    let next = 0
    let below = 0
    for (const { behind, gaps } of log) {
      const offsets = gaps.map((gap) => (next += gap) - 1)
      next += behind
      below += offsets.filter((offset) => offset < end).length
      buffer.append(chunk(offsets, { nextOffset: next }))
    }
    for (let slice = buffer.take(3); slice !== undefined; slice = buffer.take(3)) {
      taken.push(...slice.chunk.records.slice(slice.from, slice.to) as Array<bigint>)
    }
    expect(taken.length).toBe(below)
    expect(taken.every((offset) => offset < BigInt(end))).toBe(true)
    if (next >= end) expect(buffer.reachedEnd).toBe(true)
  })

  it("is committed when nothing was handed out, or all of it is confirmed", () => {
    const buffer = make(5)
    expect(buffer.isCommitted).toBe(true)
    buffer.append(chunk([5, 6], { nextOffset: 8 }))
    expect(buffer.isCommitted).toBe(true)
    buffer.take(10)
    expect(buffer.isCommitted).toBe(false)
    buffer.committed = 7n
    expect(buffer.isCommitted).toBe(false)
    buffer.committed = 8n
    expect(buffer.isCommitted).toBe(true)
  })
})
