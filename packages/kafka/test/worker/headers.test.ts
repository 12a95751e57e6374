import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import {
  describeError,
  markDeadLetter,
  markReplay,
  markRetry,
  readDeadLetter,
  readRetry,
  replaysOf
} from "../../src/engine/worker/headers.ts"

const own = FastCheck.array(FastCheck.tuple(
  FastCheck.oneof(FastCheck.string(), FastCheck.constantFrom("kafka.dlt.topic", "kafka.retry.due", "traceparent")),
  FastCheck.option(FastCheck.uint8Array({ maxLength: 8 }))
))

const origin = {
  topic: FastCheck.string({ unit: "grapheme" }),
  partition: FastCheck.nat(),
  offset: FastCheck.bigInt({ min: 0n, max: 2n ** 62n }),
  timestamp: FastCheck.bigInt({ min: -1n, max: 2n ** 62n }),
  group: FastCheck.string({ unit: "grapheme" })
}

const letters = FastCheck.record({
  ...origin,
  attempt: FastCheck.nat(),
  error: FastCheck.string({ unit: "grapheme" }),
  message: FastCheck.string({ unit: "grapheme" })
})
const retries = FastCheck.record({
  ...origin,
  attempts: FastCheck.nat(),
  round: FastCheck.nat(),
  due: FastCheck.nat()
})

describe("headers of what is sent on", () => {
  it.prop(
    "a dead letter's mark comes off again, and leaves the headers as they were",
    [own, letters],
    ([own, mark]) => {
      expect(readDeadLetter(markDeadLetter(own, mark))).toEqual({ headers: own, mark })
    }
  )

  it.prop("a retry's mark comes off again, also where it had been marked before", [own, retries, retries], (
    [own, first, second]
  ) => {
    const twice = markRetry(markRetry(own, first), second)
    expect(readRetry(twice)).toEqual({ headers: markRetry(own, first), mark: second })
  })

  it.prop("what is not marked is not taken for ours", [own], ([own]) => {
    expect(readRetry(own)).toBe(undefined)
    expect(readDeadLetter(own)).toBe(undefined)
  })

  it.prop("replays count up, and leave the headers as they were", [own, FastCheck.integer({ min: 1, max: 5 })], (
    [own, times]
  ) => {
    let headers: typeof own = own
    for (let i = 0; i < times; i++) headers = [...markReplay(headers)] as typeof own
    expect(replaysOf(headers)).toBe(times)
    expect(headers.slice(0, -1)).toEqual(own)
  })

  it("any error is described, in bounds", () => {
    const circular: Record<string, unknown> = { size: 1n }
    circular["self"] = circular
    for (
      const error of ["text", new Error("x".repeat(5000)), circular, { _tag: "NoMilk", cups: 2n }, null, undefined]
    ) {
      const { error: tag, message } = describeError(error)
      expect(tag).not.toBe("")
      expect(message.length).toBeLessThanOrEqual(1000)
    }
    expect(describeError({ _tag: "NoMilk", cups: 2n })).toEqual({
      error: "NoMilk",
      message: "{\"_tag\":\"NoMilk\",\"cups\":\"2\"}"
    })
    expect(describeError("text")).toEqual({ error: "string", message: "text" })
  })
})
