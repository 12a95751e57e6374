/** What the peers' contenders have in common. */

/** The same fetch settings for everybody: the library's defaults. */
export const fetchSettings = {
  maxBytesPerPartition: 4 * 1024 * 1024,
  maxBytes: 32 * 1024 * 1024,
  minBytes: 1,
  maxWaitTimeInMs: 200
}

/** Counts the last three quarters of the records wanted, as `work.ts` does, which says why. */
export class Meter {
  firstAt = 0n
  startedAt = 0n
  startedWith = 0
  count = 0
  starting = false
  result = new Promise((resolve) => {
    this.done = resolve
  })

  constructor(wanted) {
    this.wanted = wanted
  }

  begin() {
    if (this.firstAt === 0n) this.firstAt = process.hrtime.bigint()
  }

  add(records) {
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
      setImmediate(() => {
        this.startedAt = process.hrtime.bigint()
        this.startedWith = this.count
      })
    }
    return false
  }
}

export const timed = async (records, run) => {
  const startedAt = process.hrtime.bigint()
  await run()
  return { records, seconds: Number(process.hrtime.bigint() - startedAt) / 1e9 }
}

export const key = (index) => `run-${index % 1000}`

const batchSize = 1000
const callers = 1000

/** Batches of 1,000, one after the other. */
export const inBatches = async (records, send) => {
  for (let sent = 0; sent < records; sent += batchSize) {
    await send(Array.from({ length: Math.min(batchSize, records - sent) }, (_, index) => key(sent + index)))
  }
}

/** One record with each call, from 1,000 callers. */
export const fromCallers = (records, send) =>
  Promise.all(Array.from({ length: callers }, async (_, caller) => {
    for (let index = caller; index < records; index += callers) await send(key(index))
  }))

/** One record after the other. */
export const oneByOne = async (records, send) => {
  for (let index = 0; index < records; index++) await send(key(index))
}

/** The three ways to write, over what a client calls a send of some keys. */
export const writing = (producing) => ({
  sendBatches: (work) => producing(work, (send) => inBatches(work.records, send)),
  sendSingles: (work) => producing(work, (send) => fromCallers(work.records, (key) => send([key]))),
  sendLone: (work) => producing(work, (send) => oneByOne(work.records, (key) => send([key])))
})
