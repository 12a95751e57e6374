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

/** Counts from the first record to the last one wanted. */
export class Meter {
  private startedAt = 0n
  private count = 0
  private done!: (result: { readonly records: number; readonly seconds: number }) => void
  readonly result = new Promise<{ readonly records: number; readonly seconds: number }>((resolve) => {
    this.done = resolve
  })
  private readonly wanted: number

  constructor(wanted: number) {
    this.wanted = wanted
  }

  /** Called before a chunk is worked on, so that the work on the first chunk is measured too. */
  begin(): void {
    if (this.startedAt === 0n) this.startedAt = process.hrtime.bigint()
  }

  /** Called after so many more records. Whether that is enough. */
  add(records: number): boolean {
    this.count += records
    if (this.count < this.wanted) return false
    this.done({ records: this.count, seconds: Number(process.hrtime.bigint() - this.startedAt) / 1e9 })
    return true
  }
}
