import { Producer } from "@coffeebuddy/kafka"
import { Effect } from "effect"
import { Plan, type PlannedRun } from "./Plan.ts"
import { Progress } from "./Progress.ts"
import { RUN_EVENTS_TOPIC } from "./topic.ts"

const produceRun = (run: PlannedRun) =>
  Effect.gen(function*() {
    const progress = yield* Progress
    yield* Effect.sleep(run.startsAfter)
    for (const event of run.events) {
      const place = yield* Producer.send(RUN_EVENTS_TOPIC, { key: run.runId, value: event })
      yield* progress.acknowledged(place)
      yield* Effect.sleep(run.pause)
    }
  })

/**
 * Sends the events of all runs: those of one run one after the other, the runs side by side. What is sent at the same
 * time travels in one request.
 */
export const produce = Effect.gen(function*() {
  const plan = yield* Plan
  yield* Effect.forEach(plan.runs, produceRun, { concurrency: "unbounded", discard: true })
})
