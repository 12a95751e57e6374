import * as ConsumerRecord from "@coffeebuddy/kafka/ConsumerRecord"
import type * as KafkaClient from "@coffeebuddy/kafka/KafkaClient"
import type * as RecordHeaders from "@coffeebuddy/kafka/RecordHeaders"
import * as TopicPartition from "@coffeebuddy/kafka/TopicPartition"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck, Logger } from "effect"
import { inspect } from "node:util"

interface Raw {
  readonly offset: bigint
  readonly timestamp: bigint
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: RecordHeaders.RecordHeaders
}

const raw = (offset: bigint): Raw => ({
  offset,
  timestamp: 1_790_000_000_000n,
  key: Buffer.from("run-42"),
  value: null,
  headers: [["trace", Buffer.from("abc")], ["none", null]]
})

/** Counts how often each part was asked for. */
const counting = () => {
  const asked: Record<string, number> = {}
  const count = <A>(name: string, value: A): A => {
    asked[name] = (asked[name] ?? 0) + 1
    return value
  }
  const view: KafkaClient.RecordView<Raw> = {
    offset: (raw) => count("offset", raw.offset),
    timestamp: (raw) => count("timestamp", raw.timestamp),
    key: (raw) => count("key", raw.key),
    value: (raw) => count("value", raw.value),
    headers: (raw) => count("headers", raw.headers)
  }
  return { asked, view: view as KafkaClient.RecordView }
}

const assignment: ConsumerRecord.Assignment = {
  topicPartition: TopicPartition.make("coffeebuddy.run-events", 3),
  epoch: 7
}

const chunk = (records: ReadonlyArray<Raw>, nextOffset: bigint, view = counting().view) => {
  const origin: ConsumerRecord.Origin = { slug: "run-events", assignment, view, last: records.at(-1), nextOffset }
  return records.map((raw) => ConsumerRecord.make(origin, raw, "run-42", { cups: 2 }))
}

describe("a record", () => {
  it("has what the driver's own record has", () => {
    const [record] = chunk([raw(5n)], 6n)
    expect(record).toMatchObject({
      topic: "run-events",
      key: "run-42",
      value: { cups: 2 },
      partition: 3,
      offset: 5n,
      timestamp: 1_790_000_000_000n,
      headers: [["trace", Buffer.from("abc")], ["none", null]],
      rawKey: Buffer.from("run-42"),
      rawValue: null,
      topicPartition: { topic: "coffeebuddy.run-events", partition: 3 },
      assignment
    })
  })

  it("reads nothing of it before it is asked for", () => {
    const { asked, view } = counting()
    const [record] = chunk([raw(5n)], 6n, view)
    expect([record?.key, record?.value, record?.partition, record?.topic]).toBeDefined()
    expect(asked).toEqual({})
    expect(record?.timestamp).toBeDefined()
    expect(asked).toEqual({ timestamp: 1 })
    expect(record?.headers).toHaveLength(2)
    expect(asked).toEqual({ timestamp: 1, headers: 1 })
  })

  it.prop(
    "committing a record moves past it, and committing a chunk's last past what is behind it",
    [
      FastCheck.uniqueArray(FastCheck.bigInt({ min: 0n, max: 2n ** 62n }), { minLength: 1, maxLength: 20 }),
      FastCheck.bigInt({ min: 1n, max: 1000n })
    ],
    ([offsets, gap]) => {
      const sorted = offsets.toSorted((a, b) => a < b ? -1 : 1)
      const end = (sorted.at(-1) ?? 0n) + gap
      const next = chunk(sorted.map(raw), end).map((record) => record.nextOffset)
      expect(next).toEqual([...sorted.slice(0, -1).map((offset) => offset + 1n), end])
    }
  )

  it("isConsumerRecord tells one", () => {
    expect(ConsumerRecord.isConsumerRecord(chunk([raw(5n)], 6n)[0])).toBe(true)
    expect(ConsumerRecord.isConsumerRecord({ topic: "run-events", offset: 5n })).toBe(false)
    expect(ConsumerRecord.isConsumerRecord(null)).toBe(false)
  })
})

describe("what a log shows", () => {
  it("all that identifies it, offsets exact", () => {
    const [record] = chunk([raw(9007199254740993n)], 9007199254740994n)
    const shown = {
      _id: "ConsumerRecord",
      topic: "run-events",
      partition: 3,
      offset: "9007199254740993",
      timestamp: "1790000000000",
      key: "run-42",
      value: { cups: 2 },
      headers: [["trace", "abc"], ["none", null]]
    }
    expect(JSON.parse(JSON.stringify(record))).toEqual(shown)
    expect(JSON.parse(String(record))).toEqual(shown)
    expect(inspect(record)).toContain("9007199254740993")
  })

  it.effect("no key or value makes printing fail: bigints, bytes, circles, getters that throw", () =>
    Effect.gen(function*() {
      const circle: Record<string, unknown> = { cups: 1n }
      circle["self"] = circle
      const throwing = {
        get value(): never {
          throw new Error("not now")
        }
      }
      const lines: Array<string> = []
      for (const value of [42n, { deep: [{ price: 3n }] }, new Uint8Array(1), circle, throwing, undefined, null]) {
        const origin = { slug: "t", assignment, view: counting().view, last: undefined, nextOffset: 6n }
        const record = ConsumerRecord.make(origin, raw(5n), value, value)
        expect(String(record)).toContain("ConsumerRecord")
        expect(inspect(record)).toContain("ConsumerRecord")
        yield* Effect.log(record).pipe(
          Effect.provide(Logger.replace(
            Logger.defaultLogger,
            Logger.map(Logger.jsonLogger, (line) => void lines.push(line))
          ))
        )
      }
      const printed = lines.map((line) => JSON.parse(line).message.value)
      expect(printed).toEqual([
        "42",
        { deep: [{ price: "3" }] },
        "1 byte",
        { cups: "1", self: "<circular>" },
        "<unprintable: Error: not now>",
        undefined,
        null
      ])
    }))
})
