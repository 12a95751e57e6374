/**
 * The command `coffeebuddy-kafka`: what it may be told, and what it answers with.
 */
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as check from "./commands/check.ts"
import * as consume from "./commands/consume.ts"
import * as groups from "./commands/groups.ts"
import * as lag from "./commands/lag.ts"
import * as produce from "./commands/produce.ts"
import * as topics from "./commands/topics.ts"
import { linesOf } from "./failures.ts"
import { Stdio } from "./Stdio.ts"

/** What a script may rely on. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const

const root = Command.make("coffeebuddy-kafka").pipe(
  Command.withDescription(
    "Looks at a Kafka cluster, and tries it out. KAFKA_BOOTSTRAP_SERVERS and the other variables of docs/configuration.md " +
      "say which. It ends with 0 when all is well, 1 when something failed, 2 when it was called wrongly, and 130 when it " +
      "was interrupted."
  ),
  Command.withSubcommands([
    check.command,
    produce.command,
    consume.command,
    topics.command,
    groups.command,
    lag.command
  ])
)

const cli = (version: string) =>
  Command.run(root, {
    name: "coffeebuddy-kafka",
    version,
    executable: "coffeebuddy-kafka",
    footer: HelpDoc.p("--help, --version, --completions sh|bash|fish|zsh and --log-level LEVEL go with every command.")
  })

/**
 * Runs the command with its arguments, and answers its exit code. What is expected to go wrong is said in a sentence on
 * standard error.
 */
export const run = (args: ReadonlyArray<string>, version: string) =>
  Effect.gen(function*() {
    const stdio = yield* Stdio
    const say = (lines: ReadonlyArray<string>) => Effect.forEach(lines, stdio.note, { discard: true })
    return yield* cli(version)(["node", "coffeebuddy-kafka", ...args]).pipe(
      Effect.as<number>(exitCodes.ok),
      Effect.catchAll((error) => {
        // @effect/cli has said it already
        if (ValidationError.isValidationError(error)) return Effect.succeed(exitCodes.usage)
        if (error._tag === "OutputError" && error.closed) return Effect.succeed(exitCodes.ok)
        if (error._tag === "Failed" && error.message === undefined) return Effect.succeed(exitCodes.failed)
        return Effect.as(say(linesOf(error)), exitCodes.failed)
      }),
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause) || Option.isSome(Cause.failureOption(cause))
          ? Effect.failCause(cause)
          : Effect.as(
            say(["This is a mistake in coffeebuddy-kafka, please report it:", Cause.pretty(cause)]),
            exitCodes.failed
          )
      )
    )
  }).pipe(Effect.provide(CliConfig.layer({ showBuiltIns: false })))
