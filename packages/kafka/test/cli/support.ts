/** The command with its output caught, on a Kafka in memory. */
import { KafkaClient } from "@coffeebuddy/kafka/KafkaClient"
import type { KafkaConfig } from "@coffeebuddy/kafka/KafkaConfig"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { ConfigProvider, Console, Effect, Layer, Stream } from "effect"
import { run } from "../../src/cli/app.ts"
import { Driver } from "../../src/cli/cluster.ts"
import { OutputError, plain, Stdio, style } from "../../src/cli/Stdio.ts"

export interface Options {
  /** Standard input, in these chunks. */
  readonly input?: ReadonlyArray<string | Uint8Array>
  /** Instead of a cluster at `memory:9092`. */
  readonly env?: Readonly<Record<string, string>>
  readonly terminal?: boolean
  readonly rows?: number
  /** Whoever reads standard output goes after so many writes. */
  readonly closedAfter?: number
  readonly onWrite?: (written: string) => Effect.Effect<void>
}

export interface Ended {
  readonly code: number
  readonly out: string
  readonly err: string
}

export const environment = { KAFKA_BOOTSTRAP_SERVERS: "memory:9092" }

const print = (args: ReadonlyArray<unknown>): string => `${plain(false, args.map(String).join(" ")).trimEnd()}\n`

/** Runs the command; needs the `InMemoryKafka` of the test. */
export const cli = (args: ReadonlyArray<string>, options: Options = {}): Effect.Effect<Ended, never, KafkaClient> =>
  Effect.flatMap(KafkaClient, (client) => cliOn(Layer.succeed(KafkaClient, client), args, options))

/** Runs the command on a driver. */
export const cliOn = (
  driver: Layer.Layer<KafkaClient, never, KafkaConfig>,
  args: ReadonlyArray<string>,
  options: Options = {}
): Effect.Effect<Ended> =>
  Effect.gen(function*() {
    const usual = yield* Console.consoleWith(Effect.succeed)
    let out = ""
    let err = ""
    let writes = 0
    const stdio = Layer.succeed(Stdio, {
      input: Stream.fromIterable((options.input ?? []).map((one) => Buffer.from(one))).pipe(Stream.rechunk(1)),
      inputIsTerminal: options.terminal ?? false,
      outputIsTerminal: options.terminal ?? false,
      rows: () => options.rows ?? 24,
      write: (text) =>
        Effect.suspend(() => {
          if (writes++ >= (options.closedAfter ?? Infinity)) {
            return new OutputError({ closed: true, message: "standard output: write EPIPE" })
          }
          out += text
          return options.onWrite?.(out) ?? Effect.void
        }),
      note: (line) => Effect.sync(() => void (err += `${line}\n`)),
      progress: () => Effect.void,
      style: style(options.terminal ?? false)
    })
    const console: Console.Console = {
      ...usual,
      log: (...args) => Effect.sync(() => void (out += print(args))),
      error: (...args) => Effect.sync(() => void (err += print(args)))
    }
    const code = yield* run(args, "1.2.3").pipe(
      Effect.provide(Layer.mergeAll(
        stdio,
        NodeContext.layer,
        Layer.succeed(Driver, driver)
      )),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(options.env ?? environment)))),
      Effect.withConsole(console)
    )
    return { code, out, err }
  })
