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
 * Counts the last three quarters of the records wanted. The first one does not count: kafkajs has parsed all of an
 * answer of up to 32 MB before it hands out the first record of it, and others have not. All of them count where they
 * come at once.
 */
export class Meter {
  private firstAt = 0n
  private startedAt = 0n
  private startedWith = 0
  private count = 0
  private done!: (result: { readonly records: number; readonly seconds: number }) => void
  readonly result = new Promise<{ readonly records: number; readonly seconds: number }>((resolve) => {
    this.done = resolve
  })
  private readonly wanted: number

  constructor(wanted: number) {
    this.wanted = wanted
  }

  /** Called before a chunk is worked on, so that the work on the first chunk that counts is measured too. */
  begin(): void {
    if (this.startedAt !== 0n) return
    if (this.firstAt === 0n) this.firstAt = process.hrtime.bigint()
    if (this.count * 4 < this.wanted) return
    this.startedAt = process.hrtime.bigint()
    this.startedWith = this.count
  }

  /** Called after so many more records. Whether that is enough. */
  add(records: number): boolean {
    this.count += records
    if (this.count < this.wanted) return false
    const since = this.startedAt === 0n ? this.firstAt : this.startedAt
    this.done({
      records: this.count - this.startedWith,
      seconds: Number(process.hrtime.bigint() - since) / 1e9
    })
    return true
  }
}
