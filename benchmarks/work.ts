/**
 * What the contenders of this repository have in common: settings, the type of a record, and how they count.
 */
import * as Schema from "effect/Schema"

/** The same fetch settings for everybody: the library's defaults. */
export const fetchSettings = {
  maxBytesPerPartition: 4 * 1024 * 1024,
  maxBytes: 32 * 1024 * 1024,
  minBytes: 1,
  maxWaitTimeInMs: 200
} as const

/** A record of about 200 bytes as JSON. */
export const Order = Schema.Struct({
  runId: Schema.String,
  type: Schema.Literal("created", "joined", "ordered", "completed"),
  barista: Schema.String,
  cups: Schema.Number,
  note: Schema.String
})

/**
 * Counts the last three quarters of the records wanted. kafkajs parses all of an answer, up to 32 MB, before it hands
 * out the first record of it, and others do not: so the clock starts when a quarter has been read, and what had been
 * parsed by then too. All of them count where they come at once.
 */
export class Meter {
  private firstAt = 0n
  private startedAt = 0n
  private startedWith = 0
  private count = 0
  private starting = false
  private done!: (result: { readonly records: number; readonly seconds: number }) => void
  readonly result = new Promise<{ readonly records: number; readonly seconds: number }>((resolve) => {
    this.done = resolve
  })
  private readonly wanted: number

  constructor(wanted: number) {
    this.wanted = wanted
  }

  /** Called before a chunk is worked on, so that the work on the first one is measured too if all of them count. */
  begin(): void {
    if (this.firstAt === 0n) this.firstAt = process.hrtime.bigint()
  }

  /** Called after so many more records. Whether that is enough. */
  add(records: number): boolean {
    this.count += records
    if (this.count >= this.wanted) {
      const since = this.startedAt === 0n ? this.firstAt : this.startedAt
      this.done({
        records: this.count - this.startedWith,
        seconds: Number(process.hrtime.bigint() - since) / 1e9
      })
      return true
    }
    if (!this.starting && this.count * 4 >= this.wanted) {
      this.starting = true
      // not before what is at hand has been handed out
      setImmediate(() => {
        this.startedAt = process.hrtime.bigint()
        this.startedWith = this.count
      })
    }
    return false
  }
}
