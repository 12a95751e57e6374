/** What is wrong with how records are to be read and handled, as far as that can be said before anything is read. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { ForEachOptions, Source, StreamOptions, TransformOptions } from "../Consumer.ts"
import * as Topic from "../Topic.ts"

export type Handling = Pick<
  ForEachOptions,
  "concurrency" | "ordering" | "commitCount" | "commitWithin" | "maxAhead" | "gracePeriod"
>

export interface Problem {
  readonly option: string
  readonly reason: string
}

const counts = <K extends string>(
  options: { readonly [Option in K]?: number | undefined },
  names: ReadonlyArray<K>,
  most: "some" | "any number" = "some"
): Array<Problem> =>
  names.flatMap((option) => {
    const value = options[option]
    const unlimited = most === "any number" && value === Number.POSITIVE_INFINITY
    return value === undefined || unlimited || (Number.isSafeInteger(value) && value > 0)
      ? []
      : [{ option, reason: `must be a whole number above zero, and is ${value}` }]
  })

/** Effect takes a negative number for zero, and one that is none as well. */
const isDuration = (input: Duration.DurationInput): boolean =>
  typeof input === "number" ? input >= 0 : Option.isSome(Duration.decodeUnknown(input))

export const ofForEach = (options: Handling): ReadonlyArray<Problem> => {
  const problems = [
    ...counts(options, ["concurrency"]),
    ...counts(options, ["commitCount", "maxAhead"], "any number")
  ]
  for (const option of ["commitWithin", "gracePeriod"] as const) {
    const input = options[option]
    if (input !== undefined && !isDuration(input)) {
      problems.push({ option, reason: `must be a duration of at least zero, and is ${String(input)}` })
    }
  }
  const { ordering } = options
  if (ordering !== undefined && !["partition", "key", "unordered"].includes(ordering)) {
    problems.push({
      option: "ordering",
      reason: `must be "partition", "key" or "unordered", and is "${String(ordering)}"`
    })
  }
  return problems
}

export const ofTransform = (options: TransformOptions): ReadonlyArray<Problem> =>
  counts(options, ["concurrency", "maxRecords"], "any number")

/** Of what is read, and of the partitions that are named. */
export const ofSource = (source: Source, partitions: StreamOptions["partitions"]): string | undefined => {
  const topics = Topic.isPattern(source) ? undefined : new Set(Topic.isTopic(source) ? [source] : source)
  if (topics?.size === 0) return "a stream needs at least one topic"
  if (partitions === undefined) return undefined
  if (topics?.size !== 1) return "partitions are those of one topic, and more than one is read"
  if (partitions.length === 0) return "partitions: there are none, so nothing would ever be read"
  const starts = new Map<number, unknown>()
  for (const one of partitions) {
    const { offset, partition } = typeof one === "number" ? { partition: one, offset: undefined } : one
    if (offset !== undefined && offset !== "earliest" && offset !== "latest" && !isOffset(offset)) {
      return `partitions: ${String(offset)} is no offset to begin at`
    }
    if (starts.has(partition) && starts.get(partition) !== offset) {
      return `partitions: ${partition} is there twice, with different offsets`
    }
    starts.set(partition, offset)
  }
  return undefined
}

export const isOffset = (offset: bigint): boolean => typeof offset === "bigint" && offset >= 0n
