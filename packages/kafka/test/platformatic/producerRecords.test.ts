import { expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Records from "../../src/drivers/platformatic/producerRecords.ts"
import type { CompressionType, RawProducerRecord } from "../../src/KafkaClient.ts"

const library = await import("@platformatic/kafka")

const bytes = FastCheck.uint8Array({ maxLength: 300 })
const maybe = FastCheck.option(bytes)

const recordAt = (timestamp: FastCheck.Arbitrary<bigint>): FastCheck.Arbitrary<RawProducerRecord> =>
  FastCheck.record({
    key: maybe,
    value: maybe,
    headers: FastCheck.array(FastCheck.tuple(FastCheck.string({ maxLength: 10 }), maybe), { maxLength: 4 }),
    timestamp
  })

const identities = FastCheck.option(FastCheck.record({
  producerId: FastCheck.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
  producerEpoch: FastCheck.integer({ min: 0, max: 32_767 })
}))

const encoder = (compression: CompressionType, transactionalId?: string) =>
  Records.make(library, { acks: "all", compression, requestTimeout: 1000, transactionalId })

/** The same batch by the library alone. */
const theirs = (
  records: ReadonlyArray<RawProducerRecord>,
  identity: { readonly producerId: bigint; readonly producerEpoch: number } | null,
  sequence: number,
  transactionalId: string | undefined
): Buffer => {
  const sequences = new library.NumericMap([["t:0", identity === null ? -1 : sequence]])
  return library.createRecordsBatch(
    records.map(({ headers, key, timestamp, value }) => ({
      // the library's types have no null, and its writer does
      key: (key === null ? null : Buffer.from(key)) as Buffer,
      value: (value === null ? null : Buffer.from(value)) as Buffer,
      headers: new Map(headers.map(([name, value]) => [
        Buffer.from(name),
        (value === null ? null : Buffer.from(value)) as Buffer
      ])),
      timestamp,
      topic: "t",
      partition: 0
    })),
    {
      compression: "none",
      transactionalId,
      producerId: identity?.producerId ?? -1n,
      producerEpoch: identity?.producerEpoch ?? -1,
      sequences
    }
  ).buffer
}

it("a batch is written as the library writes it, byte for byte, where that is right", () => {
  const soon = FastCheck.bigInt({ min: 1_700_000_000_000n, max: 1_700_000_000_000n + 2n ** 31n - 1n })
  FastCheck.assert(FastCheck.property(
    FastCheck.array(recordAt(soon), { minLength: 1, maxLength: 20 }),
    identities,
    FastCheck.nat({ max: 2 ** 31 - 1 }),
    FastCheck.option(FastCheck.string(), { nil: undefined }),
    (records, identity, sequence, transactionalId) => {
      const ours = encoder("none", transactionalId).batch({ records, sequence }, identity ?? undefined)
      // an id that is empty is none to the library
      expect(ours).toEqual(theirs(records, identity, sequence, transactionalId === "" ? "x" : transactionalId))
    }
  ))
})

it.each(["none", "gzip", "snappy", "lz4", "zstd"] as const)(
  "what is written with %s is read again, whenever it was",
  async (compression) => {
    const any = FastCheck.bigInt({ min: 0n, max: 2n ** 62n })
    await FastCheck.assert(
      FastCheck.asyncProperty(FastCheck.array(recordAt(any), { minLength: 1, maxLength: 20 }), async (records) => {
        const written = await encoder(compression).batch({ records, sequence: 0 }, undefined)
        const { firstTimestamp, length, records: read } = library.readRecordsBatch(library.Reader.from(written))
        expect(length).toBe(written.length - 12)
        expect(read.map(({ headers, key, timestampDelta, value }) => ({
          key: key === null ? null : new Uint8Array(key),
          value: value === null ? null : new Uint8Array(value),
          headers: headers.map(([name, value]) => [
            name?.toString() ?? "",
            value === null ? null : new Uint8Array(value)
          ]),
          timestamp: firstTimestamp + timestampDelta
        }))).toEqual(records)
      }),
      { numRuns: 50 }
    )
  }
)

it("the library loses times that are weeks apart: when this fails, it has been mended", () => {
  const record = (timestamp: bigint): RawProducerRecord => ({ key: null, value: null, headers: [], timestamp })
  const batch = theirs([record(0n), record(2n ** 31n)], null, 0, undefined)
  expect(library.readRecordsBatch(library.Reader.from(batch)).records[1]?.timestampDelta).not.toBe(2n ** 31n)
})
