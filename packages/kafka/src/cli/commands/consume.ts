/** Prints the records of a topic. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Admin from "../../Admin.ts"
import * as Consumer from "../../Consumer.ts"
import * as cluster from "../cluster.ts"
import { InputError } from "../failures.ts"
import * as record from "../record.ts"
import { Stdio } from "../Stdio.ts"
import { counted } from "../text.ts"

export type From = "beginning" | "end" | { readonly timestamp: Date } | { readonly offset: bigint }

/** `undefined` where it is none. */
export const parseFrom = (text: string): From | undefined => {
  if (text === "beginning" || text === "end") return text
  if (/^\d+$/.test(text)) return { offset: BigInt(text) }
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return undefined
  const timestamp = new Date(text)
  return Number.isNaN(timestamp.getTime()) ? undefined : { timestamp }
}

const invalid = (text: string) => ValidationError.invalidValue(HelpDoc.p(text))

/** Each partition with its offset, which is moved into the log where it is not in it. */
const starts = (topic: string, from: From) =>
  Effect.gen(function*() {
    const admin = yield* Admin.make
    const earliest = yield* admin.listOffsets([topic], "earliest")
    if (from === "beginning") return earliest
    const latest = yield* admin.listOffsets([topic], "latest")
    if (from === "end") return latest
    if ("timestamp" in from) return yield* admin.listOffsets([topic], from)
    const end = new Map(latest.map(({ offset, partition }) => [partition, offset]))
    return earliest.map(({ offset: start, partition, topic }) => {
      const last = end.get(partition) ?? start
      return { topic, partition, offset: from.offset < start ? start : from.offset > last ? last : from.offset }
    })
  })

/** A reader without a group asks for a name all the same. Nothing is ever committed under it. */
const nobody = "coffeebuddy-kafka"

export const command = Command.make(
  "consume",
  {
    envFile: cluster.envFile,
    json: Options.boolean("json").pipe(Options.withDescription("A line of JSON for each record.")),
    from: Options.text("from").pipe(
      Options.withPseudoName("beginning|end|time|offset"),
      Options.withDescription(
        "Where to start: a time is ISO 8601, an offset that of each partition. At the beginning if absent."
      ),
      Options.mapEffect((text) => {
        const from = parseFrom(text)
        return from === undefined
          ? Effect.fail(
            invalid(`--from is beginning, end, a time such as 2026-11-23T10:00:00Z, or an offset, not "${text}"`)
          )
          : Effect.succeed(from)
      }),
      Options.optional
    ),
    partitions: Options.text("partition").pipe(
      Options.withPseudoName("number"),
      Options.withDescription("Only this partition. May be given several times. All if absent."),
      Options.repeated,
      // @effect/cli 0.77 can't repeat an integer
      Options.mapEffect((texts) => {
        const wrong = texts.find((text) => !/^\d{1,9}$/.test(text))
        return wrong === undefined
          ? Effect.succeed(texts.map(Number))
          : Effect.fail(invalid(`--partition is a number, not "${wrong}"`))
      })
    ),
    untilEnd: Options.boolean("until-end").pipe(
      Options.withDescription("Ends at the end of the log as it is now, instead of waiting for more.")
    ),
    max: Options.integer("max").pipe(
      Options.withDescription("Ends after so many records."),
      Options.mapEffect((max) => max >= 0 ? Effect.succeed(max) : Effect.fail(invalid("--max can't be below zero"))),
      Options.optional
    ),
    group: Options.text("group").pipe(
      Options.withDescription(
        "Reads as a member of this group, and commits what was printed. Without it, no group is joined and nothing committed."
      ),
      Options.optional
    ),
    topic: Args.text({ name: "topic" }).pipe(Args.withDescription("KAFKA_TOPIC_PREFIX is put before it."))
  },
  ({ envFile, from, group, json, max, partitions, topic, untilEnd }) =>
    cluster.connected(envFile)(Effect.scoped(Effect.gen(function*() {
      const stdio = yield* Stdio
      const source = yield* cluster.topicOf(topic)
      const print = json ? record.json : (one: record.Record) => record.pretty(one, stdio.style)

      let seen = 0
      const printed = <E, R>(records: Stream.Stream<record.Record, E, R>) =>
        records.pipe(
          (all) => Option.isSome(max) ? Stream.take(all, max.value) : all,
          Stream.mapChunksEffect((chunk) => {
            seen += chunk.length
            const text = Chunk.toReadonlyArray(chunk).map((one) => `${print(one)}\n`).join("")
            return Effect.as(
              stdio.outputIsTerminal
                ? stdio.write(text)
                : Effect.zipRight(stdio.write(text), stdio.progress(counted(seen, "record"))),
              chunk
            )
          })
        )
      const follow = Effect.suspend(() =>
        stdio.outputIsTerminal && !untilEnd ? stdio.note(`Records of ${source.slug}. Ctrl-C ends.`) : Effect.void
      )

      if (Option.isSome(group)) {
        const start = Option.getOrElse(from, (): From => "beginning")
        if (start !== "beginning" && start !== "end" || partitions.length > 0) {
          return yield* new InputError({
            message: "with --group it is the group that says where to start and who reads what: " +
              "--from can be beginning or end, for where the group has committed nothing, and --partition has no place"
          })
        }
        const consumer = yield* Consumer.make({
          groupId: group.value,
          autoOffsetReset: start === "end" ? "latest" : "earliest",
          stopTimeout: "5 seconds"
        })
        yield* follow
        const records = untilEnd ? consumer.streamUntil(source, "end") : consumer.stream(source)
        return yield* printed(records).pipe(consumer.commitWithin(1000, "1 second"), Stream.runDrain)
      }

      const found = yield* starts(source.slug, Option.getOrElse(from, (): From => "beginning"))
      const missing = partitions.find((one) => !found.some(({ partition }) => partition === one))
      if (missing !== undefined) {
        return yield* new InputError({
          message: `${source.slug} has ${counted(found.length, "partition")}: there is no partition ${missing}`
        })
      }
      const consumer = yield* Consumer.make({ groupId: nobody, stopTimeout: "5 seconds" })
      yield* follow
      const options = {
        partitions: found.filter(({ partition }) => partitions.length === 0 || partitions.includes(partition))
      }
      const records = untilEnd ? consumer.streamUntil(source, "end", options) : consumer.stream(source, options)
      yield* Stream.runDrain(printed(records))
    })))
).pipe(Command.withDescription("Prints the records of a topic. It moves nobody's offsets, unless --group is given."))
