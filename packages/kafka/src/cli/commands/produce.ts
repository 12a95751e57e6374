/** Sends what comes from standard input. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Producer from "../../Producer.ts"
import * as cluster from "../cluster.ts"
import { Failed, type InputError, linesOf } from "../failures.ts"
import * as input from "../input.ts"
import * as lines from "../lines.ts"
import { Stdio } from "../Stdio.ts"
import { counted } from "../text.ts"

/** The offsets of a partition that were written: they need not be in one run, where others write too. */
interface Written {
  count: number
  first: bigint
  last: bigint
}

const recordsOf = (chunk: Chunk.Chunk<lines.Line>, settings: input.Settings) => {
  const records: Array<input.Input> = []
  let problem: InputError | undefined = undefined
  for (const line of chunk) {
    const record = input.record(line, settings)
    if (Either.isLeft(record)) {
      problem = record.left
      break
    }
    if (record.right !== undefined) records.push(record.right)
  }
  return { records, problem }
}

/** Records in order, up to the first line that is none. */
const records = <E, R>(all: Stream.Stream<lines.Line, E, R>, settings: input.Settings) =>
  Stream.flattenChunks(Stream.flatMap(Stream.chunks(all), (chunk) => {
    const { problem, records } = recordsOf(chunk, settings)
    const sent = Stream.make(Chunk.unsafeFromArray(records))
    return problem === undefined ? sent : Stream.concat(sent, Stream.fail(problem))
  }))

const reportEvery = 200

export const command = Command.make(
  "produce",
  {
    envFile: cluster.envFile,
    json: Options.boolean("json").pipe(
      Options.withDescription(
        "Each line is a record as JSON: {\"key\", \"value\", \"headers\"}, as consume --json prints it."
      )
    ),
    key: Options.text("key").pipe(Options.withDescription("The key of records that bring none."), Options.optional),
    keySeparator: Options.text("key-separator").pipe(
      Options.withDescription("What stands between key and value in each line. Lines are values if absent."),
      Options.optional
    ),
    headers: Options.text("header").pipe(
      Options.withPseudoName("name=value"),
      Options.withDescription("A header of each record. May be given several times."),
      Options.repeated
    ),
    topic: Args.text({ name: "topic" }).pipe(Args.withDescription("KAFKA_TOPIC_PREFIX is put before it."))
  },
  ({ envFile, headers, json, key, keySeparator, topic }) =>
    cluster.connected(envFile)(Effect.scoped(Effect.gen(function*() {
      const stdio = yield* Stdio
      const target = yield* cluster.topicOf(topic)
      const producer = yield* Producer.make()
      if (stdio.inputIsTerminal) yield* stdio.note("Each line is a record. Ctrl-D ends.")

      const written = new Map<number, Written>()
      let total = 0
      let reportedAt = yield* Clock.currentTimeMillis
      const settings: input.Settings = {
        json,
        key: Option.getOrUndefined(key),
        keySeparator: Option.getOrUndefined(keySeparator),
        headers: headers.map(input.header)
      }
      const sending = records(lines.split(stdio.input), settings).pipe(
        Producer.produce(target),
        Stream.chunks,
        Stream.runForEach((chunk) =>
          Effect.gen(function*() {
            for (const { offset, partition } of chunk) {
              const before = written.get(partition)
              if (before === undefined) written.set(partition, { count: 1, first: offset, last: offset })
              else {
                before.count++
                before.last = offset
              }
            }
            total += chunk.length
            const now = yield* Clock.currentTimeMillis
            if (now - reportedAt < reportEvery) return
            reportedAt = now
            yield* stdio.progress(`${counted(total, "record")} sent`)
          })
        ),
        Effect.provideService(Producer.Producer, producer)
      )
      const result = yield* Effect.either(Effect.onInterrupt(
        sending,
        () =>
          stdio.note(`Interrupted: ${counted(total, "record")} stored, and perhaps some of those that were under way.`)
      ))
      yield* stdio.write(
        [
          `${counted(total, "record")} to ${target.slug}`,
          ...[...written].sort(([a], [b]) => a - b).map(([partition, { count, first, last }]) =>
            `  partition ${partition}: ${counted(count, "record")}, offset ${first}${
              first === last ? "" : ` to ${last}`
            }`
          )
        ].map((line) => `${line}\n`).join("")
      )
      if (Either.isRight(result)) return
      const stored = total === 0 ? "Nothing is stored." : "The records counted here are stored."
      return yield* new Failed({ message: [...linesOf(result.left), stored].join("\n") })
    })))
).pipe(Command.withDescription("Sends lines, or JSON, from standard input, and says how many went where."))
