/** What is wrong with how records are to be read and handled, as far as that can be said before anything is read. */
import type * as Duration from "effect/Duration"
import type { Bound, ForEachOptions, Source, StreamOptions, TransformOptions } from "../Consumer.ts"
import * as Topic from "../Topic.ts"
import { millisOf } from "./duration.ts"

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

const durations = <K extends string>(
  options: { readonly [Option in K]?: Duration.DurationInput | undefined },
  names: ReadonlyArray<K>
): Array<Problem> =>
  names.flatMap((option) => {
    const input = options[option]
    return input === undefined || millisOf(input) !== undefined
      ? []
      : [{ option, reason: `must be a duration of at least zero, and is ${String(input)}` }]
  })

export const ofForEach = (options: Handling): ReadonlyArray<Problem> => {
  const problems = [
    ...counts(options, ["concurrency"]),
    ...counts(options, ["commitCount", "maxAhead"], "any number"),
    ...durations(options, ["commitWithin", "gracePeriod"])
  ]
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

/** Of what becomes of a record that can't be decoded. */
export const ofDecodeFailure = (action: unknown, allowed: ReadonlyArray<string>): ReadonlyArray<Problem> =>
  action === undefined || typeof action === "function" || allowed.some((one) => one === action)
    ? []
    : [{
      option: "onDecodeFailure",
      reason: `must be ${allowed.map((one) => `"${one}"`).join(", ")} or a function, and is ${String(action)}`
    }]

/** `undefined` is a missing argument here, and no default. */
export const ofCommitWithin = (count: number, within: Duration.DurationInput): ReadonlyArray<Problem> => [
  ...counts({ count: count ?? Number.NaN }, ["count"], "any number"),
  ...durations({ within: within ?? Number.NaN }, ["within"])
]

/** Of where a stream is to end. What is no time is found where it is looked up. */
export const ofBound = (bound: Bound): string | undefined => {
  if (bound === "end") return undefined
  if (typeof bound !== "object" || bound === null) return `${String(bound)} is no bound`
  const offsets = "offset" in bound ? [bound.offset] : "offsets" in bound ? [...bound.offsets.values()] : []
  const wrong = offsets.filter((offset) => !isOffset(offset))
  return wrong.length === 0 ? undefined : `${wrong.map(String).join(", ")} is no offset to end at`
}

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
    if (!Number.isSafeInteger(partition) || partition < 0) return `partitions: ${partition} is no partition`
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
