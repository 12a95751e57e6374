/**
 * The example in a test: what it runs on, and what it says.
 */
import { Admin, Producer } from "@coffeebuddy/kafka"
import * as Terminal from "@effect/platform/Terminal"
import { Console, Context, Effect, Layer } from "effect"
import { format } from "node:util"
import * as Plan from "../run-events/Plan.ts"
import * as Progress from "../run-events/Progress.ts"
import * as Projection from "../run-events/projection.ts"

/** All that the program needs beside a Kafka and the state of its runs. */
export const services = (options: Plan.Options) =>
  Layer.mergeAll(Producer.layer(), Admin.layer, Progress.layer).pipe(Layer.provideMerge(Plan.layer(options)))

/** A terminal, or a pipe, that remembers what it was given. */
export const fakeTerminal = (isTTY: boolean) => {
  const displayed: Array<string> = []
  const layer = Layer.succeed(Terminal.Terminal, {
    columns: Effect.succeed(100),
    rows: Effect.succeed(40),
    isTTY: Effect.succeed(isTTY),
    display: (text) => Effect.sync(() => void displayed.push(text)),
    readInput: Effect.dieMessage("nobody is there to type"),
    readLine: Effect.dieMessage("nobody is there to type")
  })
  return { displayed, layer }
}

/** Runs an effect whose console is remembered instead of shown. */
export const withCapturedConsole = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const console = yield* Console.consoleWith(Effect.succeed)
    const log = (...args: ReadonlyArray<unknown>): void => void lines.push(...format(...args).split("\n"))
    const logging = (...args: ReadonlyArray<unknown>) => Effect.sync(() => log(...args))
    const exit = yield* Effect.exit(Effect.withConsole(effect, {
      ...console,
      log: logging,
      error: logging,
      unsafe: { ...console.unsafe, log, error: log }
    }))
    return { exit, lines }
  })

/** A projection that is not told of one run's orders. */
export const forgetful = Layer.map(Projection.layer, (context) => {
  const runs = Context.get(context, Projection.Runs)
  return Context.add(context, Projection.Runs, {
    ...runs,
    apply: (event) => event.type === "ordered" && event.runId.endsWith("-1") ? Effect.void : runs.apply(event)
  })
})
