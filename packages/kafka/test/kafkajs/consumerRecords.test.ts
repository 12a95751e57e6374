import { assert, describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { chunk, view } from "../../src/drivers/kafkajs/consumerRecords.ts"
import type { FetchedPartition, RawRecord } from "../../src/drivers/kafkajs/internals.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

const tp = TopicPartition.make("a", 0)

/** A record batch as the broker stores it. */
interface Batch {
  readonly first: number
  /** Offsets that are still there after compaction, from the first one on. */
  readonly deltas: ReadonlyArray<number>
  readonly lastDelta: number
  readonly producerId?: string
  readonly control?: "commit" | "abort"
  readonly key?: Buffer
}

const records = (batch: Batch): ReadonlyArray<RawRecord> =>
  batch.deltas.map((delta) => ({
    offset: String(batch.first + delta),
    timestamp: "1700000000000",
    key: batch.control === undefined
      ? batch.key ?? null
      : Buffer.from([0, 0, 0, batch.control === "abort" ? 0 : 1]),
    value: Buffer.from(`v${batch.first + delta}`),
    headers: {},
    isControlRecord: batch.control !== undefined,
    batchContext: {
      firstOffset: String(batch.first),
      lastOffsetDelta: batch.lastDelta,
      producerId: batch.producerId ?? "-1",
      inTransaction: batch.producerId !== undefined
    }
  }))

const one = (first: number, more: Partial<Batch> = {}): Batch => ({ first, deltas: [0], lastDelta: 0, ...more })

const response = (
  batches: ReadonlyArray<Batch>,
  abortedTransactions: FetchedPartition["abortedTransactions"] = [],
  highWatermark = "1000"
): FetchedPartition => ({
  partition: 0,
  highWatermark,
  lastStableOffset: highWatermark,
  abortedTransactions,
  messages: batches.flatMap(records)
})

const read = (position: number, data: FetchedPartition, committedOnly = true) => {
  const found = chunk(tp, BigInt(position), data, committedOnly)
  return found && { offsets: found.records.map((raw) => Number(raw.offset)), next: Number(found.nextOffset) }
}

describe("records of a fetch through kafkajs", () => {
  it("a batch that begins before the position gives its records from the position on", () => {
    const data = response([{ first: 10, deltas: [0, 1, 2, 3], lastDelta: 3 }])
    expect(read(12, data)).toEqual({ offsets: [12, 13], next: 14 })
    expect(read(10, data)).toEqual({ offsets: [10, 11, 12, 13], next: 14 })
  })

  it("where nothing is to be filtered, kafkajs's own array is passed on", () => {
    const data = response([{ first: 0, deltas: [0, 1], lastDelta: 1 }])
    assert.strictEqual(chunk(tp, 0n, data, true)?.records, data.messages)
  })

  it("the position passes what was compacted away at the end of a batch", () => {
    expect(read(0, response([{ first: 0, deltas: [0, 3], lastDelta: 9 }]))).toEqual({ offsets: [0, 3], next: 10 })
    expect(read(7, response([{ first: 0, deltas: [0, 3], lastDelta: 9 }]))).toEqual({ offsets: [], next: 10 })
  })

  it("the position passes transaction markers, which nobody sees", () => {
    const data = response([one(0, { producerId: "7" }), one(1, { producerId: "7", control: "commit" })])
    expect(read(0, data)).toEqual({ offsets: [0], next: 2 })
    expect(read(1, data)).toEqual({ offsets: [], next: 2 })
    expect(read(0, data, false)).toEqual({ offsets: [0], next: 2 })
  })

  it("nothing new is no chunk", () => {
    assert.isUndefined(read(0, response([])))
    assert.isUndefined(read(1, response([one(0)])))
  })

  it("records of an aborted transaction are seen by those alone who want them", () => {
    const data = response([
      one(0, { producerId: "7" }),
      one(1),
      one(2, { producerId: "7", control: "abort" }),
      one(3, { producerId: "7" }),
      one(4, { producerId: "7", control: "commit" })
    ], [{ producerId: "7", firstOffset: "0" }])
    expect(read(0, data)).toEqual({ offsets: [1, 3], next: 5 })
    expect(read(0, data, false)).toEqual({ offsets: [0, 1, 3], next: 5 })
  })

  it("several aborted transactions may have begun before the first record (kafkajs delivers one of them)", () => {
    const data = response(
      [one(10, { producerId: "8" }), one(11, { producerId: "7" }), one(12, { producerId: "8" })],
      [{ producerId: "8", firstOffset: "5" }, { producerId: "7", firstOffset: "3" }]
    )
    expect(read(10, data)).toEqual({ offsets: [], next: 13 })
  })

  it("a record whose key is four zero bytes is no abort marker (kafkajs takes it for one)", () => {
    const zero = Buffer.alloc(4)
    const data = response(
      [
        one(0, { producerId: "7", key: zero }),
        one(1, { producerId: "7" }),
        one(2, { producerId: "7", control: "abort" })
      ],
      [{ producerId: "7", firstOffset: "0" }]
    )
    expect(read(0, data)).toEqual({ offsets: [], next: 3 })
  })

  it("the end of the log is what this reader may see", () => {
    const data = { ...response([one(0)]), highWatermark: "20", lastStableOffset: "10" }
    assert.strictEqual(chunk(tp, 0n, data, true)?.highWatermark, 10n)
    assert.strictEqual(chunk(tp, 0n, data, false)?.highWatermark, 20n)
  })

  it("offsets and timestamps are exact, headers keep their order and their repetitions", () => {
    const raw: RawRecord = {
      offset: "9007199254740993",
      timestamp: "9007199254740995",
      key: null,
      value: null,
      headers: { trace: Buffer.from("1"), tag: [Buffer.from("a"), null], none: null }
    }
    assert.strictEqual(view.offset(raw), 9007199254740993n)
    assert.strictEqual(view.timestamp(raw), 9007199254740995n)
    expect(view.headers(raw)).toEqual([
      ["trace", Buffer.from("1")],
      ["tag", Buffer.from("a")],
      ["tag", null],
      ["none", null]
    ])
  })

  it("bytes are those of keys, values and headers", () => {
    const raw: RawRecord = {
      offset: "0",
      key: Buffer.alloc(3),
      value: Buffer.alloc(5),
      headers: { ab: Buffer.alloc(7), c: [Buffer.alloc(1), null] }
    }
    assert.strictEqual(chunk(tp, 0n, { ...response([]), messages: [raw] }, true)?.bytes, 3 + 5 + 2 + 7 + 1 + 1)
  })

  /** A log of transactions by three producers, and what readers of committed records should see of it. */
  const log = FastCheck.array(
    FastCheck.record({
      producer: FastCheck.integer({ min: 0, max: 3 }),
      act: FastCheck.constantFrom("write" as const, "write" as const, "commit" as const, "abort" as const),
      size: FastCheck.integer({ min: 1, max: 3 })
    }),
    { maxLength: 30 }
  ).map((steps) => {
    const batches: Array<Batch> = []
    const open = new Map<number, { from: number; offsets: Array<number> }>()
    const aborted: Array<{ producerId: string; firstOffset: string }> = []
    const hidden = new Set<number>()
    let offset = 0
    const end = (producer: number, act: "commit" | "abort"): void => {
      const transaction = open.get(producer)
      if (transaction === undefined) return
      open.delete(producer)
      if (act === "abort") {
        aborted.push({ producerId: String(producer), firstOffset: String(transaction.from) })
        for (const one of transaction.offsets) hidden.add(one)
      }
      batches.push(one(offset++, { producerId: String(producer), control: act }))
    }
    for (const { act, producer, size } of steps) {
      if (act !== "write") {
        end(producer, act)
        continue
      }
      const deltas = Array.from({ length: size }, (_, i) => i)
      // producer 0 is not transactional
      batches.push({
        first: offset,
        deltas,
        lastDelta: size - 1,
        ...(producer === 0 ? {} : { producerId: String(producer) })
      })
      if (producer !== 0) {
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
        ({ aborted, batches, end, hidden }, cuts) => {
          const seen: Array<number> = []
          let position = 0
          for (let turn = 0; position < end; turn++) {
            const from = batches.findIndex((batch) => batch.first + batch.lastDelta >= position)
            const part = batches.slice(from, from + cuts[turn % cuts.length]!)
            const last = part.at(-1)!
            // the broker lists those that overlap what it sends
            const listed = aborted.filter((one) => {
              const marker = batches.find((batch) =>
                batch.control === "abort" && batch.producerId === one.producerId &&
                batch.first > Number(one.firstOffset)
              )!
              return marker.first >= position && Number(one.firstOffset) <= last.first + last.lastDelta
            })
            const found = read(position, response(part, listed))!
            seen.push(...found.offsets)
            position = found.next
          }
          const visible = batches.filter(({ control }) => control === undefined)
            .flatMap(({ deltas, first }) => deltas.map((delta) => first + delta))
            .filter((offset) => !hidden.has(offset))
          assert.deepStrictEqual(seen, visible)
        }
      ),
      { numRuns: 500 }
    )
  })
})
