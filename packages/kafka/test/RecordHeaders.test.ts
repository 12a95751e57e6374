import * as RecordHeaders from "@coffeebuddy/kafka/RecordHeaders"
import { describe, expect, it } from "@effect/vitest"
import { FastCheck } from "effect"

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "utf8"))

/** Well-formed text, astral characters and all. */
const text = FastCheck.string({ unit: "binary", maxLength: 8 })
const value = FastCheck.oneof(text, FastCheck.uint8Array({ maxLength: 8 }), FastCheck.constant(null))

const bytesOf = (value: RecordHeaders.Value): Uint8Array | null => typeof value === "string" ? utf8(value) : value

describe("make", () => {
  it("pairs keep their order, several values under one name, and null", () => {
    expect(RecordHeaders.make([["tag", "a"], ["trace", Uint8Array.of(1, 2)], ["tag", null], ["tag", ""]])).toEqual([
      ["tag", utf8("a")],
      ["trace", Uint8Array.of(1, 2)],
      ["tag", null],
      ["tag", utf8("")]
    ])
  })

  it("a record's arrays are several values under one name", () => {
    expect(RecordHeaders.make({ tag: ["a", null, "☕"], trace: Uint8Array.of(1), none: null, empty: [] })).toEqual([
      ["tag", utf8("a")],
      ["tag", null],
      ["tag", utf8("☕")],
      ["trace", Uint8Array.of(1)],
      ["none", null]
    ])
  })

  it("any iterable of pairs will do", () => {
    expect(RecordHeaders.make(new Map([["a", "1"]]))).toEqual([["a", utf8("1")]])
    expect(RecordHeaders.make([])).toEqual(RecordHeaders.empty)
    expect(RecordHeaders.make(RecordHeaders.make({ a: "1" }))).toEqual([["a", utf8("1")]])
  })

  it.prop("whatever is given is what is kept", [FastCheck.array(FastCheck.tuple(text, value))], ([pairs]) => {
    const headers = RecordHeaders.make(pairs)
    expect(headers).toEqual(pairs.map(([name, value]) => [name, bytesOf(value)]))
    for (const name of new Set(pairs.map(([name]) => name))) {
      const values = pairs.filter((pair) => pair[0] === name).map((pair) => bytesOf(pair[1]))
      expect(RecordHeaders.getAll(headers, name)).toEqual(values)
      expect(RecordHeaders.get(headers, name)).toEqual(values.at(-1))
    }
  })

  it.each<[string, unknown, RegExp]>([
    ["a number", { size: 3 }, /"size" must be a string, a Uint8Array or null, and is number/],
    ["undefined", { size: undefined }, /and is undefined/],
    ["an object in an array", { size: ["a", {}] }, /and is object/],
    ["a name that is none", [[3, "a"]], /name must be a string/],
    ["no pair", [3], /./],
    ["text that UTF-8 can't hold", { size: "a\uD800" }, /surrogate/],
    ["a name that UTF-8 can't hold", { "a\uDC00": "a" }, /surrogate/]
  ])("%s is refused", (_, input, message) => {
    expect(() => RecordHeaders.make(input as RecordHeaders.Input)).toThrow(TypeError)
    expect(() => RecordHeaders.make(input as RecordHeaders.Input)).toThrow(message)
  })

  it.prop("anything at all becomes headers or a TypeError", [FastCheck.anything()], ([input]) => {
    FastCheck.pre(input !== null && input !== undefined)
    try {
      for (const [name, value] of RecordHeaders.make(input as RecordHeaders.Input)) {
        expect(typeof name).toBe("string")
        expect(value === null || value instanceof Uint8Array).toBe(true)
      }
    } catch (error) {
      expect(error).toBeInstanceOf(TypeError)
    }
  })
})

describe("getters", () => {
  const headers = RecordHeaders.make([["tag", "a"], ["tag", "☕"], ["none", "x"], ["none", null]])

  it("the last value of a name counts, as in Kafka", () => {
    expect(RecordHeaders.getString(headers, "tag")).toBe("☕")
    expect(RecordHeaders.getString(headers, "none")).toBeNull()
    expect(RecordHeaders.getString(headers, "other")).toBeUndefined()
    expect(RecordHeaders.get(headers, "other")).toBeUndefined()
    expect(RecordHeaders.getAll(headers, "other")).toEqual([])
    expect(RecordHeaders.getAll(headers, "none")).toEqual([utf8("x"), null])
  })

  it("names of Object's own are names like others", () => {
    expect(RecordHeaders.get(headers, "toString")).toBeUndefined()
    expect(RecordHeaders.getString(RecordHeaders.make([["__proto__", "a"]]), "__proto__")).toBe("a")
  })
})
