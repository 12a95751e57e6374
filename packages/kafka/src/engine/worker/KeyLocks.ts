/**
 * Which keys of a partition have records in the retry topic, as the one knows who reads the partition: from what it
 * found there when it began, from what it has sent there since, and from what the retries' group has committed.
 *
 * It may take a key for locked that is free already: then a record goes by the retry topic that need not, and keeps its
 * place. It never takes one for free that is locked.
 */
export class KeyLocks {
  /** The last record of each key in the retry topic. */
  private readonly last = new Map<string, bigint>()

  get isEmpty(): boolean {
    return this.last.size === 0
  }

  get size(): number {
    return this.last.size
  }

  isLocked(key: string): boolean {
    return this.last.has(key)
  }

  /** A record of this key is in the retry topic, at this offset. */
  lock(key: string, offset: bigint): void {
    const known = this.last.get(key)
    if (known === undefined || known < offset) this.last.set(key, offset)
  }

  /** Everything in the retry topic before this offset is done. */
  release(committed: bigint): void {
    for (const [key, offset] of this.last) if (offset < committed) this.last.delete(key)
  }
}
