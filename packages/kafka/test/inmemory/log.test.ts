import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { type Isolation, Log, view } from "../../src/drivers/inmemory/Log.ts"
import { bytes, record, text } from "./fixtures.ts"

type Step =
  | { readonly op: "append"; readonly producer: number | undefined; readonly count: number; readonly key: number }
  | { readonly op: "end"; readonly producer: number; readonly kind: "commit" | "abort" }
  | { readonly op: "delete"; readonly fraction: number }
  | { readonly op: "compact"; readonly dropTombstones: boolean }
  | { readonly op: "skip"; readonly by: bigint }

const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  {
    weight: 6,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("append" as const),
      producer: FastCheck.option(FastCheck.integer({ min: 1, max: 3 }), { nil: undefined }),
      count: FastCheck.integer({ min: 1, max: 6 }),
      key: FastCheck.integer({ min: 0, max: 4 })
    })
  },
  {
    weight: 3,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("end" as const),
      producer: FastCheck.integer({ min: 1, max: 3 }),
      kind: FastCheck.constantFrom("commit" as const, "abort" as const)
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("delete" as const),
      fraction: FastCheck.double({ min: 0, max: 1, noNaN: true })
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("compact" as const),
      dropTombstones: FastCheck.boolean()
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("skip" as const),
      by: FastCheck.bigInt({ min: 1n, max: 2n ** 54n })
    })
  }
)

interface Modelled {
  readonly offset: bigint
  readonly timestamp: bigint
  readonly key: string
  readonly value: string | null
  readonly kind: "data" | "commit" | "abort"
  readonly producer: number | undefined
  outcome: "plain" | "open" | "commit" | "abort"
}

/** The same log, as naively as possible. */
const run = (steps: ReadonlyArray<Step>) => {
  const log = new Log()
  let model: Array<Modelled> = []
  let end = 0n
  let start = 0n
  let count = 0
  // an open transaction remembers where it began, also when that is deleted
  const firsts = new Map<number, bigint>()
  const stable = () => {
    const first = [...firsts.values()].reduce((a, b) => a < b ? a : b, end)
    return first < start ? start : first
  }
  for (const one of steps) {
    switch (one.op) {
      case "append": {
        const { producer } = one
        const records = Array.from({ length: one.count }, (_, i) => {
          const n = count++
          return {
            key: `k${(one.key + i) % 5}`,
            value: n % 7 === 0 ? null : `v${n}`,
            // time goes forth and back
            timestamp: BigInt((n * 37) % 50 + n)
          }
        })
        const base = log.append(
          records.map(({ key, timestamp, value }) => record(value, { key, timestamp })),
          undefined,
          producer === undefined ? undefined : { producerId: producer, transactional: true }
        )
        assert.strictEqual(base, end)
        if (producer !== undefined && !firsts.has(producer)) firsts.set(producer, end)
        for (const [i, { key, timestamp, value }] of records.entries()) {
          model.push({
            offset: end + BigInt(i),
            timestamp,
            key,
            value,
            kind: "data",
            producer,
            outcome: producer === undefined ? "plain" : "open"
          })
        }
        end += BigInt(records.length)
        break
      }
      case "end": {
        if (!firsts.delete(one.producer)) break
        const timestamp = BigInt(count)
        log.appendMarker(one.producer, one.kind, timestamp)
        for (const other of model) {
          if (other.producer === one.producer && other.outcome === "open") other.outcome = one.kind
        }
        model.push({
          offset: end,
          timestamp,
          key: "",
          value: null,
          kind: one.kind,
          producer: undefined,
          outcome: "plain"
        })
        end += 1n
        break
      }
      case "delete": {
        const at = model[Math.floor(one.fraction * (model.length - 1))]
        if (at === undefined) break
        log.deleteBefore(at.offset)
        start = at.offset
        model = model.filter(({ offset }) => offset >= start)
        break
      }
      case "compact": {
        const limit = stable()
        const last = model[model.length - 1]
        const kept = model.filter((one_, i) => {
          if (one_ === last || one_.offset >= limit || one_.kind !== "data") return true
          if (one_.outcome === "abort") return false
          if (one.dropTombstones && one_.value === null) return false
          return !model.some((other, j) =>
            j > i && other.kind === "data" && other.outcome !== "abort" && other.offset < limit &&
            other.key === one_.key
          )
        })
        assert.strictEqual(log.compact(one.dropTombstones), model.length - kept.length)
        model = kept
        break
      }
      case "skip":
        end += one.by
        assert.isTrue(log.skipTo(end))
    }
  }
  return { log, model, start, end, stable }
}

const isolations: ReadonlyArray<Isolation> = ["read_committed", "read_uncommitted"]

describe("Log", () => {
  it("what is read, chunk after chunk, is what was appended, less what was aborted, deleted or compacted", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(step, { maxLength: 40 }), FastCheck.integer({ min: 1, max: 300 }), (
        steps,
        maxBytes
      ) => {
        const { end, log, model, stable, start } = run(steps)
        assert.strictEqual(log.startOffset, start)
        assert.strictEqual(log.endOffset, end)
        for (const isolation of isolations) {
          const visible = isolation === "read_committed" ? stable() : end
          const read: Array<readonly [bigint, string | null]> = []
          let position = start
          while (position < visible) {
            const slice = log.read(position, maxBytes, isolation)
            if (slice === "OutOfRange") return assert.fail("out of range")
            assert.isTrue(slice.nextOffset > position, "it moves on")
            assert.strictEqual(slice.highWatermark, visible)
            assert.isTrue(slice.bytes <= maxBytes || slice.records.length <= 1, "no more than was asked for")
            for (const one of slice.records) {
              assert.isTrue(view.offset(one) >= position && view.offset(one) < slice.nextOffset)
              read.push([view.offset(one), text(view.value(one))])
            }
            position = slice.nextOffset
          }
          assert.strictEqual(position, visible)
          assert.deepStrictEqual(
            read,
            model.filter((one) =>
              one.kind === "data" && one.offset < visible &&
              (isolation === "read_uncommitted" || one.outcome !== "abort")
            ).map((one) => [one.offset, one.value] as const)
          )
        }
      }),
      { numRuns: 500 }
    )
  })

  it("a time is found where the first record not older than it is", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(step, { maxLength: 30 }), FastCheck.bigInt({ min: -1n, max: 200n }), (
        steps,
        timestamp
      ) => {
        const { end, log, model, stable } = run(steps)
        for (const isolation of isolations) {
          const visible = isolation === "read_committed" ? stable() : end
          assert.strictEqual(
            log.offsetFor(timestamp, isolation),
            model.find((one) => one.offset < visible && one.timestamp >= timestamp)?.offset
          )
        }
      }),
      { numRuns: 500 }
    )
  })

  it("below its start and above its end is out of range, and the end itself is not", () => {
    const log = new Log()
    log.append(["a", "b", "c"].map((value) => record(value)), undefined)
    log.deleteBefore(2n)
    assert.strictEqual(log.read(1n, 100, "read_committed"), "OutOfRange")
    assert.strictEqual(log.read(4n, 100, "read_committed"), "OutOfRange")
    assert.deepStrictEqual(log.read(3n, 100, "read_committed"), {
      records: [],
      bytes: 0,
      nextOffset: 3n,
      highWatermark: 3n
    })
  })

  it("what a producer or a consumer does to its bytes does not change what is stored for others", () => {
    const log = new Log()
    const value = bytes("before")
    log.append([{ key: value, value, headers: [["h", value]], timestamp: 0n }], undefined)
    value.fill(0)
    const [stored] = log.all()
    assert.strictEqual(text(stored!.key), "before")
    assert.strictEqual(text(stored!.value), "before")
    assert.strictEqual(text(stored!.headers[0]![1]), "before")
  })

  it("retention deletes what is too old or too much, but never the last record", () => {
    const log = new Log()
    for (let i = 0; i < 10; i++) log.append([record("x", { timestamp: BigInt(i) })], undefined)
    assert.strictEqual(log.retain(4n, undefined), 4)
    assert.strictEqual(log.startOffset, 4n)
    assert.strictEqual(log.retain(undefined, 22), 4)
    assert.strictEqual(log.startOffset, 8n)
    assert.strictEqual(log.retain(100n, 0), 1)
    assert.strictEqual(log.startOffset, 9n)
  })

  it("listeners are told of every change until they stop listening", () => {
    const log = new Log()
    let told = 0
    const stop = log.listen(() => told++)
    log.append([record("a")], undefined, { producerId: 1, transactional: true })
    log.appendMarker(1, "commit", 0n)
    log.deleteBefore(1n)
    stop()
    log.append([record("b")], undefined)
    assert.strictEqual(told, 3)
  })
})
