/**
 * What is said on the command line.
 */
import { Data, Effect, ParseResult, Schema } from "effect"
import { parseArgs } from "node:util"

export const help = `A morning at CoffeeBuddy: coffee runs become events, events become state.

  npm start -- [options]

  --runs N          how many coffee runs (8)
  --seconds S       how long the morning takes (4); 0 is as fast as it goes
  --start-kafka     on a real Kafka, which is started on this machine for the occasion (needs Java 17 and Maven)
  --metrics-port P  where its metrics are served while it runs (0: any port that is free)
  --keep-serving    goes on serving them after the morning, until Ctrl-C
  --help            this text

It runs on a Kafka inside this process. With KAFKA_BOOTSTRAP_SERVERS set, it runs on that cluster.
`

const Settings = Schema.Struct({
  help: Schema.Boolean,
  "start-kafka": Schema.Boolean,
  runs: Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 100_000)),
  seconds: Schema.NumberFromString.pipe(Schema.between(0, 3600)),
  "metrics-port": Schema.NumberFromString.pipe(Schema.int(), Schema.between(0, 65_535)),
  "keep-serving": Schema.Boolean
})

export type Settings = typeof Settings.Type

export class UsageError extends Data.TaggedError("UsageError")<{ readonly message: string }> {}

export const parse = (args: ReadonlyArray<string>): Effect.Effect<Settings, UsageError> =>
  Effect.try({
    try: () =>
      parseArgs({
        args: [...args],
        options: {
          help: { type: "boolean", default: false },
          "start-kafka": { type: "boolean", default: false },
          runs: { type: "string", default: "8" },
          seconds: { type: "string", default: "4" },
          "metrics-port": { type: "string", default: "0" },
          "keep-serving": { type: "boolean", default: false }
        }
      }).values,
    catch: (cause) => new UsageError({ message: cause instanceof Error ? cause.message : String(cause) })
  }).pipe(
    Effect.flatMap(Schema.decodeUnknown(Settings)),
    Effect.catchTag("ParseError", ({ issue }) => {
      const problems = ParseResult.ArrayFormatter.formatIssueSync(issue)
      return new UsageError({
        message: problems.map(({ message, path }) => `--${path.join(".")}: ${message}`).join("\n")
      })
    }),
    Effect.mapError(({ message }) => new UsageError({ message: `${message}\n\n${help}` }))
  )
