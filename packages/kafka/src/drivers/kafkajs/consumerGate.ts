/**
 * The gate: decides when this member may rejoin its group, and what its partitions have to hear before. Pure: inputs
 * in, a new state and what to do out.
 *
 * kafkajs asks its partition assigner for its subscription right before each JoinGroup request. The answer may be an
 * error, and then it does not join. With an error that is simply to be retried it goes back to its loop, where its
 * heartbeats keep the session alive, and comes again as long as they say that the group is rebalancing.
 */
import type * as TopicPartition from "../../TopicPartition.ts"

export type Partitions = ReadonlyArray<TopicPartition.TopicPartition>

export type State =
  /** Holds nothing: not joined yet, or everything was lost. */
  | { readonly _tag: "Out" }
  /** Holds partitions. */
  | {
    readonly _tag: "Open"
    readonly partitions: Partitions
    /** Not known before the first heartbeat. */
    readonly generation: number | undefined
    /** What kafkajs wants to rejoin for is being looked into. */
    readonly doubt: Doubt | undefined
  }
  /** The partitions are being settled. */
  | {
    readonly _tag: "Closing"
    readonly partitions: Partitions
    readonly generation: number | undefined
    /** Since then a heartbeat of the same generation went well: there is no rebalance any more. */
    readonly survived: boolean
    /** We want to rejoin ourselves. */
    readonly deliberate: boolean
    readonly doubt: Doubt | undefined
  }
  /** Settled: the rejoin may go. */
  | {
    readonly _tag: "Closed"
    readonly partitions: Partitions
    readonly generation: number | undefined
    readonly deliberate: boolean
  }

/**
 * - `"rebalancing"`: a heartbeat was answered that the group rebalances, or that the coordinator is another.
 * - `"unexplained"`: the session is lost, or kafkajs found its metadata stale. It waits in its join loop and sends no
 *   heartbeats.
 */
export type Doubt = "rebalancing" | "unexplained"

export type Input =
  /** kafkajs is about to send JoinGroup. */
  | { readonly _tag: "JoinAsked"; readonly why: Doubt }
  /** What the coordinator says about us and the group. */
  | { readonly _tag: "Inspected"; readonly found: "rebalancing" | "stable" | "gone" | "unknown" }
  /** The partitions are settled. */
  | { readonly _tag: "Settled" }
  | { readonly _tag: "Joined"; readonly partitions: Partitions }
  | { readonly _tag: "Heartbeat"; readonly generation: number }
  /** We want to rejoin: there are new partitions, or another subscription. */
  | { readonly _tag: "Release" }
  /** What we wanted to rejoin for is under way, or came to nothing. */
  | { readonly _tag: "Resume" }
  /** The member is no more: kafkajs crashed or was stopped. */
  | { readonly _tag: "Ended" }

export type Action =
  | { readonly _tag: "Assign"; readonly partitions: Partitions }
  | { readonly _tag: "Revoke"; readonly partitions: Partitions }
  /** Also ends a `Revoke` that is under way. */
  | { readonly _tag: "Lose"; readonly partitions: Partitions }
  | { readonly _tag: "Inspect" }

/**
 * What kafkajs gets to hear when it asks to join.
 *
 * - `"go"`: it may join.
 * - `"later"`: not yet; go on with heartbeats and ask again when they say so.
 * - `"wait"`: not yet; ask again in a moment, since there is no session to keep alive.
 */
export type Verdict = "go" | "later" | "wait"

export interface Step {
  readonly state: State
  readonly actions: ReadonlyArray<Action>
  readonly verdict: Verdict
}

export const initial: State = { _tag: "Out" }

const out: State = { _tag: "Out" }
const step = (state: State, actions: ReadonlyArray<Action> = [], verdict: Verdict = "go"): Step => ({
  state,
  actions,
  verdict
})

const inspect: Action = { _tag: "Inspect" }

/** How kafkajs is told to come again. */
const hold = (why: Doubt): Verdict => why === "rebalancing" ? "later" : "wait"

const revoke = (
  state: Extract<State, { readonly _tag: "Open" }>,
  deliberate: boolean,
  verdict: Verdict
): Step =>
  step(
    {
      _tag: "Closing",
      partitions: state.partitions,
      generation: state.generation,
      survived: false,
      deliberate,
      doubt: undefined
    },
    [{ _tag: "Revoke", partitions: state.partitions }],
    verdict
  )

const lose = (partitions: Partitions): Step => step(out, [{ _tag: "Lose", partitions }])

export const next = (state: State, input: Input): Step => {
  switch (input._tag) {
    case "JoinAsked":
      return joinAsked(state, input.why)
    case "Inspected":
      return inspected(state, input.found)
    case "Heartbeat":
      return heartbeat(state, input.generation)
    case "Settled":
      if (state._tag !== "Closing") return step(state)
      if (state.survived && !state.deliberate) {
        return step(
          { _tag: "Open", partitions: state.partitions, generation: state.generation, doubt: undefined },
          [{ _tag: "Assign", partitions: state.partitions }]
        )
      }
      return step({
        _tag: "Closed",
        partitions: state.partitions,
        generation: state.generation,
        deliberate: state.deliberate
      })
    case "Joined": {
      const lost: ReadonlyArray<Action> = state._tag === "Open" || state._tag === "Closing"
        ? [{ _tag: "Lose", partitions: state.partitions }]
        : []
      return step(
        { _tag: "Open", partitions: input.partitions, generation: undefined, doubt: undefined },
        [...lost, { _tag: "Assign", partitions: input.partitions }]
      )
    }
    case "Release":
      if (state._tag === "Open") return revoke(state, true, "later")
      if (state._tag === "Closing" || state._tag === "Closed") return step({ ...state, deliberate: true })
      return step(state)
    case "Resume":
      return step(state._tag === "Closing" || state._tag === "Closed" ? { ...state, deliberate: false } : state)
    case "Ended":
      return state._tag === "Open" || state._tag === "Closing" ? lose(state.partitions) : step(out)
  }
}

const joinAsked = (state: State, why: Doubt): Step => {
  switch (state._tag) {
    case "Out":
    case "Closed":
      return step(state)
    case "Open":
      // a second time without a good heartbeat between: whatever the coordinator said, this generation is over
      if (state.doubt === "rebalancing" && why === "rebalancing") return revoke(state, false, "later")
      if (state.doubt === why) return step(state, [], hold(why))
      return step({ ...state, doubt: why }, [inspect], hold(why))
    case "Closing":
      if (why === "rebalancing") return step({ ...state, survived: false, doubt: undefined }, [], "later")
      if (state.doubt === why) return step({ ...state, survived: false }, [], "wait")
      return step({ ...state, survived: false, doubt: why }, [inspect], "wait")
  }
}

const inspected = (state: State, found: Extract<Input, { readonly _tag: "Inspected" }>["found"]): Step => {
  if ((state._tag !== "Open" && state._tag !== "Closing") || state.doubt === undefined) return step(state)
  if (found === "gone") return lose(state.partitions)
  if (state._tag === "Closing") return step(state)
  // the coordinator moved, and the generation is still good: the next heartbeat will tell
  if (state.doubt === "rebalancing" && found !== "rebalancing") return step(state)
  return revoke(state, false, "later")
}

const heartbeat = (state: State, generation: number): Step => {
  switch (state._tag) {
    case "Out":
      return step(state)
    case "Open":
      if (state.generation !== undefined && state.generation !== generation) return step(state)
      return step({ ...state, generation, doubt: undefined })
    case "Closing":
      // between two generations a heartbeat may already be one of the next
      if (state.generation !== generation) return step(state)
      return step({ ...state, survived: true, doubt: undefined })
    case "Closed":
      if (state.generation === undefined) return step({ ...state, generation })
      if (state.generation !== generation || state.deliberate) return step(state)
      // the attempt to join came to nothing, and nobody will say "joined"
      return step(
        { _tag: "Open", partitions: state.partitions, generation, doubt: undefined },
        [{ _tag: "Assign", partitions: state.partitions }]
      )
  }
}
