import { assert, describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Gate from "../../src/drivers/kafkajs/consumerGate.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

const some: Gate.Partitions = [TopicPartition.make("a", 0)]
const rebalancing: Gate.Input = { _tag: "JoinAsked", why: "rebalancing" }
const unexplained: Gate.Input = { _tag: "JoinAsked", why: "unexplained" }
const joined: Gate.Input = { _tag: "Joined", partitions: some, generation: undefined }
const settled: Gate.Input = { _tag: "Settled" }
const heartbeat = (generation: number): Gate.Input => ({ _tag: "Heartbeat", generation })
const inspected = (found: Extract<Gate.Input, { readonly _tag: "Inspected" }>["found"]): Gate.Input => ({
  _tag: "Inspected",
  found
})

/** What was done and answered, in order. */
const play = (...inputs: ReadonlyArray<Gate.Input>): ReadonlyArray<string> => {
  let state = Gate.initial
  const out: Array<string> = []
  for (const input of inputs) {
    const step = Gate.next(state, input)
    state = step.state
    for (const action of step.actions) out.push(action._tag)
    if (input._tag === "JoinAsked") out.push(step.verdict)
  }
  return out
}

/** From the start to holding partitions in generation 1. */
const holding = [unexplained, joined, heartbeat(1)]
const held = ["go", "Assign"]

describe("the gate of a kafkajs consumer", () => {
  it("hands partitions out when their generation is known", () => {
    expect(play(unexplained, { _tag: "Joined", partitions: some, generation: 1 })).toEqual(held)
    expect(play(unexplained, joined)).toEqual(["go"])
    expect(play(unexplained, joined, heartbeat(1))).toEqual(held)
  })

  it("hands them out once, however often it is told of the same generation", () => {
    const again: Gate.Input = { _tag: "Joined", partitions: some, generation: 1 }
    expect(play(unexplained, again, again)).toEqual(held)
    expect(play(...holding, again)).toEqual(held)
  })

  it("holds a rejoin until records in hand are settled, and lets it go then", () => {
    expect(play(...holding, rebalancing, inspected("rebalancing"), rebalancing, settled, rebalancing)).toEqual(
      [...held, "Inspect", "later", "Revoke", "later", "go"]
    )
  })

  it("a rebalance before anything was handed out is held by nothing", () => {
    expect(play(unexplained, joined, rebalancing, joined, heartbeat(2))).toEqual(["go", "go", "Assign"])
  })

  it("a coordinator that moved is not a rebalance", () => {
    expect(play(...holding, rebalancing, inspected("stable"), heartbeat(1), rebalancing)).toEqual(
      [...held, "Inspect", "later", "Inspect", "later"]
    )
  })

  it("a generation that stays refused is over, whatever the coordinator says of the group", () => {
    expect(play(...holding, rebalancing, inspected("stable"), rebalancing)).toEqual(
      [...held, "Inspect", "later", "Revoke", "later"]
    )
  })

  it("a coordinator that is not to be found for a while revokes nothing", () => {
    expect(play(...holding, rebalancing, rebalancing, inspected("unknown"), rebalancing, heartbeat(1))).toEqual(
      [...held, "Inspect", "later", "later", "Inspect", "later"]
    )
    expect(play(...holding, unexplained, inspected("unknown"), unexplained, inspected("gone"), unexplained)).toEqual(
      [...held, "Inspect", "wait", "Inspect", "wait", "Lose", "go"]
    )
  })

  it("kafkajs is kept from joining by other means where it has no session to go on with", () => {
    expect(play(...holding, unexplained, inspected("stable"), unexplained, settled, unexplained)).toEqual(
      [...held, "Inspect", "wait", "Revoke", "Inspect", "wait", "go"]
    )
  })

  it("a lost session loses the partitions, and joins anew at once", () => {
    expect(play(...holding, unexplained, inspected("gone"), unexplained)).toEqual(
      [...held, "Inspect", "wait", "Lose", "go"]
    )
  })

  it("a session lost while records are settled does not wait for them any longer", () => {
    const lost = play(...holding, rebalancing, inspected("rebalancing"), unexplained, inspected("gone"), unexplained)
    expect(lost).toEqual([...held, "Inspect", "later", "Revoke", "Inspect", "wait", "Lose", "go"])
  })

  it("partitions are held again when a rebalance is over before we joined", () => {
    expect(play(...holding, rebalancing, inspected("rebalancing"), heartbeat(1), settled)).toEqual(
      [...held, "Inspect", "later", "Revoke", "Assign"]
    )
    expect(play(...holding, rebalancing, inspected("rebalancing"), settled, rebalancing, heartbeat(1))).toEqual(
      [...held, "Inspect", "later", "Revoke", "go", "Assign"]
    )
  })

  it("a heartbeat of the next generation does not bring back the partitions of the one before", () => {
    expect(play(...holding, rebalancing, inspected("rebalancing"), settled, rebalancing, heartbeat(2))).toEqual(
      [...held, "Inspect", "later", "Revoke", "go"]
    )
  })

  it("what we rejoin for ourselves is settled first, and heartbeats do not undo it", () => {
    const release: Gate.Input = { _tag: "Release" }
    expect(play(...holding, release, heartbeat(1), settled, heartbeat(1), unexplained, joined, heartbeat(2))).toEqual(
      [...held, "Revoke", "go", "Assign"]
    )
    expect(play(...holding, release, settled, { _tag: "Resume" }, heartbeat(1))).toEqual([...held, "Revoke", "Assign"])
  })

  it("partitions are lost when the member ends, unless they were settled", () => {
    const ended: Gate.Input = { _tag: "Ended" }
    expect(play(...holding, ended)).toEqual([...held, "Lose"])
    expect(play(...holding, rebalancing, inspected("rebalancing"), ended)).toEqual(
      [...held, "Inspect", "later", "Revoke", "Lose"]
    )
    expect(play(...holding, rebalancing, inspected("rebalancing"), settled, ended)).toEqual(
      [...held, "Inspect", "later", "Revoke"]
    )
  })

  const inputs = FastCheck.array(
    FastCheck.oneof(
      FastCheck.constantFrom<Gate.Input>(
        rebalancing,
        unexplained,
        joined,
        { _tag: "Joined", partitions: [], generation: 2 },
        settled,
        { _tag: "Release" },
        { _tag: "Resume" },
        { _tag: "Ended" }
      ),
      FastCheck.integer({ min: 1, max: 3 }).map(heartbeat),
      FastCheck.constantFrom("rebalancing" as const, "stable" as const, "gone" as const, "unknown" as const).map((
        found
      ) => inspected(found))
    ),
    { maxLength: 40 }
  )

  it("never lets a rejoin go while partitions are held, whatever happens in whatever order", () => {
    FastCheck.assert(
      FastCheck.property(inputs, (inputs) => {
        let state = Gate.initial
        // as whoever hears the actions sees it
        let holds: "nothing" | "partitions" | "settling" = "nothing"
        for (const input of inputs) {
          if (input._tag === "Settled" && holds === "settling") holds = "nothing"
          const step = Gate.next(state, input)
          if (input._tag === "JoinAsked" && step.verdict === "go") assert.strictEqual(holds, "nothing")
          for (const action of step.actions) {
            switch (action._tag) {
              case "Assign":
                assert.strictEqual(holds, "nothing")
                holds = "partitions"
                break
              case "Revoke":
                assert.strictEqual(holds, "partitions")
                holds = "settling"
                break
              case "Lose":
                assert.notStrictEqual(holds, "nothing")
                holds = "nothing"
            }
          }
          state = step.state
          assert.strictEqual(Gate.mayJoin(state), holds === "nothing")
        }
      }),
      { numRuns: 2000 }
    )
  })

  it("always comes to let a rejoin go: asked again, inspected and settled, nothing holds it for ever", () => {
    FastCheck.assert(
      FastCheck.property(inputs, FastCheck.constantFrom(rebalancing, unexplained), (inputs, ask) => {
        let state = inputs.reduce((state, input) => Gate.next(state, input).state, Gate.initial)
        let verdict: Gate.Verdict | undefined
        for (let times = 0; verdict !== "go"; times++) {
          assert.isBelow(times, 5)
          const step = Gate.next(state, ask)
          verdict = step.verdict
          state = step.state
          state = Gate.next(state, inspected("stable")).state
          state = Gate.next(state, settled).state
        }
      }),
      { numRuns: 2000 }
    )
  })
})
