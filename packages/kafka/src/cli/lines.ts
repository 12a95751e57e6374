/** Lines of bytes, whatever the chunks they arrive in. */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InputError } from "./failures.ts"

/** A longer line is an input without line ends: it is refused rather than gathered in memory. */
export const longestLine = 64 * 1024 * 1024

export interface Line {
  /** From 1 on. */
  readonly number: number
  /** Without its end, `\n` or `\r\n`. */
  readonly bytes: Uint8Array
}

const lineFeed = 0x0a
const carriageReturn = 0x0d

/** Splits chunks one after the other; what follows the last line end is a line too, unless it is empty. */
export class Splitter {
  private readonly begun: Array<Uint8Array> = []
  private length = 0
  private number = 0

  /** The lines that end in this chunk. */
  push(chunk: Uint8Array): ReadonlyArray<Line> {
    const lines: Array<Line> = []
    let start = 0
    for (let end = chunk.indexOf(lineFeed); end !== -1; end = chunk.indexOf(lineFeed, start)) {
      lines.push(this.line(chunk.subarray(start, end), true))
      start = end + 1
    }
    if (start < chunk.length) {
      this.begun.push(chunk.subarray(start))
      this.length += chunk.length - start
    }
    return lines
  }

  /** What is left at the end. */
  end(): ReadonlyArray<Line> {
    return this.length === 0 ? [] : [this.line(new Uint8Array(), false)]
  }

  get tooLong(): boolean {
    return this.length > longestLine
  }

  get nextNumber(): number {
    return this.number + 1
  }

  private line(rest: Uint8Array, ended: boolean): Line {
    let bytes = this.length === 0 ? rest : Buffer.concat([...this.begun, rest])
    this.begun.length = 0
    this.length = 0
    if (ended && bytes.at(-1) === carriageReturn) bytes = bytes.subarray(0, -1)
    return { number: ++this.number, bytes }
  }
}

export const split = <E, R>(input: Stream.Stream<Uint8Array, E, R>): Stream.Stream<Line, E | InputError, R> =>
  Stream.suspend(() => {
    const splitter = new Splitter()
    const whole = Stream.mapChunksEffect(input, (chunks) => {
      const lines = Chunk.toReadonlyArray(chunks).flatMap((chunk) => splitter.push(chunk))
      return splitter.tooLong
        ? new InputError({ message: `line ${splitter.nextNumber} is longer than 64 MiB` })
        : Effect.succeed(Chunk.unsafeFromArray(lines))
    })
    return Stream.concat(whole, Stream.suspend(() => Stream.fromIterable(splitter.end())))
  })
