/**
 * The state of a coffee run: what its events come to. Plain values and functions, without Kafka.
 */
import { Data, HashMap, HashSet, Match } from "effect"
import type { Drink, RunEvent } from "./RunEvent.ts"

/**
 * People are a set and orders are a map, so that an event that is delivered twice changes nothing.
 */
export class Run extends Data.Class<{
  readonly runId: string
  readonly host: string
  readonly people: HashSet.HashSet<string>
  readonly orders: HashMap.HashMap<string, Drink>
  readonly completed: boolean
}> {}

export const empty = (runId: string): Run =>
  new Run({ runId, host: "?", people: HashSet.empty(), orders: HashMap.empty(), completed: false })

/** The run after one more event. */
export const apply = (run: Run, event: RunEvent): Run =>
  Match.value(event).pipe(
    Match.discriminatorsExhaustive("type")({
      run_created: ({ host }) => new Run({ ...run, host, people: HashSet.add(run.people, host) }),
      joined: ({ person }) => new Run({ ...run, people: HashSet.add(run.people, person) }),
      ordered: ({ drink, person }) => new Run({ ...run, orders: HashMap.set(run.orders, person, drink) }),
      run_completed: () => new Run({ ...run, completed: true })
    })
  )
