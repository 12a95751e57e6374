/**
 * Whether bytes from a socket can be answers of a broker. kafkajs believes the length that stands before each, and ends
 * the whole process on one that can't be: thrown from a socket's event, nobody can catch it.
 */
import type * as Net from "node:net"

/** Every answer begins with the number of its request, in four bytes. */
const least = 4

/** No broker answers so much at once; text of other protocols, read as a length, is more. */
const most = 1024 * 1024 * 1024

/** What TLS says to who does not speak it: an alert, and its version. */
const tlsAlert = 0x1503

const headerSize = 4

/** The lengths of answers, wherever the chunks are cut. */
export class Frames {
  /** How much of the current answer is yet to come. */
  private rest = 0
  /** What came of the next length, which may be cut as well. */
  private header = 0
  private headerBytes = 0
  private first = true

  /** `false` if a length can't be one. */
  accept(chunk: Uint8Array): boolean {
    let at = 0
    while (at < chunk.length) {
      if (this.rest > 0) {
        const taken = Math.min(this.rest, chunk.length - at)
        this.rest -= taken
        at += taken
        continue
      }
      this.header = (this.header << 8) | chunk[at++]!
      if (++this.headerBytes < headerSize) continue
      if (this.header < least || this.header > most) return false
      if (this.first && this.header >>> 16 === tlsAlert) return false
      this.rest = this.header
      this.header = 0
      this.headerBytes = 0
      this.first = false
    }
    return true
  }
}

/** What answers is no broker. */
class NotKafka extends Error {
  readonly code = "ERR_NOT_KAFKA"
  constructor() {
    super("what answers does not speak Kafka's protocol")
    this.name = "NotKafka"
  }
}

/** The same socket, which breaks at bytes that are no answers of a broker. */
export const guarded = (socket: Net.Socket): Net.Socket => {
  const frames = new Frames()
  const emit = socket.emit.bind(socket) as (event: string | symbol, ...args: ReadonlyArray<unknown>) => boolean
  let broken = false
  socket.emit = (event: string | symbol, ...args: ReadonlyArray<unknown>): boolean => {
    if (event !== "data") return emit(event, ...args)
    const [chunk] = args
    if (!broken && chunk instanceof Uint8Array && frames.accept(chunk)) return emit(event, chunk)
    if (!broken) socket.destroy(new NotKafka())
    broken = true
    return true
  }
  return socket
}
