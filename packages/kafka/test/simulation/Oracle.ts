/**
 * Watches what members do and what the broker stores, and says which promise was broken.
 */

export type Ordering = "partition" | "key" | "unordered"

export class Oracle {
  readonly violations: Array<string> = []
  /** Records handled more than once: to start and to end. */
  duplicates = 0
  private readonly ordering: Ordering
  private readonly keys: ReadonlyArray<Array<string>>
  private readonly started: ReadonlyArray<Set<number>>
  private readonly finished: ReadonlyArray<Set<number>>
  /** Everything before it is finished. */
  private readonly watermark: Array<number>
  private readonly committed: Array<number>

  constructor(partitions: number, ordering: Ordering) {
    this.ordering = ordering
    const each = <A>(make: () => A): Array<A> => Array.from({ length: partitions }, make)
    this.keys = each(() => [])
    this.started = each(() => new Set())
    this.finished = each(() => new Set())
    this.watermark = each(() => 0)
    this.committed = each(() => 0)
  }

  private violate(text: string): void {
    if (!this.violations.includes(text)) this.violations.push(text)
  }

  produced(partition: number, key: string): void {
    this.keys[partition]!.push(key)
  }

  get count(): number {
    return this.keys.reduce((sum, one) => sum + one.length, 0)
  }

  get done(): number {
    return this.finished.reduce((sum, one) => sum + one.size, 0)
  }

  /** A member begins to handle a record, in an order of its own if one is given. */
  start(member: string, partition: number, offset: number, key: string, ordering = this.ordering): void {
    const where = `${member}: ${partition}@${offset}`
    const started = this.started[partition]!
    if (this.keys[partition]![offset] !== key) this.violate(`${where}: is not what was produced`)
    if (started.has(offset)) this.duplicates++
    started.add(offset)
    if (ordering === "unordered") return
    for (let before = this.watermark[partition]!; before < offset; before++) {
      if (ordering === "key" && this.keys[partition]![before] !== key) continue
      if (!this.finished[partition]!.has(before)) {
        this.violate(`${where}: begins before ${before}, which it must follow, was handled by anybody`)
        return
      }
    }
  }

  /** A member has handled a record. */
  finish(partition: number, offset: number): void {
    const finished = this.finished[partition]!
    finished.add(offset)
    while (finished.has(this.watermark[partition]!)) this.watermark[partition]!++
  }

  /** A member was told to leave before it had handled a record: somebody has to begin it again. */
  interrupt(partition: number, offset: number): void {
    if (!this.finished[partition]!.has(offset)) this.started[partition]!.delete(offset)
  }

  /** What the broker has stored for the group now. */
  stored(partition: number, offset: number): void {
    if (offset < this.committed[partition]!) {
      this.violate(`partition ${partition}: the commit went back from ${this.committed[partition]} to ${offset}`)
    }
    this.committed[partition] = Math.max(offset, this.committed[partition]!)
    this.confirmed(partition, offset)
  }

  /** The broker has confirmed a commit, which may be news by now. */
  confirmed(partition: number, offset: number): void {
    const before = this.watermark[partition]!
    if (before < offset) {
      this.violate(`partition ${partition}: ${offset} is committed, and ${before} was handled by nobody`)
    }
  }

  /** Whether everything is handled and committed. */
  get complete(): boolean {
    return this.done === this.count &&
      this.committed.every((offset, partition) => offset === this.keys[partition]!.length)
  }

  /** At the end: nothing may be missing. */
  end(): void {
    for (const [partition, keys] of this.keys.entries()) {
      for (let offset = 0; offset < keys.length; offset++) {
        if (!this.finished[partition]!.has(offset)) this.violate(`partition ${partition}: ${offset} was never handled`)
      }
      if (this.committed[partition] !== keys.length) {
        this.violate(`partition ${partition}: ${this.committed[partition]} of ${keys.length} is committed at the end`)
      }
    }
  }
}
