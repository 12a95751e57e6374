/**
 * One fetch response, for the library's parser to read: in one piece, so that no read has to look for the chunk of the
 * socket that it is in, and read by Node's own means.
 *
 * What it gives out are views of copies of 64 KiB: a record that is kept for long keeps those alive, and not the whole
 * response.
 */
import type { Library } from "./library.ts"

/** What the library's `Reader` reads from. */
type DynamicBuffer = InstanceType<Library["Reader"]>["buffer"]

const empty = Buffer.alloc(0)

/** How many bytes are copied at a time, for views to be taken of. */
const segmentSize = 64 * 1024

export type Contiguous = (bytes: Buffer) => DynamicBuffer

/**
 * How to make one. Made anew for each driver, since the library is loaded only then.
 */
export const make = (library: Library): Contiguous => {
  // the library does not export the class of its own buffers
  const DynamicBuffer = library.Reader.from(empty).buffer.constructor as new(bytes: Buffer) => DynamicBuffer

  class ContiguousBuffer extends DynamicBuffer {
    private readonly bytes: Buffer
    private segment = empty
    private from = 0
    private to = 0

    constructor(bytes: Buffer) {
      super(bytes)
      this.bytes = bytes
    }

    override get buffer(): Buffer {
      return this.bytes
    }

    override subarray(start = 0, end = this.length): DynamicBuffer {
      this.check(start, end)
      return new ContiguousBuffer(this.bytes.subarray(start, end))
    }

    override slice(start = 0, end = this.length): Buffer {
      if (start === end) return empty
      if (start < this.from || end > this.to) this.load(start, end)
      return this.segment.subarray(start - this.from, end - this.from)
    }

    private load(start: number, end: number): void {
      this.check(start, end)
      const to = Math.min(this.length, Math.max(end, start + segmentSize))
      const segment = Buffer.allocUnsafeSlow(to - start)
      this.bytes.copy(segment, 0, start, to)
      this.segment = segment
      this.from = start
      this.to = to
    }

    private check(start: number, end: number): void {
      if (start < 0 || end > this.length || start > end) throw new RangeError("the response ends too early")
    }

    // Node checks the bounds of these

    override readUInt8(offset = 0): number {
      return this.bytes.readUInt8(offset)
    }
    override readInt8(offset = 0): number {
      return this.bytes.readInt8(offset)
    }
    override readInt16BE(offset = 0): number {
      return this.bytes.readInt16BE(offset)
    }
    override readInt32BE(offset = 0): number {
      return this.bytes.readInt32BE(offset)
    }
    override readUInt32BE(offset = 0): number {
      return this.bytes.readUInt32BE(offset)
    }
    override readBigInt64BE(offset = 0): bigint {
      return this.bytes.readBigInt64BE(offset)
    }

    override readVarInt(offset: number): [number, number] {
      const { bytes } = this
      let byte = bytes[offset]
      let value = 0
      let end = offset + 1
      for (let shift = 0; byte !== undefined; shift += 7) {
        value |= (byte & 0x7f) << shift
        if (byte < 0x80) return [(value >>> 1) ^ -(value & 1), end - offset]
        byte = bytes[end++]
      }
      throw new RangeError("the response ends too early")
    }

    /** Almost all are small: the time between two records of a batch. */
    override readVarInt64(offset: number): [bigint, number] {
      const { bytes } = this
      let value = 0
      for (let read = 0; read < 4; read++) {
        const byte = bytes[offset + read]
        if (byte === undefined) break
        value |= (byte & 0x7f) << (7 * read)
        if (byte < 0x80) return [BigInt((value >>> 1) ^ -(value & 1)), read + 1]
      }
      return super.readVarInt64(offset)
    }
  }
  return (bytes) => new ContiguousBuffer(bytes)
}
