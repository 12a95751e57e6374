/**
 * Which runs there will be. What is found in the end is held against it.
 */
import { Array, Context, Duration, Effect, HashMap, HashSet, Layer, Random } from "effect"
import { Run } from "./Run.ts"
import { Drink, Joined, Ordered, RunCompleted, RunCreated, type RunEvent } from "./RunEvent.ts"

export interface PlannedRun {
  readonly runId: string
  readonly events: ReadonlyArray<RunEvent>
  /** What a reader of the events must come to. It is made from the plan, not from the events. */
  readonly expected: Run
  /** When the first event is sent, in milliseconds from the start. */
  readonly startsAfter: number
  /** How long to wait after each event, in milliseconds. */
  readonly pause: number
}

export interface Options {
  /** How many runs. */
  readonly runs: number
  /** The time they are spread over. */
  readonly within: Duration.DurationInput
}

export class Plan extends Context.Tag("examples/run-events/Plan")<Plan, {
  readonly runs: ReadonlyArray<PlannedRun>
  /** How many events there are in all. */
  readonly total: number
}>() {}

type Order = readonly [person: string, drink: Drink]

const people = [
  "Ada",
  "Alan",
  "Barbara",
  "Donald",
  "Edsger",
  "Grace",
  "Katherine",
  "Linus",
  "Margaret",
  "Radia"
] as const

const eventsOf = (runId: string, host: string, orders: ReadonlyArray<Order>): ReadonlyArray<RunEvent> => {
  const events: Array<RunEvent> = []
  const next = () => ({ runId, sequence: events.length + 1 })
  events.push(new RunCreated({ ...next(), host }))
  for (const [person, drink] of orders) {
    if (person !== host) events.push(new Joined({ ...next(), person }))
    events.push(new Ordered({ ...next(), person, drink }))
  }
  events.push(new RunCompleted({ ...next(), cups: orders.length }))
  return events
}

const planRun = (runId: string, millis: number): Effect.Effect<PlannedRun> =>
  Effect.gen(function*() {
    const host = yield* Random.choice(people)
    const others = yield* Random.shuffle(people.filter((person) => person !== host))
    const group = [host, ...Array.take(others, yield* Random.nextIntBetween(1, 4))]
    const orders = yield* Effect.forEach(
      group,
      (person) => Effect.map(Random.choice(Drink.literals), (drink): Order => [person, drink])
    )
    const events = eventsOf(runId, host, orders)
    return {
      runId,
      events,
      expected: new Run({
        runId,
        host,
        people: HashSet.fromIterable(group),
        orders: HashMap.fromIterable(orders),
        completed: true
      }),
      startsAfter: yield* Random.nextIntBetween(0, 1 + millis / 2),
      pause: Math.floor(millis / 2 / events.length)
    }
  })

/**
 * A plan by chance. The ids of its runs are new each time: the topic of a cluster still holds the runs of last time.
 */
export const layer = (options: Options): Layer.Layer<Plan> =>
  Layer.effect(
    Plan,
    Effect.gen(function*() {
      const session = (yield* Random.nextIntBetween(0, 36 ** 4)).toString(36).padStart(4, "0")
      const millis = Duration.toMillis(options.within)
      const runs = yield* Effect.forEach(
        Array.range(1, options.runs),
        (number) => planRun(`run-${session}-${number}`, millis)
      )
      return { runs, total: runs.reduce((total, run) => total + run.events.length, 0) }
    })
  )
