import { Consumer } from "@coffeebuddy/kafka"
import { Context, Effect, HashMap, Layer, Option, Ref, Stream } from "effect"
import { Progress } from "./Progress.ts"
import * as Run from "./Run.ts"
import type { RunEvent } from "./RunEvent.ts"
import { RUN_EVENTS_TOPIC } from "./topic.ts"

/**
 * The state of all runs. Here it is in memory; with a database it would be another layer of the same service.
 */
export class Runs extends Context.Tag("examples/run-events/Runs")<Runs, {
  readonly apply: (event: RunEvent) => Effect.Effect<void>
  readonly all: Effect.Effect<HashMap.HashMap<string, Run.Run>>
}>() {}

export const layer: Layer.Layer<Runs> = Layer.effect(
  Runs,
  Effect.map(Ref.make(HashMap.empty<string, Run.Run>()), (state) => ({
    apply: (event) =>
      Ref.update(
        state,
        HashMap.modifyAt(event.runId, (run) =>
          Option.some(Run.apply(Option.getOrElse(run, () => Run.empty(event.runId)), event)))
      ),
    all: Ref.get(state)
  }))
)

/**
 * Keeps the state of each run, and commits what it has taken in: after a thousand events, or a second after the first.
 */
export const projection = Effect.gen(function*() {
  const runs = yield* Runs
  const progress = yield* Progress
  yield* Consumer.stream(RUN_EVENTS_TOPIC).pipe(
    Stream.tap(({ value }) => Effect.zipRight(runs.apply(value), progress.saw("projection", value))),
    Consumer.commitWithin(1000, "1 second"),
    Stream.runDrain
  )
})
