/**
 * The program as a command: its arguments, the Kafka it runs on, and how it ends.
 */
import { Admin, Producer } from "@coffeebuddy/kafka"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import { Cause, Config, type ConfigError, Console, Duration, Effect, Layer, Option } from "effect"
import * as Kafka from "./kafka.ts"
import * as Metrics from "./metrics.ts"
import * as Plan from "./Plan.ts"
import { program } from "./program.ts"
import * as Progress from "./Progress.ts"
import { help, parse, UsageError } from "./settings.ts"
import * as Style from "./Style.ts"

export const cli = (args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const settings = yield* parse(args)
    if (settings.help) return yield* Console.log(help)
    const within = Duration.seconds(settings.seconds)

    const given = yield* Config.option(Config.string("KAFKA_BOOTSTRAP_SERVERS"))
    if (settings["start-kafka"] && Option.isSome(given)) {
      return yield* new UsageError({ message: "--start-kafka and KAFKA_BOOTSTRAP_SERVERS: which of them is it to be?" })
    }
    const kafka = settings["start-kafka"] ? Kafka.local : Option.isSome(given) ? Kafka.cluster : Kafka.inMemory

    const services = Layer.mergeAll(Producer.layer(), Admin.layer, Progress.layer, Style.layer).pipe(
      Layer.provideMerge(Layer.mergeAll(kafka, Plan.layer({ runs: settings.runs, within }), NodeTerminal.layer)),
      Layer.provideMerge(Metrics.layer(settings["metrics-port"]))
    )
    const served = settings["keep-serving"]
      ? Effect.zipRight(Console.log("\nThe metrics are still served, until Ctrl-C."), Effect.never)
      : Effect.void
    yield* program({ patience: Duration.sum(within, "1 minute") }).pipe(
      Effect.zipRight(served),
      Effect.provide(services)
    )
  })

/**
 * Runs it as the main program. What is expected to go wrong is said in a sentence, anything else with its trace; the
 * exit code is 1 then. Ctrl-C and SIGTERM interrupt it: consumers commit and leave their groups.
 */
export const run = <E extends Error | ConfigError.ConfigError>(main: Effect.Effect<void, E>): void =>
  main.pipe(
    Effect.tapErrorCause((cause) =>
      Cause.isInterruptedOnly(cause) ? Effect.void : Console.error(Option.match(Cause.failureOption(cause), {
        onNone: () => Cause.pretty(cause),
        onSome: (error) => error instanceof Error ? error.message : String(error)
      }))
    ),
    NodeRuntime.runMain({ disableErrorReporting: true })
  )
