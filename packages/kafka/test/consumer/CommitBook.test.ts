import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { CommitBook, Deferred } from "../../src/engine/consumer/CommitBook.ts"
import { PartitionBuffer } from "../../src/engine/consumer/PartitionBuffer.ts"
import { CommitError } from "../../src/KafkaError.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

const partition = (number: number): PartitionBuffer => {
  const buffer = new PartitionBuffer(TopicPartition.make("runs", number), number)
  buffer.startAt(0n)
  buffer.status = "active"
  return buffer
}

const steps = FastCheck.array(
  FastCheck.oneof(
    FastCheck.record({
      _tag: FastCheck.constant("add" as const),
      partition: FastCheck.integer({ min: 0, max: 2 }),
      offset: FastCheck.integer({ min: 1, max: 50 })
    }),
    FastCheck.record({ _tag: FastCheck.constantFrom("begin" as const, "confirm" as const, "reject" as const) }),
    FastCheck.record({ _tag: FastCheck.constant("end" as const), partition: FastCheck.integer({ min: 0, max: 2 }) })
  ),
  { maxLength: 60 }
)

describe("CommitBook", () => {
  it.prop(
    "everyone who commits is told once; nothing stale is sent; nothing moves backwards; one request at a time",
    [steps],
    ([all]) => {
      const book = new CommitBook()
      const partitions = [partition(0), partition(1), partition(2)]
      const told: Array<number> = []
      let underWay = false
      let index = 0
      const begin = () => {
        const batch = book.begin()
        if (batch === undefined) return
        expect(underWay).toBe(false)
        underWay = true
        for (const [one, offset] of batch.offsets) {
          expect(one.status).toBe("active")
          expect(offset).toBeGreaterThan(one.committed ?? -1n)
        }
      }
      const confirm = () => {
        const before = partitions.map((one) => one.committed ?? -1n)
        const batch = book.confirm()
        underWay = false
        for (const [i, one] of partitions.entries()) expect(one.committed ?? -1n).toBeGreaterThanOrEqual(before[i]!)
        for (const settle of batch?.waiting ?? []) settle(undefined, batch!.stale)
      }
      for (const step of all) {
        if (step._tag === "add") {
          const mine = index++
          told[mine] = 0
          book.add([[partitions[step.partition]!, BigInt(step.offset)]], () => told[mine]!++)
        } else if (step._tag === "begin") begin()
        else if (step._tag === "end") partitions[step.partition]!.status = "ended"
        else if (step._tag === "confirm") confirm()
        else {
          const batch = book.reject()
          underWay = false
          const error = new CommitError({ reason: "timeout", partitions: [] })
          for (const settle of batch?.waiting ?? []) settle(error, batch!.stale)
        }
      }
      confirm()
      begin()
      confirm()
      expect(told.every((times) => times === 1)).toBe(true)
      expect(book.isIdle).toBe(true)
    }
  )

  it("deferred offsets are sent when there are enough of them, when it is time, or when all is released", () => {
    const book = new CommitBook()
    const runs = partition(0)
    const deferred = new Deferred(3, 1000)
    book.deferred.add(deferred)
    deferred.add(runs, 2n)
    deferred.touch(2, 0)
    book.release(999, false)
    expect(book.begin()).toBeUndefined()
    expect(book.has(runs)).toBe(true)
    deferred.add(runs, 3n)
    deferred.touch(1, 10)
    book.release(10, false)
    expect([...book.begin()!.offsets.values()]).toEqual([3n])
    book.confirm()
    deferred.add(runs, 4n)
    deferred.touch(1, 20)
    expect(book.dueAt).toBe(1020)
    book.release(1020, false)
    expect([...book.begin()!.offsets.values()]).toEqual([4n])
    book.confirm()
    deferred.add(runs, 5n)
    deferred.touch(1, 30)
    book.release(30, true)
    expect([...book.begin()!.offsets.values()]).toEqual([5n])
  })

  it("a seek makes the commit under way say nothing about what comes", () => {
    const book = new CommitBook()
    const runs = partition(0)
    book.add([[runs, 10n]], () => {})
    book.begin()
    book.forget(runs)
    book.confirm()
    expect(runs.committed).toBeUndefined()
  })
})
