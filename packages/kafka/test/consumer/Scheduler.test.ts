import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as ConsumerRecord from "../../src/ConsumerRecord.ts"
import { PartitionBuffer } from "../../src/engine/consumer/PartitionBuffer.ts"
import { type Ordering, Scheduler, type Task } from "../../src/engine/consumer/Scheduler.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import { view } from "./chunks.ts"

type Record = ConsumerRecord.ConsumerRecord<string | null, number>

const partition = (number: number): PartitionBuffer => {
  const buffer = new PartitionBuffer(TopicPartition.make("runs", number), number)
  buffer.startAt(0n)
  buffer.status = "active"
  return buffer
}

const record = (buffer: PartitionBuffer, offset: number, key: string | null): Record =>
  ConsumerRecord.make(
    { slug: "runs", assignment: buffer, view, last: undefined, nextOffset: 0n },
    BigInt(offset),
    key,
    offset
  )

/** Records of two partitions with few keys, and in which order those that run come to their end. */
const schedules = FastCheck.record({
  ordering: FastCheck.constantFrom<Ordering>("partition", "key", "unordered"),
  keys: FastCheck.array(
    FastCheck.record({
      partition: FastCheck.integer({ min: 0, max: 1 }),
      key: FastCheck.constantFrom("a", "b", "c", null)
    }),
    { minLength: 1, maxLength: 60 }
  ),
  concurrency: FastCheck.integer({ min: 1, max: 8 }),
  choices: FastCheck.array(FastCheck.nat(), { minLength: 1 })
})

const chainOf = (ordering: Ordering, task: Task<Record>): string | undefined => {
  const where = task.record.partition
  if (ordering === "unordered") return undefined
  if (ordering === "partition") return String(where)
  return task.record.key === null ? undefined : `${where}:${task.record.key}`
}

describe("Scheduler", () => {
  it.prop(
    "runs every record once, never two of a chain at a time, each chain in order, and the watermark never covers what is not done",
    [schedules],
    ([{ choices, concurrency, keys, ordering }]) => {
      const buffers = [partition(0), partition(1)]
      const scheduler = new Scheduler<Record>(ordering, { waiting: 1000, ahead: 1000 })
      const counts = [0, 0]
      for (const one of keys) {
        scheduler.add(buffers[one.partition]!, [record(buffers[one.partition]!, counts[one.partition]!++, one.key)])
      }
      const running: Array<Task<Record>> = []
      const done: Array<Set<number>> = [new Set(), new Set()]
      const last = new Map<string, number>()
      let turn = 0
      for (;;) {
        while (running.length < concurrency) {
          const task = scheduler.next()
          if (task === undefined) break
          const chain = chainOf(ordering, task)
          if (chain !== undefined) {
            expect(running.some((other) => chainOf(ordering, other) === chain)).toBe(false)
            expect(task.record.value).toBeGreaterThan(last.get(chain) ?? -1)
            last.set(chain, task.record.value)
          }
          running.push(task)
        }
        if (running.length === 0) break
        const [task] = running.splice(choices[turn++ % choices.length]! % running.length, 1)
        scheduler.finish(task!)
        const finished = done[task!.record.partition]!
        expect(finished.has(task!.record.value)).toBe(false)
        finished.add(task!.record.value)
        for (const [number, buffer] of buffers.entries()) {
          const watermark = Number(scheduler.watermark(buffer) ?? 0n)
          let contiguous = 0
          while (done[number]!.has(contiguous)) contiguous++
          expect(watermark).toBe(contiguous)
        }
      }
      expect(done[0]!.size + done[1]!.size).toBe(keys.length)
      expect(scheduler.inHand).toBe(false)
    }
  )

  it.prop(
    "of what is withdrawn only what others have passed over still begins, and then the watermark is behind all that began",
    [schedules, FastCheck.nat({ max: 20 })],
    ([{ choices, concurrency, keys, ordering }, before]) => {
      const buffer = partition(0)
      const scheduler = new Scheduler<Record>(ordering, { waiting: 1000, ahead: 1000 })
      scheduler.add(buffer, keys.map((one, offset) => record(buffer, offset, one.key)))
      const running: Array<Task<Record>> = []
      const begun: Array<number> = []
      let turn = 0
      const begin = (): void => {
        while (running.length < concurrency) {
          const task = scheduler.next()
          if (task === undefined) return
          running.push(task)
          begun.push(task.record.value)
        }
      }
      const finish = (): void => {
        const [task] = running.splice(choices[turn++ % choices.length]! % running.length, 1)
        scheduler.finish(task!)
      }
      for (let i = 0; i < before; i++) {
        begin()
        if (running.length > 0) finish()
      }
      const furthest = Math.max(-1, ...begun)
      scheduler.withdraw(buffer)
      for (begin(); running.length > 0; begin()) finish()
      expect(Math.max(-1, ...begun)).toBe(furthest)
      expect(scheduler.inHand).toBe(false)
      expect(Number(scheduler.watermark(buffer) ?? 0n)).toBe(furthest + 1)
    }
  )

  it("begins nothing of a partition that was lost, not even what was passed over", () => {
    const buffer = partition(0)
    const scheduler = new Scheduler<Record>("key", { waiting: 10, ahead: 10 })
    scheduler.add(buffer, ["a", "a", "b"].map((key, offset) => record(buffer, offset, key)))
    const [first, third] = [scheduler.next()!, scheduler.next()!]
    expect([first, third].map((task) => task.record.value)).toEqual([0, 2])
    buffer.status = "ended"
    scheduler.withdraw(buffer)
    expect(scheduler.inHand).toBe(true)
    scheduler.finish(first)
    scheduler.finish(third)
    expect(scheduler.next()).toBeUndefined()
    expect(scheduler.inHand).toBe(false)
  })

  it("holds a partition that has enough waiting or is too far ahead, until there is room", () => {
    const buffer = partition(0)
    const scheduler = new Scheduler<Record>("unordered", { waiting: 4, ahead: 6 })
    scheduler.add(buffer, [0, 1, 2, 3].map((offset) => record(buffer, offset, null)))
    const work = scheduler.works.get(buffer)!
    expect(scheduler.isSaturated(work)).toBe(true)
    const first = scheduler.next()!
    scheduler.finish(scheduler.next()!)
    scheduler.finish(scheduler.next()!)
    expect(scheduler.hasRoom(work)).toBe(true)
    scheduler.add(buffer, [4, 5].map((offset) => record(buffer, offset, null)))
    expect(work.ahead).toBe(6)
    expect(scheduler.hasRoom(work)).toBe(false)
    scheduler.finish(first)
    expect(work.ahead).toBe(3)
  })

  it.prop(
    "what is postponed or not due holds up its own chain alone, comes again in its time, and all is done in the end",
    [
      schedules,
      FastCheck.array(FastCheck.integer({ min: 0, max: 9 }), { minLength: 1 }),
      FastCheck.integer({ min: 1, max: 4 })
    ],
    ([{ choices, concurrency, keys, ordering }, delays, batch]) => {
      let now = 0
      const buffer = partition(0)
      const due = (record: Record): number => record.value % 5 === 0 ? 20 + record.value : 0
      const scheduler = new Scheduler<Record>(ordering, { waiting: 1000, ahead: 1000 }, {
        now: () => now,
        notBefore: due
      })
      scheduler.add(buffer, keys.map((one, offset) => record(buffer, offset, one.key)))
      const running: Array<ReadonlyArray<Task<Record>>> = []
      const done: Array<number> = []
      const last = new Map<string, number>()
      let turn = 0
      let postponed = 0
      const pick = <A>(all: ReadonlyArray<A>): A => all[turn++ % all.length]!
      while (done.length < keys.length) {
        scheduler.release()
        while (running.length < concurrency) {
          const first = scheduler.next()
          if (first === undefined) break
          const tasks = scheduler.following(first, batch)
          expect(tasks.length).toBeLessThanOrEqual(batch)
          for (const task of tasks) {
            expect(due(task.record)).toBeLessThanOrEqual(now)
            const chain = chainOf(ordering, task)
            if (chain === undefined) continue
            expect(chain).toBe(chainOf(ordering, first))
            expect(running.flat().some((other) => chainOf(ordering, other) === chain)).toBe(false)
            expect(task.record.value).toBeGreaterThan(last.get(chain) ?? -1)
          }
          running.push(tasks)
        }
        if (running.length === 0) {
          // nothing can be handled now: then something waits for its time
          expect(scheduler.dueAt).toBeGreaterThan(now)
          now = scheduler.dueAt
          continue
        }
        const [tasks] = running.splice(pick(choices) % running.length, 1)
        if (pick(delays) > 5 && postponed++ < 100) {
          const again = now + pick(delays)
          scheduler.postpone(tasks!, again)
          continue
        }
        scheduler.finishAll(tasks!)
        for (const task of tasks!) {
          const chain = chainOf(ordering, task)
          if (chain !== undefined) last.set(chain, task.record.value)
          done.push(task.record.value)
        }
        let contiguous = 0
        while (done.includes(contiguous)) contiguous++
        expect(Number(scheduler.watermark(buffer) ?? 0n)).toBe(contiguous)
      }
      expect(new Set(done).size).toBe(keys.length)
      expect(scheduler.inHand).toBe(false)
      expect(scheduler.dueAt).toBe(Infinity)
    }
  )

  it("what is withdrawn waits for a postponed record only where others behind it are done, and not beyond its patience", () => {
    const make = (ordering: Ordering) => {
      const buffer = partition(0)
      const scheduler = new Scheduler<Record>(ordering, { waiting: 10, ahead: 10 })
      scheduler.add(buffer, [record(buffer, 0, "a"), record(buffer, 1, "b"), record(buffer, 2, "a")])
      return { buffer, scheduler, postpone: (due: number) => scheduler.postpone([scheduler.next()!], due) }
    }
    const alone = make("partition")
    alone.postpone(50)
    alone.scheduler.withdraw(alone.buffer, 100)
    expect(alone.scheduler.inHand).toBe(false)

    for (const [patience, waits] of [[100, true], [49, false]] as const) {
      const passed = make("key")
      passed.postpone(50)
      passed.scheduler.finish(passed.scheduler.next()!)
      passed.scheduler.withdraw(passed.buffer, patience)
      expect(passed.scheduler.inHand).toBe(waits)
    }
  })

  it("those that wait for a postponed record don't count as waiting", () => {
    const buffer = partition(0)
    const scheduler = new Scheduler<Record>("key", { waiting: 4, ahead: 100 })
    scheduler.add(buffer, [
      record(buffer, 0, "a"),
      record(buffer, 1, "a"),
      record(buffer, 2, "a"),
      record(buffer, 3, "b")
    ])
    scheduler.postpone([scheduler.next()!], 50)
    scheduler.add(buffer, [4, 5, 6, 7].map((offset) => record(buffer, offset, "a")))
    const work = scheduler.works.get(buffer)!
    expect(scheduler.isSaturated(work)).toBe(false)
    expect(scheduler.hasRoom(work)).toBe(true)
    scheduler.add(buffer, [8, 9, 10].map((offset) => record(buffer, offset, "c")))
    expect(scheduler.isSaturated(work)).toBe(true)
  })
})
