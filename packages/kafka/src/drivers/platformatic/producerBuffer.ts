/**
 * What the library's `Writer` writes to, in one piece. The library's own buffers are lists of small ones, which makes a
 * batch of small records slower to put together than to store; and they write numbers of 64 bits wrongly that have more
 * than 32.
 */
import type { Writer } from "@platformatic/kafka"
import type { Library } from "./library.ts"

/** What the library's `Writer` writes to. */
type DynamicBuffer = Writer["dynamicBuffer"]

export interface FlatBuffer extends DynamicBuffer {
  /** Forgets what was written. What `buffer` gave out before is written over. */
  clear(): void
}

/**
 * How to make one of a size that is expected to do. Made anew for each driver, since the library is loaded only then.
 */
export const make = (library: Library): (size: number) => FlatBuffer => {
  // the library does not export the class of its own buffers
  const DynamicBuffer = library.Writer.create().dynamicBuffer.constructor as new() => DynamicBuffer

  class Flat extends DynamicBuffer implements FlatBuffer {
    private bytes: Buffer

    constructor(size: number) {
      super()
      this.bytes = Buffer.allocUnsafe(size)
    }

    /** What was written: a view. */
    override get buffer(): Buffer {
      return this.bytes.subarray(0, this.length)
    }

    clear(): void {
      this.length = 0
    }

    /** Makes room for so many bytes more, and answers where they begin. */
    private extend(by: number): number {
      const from = this.length
      const to = from + by
      if (to > this.bytes.length) {
        const larger = Buffer.allocUnsafe(Math.max(to, 2 * this.bytes.length))
        this.bytes.copy(larger, 0, 0, from)
        this.bytes = larger
      }
      this.length = to
      return from
    }

    override append(buffer: Buffer): this {
      const from = this.extend(buffer.length)
      this.bytes.set(buffer, from)
      return this
    }

    override writeInt8(value: number): this {
      const from = this.extend(1)
      this.bytes[from] = value
      return this
    }
    override writeInt16BE(value: number): this {
      const from = this.extend(2)
      this.bytes.writeInt16BE(value, from)
      return this
    }
    override writeInt32BE(value: number): this {
      const from = this.extend(4)
      this.bytes.writeInt32BE(value, from)
      return this
    }
    override writeUInt32BE(value: number): this {
      const from = this.extend(4)
      this.bytes.writeUInt32BE(value, from)
      return this
    }
    override writeBigInt64BE(value: bigint): this {
      const from = this.extend(8)
      this.bytes.writeBigInt64BE(value, from)
      return this
    }

    override writeVarInt(value: number): void {
      this.writeGroups((value << 1) ^ (value >> 31))
    }

    /** Almost all are small: the time between two records of a batch. */
    override writeVarInt64(value: bigint): void {
      if (value >= smallest && value <= largest) return this.writeVarInt(Number(value))
      let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n))
      for (; rest > 0x7fn; rest >>= 7n) this.writeInt8(Number(rest & 0x7fn) | 0x80)
      this.writeInt8(Number(rest))
    }

    /** Seven bits at a time. */
    private writeGroups(value: number): void {
      let rest = value >>> 0
      for (; rest > 0x7f; rest >>>= 7) this.writeInt8((rest & 0x7f) | 0x80)
      this.writeInt8(rest)
    }
  }
  return (size) => new Flat(size)
}

const smallest = -(2n ** 31n)
const largest = 2n ** 31n - 1n
