import { assert, describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { view } from "../../src/drivers/kafkajs/consumerRecords.ts"
import type { RawRecord } from "../../src/drivers/kafkajs/internals.ts"
import { Lanes, type Plan, type Wanted } from "../../src/drivers/lanes.ts"
import type { Demand, Fetched, FetchedChunk } from "../../src/KafkaClient.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import { planOf } from "../sessions/plan.ts"

const a = TopicPartition.make("t", 0)
const b = TopicPartition.make("t", 1)
const limits = { maxBytesPerPartition: 100, maxWait: 500 }

const demand = (entries: ReadonlyArray<readonly [TopicPartition.TopicPartition, number]>) =>
  new Map<TopicPartition.Key, Demand>(entries.map(([tp, maxBytes]) => [TopicPartition.key(tp), { maxBytes }]))

/** Ten bytes for each record. */
const fetched = (wanted: Wanted, count: number): FetchedChunk<RawRecord> => ({
  _tag: "Chunk",
  topicPartition: TopicPartition.make(wanted.topic, wanted.partition),
  records: Array.from({ length: count }, (_, i) => ({
    offset: String(wanted.position + BigInt(i)),
    key: null,
    value: Buffer.alloc(10)
  })),
  view,
  bytes: 10 * count,
  nextOffset: wanted.position + BigInt(count),
  highWatermark: 1000n
})

const make = (...partitions: ReadonlyArray<TopicPartition.TopicPartition>): Lanes => {
  const lanes = new Lanes(limits)
  for (const tp of partitions) lanes.open(tp, 0n)
  lanes.lead(() => 1)
  return lanes
}

const names = (plan: Plan | undefined) => plan?.wanted.map(({ partition, position }) => `${partition}@${position}`)

const summary = (all: ReadonlyArray<Fetched>) =>
  all.map((one) =>
    one._tag === "Chunk" ? `${one.topicPartition.partition}:${one.records.length}>${one.nextOffset}` : one._tag
  )

describe("what a kafkajs session fetches", () => {
  it("a partition without demand is not fetched", () => {
    const lanes = make(a, b)
    assert.isUndefined(lanes.plan(1, 0))
    lanes.take(demand([[b, 50]]), 0)
    expect(lanes.plan(1, 0)?.wanted).toMatchObject([{ partition: 1, position: 0n, maxBytes: 50 }])
    assert.isUndefined(lanes.plan(2, 0))
  })

  it("what is answered is found among what was asked for, in whatever order it comes", () => {
    const ours = FastCheck.uniqueArray(FastCheck.nat({ max: 20 }), { minLength: 1 })
    FastCheck.assert(
      FastCheck.property(ours, FastCheck.array(FastCheck.nat({ max: 20 })), (asked, answered) => {
        const plan = planOf(...asked.map((partition) => TopicPartition.make("a", partition)))
        for (const partition of answered) {
          assert.strictEqual(plan.find("a", partition)?.partition, asked.includes(partition) ? partition : undefined)
          assert.isUndefined(plan.find("b", partition))
        }
      })
    )
  })

  it("a partition is part of one fetch at a time", () => {
    const lanes = make(a)
    lanes.take(demand([[a, 50]]), 0)
    const plan = lanes.plan(1, 0)!
    assert.isUndefined(lanes.plan(1, 0))
    lanes.done(plan)
    expect(names(lanes.plan(1, 0))).toEqual(["0@0"])
  })

  it("what is granted is used up by what arrives, until it is demanded again", () => {
    const lanes = make(a)
    lanes.take(demand([[a, 60]]), 0)
    const plan = lanes.plan(1, 0)!
    assert.isTrue(lanes.arrived(plan.wanted[0]!, fetched(plan.wanted[0]!, 4), 0))
    lanes.done(plan)
    const next = lanes.plan(1, 0)!
    expect(next.wanted).toMatchObject([{ position: 4n, maxBytes: 20 }])
    lanes.arrived(next.wanted[0]!, fetched(next.wanted[0]!, 4), 0)
    lanes.done(next)
    assert.isUndefined(lanes.plan(1, 0))
    expect(summary(lanes.takeMore())).toEqual(["0:4>4", "0:4>8"])
    assert.isUndefined(lanes.plan(1, 0))
    lanes.take(demand([[a, 60]]), 0)
    expect(names(lanes.plan(1, 0))).toEqual(["0@8"])
  })

  it("what has arrived counts against the demand it is delivered for", () => {
    const lanes = make(a)
    lanes.take(demand([[a, 60]]), 0)
    const plan = lanes.plan(1, 0)!
    lanes.arrived(plan.wanted[0]!, fetched(plan.wanted[0]!, 3), 0)
    lanes.done(plan)
    expect(summary(lanes.take(demand([[a, 70]]), 0))).toEqual(["0:3>3"])
    expect(lanes.plan(1, 0)?.wanted).toMatchObject([{ maxBytes: 40 }])
  })

  it("what arrives for a partition that is not demanded any more waits for its demand", () => {
    const lanes = make(a, b)
    lanes.take(demand([[a, 60]]), 0)
    const plan = lanes.plan(1, 0)!
    lanes.take(demand([[b, 60]]), 0)
    lanes.arrived(plan.wanted[0]!, fetched(plan.wanted[0]!, 3), 0)
    lanes.done(plan)
    assert.isFalse(lanes.hasReady())
    expect(summary(lanes.takeMore())).toEqual([])
    expect(summary(lanes.take(demand([[a, 60]]), 0))).toEqual(["0:3>3"])
  })

  it("what was fetched before a seek, a close or a new start is dropped", () => {
    const lanes = make(a)
    lanes.take(demand([[a, 60]]), 0)
    const before = lanes.plan(1, 0)!
    lanes.seek(a, 7n)
    assert.isFalse(lanes.arrived(before.wanted[0]!, fetched(before.wanted[0]!, 1), 0))
    lanes.done(before)
    const second = lanes.plan(1, 0)!
    expect(names(second)).toEqual(["0@7"])
    lanes.arrived(second.wanted[0]!, fetched(second.wanted[0]!, 1), 0)
    lanes.seek(a, 9n)
    expect(summary(lanes.takeMore())).toEqual([])
    lanes.open(a, 7n)
    assert.isFalse(lanes.arrived(second.wanted[0]!, fetched(second.wanted[0]!, 1), 0))
    lanes.close(a)
    assert.isFalse(lanes.arrived(second.wanted[0]!, fetched(second.wanted[0]!, 1), 0))
    assert.isFalse(lanes.has(a))
  })

  it("after a fault nothing is fetched until a seek, and the fault is told whatever the demand", () => {
    const lanes = make(a)
    lanes.take(demand([[a, 60]]), 0)
    const plan = lanes.plan(1, 0)!
    assert.isTrue(lanes.failed(plan.wanted[0]!, { _tag: "OutOfRange", topicPartition: a, offset: 0n }))
    lanes.done(plan)
    expect(summary(lanes.take(demand([]), 0))).toEqual(["OutOfRange"])
    lanes.take(demand([[a, 60]]), 0)
    assert.isUndefined(lanes.plan(1, 0))
    lanes.seek(a, 5n)
    expect(names(lanes.plan(1, 0))).toEqual(["0@5"])
  })

  it("a fetch is short while another partition of the broker is likely to be wanted soon", () => {
    const lanes = make(a, b)
    lanes.take(demand([[a, 60], [b, 60]]), 1000)
    const both = lanes.plan(1, 1000)!
    assert.strictEqual(both.maxWait, 500)
    lanes.done(both)
    lanes.take(demand([[a, 60]]), 1000)
    for (const [now, wait] of [[1000, 10], [1100, 100], [9000, 500]] as const) {
      const plan = lanes.plan(1, now)!
      assert.strictEqual(plan.maxWait, wait)
      lanes.done(plan)
    }
  })

  it("partitions without a leader are fetched from nobody", () => {
    const lanes = make(a, b)
    expect(lanes.lead((tp) => tp.partition === 0 ? 2 : undefined)).toEqual(new Set([2]))
    expect(lanes.leaderless()).toEqual([b])
    lanes.take(demand([[a, 60], [b, 60]]), 0)
    expect(names(lanes.plan(2, 0))).toEqual(["0@0"])
    assert.isUndefined(lanes.plan(1, 0))
  })

  type Step =
    | { readonly _tag: "Take"; readonly bytes: readonly [number, number] }
    | { readonly _tag: "More" }
    | { readonly _tag: "Plan" }
    | { readonly _tag: "Arrive"; readonly count: number }
    | { readonly _tag: "Lead"; readonly leader: number }
    | { readonly _tag: "Seek"; readonly partition: 0 | 1; readonly offset: number }
    | { readonly _tag: "Reopen"; readonly partition: 0 | 1; readonly offset: number }

  const partition = FastCheck.constantFrom(0 as const, 1 as const)
  const offset = FastCheck.integer({ min: 0, max: 50 })
  const bytes = FastCheck.constantFrom(0, 10, 55, 200)
  const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
    FastCheck.record({ _tag: FastCheck.constant("Take" as const), bytes: FastCheck.tuple(bytes, bytes) }),
    FastCheck.constant<Step>({ _tag: "More" }),
    FastCheck.constant<Step>({ _tag: "Plan" }),
    FastCheck.record({ _tag: FastCheck.constant("Arrive" as const), count: FastCheck.integer({ min: 0, max: 12 }) }),
    FastCheck.record({ _tag: FastCheck.constant("Lead" as const), leader: FastCheck.constantFrom(1, 2) }),
    FastCheck.record({ _tag: FastCheck.constant("Seek" as const), partition, offset }),
    FastCheck.record({ _tag: FastCheck.constant("Reopen" as const), partition, offset })
  )

  it("whatever happens in whatever order, each record after the position is delivered once, in order, on demand", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(step, { maxLength: 60 }), (steps) => {
        const lanes = make(a, b)
        const expected: [bigint, bigint] = [0n, 0n]
        const wanted: [number, number] = [0, 0]
        const got: [number, number] = [0, 0]
        const under: Array<Plan> = []
        const deliver = (all: ReadonlyArray<Fetched>): void => {
          for (const one of all) {
            if (one._tag !== "Chunk") continue
            const p = one.topicPartition.partition as 0 | 1
            assert.isAbove(wanted[p], 0)
            assert.strictEqual(one.nextOffset - BigInt(one.records.length), expected[p])
            expected[p] = one.nextOffset
            got[p] += one.bytes
            // a response may be as large as what was left when it was asked for, and no two are under way
            assert.isAtMost(got[p], wanted[p] + 2 * 120)
          }
        }
        for (const step of steps) {
          switch (step._tag) {
            case "Take":
              wanted[0] = step.bytes[0]
              wanted[1] = step.bytes[1]
              got[0] = 0
              got[1] = 0
              deliver(lanes.take(demand([[a, wanted[0]], [b, wanted[1]]]), 0))
              break
            case "More":
              deliver(lanes.takeMore())
              break
            case "Plan":
              for (const leader of [1, 2]) {
                const plan = lanes.plan(leader, 0)
                if (plan !== undefined) under.push(plan)
              }
              break
            case "Arrive": {
              const plan = under.shift()
              if (plan === undefined) break
              for (const one of plan.wanted) {
                if (step.count > 0) lanes.arrived(one, fetched(one, step.count), 0)
              }
              lanes.done(plan)
              break
            }
            case "Lead":
              lanes.lead(({ partition }) => partition === 0 ? step.leader : 1)
              break
            case "Seek":
            case "Reopen": {
              const tp = step.partition === 0 ? a : b
              if (step._tag === "Seek") lanes.seek(tp, BigInt(step.offset))
              else {
                lanes.open(tp, BigInt(step.offset))
                lanes.lead(() => 1)
              }
              expected[step.partition] = BigInt(step.offset)
            }
          }
          const asked = under.flatMap(({ wanted }) => wanted.map((one) => `${one.partition}/${one.version}`))
          assert.strictEqual(new Set(asked).size, asked.length)
        }
      }),
      { numRuns: 1000 }
    )
  })
})
