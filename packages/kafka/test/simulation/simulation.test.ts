import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { ConsumerSession, FetchedChunk, Service as Client } from "../../src/KafkaClient.ts"
import { type Sabotage, simulate, tell } from "./simulate.ts"

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

const violations = (sabotage: Sabotage): ReadonlyArray<string> => {
  for (let seed = 1; seed <= 50; seed++) {
    const result = simulate(seed, { sabotage })
    if (result.violations.length > 0) return result.violations
  }
  return []
}

describe("simulated lives of a group", () => {
  it(
    `${SEEDS} seeds: nothing is skipped, committed ahead, handled out of order, or handled twice without a fault`,
    () => {
      for (let seed = 1; seed <= SEEDS; seed++) {
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

describe("the oracle notices", () => {
  it("a record that is left out", () => {
    expect(violations(withChunks((chunk) => ({ ...chunk, records: chunk.records.slice(0, -1) })))).not.toEqual([])
  })

  it("records in the wrong order", () => {
    expect(violations(withChunks((chunk) => ({ ...chunk, records: [...chunk.records].reverse() })))).not.toEqual([])
  })

  it("a commit ahead of what was handled", () => {
    const ahead = violations(withSession((session) => ({
      ...session,
      commit: (offsets) => session.commit(offsets.map((one) => ({ ...one, offset: one.offset + 1n })))
    })))
    expect(ahead.join("\n")).toContain("was handled by nobody")
  })

  it("a commit that is said to be stored and is not", () => {
    expect(violations(withSession((session) => ({ ...session, commit: () => Effect.void })))).not.toEqual([])
  })

  it("a commit that goes back", () => {
    let calls = 0
    const back = violations(withSession((session) => ({
      ...session,
      commit: (offsets) => session.commit(offsets.map((one) => ({ ...one, offset: first ??= one.offset })))
    })))
    expect(back.join("\n")).toContain("went back")
  })

  it("a rebalance that does not wait for what is in hand", () => {
    const rushed: Sabotage = (client) => ({
      ...client,
      openConsumer: (options) =>
        client.openConsumer({
          ...options,
          callbacks: { ...options.callbacks, onRevoked: () => Effect.void }
        })
    })
    expect(violations(rushed).length).toBeGreaterThan(0)
  })
})
