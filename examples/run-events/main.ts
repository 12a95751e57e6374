/**
 * A morning at CoffeeBuddy: coffee runs become events, events become state. `npm start -- --help` says what may be said.
 *
 * The program is in `program.ts`; which Kafka it runs on is decided here, and nowhere else.
 */
import { Admin, Producer } from "@coffeebuddy/kafka"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import { Cause, Config, Console, Duration, Effect, Layer, Option } from "effect"
import * as Kafka from "./kafka.ts"
import * as Plan from "./Plan.ts"
import { program } from "./program.ts"
import * as Progress from "./Progress.ts"
import * as Projection from "./projection.ts"
import { help, parse, UsageError } from "./settings.ts"
import * as Style from "./Style.ts"

const main = Effect.gen(function*() {
  const settings = yield* parse(process.argv.slice(2))
  if (settings.help) return yield* Console.log(help)
  const within = Duration.seconds(settings.seconds)

  const given = yield* Config.option(Config.string("KAFKA_BOOTSTRAP_SERVERS"))
  if (settings["start-kafka"] && Option.isSome(given)) {
    return yield* new UsageError({ message: "--start-kafka and KAFKA_BOOTSTRAP_SERVERS: which of them is it to be?" })
  }
  const kafka = settings["start-kafka"] ? Kafka.local : Option.isSome(given) ? Kafka.cluster : Kafka.inMemory

  const services = Layer.mergeAll(Producer.layer(), Admin.layer, Progress.layer, Projection.layer, Style.layer).pipe(
    Layer.provideMerge(Layer.mergeAll(kafka, Plan.layer({ runs: settings.runs, within }), NodeTerminal.layer))
  )
  yield* Effect.provide(program({ patience: Duration.sum(within, "1 minute") }), services)
})

main.pipe(
  // what is expected to go wrong is said in a sentence, anything else with its trace
  Effect.tapErrorCause((cause) =>
    Cause.isInterruptedOnly(cause) ? Effect.void : Console.error(Option.match(Cause.failureOption(cause), {
      onNone: () => Cause.pretty(cause),
      onSome: (error) => error.message
    }))
  ),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
