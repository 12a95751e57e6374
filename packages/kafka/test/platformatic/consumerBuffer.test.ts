import { assert, describe, expect, it } from "@effect/vitest"
import * as Library from "@platformatic/kafka"
import * as FastCheck from "effect/FastCheck"
import * as Buffers from "../../src/drivers/platformatic/consumerBuffer.ts"

const sequential = Buffers.make(Library)

/** As they come from a socket. */
const chunkSize = 64 * 1024

/** Cut into chunks of these sizes, in turns. */
const chunks = (bytes: Buffer, sizes: ReadonlyArray<number> = [chunkSize]): ReadonlyArray<Buffer> => {
  const out: Array<Buffer> = []
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length]!
    const chunk = Buffer.allocUnsafeSlow(Math.min(size, bytes.length - at))
    bytes.copy(chunk, 0, at, at + chunk.length)
    out.push(chunk)
    at += size
  }
  return out
}

const batch = (values: ReadonlyArray<Buffer>) =>
  Library.createRecordsBatch(
    values.map((value, i) => ({ topic: "a", value, timestamp: BigInt(1_700_000_000_000 + i) })),
    {}
  ).buffer

const parse = (bytes: Buffer, sizes?: ReadonlyArray<number>) =>
  Library.readRecordsBatches(new Library.Reader(sequential(chunks(bytes, sizes))))

const cuts = FastCheck.array(FastCheck.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 })

const outcome = (read: () => unknown) => {
  try {
    return read()
  } catch {
    return "out of bounds"
  }
}

describe("a fetch response as it came from the socket", () => {
  it("reads as the library's own buffers read, whatever the bytes, the chunks and the order", () => {
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
        FastCheck.uint8Array({ minLength: 1, maxLength: 60 }),
        cuts,
        FastCheck.array(FastCheck.tuple(FastCheck.nat({ max: 60 }), FastCheck.constantFrom(...reads))),
        (given, sizes, steps) => {
          const bytes = Buffer.from(given)
          const ours = sequential(chunks(bytes, sizes))
          const theirs = Library.Reader.from(bytes).buffer
          for (const [offset, name] of steps) {
            // numbers of variable length end somewhere, and are no longer than what they stand for
            const end = bytes.subarray(offset).findIndex((byte) => byte < 0x80)
            if (name.includes("Var") && (end < 0 || end >= (name === "readVarInt64" ? 9 : 4))) continue
            assert.deepStrictEqual(outcome(() => ours[name](offset)), outcome(() => theirs[name](offset)))
          }
        }
      ),
      { numRuns: 1000 }
    )
  })

  it("gives out what is there, and says where nothing is", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.uint8Array({ maxLength: 60 }),
        cuts,
        FastCheck.array(FastCheck.tuple(FastCheck.nat({ max: 60 }), FastCheck.nat({ max: 30 }))),
        (given, sizes, slices) => {
          const bytes = Buffer.from(given)
          const buffer = sequential(chunks(bytes, sizes))
          for (const [start, size] of slices) {
            const end = start + size
            if (end > bytes.length) {
              assert.throws(() => buffer.slice(start, end))
              assert.throws(() => buffer.subarray(start, end))
              continue
            }
            assert.isTrue(buffer.slice(start, end).equals(bytes.subarray(start, end)))
            assert.isTrue(buffer.subarray(start, end).buffer.equals(bytes.subarray(start, end)))
          }
        }
      )
    )
  })

  it("the library's parser finds in it what it finds in its own", () => {
    const values = Array.from({ length: 100 }, (_, i) => Buffer.from(`value ${i}`.repeat(i % 20)))
    const bytes = Buffer.concat([batch(values), batch(values)])
    for (const sizes of [[1], [7, 100], [chunkSize]]) {
      expect(parse(bytes, sizes)).toEqual(Library.readRecordsBatches(Library.Reader.from(bytes)))
    }
  })

  it("a record that is kept keeps one chunk alive, or itself where it is larger, and not the response", () => {
    const values = Array.from({ length: 5000 }, () => Buffer.alloc(200, 1))
    const large = Buffer.alloc(3 * chunkSize, 2)
    const [first] = parse(batch([...values, large, ...values]))
    const sizes = first!.records.map(({ value }) => value!.buffer.byteLength)
    assert.isAtMost(Math.max(...sizes.filter((_, i) => i !== values.length)), chunkSize)
    assert.isAtMost(sizes[values.length]!, large.length)
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
