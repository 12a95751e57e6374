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
  /**
   * Was told its partitions, and did not hear the generation they belong to, which the first heartbeat brings. Before
   * that nothing is handed out: it could not be committed.
   */
  | { readonly _tag: "Named"; readonly partitions: Partitions }
  /** Holds partitions. */
  | {
    readonly _tag: "Open"
    readonly partitions: Partitions
    readonly generation: number
    readonly doubt: Doubt | undefined
  }
  /** The partitions are being settled. */
  | {
    readonly _tag: "Closing"
    readonly partitions: Partitions
    readonly generation: number
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
    readonly generation: number
    readonly deliberate: boolean
  }

/**
 * Why kafkajs wants to rejoin.
 *
 * - `"rebalancing"`: a heartbeat was answered that the group rebalances, or that the coordinator is another.
 * - `"unexplained"`: the session is lost, or kafkajs found its metadata stale. It waits in its join loop and sends no
 *   heartbeats.
 */
export type Why = "rebalancing" | "unexplained"

/**
 * What kafkajs wants to rejoin for is being looked into.
 */
export interface Doubt {
  readonly why: Why
  /** What the coordinator said. */
  readonly answer: "awaited" | "stable" | "unknown"
  /** How often it was asked. */
  readonly times: number
}

/** How often a coordinator that can't say is asked again. */
const timesLimit = 10

export type Input =
  /** kafkajs is about to send JoinGroup. */
  | { readonly _tag: "JoinAsked"; readonly why: Why }
  /** What the coordinator says about us and the group. */
  | { readonly _tag: "Inspected"; readonly found: "rebalancing" | "stable" | "gone" | "unknown" }
  /** The partitions are settled. */
  | { readonly _tag: "Settled" }
  /** `generation` is `undefined` where it was not heard. */
  | { readonly _tag: "Joined"; readonly partitions: Partitions; readonly generation: number | undefined }
  | { readonly _tag: "Heartbeat"; readonly generation: number }
  /** We want to rejoin: there are new partitions, or another subscription. */
  | { readonly _tag: "Release" }
  /** What we wanted to rejoin for is under way, or came to nothing. */
  | { readonly _tag: "Resume" }
  /** The member is no more: kafkajs crashed or was stopped. */
  | { readonly _tag: "Ended" }

export type Action =
  | { readonly _tag: "Assign"; readonly partitions: Partitions; readonly generation: number }
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
const hold = (why: Why): Verdict => why === "rebalancing" ? "later" : "wait"

const open = (partitions: Partitions, generation: number): Step =>
  step({ _tag: "Open", partitions, generation, doubt: undefined }, [{ _tag: "Assign", partitions, generation }])

const revoke = (
  { generation, partitions }: Extract<State, { readonly _tag: "Open" }>,
  deliberate: boolean,
  verdict: Verdict = "later"
): Step =>
  step(
    { _tag: "Closing", partitions, generation, survived: false, deliberate, doubt: undefined },
    [{ _tag: "Revoke", partitions }],
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
      return settled(state)
    case "Joined": {
      const { generation, partitions } = input
      // said twice
      if (state._tag === "Open" && state.generation === generation) return step(state)
      const joined = generation === undefined ? step({ _tag: "Named", partitions }) : open(partitions, generation)
      return state._tag === "Open" || state._tag === "Closing"
        ? { ...joined, actions: [{ _tag: "Lose", partitions: state.partitions }, ...joined.actions] }
        : joined
    }
    case "Release":
      switch (state._tag) {
        case "Out":
        case "Named":
          return step(out)
        case "Open":
          return revoke(state, true)
        case "Closing":
        case "Closed":
          return step({ ...state, deliberate: true })
      }
    case "Resume":
      return step(state._tag === "Closing" || state._tag === "Closed" ? { ...state, deliberate: false } : state)
    case "Ended":
      return state._tag === "Open" || state._tag === "Closing" ? lose(state.partitions) : step(out)
  }
}

const joinAsked = (state: State, why: Why): Step => {
  switch (state._tag) {
    case "Out":
    case "Closed":
      return step(state)
    case "Named":
      // the next heartbeat could be of the next generation already
      return step(out)
    case "Open": {
      const doubt = look(state.doubt, why)
      // asked again after the coordinator has spoken: whatever it said, this generation is over
      return doubt === undefined
        ? revoke(state, false, hold(why))
        : step({ ...state, doubt }, doubt === state.doubt ? [] : [inspect], hold(why))
    }
    case "Closing": {
      if (why === "rebalancing") return step({ ...state, survived: false, doubt: undefined }, [], "later")
      const doubt = look(state.doubt, why) ?? state.doubt
      return step({ ...state, survived: false, doubt }, doubt === state.doubt ? [] : [inspect], "wait")
    }
  }
}

/** What there is to find out, or `undefined` when no more can be. */
const look = (doubt: Doubt | undefined, why: Why): Doubt | undefined => {
  if (doubt === undefined || doubt.why !== why) return { why, answer: "awaited", times: 1 }
  if (doubt.answer === "awaited") return doubt
  if (doubt.answer === "unknown" && doubt.times < timesLimit) return { why, answer: "awaited", times: doubt.times + 1 }
  return undefined
}

const inspected = (state: State, found: Extract<Input, { readonly _tag: "Inspected" }>["found"]): Step => {
  if ((state._tag !== "Open" && state._tag !== "Closing") || state.doubt === undefined) return step(state)
  if (found === "gone") return lose(state.partitions)
  const doubt: Doubt = { ...state.doubt, answer: found === "unknown" ? "unknown" : "stable" }
  if (state._tag === "Closing") return step({ ...state, doubt })
  // if the coordinator moved, the generation is still good, and the next heartbeat will tell
  const wait = found === "unknown" || (found === "stable" && doubt.why === "rebalancing")
  return wait ? step({ ...state, doubt }) : revoke(state, false)
}

const settled = (state: State): Step => {
  if (state._tag !== "Closing") return step(state)
  const { deliberate, generation, partitions, survived } = state
  return survived && !deliberate
    ? open(partitions, generation)
    : step({ _tag: "Closed", partitions, generation, deliberate })
}

const heartbeat = (state: State, generation: number): Step => {
  switch (state._tag) {
    case "Out":
      return step(state)
    case "Named":
      return open(state.partitions, generation)
    case "Open":
      return step(state.generation === generation ? { ...state, doubt: undefined } : state)
    case "Closing":
      return step(state.generation === generation ? { ...state, survived: true, doubt: undefined } : state)
    case "Closed":
      // between two generations it may be one of the next already; if not, the attempt to join came to nothing, and
      // nobody will say "joined"
      return state.generation === generation && !state.deliberate ? open(state.partitions, generation) : step(state)
  }
}

/** Whether kafkajs would be let through. */
export const mayJoin = (state: State): boolean => state._tag !== "Open" && state._tag !== "Closing"
