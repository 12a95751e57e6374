/** How far a group is behind, once or again and again. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Admin from "../../Admin.ts"
import * as cluster from "../cluster.ts"
import { Failed, linesOf } from "../failures.ts"
import { Stdio } from "../Stdio.ts"
import * as table from "../table.ts"
import { count, counted, escapeLine } from "../text.ts"

const age = (millis: number | undefined): string =>
  millis === undefined ? "" : millis === 0 ? "0" : Duration.format(Duration.seconds(Math.round(millis / 1000)))

const jsonOf = (lag: Admin.GroupLag): string =>
  JSON.stringify({
    group: lag.groupId,
    records: Number(lag.records),
    millis: lag.millis,
    partitions: lag.partitions.map((one) => ({
      topic: one.topic,
      partition: one.partition,
      committed: one.committed === undefined ? null : Number(one.committed),
      end: Number(one.latest),
      records: one.records === undefined ? null : Number(one.records),
      millis: one.millis
    }))
  })

const tableOf = (lag: Admin.GroupLag, time: boolean, style: Stdio["Type"]["style"]): ReadonlyArray<string> =>
  table.lines(
    [
      { title: "TOPIC", align: "left" },
      { title: "PARTITION", align: "right" },
      { title: "COMMITTED", align: "right" },
      { title: "END", align: "right" },
      { title: "LAG", align: "right" },
      ...time ? [{ title: "AGE", align: "right" as const }] : []
    ],
    [
      ...lag.partitions.map((one) => [
        escapeLine(one.topic),
        String(one.partition),
        one.committed === undefined ? "nothing" : count(one.committed),
        count(one.latest),
        one.records === undefined ? "" : count(one.records),
        age(one.millis)
      ]),
      ["in all", "", "", "", count(lag.records), age(lag.millis)]
    ],
    style
  )

/** The lines that have room, and what was left out. */
const fit = (lines: ReadonlyArray<string>, rows: number): ReadonlyArray<string> =>
  lines.length < rows || rows < 4
    ? lines
    : [...lines.slice(0, rows - 3), `… ${counted(lines.length - rows + 2, "more partition")}`, ...lines.slice(-1)]

const invalid = (text: string) => ValidationError.invalidValue(HelpDoc.p(text))

export const command = Command.make(
  "lag",
  {
    envFile: cluster.envFile,
    json: Options.boolean("json").pipe(Options.withDescription("A line of JSON, with every partition in it.")),
    time: Options.boolean("time").pipe(
      Options.withDescription("How old the oldest unread record is, too. It takes some more requests.")
    ),
    watch: Options.boolean("watch").pipe(Options.withDescription("Again and again, until Ctrl-C.")),
    interval: Options.text("interval").pipe(
      Options.withDescription("How long to wait in between, as in \"2 seconds\"."),
      Options.mapEffect((text) =>
        Option.match(Option.filter(Duration.decodeUnknown(text), (one) => Duration.toMillis(one) > 0), {
          onNone: () => Effect.fail(invalid(`--interval is a duration such as "2 seconds", not "${text}"`)),
          onSome: Effect.succeed
        })
      ),
      Options.withDefault(Duration.seconds(2))
    ),
    failAbove: Options.integer("fail-above").pipe(
      Options.withDescription("Ends with 1 where the group is behind by more records than this."),
      Options.optional
    ),
    group: Args.text({ name: "group" })
  },
  ({ envFile, failAbove, group, interval, json, time, watch }) =>
    cluster.connected(envFile)(Effect.scoped(Effect.gen(function*() {
      const stdio = yield* Stdio
      const admin = yield* Admin.make
      const redrawn = watch && stdio.outputIsTerminal && !json

      const show = (lag: Admin.GroupLag) =>
        Effect.gen(function*() {
          if (json) return yield* stdio.write(`${jsonOf(lag)}\n`)
          const lines = tableOf(lag, time, stdio.style)
          if (!watch) return yield* stdio.write(lines.map((line) => `${line}\n`).join(""))
          const at = new Date(yield* Clock.currentTimeMillis).toISOString()
          const framed = [stdio.style("dim", `${at}  ${escapeLine(group)}`), ...lines]
          // home, each line up to its end, and nothing below
          return yield* stdio.write(
            redrawn
              ? `\x1b[H${fit(framed, stdio.rows()).map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`
              : framed.map((line) => `${line}\n`).join("")
          )
        })

      const look = Effect.gen(function*() {
        const lag = yield* admin.lag(group, { time })
        if (lag.partitions.length === 0) {
          return yield* new Failed({
            message: `the group "${
              escapeLine(group)
            }" has committed nothing: coffeebuddy-kafka groups lists those there are`
          })
        }
        yield* show(lag)
        return lag
      })

      const first = yield* redrawn ? Effect.zipRight(stdio.write("\x1b[2J"), look) : look
      if (!watch) {
        if (Option.isSome(failAbove) && first.records > BigInt(failAbove.value)) {
          return yield* new Failed({
            message: `the lag is ${counted(first.records, "record")}, more than ${count(failAbove.value)}`
          })
        }
        return
      }
      // the first look has shown that it can be done: what fails from now on may pass
      yield* Effect.forever(Effect.zipRight(
        Effect.sleep(interval),
        Effect.catchIf(
          look,
          (error) => error._tag !== "OutputError" && error._tag !== "Failed",
          (error) => Effect.forEach(linesOf(error), stdio.note, { discard: true })
        )
      ))
    })))
).pipe(Command.withDescription("How far a group is behind, for each partition."))
