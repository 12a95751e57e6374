/**
 * One fetch response, for the library's parser to read. The library's own buffer looks for the chunk of the socket that
 * a byte is in from the first chunk on, at each read; this one stays in the chunk where it read last.
 *
 * What it gives out are views of those chunks, of 64 KiB: a record that is kept for long keeps one of them alive, and not
 * the whole response.
 */
import type { Library } from "./library.ts"

/** What the library's `Reader` reads from. */
type DynamicBuffer = InstanceType<Library["Reader"]>["buffer"]

const empty = Buffer.alloc(0)

/** The longest that a number of variable length may be, in bytes. */
const longestNumber = 10

export type Sequential = (buffers: ReadonlyArray<Buffer>) => DynamicBuffer

/**
 * How to make one of the chunks of a response. Made anew for each driver, since the library is loaded only then.
 */
export const make = (library: Library): Sequential => {
  // the library does not export the class of its own buffers
  const DynamicBuffer = library.Reader.from(empty).buffer.constructor as new(buffers: Array<Buffer>) => DynamicBuffer

  class SequentialBuffer extends DynamicBuffer {
    /** The chunk that was read last, and where it begins and ends. */
    private chunk: Buffer = empty
    private from = 0
    private to = 0
    private next = 0
    /** What was read, and from how many bytes: taken apart at once by whoever asks. */
    private readonly pair: [number, number] = [0, 0]

    /** Whether so many bytes are in one chunk, which is `chunk` then. */
    private has(offset: number, size: number): boolean {
      if (offset >= this.from && offset + size <= this.to) return true
      if (offset < this.from) this.from = this.to = this.next = 0
      while (offset >= this.to) {
        const chunk = this.buffers[this.next]
        if (chunk === undefined) return false
        this.chunk = chunk
        this.next++
        this.from = this.to
        this.to += chunk.length
      }
      return offset + size <= this.to
    }

    override subarray(start = 0, end = this.length): DynamicBuffer {
      return new SequentialBuffer(super.subarray(start, end).buffers)
    }

    override slice(start = 0, end = this.length): Buffer {
      return start < end && this.has(start, end - start)
        ? this.chunk.subarray(start - this.from, end - this.from)
        : super.slice(start, end)
    }

    override readUInt8(offset = 0): number {
      return this.has(offset, 1) ? this.chunk[offset - this.from]! : super.readUInt8(offset)
    }
    override readInt8(offset = 0): number {
      return this.has(offset, 1) ? this.chunk.readInt8(offset - this.from) : super.readInt8(offset)
    }
    override readInt16BE(offset = 0): number {
      return this.has(offset, 2) ? this.chunk.readInt16BE(offset - this.from) : super.readInt16BE(offset)
    }
    override readInt32BE(offset = 0): number {
      return this.has(offset, 4) ? this.chunk.readInt32BE(offset - this.from) : super.readInt32BE(offset)
    }
    override readUInt32BE(offset = 0): number {
      return this.has(offset, 4) ? this.chunk.readUInt32BE(offset - this.from) : super.readUInt32BE(offset)
    }
    override readBigInt64BE(offset = 0): bigint {
      return this.has(offset, 8) ? this.chunk.readBigInt64BE(offset - this.from) : super.readBigInt64BE(offset)
    }

    override readVarInt(offset: number): [number, number] {
      if (!this.has(offset, longestNumber)) return super.readVarInt(offset)
      const { chunk, from } = this
      const start = offset - from
      let value = 0
      for (let read = 0; read < 5; read++) {
        const byte = chunk[start + read]!
        value |= (byte & 0x7f) << (7 * read)
        if (byte < 0x80) {
          const { pair } = this
          pair[0] = (value >>> 1) ^ -(value & 1)
          pair[1] = read + 1
          return pair
        }
      }
      return super.readVarInt(offset)
    }

    /** Almost all are small: the time between two records of a batch. */
    override readVarInt64(offset: number): [bigint, number] {
      if (!this.has(offset, longestNumber)) return super.readVarInt64(offset)
      const { chunk, from } = this
      const start = offset - from
      let value = 0
      for (let read = 0; read < 4; read++) {
        const byte = chunk[start + read]!
        value |= (byte & 0x7f) << (7 * read)
        if (byte < 0x80) return [BigInt((value >>> 1) ^ -(value & 1)), read + 1]
      }
      return super.readVarInt64(offset)
    }
  }
  return (buffers) => new SequentialBuffer([...buffers])
}
