/**
 * Records as they are sent: written by the library's writer, into buffers of ours. The library's own `createRecordsBatch`
 * writes the same bytes, as the tests see to, but for records whose times are weeks apart, which it gets wrong.
 */
import type { Writer } from "@platformatic/kafka"
import type { CompressionType, ProducerSessionOptions, RawProducerRecord } from "../../KafkaClient.ts"
import type { ProducerIdentity } from "../producer/sequences.ts"
import { byTopic } from "../producer/transport.ts"
import type { Library } from "./library.ts"
import * as FlatBuffer from "./producerBuffer.ts"

/** One batch of records, and the number of its first where they are numbered. */
export interface Batch {
  readonly topic: string
  readonly partition: number
  readonly records: ReadonlyArray<RawProducerRecord>
  readonly sequence: number
}

const acknowledgements = { all: -1, leader: 1, none: 0 } as const

const recordFormat = 2
const transactionalBit = 16

/** Who sends what has no numbers. */
const nobody: ProducerIdentity = { producerId: -1n, producerEpoch: -1 }
const unnumbered = -1

/** What a record has beside its key, value and headers, at most. */
const overhead = 32

const asBuffer = (bytes: Uint8Array | null): Buffer | null =>
  bytes === null || Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const sizeOf = ({ headers, key, value }: RawProducerRecord): number => {
  let size = overhead + (key?.length ?? 0) + (value?.length ?? 0)
  for (const [name, value] of headers) size += 3 * name.length + (value?.length ?? 0) + 10
  return size
}

export interface Encoder {
  /** A whole produce request. */
  readonly request: (batches: ReadonlyArray<Batch>, identity: ProducerIdentity | undefined) => Promise<Writer>
  /** A batch as it is stored. */
  readonly batch: (
    batch: Pick<Batch, "records" | "sequence">,
    identity: ProducerIdentity | undefined
  ) => Buffer | Promise<Buffer>
}

export const make = (
  library: Library,
  options: Pick<ProducerSessionOptions, "acks" | "compression" | "requestTimeout" | "transactionalId">
): Encoder => {
  const { Writer } = library
  const flat = FlatBuffer.make(library)
  const compress = compressor(library, options.compression)
  const acks = acknowledgements[options.acks]
  const attributes = compress.bits | (options.transactionalId === undefined ? 0 : transactionalBit)
  const one = flat(1024)
  const record = new Writer(one)

  const recordsOf = (records: ReadonlyArray<RawProducerRecord>, base: bigint): Buffer => {
    const all = flat(records.reduce((size, record) => size + sizeOf(record), 0))
    for (let i = 0; i < records.length; i++) {
      const { headers, key, timestamp, value } = records[i]!
      one.clear()
      record.appendInt8(0).appendVarInt64(timestamp - base).appendVarInt(i)
      record.appendVarIntBytes(asBuffer(key)).appendVarIntBytes(asBuffer(value)).appendVarInt(headers.length)
      for (const [name, value] of headers) {
        record.appendVarIntBytes(Buffer.from(name)).appendVarIntBytes(asBuffer(value))
      }
      all.writeVarInt(one.length)
      all.append(one.buffer)
    }
    return all.buffer
  }

  const finish = (
    { records, sequence }: Pick<Batch, "records" | "sequence">,
    identity: ProducerIdentity | undefined,
    base: bigint,
    encoded: Buffer
  ): Buffer => {
    let latest = base
    for (const { timestamp } of records) if (timestamp > latest) latest = timestamp
    const { producerEpoch, producerId } = identity ?? nobody
    const checked = flat(40 + encoded.length)
    new Writer(checked)
      .appendInt16(attributes)
      .appendInt32(records.length - 1)
      .appendInt64(base)
      .appendInt64(latest)
      .appendInt64(producerId)
      .appendInt16(producerEpoch)
      .appendInt32(identity === undefined ? unnumbered : sequence)
      .appendInt32(records.length)
      .append(encoded)
    const head = flat(21)
    // what follows the length: a leader's epoch that the broker sets, the format, the checksum
    new Writer(head)
      .appendInt64(0n)
      .appendInt32(9 + checked.length)
      .appendInt32(0)
      .appendInt8(recordFormat)
      .appendUnsignedInt32(library.crc32c(checked.buffer))
    return Buffer.concat([head.buffer, checked.buffer])
  }

  const batch: Encoder["batch"] = (one, identity) => {
    const base = one.records[0]?.timestamp ?? 0n
    const encoded = compress.run(recordsOf(one.records, base))
    return Buffer.isBuffer(encoded)
      ? finish(one, identity, base, encoded)
      : encoded.then((encoded) => finish(one, identity, base, encoded))
  }

  const request: Encoder["request"] = async (batches, identity) => {
    const encoded = await Promise.all(
      batches.map(async (one) => ({ topic: one.topic, partition: one.partition, bytes: await batch(one, identity) }))
    )
    const writer = Writer.create()
      .appendString(options.transactionalId)
      .appendInt16(acks)
      .appendInt32(options.requestTimeout)
      .appendArray(Array.from(byTopic(encoded)), (w, [topic, partitions]) => {
        w.appendString(topic).appendArray(partitions, (w, { bytes, partition }) => {
          w.appendInt32(partition).appendUnsignedVarInt(bytes.length + 1).append(bytes)
        })
      })
      .appendTaggedFields()
    if (acks === acknowledgements.none) writer.context.noResponse = true
    return writer
  }

  return { request, batch }
}

interface Compressor {
  readonly bits: number
  readonly run: (bytes: Buffer) => Buffer | Promise<Buffer>
}

const compressor = (library: Library, type: CompressionType): Compressor => {
  const algorithm = library.compressionsAlgorithms[type]
  if (type === "none") return { bits: algorithm.bitmask, run: (bytes) => bytes }
  return {
    bits: algorithm.bitmask,
    // in the background, where the library can
    run: "compress" in algorithm ? algorithm.compress : algorithm.compressSync
  }
}
