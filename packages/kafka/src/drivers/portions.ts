/**
 * How much one fetch asks for, and of which partition first.
 */
import type { Answer } from "./fetcher.ts"

/** How many records are parsed at once, about. */
const recordsAtOnce = 15_000
/** No answer is asked to be smaller, in bytes. */
const leastAtOnce = 1 << 20

/**
 * All of an answer is parsed at once, and what does not fit into the young generation of the heap costs twice the time;
 * small records are the ones that don't. So the size of answers follows the size of the records in the one before.
 */
export class Portions {
  private recordSize = 200
  private turns = 0

  /** How large an answer may be: in bytes, and no more than `most`. */
  limit(most: number): number {
    return Math.min(most, Math.max(leastAtOnce, Math.ceil(this.recordSize * recordsAtOnce)))
  }

  /** Beginning with another one each time: whoever comes last gets nothing where the first fill the answer. */
  inTurn<A>(all: ReadonlyArray<A>): ReadonlyArray<A> {
    const by = all.length === 0 ? 0 : this.turns++ % all.length
    return by === 0 ? all : [...all.slice(by), ...all.slice(0, by)]
  }

  learn(answers: ReadonlyArray<Answer>): void {
    let bytes = 0
    let records = 0
    for (const answer of answers) {
      if (answer._tag !== "Records") continue
      bytes += answer.chunk.bytes
      records += answer.chunk.records.length
    }
    if (records > 0) this.recordSize = bytes / records
  }
}
