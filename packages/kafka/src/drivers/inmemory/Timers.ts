/**
 * What the brokers will do when its time has come. Somebody else drives it: a fiber, or a test.
 */
export class Timers {
  private readonly entries = new Map<string, { readonly at: number; readonly run: () => void }>()
  readonly now: () => number
  /** Called when something is due earlier than everything before. */
  onEarlier: () => void = () => {}

  constructor(now: () => number) {
    this.now = now
  }

  /** Replaces what was set under this key. */
  set(key: string, at: number, run: () => void): void {
    const next = this.next()
    this.entries.set(key, { at, run })
    if (next === undefined || at < next) this.onEarlier()
  }

  clear(key: string): void {
    this.entries.delete(key)
  }

  /** When the next one is due. */
  next(): number | undefined {
    let next: number | undefined
    for (const { at } of this.entries.values()) if (next === undefined || at < next) next = at
    return next
  }

  /** Runs what is due, in order of time. */
  runDue(): void {
    while (true) {
      let due: readonly [string, { readonly at: number; readonly run: () => void }] | undefined
      const now = this.now()
      for (const entry of this.entries) {
        if (entry[1].at <= now && (due === undefined || entry[1].at < due[1].at)) due = entry
      }
      if (due === undefined) return
      this.entries.delete(due[0])
      due[1].run()
    }
  }
}
