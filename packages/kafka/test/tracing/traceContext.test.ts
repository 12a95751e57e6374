import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import * as traceContext from "../../src/engine/traceContext.ts"
import * as KafkaTracing from "../../src/KafkaTracing.ts"
import * as RecordHeaders from "../../src/RecordHeaders.ts"

const id = (length: number) =>
  FastCheck.array(FastCheck.constantFrom(..."0123456789abcdef"), { minLength: length, maxLength: length })
    .map((digits) => digits.join(""))
    .filter((text) => !/^0+$/.test(text))

const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
const span = "00f067aa0ba902b7"

const spanOf = (headers: RecordHeaders.Input) =>
  Option.getOrUndefined(KafkaTracing.spanOf({ headers: RecordHeaders.make(headers) }))

describe("the context of a trace in headers", () => {
  it.prop("is read as it was written", [id(32), id(16), FastCheck.boolean()], ([traceId, spanId, sampled]) => {
    const headers = traceContext.write(Tracer.externalSpan({ traceId, spanId, sampled }))
    expect(spanOf(headers)).toMatchObject({ traceId, spanId, sampled })
  })

  it("is the example of the standard", () => {
    expect(spanOf({ traceparent: `00-${trace}-${span}-01` })).toMatchObject({
      _tag: "ExternalSpan",
      traceId: trace,
      spanId: span,
      sampled: true
    })
    expect(spanOf({ traceparent: `00-${trace}-${span}-00` })?.sampled).toBe(false)
  })

  it.each([
    ["nothing", ""],
    ["something else", "half a cortado"],
    ["capitals", `00-${trace.toUpperCase()}-${span}-01`],
    ["no trace", `00-${"0".repeat(32)}-${span}-01`],
    ["no span", `00-${trace}-${"0".repeat(16)}-01`],
    ["a version that is none", `ff-${trace}-${span}-01`],
    ["more than version 00 has", `00-${trace}-${span}-01-more`],
    ["an id that is too short", `00-${trace.slice(1)}-${span}-01`]
  ])("%s is not one", (_, traceparent) => {
    expect(spanOf({ traceparent })).toBe(undefined)
  })

  it("is not looked for in a null or in another header", () => {
    expect(spanOf({ traceparent: null })).toBe(undefined)
    expect(spanOf({ Traceparent: `00-${trace}-${span}-01` })).toBe(undefined)
    expect(spanOf([])).toBe(undefined)
  })

  it("a version to come is read as far as it is known", () => {
    expect(spanOf({ traceparent: `01-${trace}-${span}-01-what-comes-then` })?.spanId).toBe(span)
  })

  it("a tracestate is passed on as it came, unless it is longer than anybody has to bear", () => {
    const through = (tracestate: string) => {
      const read = traceContext.read(RecordHeaders.make({ traceparent: `00-${trace}-${span}-01`, tracestate }))
      return RecordHeaders.getString(traceContext.write(read!), "tracestate")
    }
    expect(through("vendor=a,other=b")).toBe("vendor=a,other=b")
    expect(through("v=".padEnd(600, "x"))).toBe(undefined)
  })

  it("ids that are not those of the standard are not written", () => {
    expect(traceContext.write(Tracer.externalSpan({ traceId: "noop", spanId: "noop" }))).toEqual([])
  })
})
