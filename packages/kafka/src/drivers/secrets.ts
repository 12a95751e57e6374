/**
 * Secrets that were unwrapped, so that they can be kept out of whatever is shown.
 */
import * as Redacted from "effect/Redacted"

const limit = 32

/**
 * The secrets that were unwrapped lately.
 */
export class Secrets implements Iterable<string> {
  private readonly seen = new Set<string>()

  /** Notes a secret, and gives it out. */
  reveal(secret: Redacted.Redacted<string>): string {
    const value = Redacted.value(secret)
    this.seen.delete(value)
    this.seen.add(value)
    if (this.seen.size > limit) {
      for (const oldest of this.seen) {
        this.seen.delete(oldest)
        break
      }
    }
    return value
  }
  [Symbol.iterator](): Iterator<string> {
    return this.seen.values()
  }
}
