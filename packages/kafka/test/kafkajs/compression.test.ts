import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import KafkaJs, { CompressionTypes } from "kafkajs"
import * as ChildProcess from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import * as Zlib from "node:zlib"
import { fromXerial, install, prepare, toXerial } from "../../src/drivers/kafkajs/compression.ts"
import type { CompressionType } from "../../src/KafkaClient.ts"

const all = ["gzip", "snappy", "lz4", "zstd"] as const satisfies ReadonlyArray<CompressionType>

const same = (data: Buffer) => Promise.resolve(Buffer.from(data))

describe("compression for kafkajs", () => {
  it.effect("a codec that an application put there itself stays", () =>
    Effect.gen(function*() {
      const codecs: { [type: number]: unknown } = KafkaJs.CompressionCodecs
      const before = codecs[CompressionTypes.LZ4]
      const own = () => ({ compress: () => Promise.resolve(Buffer.alloc(0)), decompress: same })
      codecs[CompressionTypes.LZ4] = own
      yield* install
      const after = codecs[CompressionTypes.LZ4]
      codecs[CompressionTypes.LZ4] = before
      expect(after).toBe(own)
    }))

  it.effect("each type has the number that the record format gives it", () =>
    Effect.gen(function*() {
      expect(yield* Effect.forEach(["none", ...all] as const, (type) => prepare(type))).toEqual([0, 1, 2, 3, 4])
    }))

  it.live("where a library is missing, the error names the package to install", () =>
    Effect.gen(function*() {
      const program = fileURLToPath(new URL("programs/withoutCodecs.ts", import.meta.url))
      const { stdout } = yield* Effect.promise(() =>
        promisify(ChildProcess.execFile)(
          process.execPath,
          ["--conditions=@coffeebuddy/source", "--import", "tsx", program],
          { timeout: 60_000 }
        )
      )
      const lines = stdout.trim().split("\n")
      const missing = "UnsupportedFeatureError: the kafkajs driver has no"
      expect(lines.slice(0, 4)).toEqual([
        "none: ready",
        "gzip: ready",
        `snappy: ${missing} snappy compression: install the package "snappy"`,
        `lz4: ${missing} lz4 compression: install the package "lz4-napi"`
      ])
      expect(lines.slice(4)).toEqual([
        "zstdCompress" in Zlib
          ? "zstd: ready"
          : `zstd: ${missing} zstd compression: install the package "@mongodb-js/zstd", or run Node 22.15 or later`
      ])
    }), 60_000)

  it("what is framed for Java is read back, whole and in blocks", async () => {
    await FastCheck.assert(
      FastCheck.asyncProperty(
        FastCheck.uint8Array({ maxLength: 200 }),
        FastCheck.constantFrom(1, 500, 2000),
        async (bytes, times) => {
          const data = Buffer.concat(Array.from({ length: times }, () => bytes))
          expect((await fromXerial(await toXerial(data, same), same)).equals(data)).toBe(true)
        }
      ),
      { numRuns: 50 }
    )
  })

  it("snappy without a frame is read too, and a frame that is cut short is refused", async () => {
    expect(await fromXerial(Buffer.from("plain"), same)).toEqual(Buffer.from("plain"))
    const framed = await toXerial(Buffer.from("some bytes"), same)
    for (let length = 17; length < framed.length; length++) {
      await expect(fromXerial(framed.subarray(0, length), same)).rejects.toThrow(RangeError)
    }
  })
})
