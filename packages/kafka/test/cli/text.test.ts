import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Either, FastCheck, Stream } from "effect"
import * as input from "../../src/cli/input.ts"
import * as lines from "../../src/cli/lines.ts"
import * as record from "../../src/cli/record.ts"
import { style } from "../../src/cli/Stdio.ts"
import * as text from "../../src/cli/text.ts"
import * as ConsumerRecord from "../../src/ConsumerRecord.ts"
import type { RecordView } from "../../src/KafkaClient.ts"
import type { RecordHeaders } from "../../src/RecordHeaders.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

const bytes = FastCheck.oneof(
  FastCheck.uint8Array({ maxLength: 50 }),
  FastCheck.string({ unit: "binary", maxLength: 50 }).map((one) => new Uint8Array(Buffer.from(one)))
)

interface Raw {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: RecordHeaders
  readonly timestamp: bigint
  readonly offset: bigint
}

const view: RecordView<Raw> = {
  offset: (raw) => raw.offset,
  timestamp: (raw) => raw.timestamp,
  key: (raw) => raw.key,
  value: (raw) => raw.value,
  headers: (raw) => raw.headers
}

const recordOf = (raw: Raw): record.Record =>
  ConsumerRecord.make(
    {
      slug: "orders",
      assignment: { topicPartition: TopicPartition.make("orders", 3), epoch: 1 },
      view: view as RecordView,
      last: undefined,
      nextOffset: 0n
    },
    raw,
    raw.key,
    raw.value
  )

const raws = FastCheck.record({
  key: FastCheck.option(bytes),
  value: FastCheck.option(bytes),
  headers: FastCheck.array(FastCheck.tuple(FastCheck.string(), FastCheck.option(bytes)), { maxLength: 4 }),
  timestamp: FastCheck.bigInt({ min: -1n, max: 8_000_000_000_000_000n }),
  offset: FastCheck.bigInt({ min: 0n, max: 2n ** 63n - 1n })
})

const settings: input.Settings = { json: true, key: undefined, keySeparator: undefined, headers: [] }

const buffer = (one: Uint8Array | null | undefined) => one === null || one === undefined ? one : Buffer.from(one)

/** What takes hold of a terminal, or changes how what stands beside it is read. */
const harmful = /(?!\u200d)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

describe("what is printed", () => {
  it("a record is one line without control characters, whatever is in it", () => {
    FastCheck.assert(FastCheck.property(raws, (raw) => {
      assert.notMatch(record.pretty(recordOf(raw), style(false)), harmful)
    }))
  })

  it("an escape sequence, a line end and text that runs backwards are shown as what they are", () => {
    const shown = text.escapeLine("a\x1b[2Jb\r\nc\td\u202ee\u0085f👩‍🚀")
    assert.strictEqual(shown, "a\\u001b[2Jb\\r\\nc\\td\\u202ee\\u0085f👩‍🚀")
  })

  it("bytes that are not UTF-8 are shown in hex, and the first of them only", () => {
    assert.strictEqual(text.show(Uint8Array.of(0xff)), "<1 byte: ff>")
    assert.strictEqual(text.show(Uint8Array.of(0xff, 0x00)), "<2 bytes: ff 00>")
    assert.match(text.show(new Uint8Array(40).fill(0xfe)), /^<40 bytes: (fe ){32}…>$/)
  })

  it("a record as JSON is one line that produce --json takes back, byte for byte", () => {
    FastCheck.assert(FastCheck.property(raws, (raw) => {
      const line = record.json(recordOf(raw))
      assert.notInclude(line, "\n")
      const back = Either.getOrThrow(input.record({ number: 1, bytes: Buffer.from(line) }, settings))
      assert.deepStrictEqual(buffer(back?.key), buffer(raw.key))
      assert.deepStrictEqual(buffer(back?.value), buffer(raw.value))
      assert.deepStrictEqual(
        Array.from(back?.headers as RecordHeaders, ([name, value]) => [name, buffer(value)]),
        raw.headers.map(([name, value]) => [name, buffer(value)])
      )
      assert.strictEqual(back?.partition, 3)
      assert.strictEqual(BigInt(back?.timestamp ?? 0), raw.timestamp)
    }))
  })

  it("an offset that no number holds is text", () => {
    const raw = { key: null, value: null, headers: [], timestamp: 0n, offset: 2n ** 53n }
    assert.include(record.json(recordOf(raw)), `"offset":"9007199254740992"`)
    assert.include(record.json(recordOf({ ...raw, offset: 2n ** 53n - 1n })), `"offset":9007199254740991`)
  })
})

describe("what is read", () => {
  it.effect("lines are the same however the input is cut", () =>
    Effect.promise(() =>
      FastCheck.assert(FastCheck.asyncProperty(
        FastCheck.array(FastCheck.constantFrom("a", "bc", "\n", "\r", "\r\n", "é")),
        FastCheck.array(FastCheck.nat({ max: 4 })),
        async (parts, cuts) => {
          const whole = Buffer.from(parts.join(""))
          const chunks: Array<Uint8Array> = []
          let at = 0
          for (const cut of cuts) {
            chunks.push(whole.subarray(at, at + cut))
            at = Math.min(at + cut, whole.length)
          }
          chunks.push(whole.subarray(at))
          const found = await Effect.runPromise(Stream.runCollect(lines.split(Stream.fromIterable(chunks))))

          const expected = whole.toString().split("\n")
          const rest = expected.pop() ?? ""
          const texts = expected.map((one) => one.replace(/\r$/, ""))
          if (rest !== "") texts.push(rest)
          assert.deepStrictEqual(Chunk.toReadonlyArray(found).map((line) => Buffer.from(line.bytes).toString()), texts)
          assert.deepStrictEqual(Chunk.toReadonlyArray(found).map((line) => line.number), texts.map((_, i) => i + 1))
        }
      ))
    ))

  it("a header is split at its first equals sign", () => {
    const header = ([name, value]: readonly [string, Uint8Array | null]) => [name, buffer(value)?.toString()]
    assert.deepStrictEqual(header(input.header("a=b=c")), ["a", "b=c"])
    assert.deepStrictEqual(header(input.header("a")), ["a", ""])
  })
})
