/**
 * What is written on a record that is sent on: to a retry topic, to a dead-letter topic, or back from there. Our headers
 * come behind the record's own, which stay as they are, and are text, so that any tool can show them.
 */
import type * as RecordHeaders from "../../RecordHeaders.ts"
import { printable } from "../printable.ts"

/** Where a record was first read. */
export interface Origin {
  /** The physical name. */
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  /** Milliseconds since 1970. */
  readonly timestamp: bigint
}

/** What a retry topic says of a record. */
export interface RetryMark extends Origin {
  readonly group: string
  /** How often it was tried. */
  readonly attempts: number
  /** How many of the delays it has had, this one included. */
  readonly round: number
  /** Not tried before, in milliseconds since 1970. */
  readonly due: number
}

/** What a dead-letter topic says of a record. */
export interface DeadLetterMark extends Origin {
  readonly group: string
  /** How often it was tried; 0 where it could not even be decoded. */
  readonly attempt: number
  /** The tag of the error. */
  readonly error: string
  readonly message: string
}

const place = ["topic", "partition", "offset", "timestamp", "group"] as const
const retryNames = [...place, "attempts", "round", "due"] as const
const deadLetterNames = [...place, "attempt", "error", "message"] as const

export const retryPrefix = "kafka.retry."
export const deadLetterPrefix = "kafka.dlt."
/** How often a record was sent back from a dead-letter topic. */
export const replaysName = "kafka.replays"

const encoder = new TextEncoder()
const decoder = new TextDecoder()

const mark = (
  headers: RecordHeaders.RecordHeaders,
  prefix: string,
  names: ReadonlyArray<string>,
  fields: { readonly [name: string]: string | number | bigint }
): RecordHeaders.RecordHeaders => [
  ...headers,
  ...names.map((name): RecordHeaders.Header => [prefix + name, encoder.encode(String(fields[name]))])
]

export const markRetry = (headers: RecordHeaders.RecordHeaders, about: RetryMark): RecordHeaders.RecordHeaders =>
  mark(headers, retryPrefix, retryNames, { ...about })

export const markDeadLetter = (
  headers: RecordHeaders.RecordHeaders,
  about: DeadLetterMark
): RecordHeaders.RecordHeaders => mark(headers, deadLetterPrefix, deadLetterNames, { ...about })

/** The record's own headers, and the text of ours: `undefined` where one of them is missing. */
const unmark = (headers: RecordHeaders.RecordHeaders, prefix: string, names: ReadonlyArray<string>) => {
  const rest = [...headers]
  const fields: Record<string, string> = {}
  for (const name of names) {
    const index = rest.findLastIndex((header) => header[0] === prefix + name)
    const value = rest[index]?.[1]
    if (value === undefined || value === null) return undefined
    fields[name] = decoder.decode(value)
    rest.splice(index, 1)
  }
  return { rest, fields }
}

const integer = (text: string | undefined): bigint | undefined =>
  text !== undefined && /^-?\d{1,19}$/.test(text) ? BigInt(text) : undefined

const originOf = (fields: Readonly<Record<string, string>>): Origin & { readonly group: string } | undefined => {
  const { group, topic } = fields
  const partition = integer(fields["partition"])
  const offset = integer(fields["offset"])
  const timestamp = integer(fields["timestamp"])
  return topic === undefined || group === undefined || partition === undefined || offset === undefined ||
      timestamp === undefined
    ? undefined
    : { topic, group, partition: Number(partition), offset, timestamp }
}

/** A marked record's own headers, and the mark. */
export interface Unmarked<Mark> {
  readonly headers: RecordHeaders.RecordHeaders
  readonly mark: Mark
}

/** `undefined` where it is none of ours. */
export const readRetry = (headers: RecordHeaders.RecordHeaders): Unmarked<RetryMark> | undefined => {
  const found = unmark(headers, retryPrefix, retryNames)
  if (found === undefined) return undefined
  const origin = originOf(found.fields)
  const attempts = integer(found.fields["attempts"])
  const round = integer(found.fields["round"])
  const due = integer(found.fields["due"])
  if (origin === undefined || attempts === undefined || round === undefined || due === undefined) return undefined
  return {
    headers: found.rest,
    mark: { ...origin, attempts: Number(attempts), round: Number(round), due: Number(due) }
  }
}

/** `undefined` where it is none of ours. */
export const readDeadLetter = (headers: RecordHeaders.RecordHeaders): Unmarked<DeadLetterMark> | undefined => {
  const found = unmark(headers, deadLetterPrefix, deadLetterNames)
  if (found === undefined) return undefined
  const origin = originOf(found.fields)
  const attempt = integer(found.fields["attempt"])
  const { error, message } = found.fields
  if (origin === undefined || attempt === undefined || error === undefined || message === undefined) return undefined
  return { headers: found.rest, mark: { ...origin, attempt: Number(attempt), error, message } }
}

/** How often a record was sent back from a dead-letter topic. */
export const replaysOf = (headers: RecordHeaders.RecordHeaders): number => {
  const value = headers.findLast((header) => header[0] === replaysName)?.[1]
  return Number(integer(value === undefined || value === null ? undefined : decoder.decode(value)) ?? 0n)
}

/** The headers of a record that is sent back: its own, and one more replay. */
export const markReplay = (headers: RecordHeaders.RecordHeaders): RecordHeaders.RecordHeaders => [
  ...headers.filter((header) => header[0] !== replaysName),
  [replaysName, encoder.encode(String(replaysOf(headers) + 1))]
]

/** A message goes into a header: longer ones are cut, so that they don't make a record too large. */
const longest = 1000

/** What a dead letter says of an error. */
export const describeError = (error: unknown): { readonly error: string; readonly message: string } => {
  const said = error instanceof Error ? error.message : typeof error === "string" ? error : ""
  const message = said === "" ? JSON.stringify(printable(error)) ?? String(error) : said
  return { error: tagOf(error), message: message.slice(0, longest) }
}

const tagOf = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return typeof error
  if ("_tag" in error && typeof error._tag === "string") return error._tag
  return error instanceof Error ? error.name : "Error"
}
