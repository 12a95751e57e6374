import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ConsumerSession, FetchedChunk, Service as Client } from "../../src/KafkaClient.ts"
import { type Sabotage, simulate, tell } from "./simulate.ts"
import { Dice, VirtualTime } from "./VirtualTime.ts"

const SEEDS = 200

/** The client with something done to each consumer session. */
const withSession = (change: (session: ConsumerSession) => ConsumerSession): Sabotage => (client: Client) => ({
  ...client,
  openConsumer: (options) => Effect.map(client.openConsumer(options), change)
})

const withChunks = (change: (chunk: FetchedChunk) => FetchedChunk): Sabotage =>
  withSession((session) => ({
    ...session,
    poll: (demand, maxWait) =>
      Effect.map(
        session.poll(demand, maxWait),
        (all) => all.map((one) => one._tag === "Chunk" ? change(one) : one)
      )
  }))

/** Whether one of some seeds shows a violation that says this. */
const notices = (says: string, sabotage: Sabotage): boolean => {
  for (let seed = 1; seed <= 50; seed++) {
    if (simulate(seed, { sabotage }).violations.some((one) => one.includes(says))) return true
  }
  return false
}

describe("simulated lives of a group", () => {
  it(
    `${SEEDS} seeds: nothing is skipped, committed ahead, handled out of order, or handled twice without a fault`,
    async () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        // a life takes no turn of the event loop, on which the test's process has to answer to its own
        await new Promise(setImmediate)
        const result = simulate(seed)
        expect(result.violations.length === 0 ? "" : tell(result)).toBe("")
      }
    },
    300_000
  )

  it("a seed gives the same life again", () => {
    expect(simulate(7)).toEqual(simulate(7))
  })
})

describe("virtual time", () => {
  it("ends what is interrupted while it begins several things at once", () => {
    const begin = Effect.all([Effect.never, Effect.never], { concurrency: "unbounded" })
    for (let seed = 1; seed <= 200; seed++) {
      const program = Effect.scoped(
        Effect.zipRight(Effect.forkScoped(begin), Effect.repeatN(Effect.yieldNow(), seed % 10))
      )
      expect(new VirtualTime(new Dice(seed)).run(program, 1000)).toEqual(Exit.void)
    }
  })
})

describe("the oracle notices", () => {
  it("a record that is left out", () => {
    const sabotage = withChunks((chunk) => ({ ...chunk, records: chunk.records.slice(0, -1) }))
    expect(notices("was never handled", sabotage)).toBe(true)
  })

  it("records in the wrong order", () => {
    const sabotage = withChunks((chunk) => ({ ...chunk, records: [...chunk.records].reverse() }))
    expect(notices("which it must follow", sabotage)).toBe(true)
  })

  it("a commit ahead of what was handled", () => {
    const sabotage = withSession((session) => ({
      ...session,
      commit: (offsets) => session.commit(offsets.map((one) => ({ ...one, offset: one.offset + 1n })))
    }))
    expect(notices("was handled by nobody", sabotage)).toBe(true)
  })

  it("a commit that is said to be stored and is not", () => {
    const sabotage = withSession((session) => ({ ...session, commit: () => Effect.void }))
    expect(notices("is committed at the end", sabotage)).toBe(true)
  })

  it("a commit that goes back", () => {
    let calls = 0
    const sabotage = withSession((session) => ({
      ...session,
      commit: (offsets) =>
        session.commit(offsets.map((one) => ({ ...one, offset: calls++ % 2 === 0 ? one.offset : 1n })))
    }))
    expect(notices("the commit went back", sabotage)).toBe(true)
  })

  it("a rebalance that does not wait for what is in hand", () => {
    const sabotage: Sabotage = (client) => ({
      ...client,
      openConsumer: (options) =>
        client.openConsumer({ ...options, callbacks: { ...options.callbacks, onRevoked: () => Effect.void } })
    })
    expect(notices("were handled twice", sabotage)).toBe(true)
  })
})
