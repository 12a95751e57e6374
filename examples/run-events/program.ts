import { Admin, Consumer, TopicRegistry } from "@coffeebuddy/kafka"
import { Array, Console, type Duration, Effect, Option, Schedule, Stream } from "effect"
import { where } from "./kafka.ts"
import { MetricsPage } from "./metrics.ts"
import { Plan } from "./Plan.ts"
import { printer } from "./printer.ts"
import { produce } from "./producer.ts"
import { isCaughtUp, Progress } from "./Progress.ts"
import { projection, Runs } from "./projection.ts"
import * as Screen from "./Screen.ts"
import { Style } from "./Style.ts"
import * as Summary from "./summary.ts"
import { RUN_EVENTS_TOPIC } from "./topic.ts"
import * as View from "./view.ts"

/** Each reader is a group of its own, so that each gets every event. */
const groups = { projection: "run-events-example-projection", printer: "run-events-example-printer" } as const

/**
 * Runs a reader as a member of a group until `closing` ends. Then it takes nothing new, finishes and commits what it
 * has in hand, and leaves.
 */
const inGroup = <E, R>(
  groupId: string,
  reader: Effect.Effect<void, E, R>,
  closing: Effect.Effect<void>
) =>
  Effect.all([reader, Effect.zipRight(closing, Consumer.stop)], { concurrency: "unbounded", discard: true }).pipe(
    Effect.provide(Consumer.layer({ groupId }))
  )

/** Draws the progress until every reader has seen everything, or nothing has happened for so long. */
const watch = (screen: Screen.Screen, patience: Duration.DurationInput) =>
  Effect.gen(function*() {
    const plan = yield* Plan
    const progress = yield* Progress
    const runs = yield* Runs
    const title = `CoffeeBuddy: ${plan.runs.length} coffee runs over ${yield* where}`
    const frame = Effect.all({
      title: Effect.succeed(title),
      plan: Effect.succeed(plan),
      snapshot: progress.snapshot,
      runs: runs.all
    })
    yield* Stream.repeatEffectWithSchedule(frame, Schedule.spaced("80 millis")).pipe(
      Stream.changesWith((one, other) => one.snapshot === other.snapshot),
      Stream.tap(screen.draw),
      Stream.takeUntil(({ snapshot }) => isCaughtUp(snapshot, plan.total)),
      Stream.timeout(patience),
      Stream.runDrain
    )
  })

/** Produces, and lets the readers follow until they have caught up. */
const flow = (patience: Duration.DurationInput) =>
  Effect.scoped(Effect.gen(function*() {
    const page = yield* MetricsPage
    if (Option.isSome(page)) yield* Console.log(`Metrics: ${page.value}\n`)
    const screen = yield* Screen.make
    const caughtUp = yield* Effect.makeLatch()
    yield* Effect.all([
      inGroup(groups.projection, projection, caughtUp.await),
      inGroup(groups.printer, printer, caughtUp.await),
      produce,
      Effect.zipRight(watch(screen, patience), caughtUp.open)
    ], { concurrency: "unbounded", discard: true }).pipe(Effect.withConsole(screen.console))
  }))

/** What each reader's group has committed in our topic. */
const committed = (groupId: string) =>
  Effect.gen(function*() {
    const topic = yield* TopicRegistry.resolve(RUN_EVENTS_TOPIC)
    return Array.filter(yield* Admin.groupOffsets(groupId), (offset) => offset.topic === topic)
  })

/**
 * Produces the planned runs while two readers follow, and says what came of it. Fails with `SummaryWrong` where that
 * is not what was planned.
 */
export const program = (options: { readonly patience: Duration.DurationInput }) =>
  Effect.gen(function*() {
    const plan = yield* Plan
    const progress = yield* Progress
    const runs = yield* Runs
    const style = yield* Style

    yield* TopicRegistry.ensure([RUN_EVENTS_TOPIC])

    const [elapsed] = yield* Effect.timed(flow(options.patience)).pipe(
      Effect.onInterrupt(() =>
        Effect.flatMap(progress.snapshot, ({ acknowledged }) =>
          Console.log(`\nStopped after ${acknowledged} of ${plan.total} events. What was processed is committed.`))
      )
    )

    const checks = Summary.make({
      plan,
      snapshot: yield* progress.snapshot,
      runs: yield* runs.all,
      committed: yield* Effect.all({
        projection: committed(groups.projection),
        printer: committed(groups.printer)
      })
    })
    yield* Console.log(["", ...View.summary(checks, plan, elapsed, style)].join("\n"))
    const wrong = checks.filter((check) =>
      !check.ok
    )
    if (wrong.length > 0) yield* new Summary.SummaryWrong({ wrong: wrong.map(({ what }) => what) })
  })
