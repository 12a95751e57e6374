import { assert, describe, expect, it } from "@effect/vitest"
import * as Library from "@platformatic/kafka"
import * as FastCheck from "effect/FastCheck"
import * as Buffers from "../../src/drivers/platformatic/consumerBuffer.ts"

const contiguous = Buffers.make(Library)

const segment = 64 * 1024

const batch = (values: ReadonlyArray<Buffer>) =>
  Library.createRecordsBatch(
    values.map((value, i) => ({ topic: "a", value, timestamp: BigInt(1_700_000_000_000 + i) })),
    {}
  ).buffer

const parse = (bytes: Buffer) => Library.readRecordsBatches(new Library.Reader(contiguous(bytes)))

describe("a fetch response in one piece", () => {
  it("reads as the library's own buffers read, whatever the bytes", () => {
    const reads = [
      "readUInt8",
      "readInt8",
      "readInt16BE",
      "readInt32BE",
      "readUInt32BE",
      "readBigInt64BE",
      "readVarInt",
      "readVarInt64",
      "readUnsignedVarInt"
    ] as const
    FastCheck.assert(
      FastCheck.property(
        FastCheck.uint8Array({ minLength: 1, maxLength: 24 }),
        FastCheck.nat({ max: 23 }),
        FastCheck.constantFrom(...reads),
        (given, at, name) => {
          // numbers of variable length end somewhere, and are no longer than what they stand for
          const bytes = Buffer.from(given)
          const offset = at % bytes.length
          const limit = name === "readVarInt64" ? 9 : 4
          const end = bytes.subarray(offset).findIndex((byte) => byte < 0x80)
          if (name.includes("Var") && (end < 0 || end >= limit)) return
          const outcome = (read: () => unknown) => {
            try {
              return read()
            } catch {
              return "out of bounds"
            }
          }
          assert.deepStrictEqual(
            outcome(() => contiguous(bytes)[name](offset)),
            outcome(() => Library.Reader.from(bytes).buffer[name](offset))
          )
        }
      ),
      { numRuns: 1000 }
    )
  })

  it("gives out what is there, and says where nothing is", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.nat({ max: 3 * segment }),
        FastCheck.array(FastCheck.tuple(FastCheck.nat({ max: 3 * segment }), FastCheck.nat({ max: 2 * segment }))),
        (length, slices) => {
          const bytes = Buffer.alloc(length)
          for (let i = 0; i < length; i++) bytes[i] = (i * 31) & 0xff
          const buffer = contiguous(bytes)
          for (const [start, size] of slices) {
            const end = start + size
            if (size > 0 && end > length) {
              assert.throws(() => buffer.slice(start, end), RangeError)
              assert.throws(() => buffer.subarray(start, end), RangeError)
              continue
            }
            assert.isTrue(buffer.slice(start, end).equals(bytes.subarray(start, end)))
            if (end <= length) assert.isTrue(buffer.subarray(start, end).buffer.equals(bytes.subarray(start, end)))
          }
        }
      ),
      { numRuns: 50 }
    )
  })

  it("the library's parser finds in it what it finds in its own", () => {
    const values = Array.from({ length: 100 }, (_, i) => Buffer.from(`value ${i}`.repeat(i % 20)))
    const bytes = Buffer.concat([batch(values), batch(values)])
    expect(parse(bytes)).toEqual(Library.readRecordsBatches(Library.Reader.from(bytes)))
  })

  it("a record that is kept keeps 64 KiB alive, or itself where it is larger, and not the response", () => {
    const values = Array.from({ length: 5000 }, () => Buffer.alloc(200, 1))
    const large = Buffer.alloc(3 * segment, 2)
    const [first] = parse(batch([...values, large, ...values]))
    const sizes = first!.records.map(({ value }) => value!.buffer.byteLength)
    assert.isAtMost(Math.max(...sizes.filter((_, i) => i !== values.length)), segment)
    assert.strictEqual(sizes[values.length], large.length)
  })

  it("a response that is cut short is an error of the parser, and nothing made up", () => {
    const whole = batch([Buffer.from("a"), Buffer.from("b")])
    for (let length = 61; length < whole.length; length++) {
      const cut = Buffer.from(whole.subarray(0, length))
      // as if the batch said that it ends here
      cut.writeInt32BE(length - 12, 8)
      assert.throws(() => parse(cut))
    }
  })
})
