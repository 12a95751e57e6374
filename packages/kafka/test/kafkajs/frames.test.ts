import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Frames } from "../../src/drivers/kafkajs/frames.ts"

const frame = (length: number, body = Buffer.alloc(Math.max(0, length))): Buffer => {
  const header = Buffer.alloc(4)
  header.writeInt32BE(length)
  return Buffer.concat([header, body])
}

/** Cut at these places, as a network may. */
const cut = (bytes: Buffer, places: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].toSorted((a, b) => a - b)
  return sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end))
}

const places = FastCheck.array(FastCheck.nat(), { maxLength: 6 })
const answers = FastCheck.array(FastCheck.uint8Array({ minLength: 4, maxLength: 40 }), { maxLength: 6 }).map((bodies) =>
  Buffer.concat(bodies.map((body) => frame(body.length, Buffer.from(body))))
)

describe("what a broker answers", () => {
  it.prop("is let through, wherever it is cut", [answers, places], ([bytes, places]) => {
    const frames = new Frames()
    expect(cut(bytes, places).every((chunk) => frames.accept(chunk))).toBe(true)
  })

  it.prop(
    "is not let through from the first length on that can't be one",
    [answers, FastCheck.integer({ min: -(2 ** 31), max: 3 }), FastCheck.uint8Array({ maxLength: 10 }), places],
    ([bytes, length, rest, places]) => {
      const frames = new Frames()
      const wrong = Buffer.concat([bytes, frame(length, Buffer.from(rest))])
      expect(cut(wrong, places).every((chunk) => frames.accept(chunk))).toBe(false)
    }
  )

  it.each(["HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.6\r\n", "\u0015\u0003\u0003\u0000\u0002\u0002F"])(
    "is told from other protocols: %j",
    (text) => {
      expect(new Frames().accept(Buffer.from(text, "latin1"))).toBe(false)
    }
  )

  it("may be as large as a fetch, from the first on", () => {
    const frames = new Frames()
    expect(frames.accept(frame(64 * 1024 * 1024))).toBe(true)
    expect(frames.accept(frame(900 * 1024 * 1024, Buffer.alloc(10)))).toBe(true)
  })
})
