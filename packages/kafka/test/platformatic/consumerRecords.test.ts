import { assert, describe, expect, it } from "@effect/vitest"
import type { KafkaRecord, RecordsBatch } from "@platformatic/kafka"
import * as FastCheck from "effect/FastCheck"
import { chunk, type FetchedPartition, view } from "../../src/drivers/platformatic/consumerRecords.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

const tp = TopicPartition.make("a", 0)

/** A record batch as the broker stores it. */
interface Batch {
  readonly first: number
  /** Offsets that are still there after compaction, from the first one on. */
  readonly deltas: ReadonlyArray<number>
  readonly lastDelta: number
  readonly producerId?: bigint
  readonly control?: "commit" | "abort"
}

const record = (offsetDelta: number, more: Partial<KafkaRecord> = {}): KafkaRecord => ({
  length: 0,
  attributes: 0,
  timestampDelta: 0n,
  offsetDelta,
  key: null,
  value: Buffer.from("v"),
  headers: [],
  ...more
})

const parsed = (batch: Batch, more: Partial<RecordsBatch> = {}): RecordsBatch => ({
  firstOffset: BigInt(batch.first),
  length: 0,
  partitionLeaderEpoch: 0,
  magic: 2,
  crc: 0,
  attributes: (batch.producerId === undefined ? 0 : 1 << 4) | (batch.control === undefined ? 0 : 1 << 5),
  lastOffsetDelta: batch.lastDelta,
  firstTimestamp: 1_700_000_000_000n,
  maxTimestamp: 1_700_000_000_999n,
  producerId: batch.producerId ?? -1n,
  producerEpoch: 0,
  firstSequence: 0,
  records: batch.deltas.map((delta) =>
    record(
      delta,
      batch.control === undefined ? {} : { key: Buffer.from([0, 0, 0, batch.control === "abort" ? 0 : 1]) }
    )
  ),
  ...more
})

const one = (first: number, more: Partial<Batch> = {}): Batch => ({ first, deltas: [0], lastDelta: 0, ...more })

const response = (
  batches: ReadonlyArray<RecordsBatch>,
  abortedTransactions: FetchedPartition["abortedTransactions"] = []
): FetchedPartition => ({
  partitionIndex: 0,
  errorCode: 0,
  highWatermark: 20n,
  lastStableOffset: 10n,
  logStartOffset: 0n,
  abortedTransactions,
  preferredReadReplica: -1,
  records: [...batches]
})

const read = (position: number, data: FetchedPartition, committedOnly = true) => {
  const found = chunk(tp, BigInt(position), data, committedOnly)
  return found && { offsets: found.records.map((raw) => Number(view.offset(raw))), next: Number(found.nextOffset) }
}

describe("records of a fetch through Platformatic", () => {
  it("a batch that begins before the position gives its records from the position on", () => {
    const data = response([parsed({ first: 10, deltas: [0, 1, 2, 3], lastDelta: 3 })])
    expect(read(12, data)).toEqual({ offsets: [12, 13], next: 14 })
    expect(read(10, data)).toEqual({ offsets: [10, 11, 12, 13], next: 14 })
  })

  it("the position passes what was compacted away, be it the end of a batch or all of it", () => {
    const gap = { first: 0, deltas: [0, 3], lastDelta: 9 }
    expect(read(0, response([parsed(gap)]))).toEqual({ offsets: [0, 3], next: 10 })
    expect(read(7, response([parsed(gap)]))).toEqual({ offsets: [], next: 10 })
    expect(read(0, response([parsed({ ...gap, deltas: [] })]))).toEqual({ offsets: [], next: 10 })
  })

  it("nothing new is no chunk", () => {
    assert.isUndefined(read(0, response([])))
    assert.isUndefined(read(0, { ...response([]), records: null }))
    assert.isUndefined(read(1, response([parsed(one(0))])))
  })

  it("the end of the log is what this reader may see", () => {
    const data = response([parsed(one(0))])
    assert.strictEqual(chunk(tp, 0n, data, true)?.highWatermark, 10n)
    assert.strictEqual(chunk(tp, 0n, data, false)?.highWatermark, 20n)
  })

  it("where the broker stamps records, all of a batch have its time; else each has its own, exact", () => {
    const records = [record(0), record(1, { timestampDelta: 5n })]
    const batch = { ...parsed(one(0)), lastOffsetDelta: 1, records, firstTimestamp: 9_007_199_254_740_993n }
    const times = (data: RecordsBatch) => chunk(tp, 0n, response([data]), true)?.records.map(view.timestamp)
    expect(times(batch)).toEqual([9_007_199_254_740_993n, 9_007_199_254_740_998n])
    expect(times({ ...batch, attributes: 1 << 3 })).toEqual([1_700_000_000_999n, 1_700_000_000_999n])
  })

  it("offsets are exact, headers keep their order and their repetitions, bytes are those of all parts", () => {
    const batch = parsed(one(0), {
      firstOffset: 9_007_199_254_740_993n,
      records: [record(0, {
        key: Buffer.alloc(3),
        value: Buffer.alloc(5),
        headers: [
          [Buffer.from("ab"), Buffer.alloc(7)],
          [Buffer.from("c"), Buffer.alloc(1)],
          [Buffer.from("ab"), null]
        ]
      })]
    })
    const found = chunk(tp, 0n, response([batch]), true)!
    assert.strictEqual(view.offset(found.records[0]!), 9_007_199_254_740_993n)
    expect(view.headers(found.records[0]!)).toEqual([["ab", Buffer.alloc(7)], ["c", Buffer.alloc(1)], ["ab", null]])
    assert.strictEqual(found.bytes, 3 + 5 + 2 + 7 + 1 + 1 + 2)
  })

  /** A log of transactions by three producers, and what readers of committed records should see of it. */
  const log = FastCheck.array(
    FastCheck.record({
      producer: FastCheck.bigInt({ min: 0n, max: 3n }),
      act: FastCheck.constantFrom("write" as const, "write" as const, "commit" as const, "abort" as const),
      size: FastCheck.integer({ min: 1, max: 3 })
    }),
    { maxLength: 30 }
  ).map((steps) => {
    const batches: Array<Batch> = []
    const open = new Map<bigint, { from: number; offsets: Array<number> }>()
    const aborted: Array<{ producerId: bigint; firstOffset: bigint; marker: number }> = []
    const hidden = new Set<number>()
    let offset = 0
    const end = (producerId: bigint, control: "commit" | "abort"): void => {
      const transaction = open.get(producerId)
      if (transaction === undefined) return
      open.delete(producerId)
      if (control === "abort") {
        aborted.push({ producerId, firstOffset: BigInt(transaction.from), marker: offset })
        for (const one of transaction.offsets) hidden.add(one)
      }
      batches.push(one(offset++, { producerId, control }))
    }
    for (const { act, producer, size } of steps) {
      if (act !== "write") {
        end(producer, act)
        continue
      }
      const deltas = Array.from({ length: size }, (_, i) => i)
      // producer 0 is not transactional
      batches.push({ first: offset, deltas, lastDelta: size - 1, ...(producer === 0n ? {} : { producerId: producer }) })
      if (producer !== 0n) {
        const transaction = open.get(producer) ?? { from: offset, offsets: [] }
        open.set(producer, transaction)
        transaction.offsets.push(...deltas.map((delta) => offset + delta))
      }
      offset += size
    }
    for (const producer of open.keys()) end(producer, "commit")
    return { batches, aborted, hidden, end: offset }
  })

  it("however a log is cut into fetches, readers of committed records see all of those and no others", () => {
    FastCheck.assert(
      FastCheck.property(
        log,
        FastCheck.array(FastCheck.integer({ min: 1, max: 4 }), { minLength: 1 }),
        FastCheck.boolean(),
        ({ aborted, batches, end, hidden }, cuts, committedOnly) => {
          const seen: Array<number> = []
          let position = 0
          for (let turn = 0; position < end; turn++) {
            const from = batches.findIndex((batch) => batch.first + batch.lastDelta >= position)
            const part = batches.slice(from, from + cuts[turn % cuts.length]!)
            const last = part.at(-1)!
            // the broker lists those that overlap what it sends, the latest first for once
            const listed = aborted
              .filter(({ firstOffset, marker }) =>
                marker >= position && Number(firstOffset) <= last.first + last.lastDelta
              )
              .reverse()
            const found = read(position, response(part.map((batch) => parsed(batch)), listed), committedOnly)!
            seen.push(...found.offsets)
            assert.isAbove(found.next, position)
            position = found.next
          }
          const visible = batches
            .filter(({ control }) => control === undefined)
            .flatMap(({ deltas, first }) => deltas.map((delta) => first + delta))
            .filter((offset) => !committedOnly || !hidden.has(offset))
          assert.deepStrictEqual(seen, visible)
        }
      )
    )
  })
})
