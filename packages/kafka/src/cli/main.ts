/**
 * `coffeebuddy-kafka` as a process. The build makes one file of it, with all that it needs but kafkajs.
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeStream from "@effect/platform-node/NodeStream"
import type { Teardown } from "@effect/platform/Runtime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { createRequire } from "node:module"
import { inspect } from "node:util"
import * as KafkaJs from "../KafkaJs.ts"
import { exitCodes, run } from "./app.ts"
import { Driver } from "./cluster.ts"
import { InputError } from "./failures.ts"
import { OutputError, plain, type Service, Stdio, style, wantsColour } from "./Stdio.ts"

const { stderr, stdin, stdout } = process

// each write says by itself whether it failed
stdout.on("error", () => {})
stderr.on("error", () => {})

const written = (error: NodeJS.ErrnoException | null | undefined): Effect.Effect<void, OutputError> =>
  error === null || error === undefined
    ? Effect.void
    : new OutputError({
      closed: error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED",
      message: `standard output: ${error.message}`
    })

const write = (text: string): Effect.Effect<void, OutputError> =>
  text === "" ? Effect.void : Effect.async((resume) => {
    stdout.write(text, (error) => resume(written(error)))
  })

const makeStdio = Effect.gen(function*() {
  const colours = yield* wantsColour(stdout.isTTY === true)
  let shown = false
  const clear = (): string => {
    const clearing = shown ? "\r\x1b[K" : ""
    shown = false
    return clearing
  }
  // what stands there last is no result, and the shell goes on behind it
  yield* Effect.addFinalizer(() => Effect.sync(() => void stderr.write(clear())))
  const service: Service = {
    input: NodeStream.fromReadable(
      () => stdin,
      (error) => new InputError({ message: `standard input: ${String(error)}` })
    ),
    inputIsTerminal: stdin.isTTY === true,
    outputIsTerminal: stdout.isTTY === true,
    rows: () => stdout.rows ?? 24,
    write: (text) => {
      if (shown) stderr.write(clear())
      return write(text)
    },
    note: (line) => Effect.sync(() => void stderr.write(`${clear()}${line}\n`)),
    progress: (line) =>
      Effect.sync(() => {
        if (!stderr.isTTY) return
        stderr.write(`${clear()}${line}`)
        shown = true
      }),
    style: style(colours)
  }
  return service
})

/** Help and complaints of @effect/cli. */
const console = Effect.gen(function*() {
  const usual = yield* Console.consoleWith(Effect.succeed)
  const onStdout = yield* wantsColour(stdout.isTTY === true)
  const onStderr = yield* wantsColour(stderr.isTTY === true)
  const text = (args: ReadonlyArray<unknown>): string =>
    args.map((one) => typeof one === "string" ? one : inspect(one)).join(" ").trimEnd()
  return {
    ...usual,
    log: (...args: ReadonlyArray<unknown>) => Effect.ignore(write(`${plain(onStdout, text(args))}\n`)),
    error: (...args: ReadonlyArray<unknown>) => Effect.sync(() => void stderr.write(`${plain(onStderr, text(args))}\n`))
  } satisfies Console.Console
})

const version = createRequire(import.meta.url)("@coffeebuddy/kafka/package.json").version as string

const main = Effect.gen(function*() {
  return yield* Effect.withConsole(run(process.argv.slice(2), version), yield* console)
}).pipe(
  Effect.provide(Layer.mergeAll(
    Layer.scoped(Stdio, makeStdio),
    Layer.succeed(Driver, KafkaJs.layer),
    NodeContext.layer,
    // log lines are no results
    Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))
  ))
)

/** Standard input may be open still, and must not hold the process. */
const teardown: Teardown = (exit) => {
  process.exit(
    Exit.isSuccess(exit) ? Number(exit.value) : Exit.isInterrupted(exit) ? exitCodes.interrupted : exitCodes.failed
  )
}

NodeRuntime.runMain(main, { disablePrettyLogger: true, teardown })
