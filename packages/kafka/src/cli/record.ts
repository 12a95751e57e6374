/** A record as it is printed. */
import type { ConsumerRecord } from "../ConsumerRecord.ts"
import type { Service } from "./Stdio.ts"
import { decode, escapeLine, show } from "./text.ts"

export type Bytes = Uint8Array | null

export type Record = ConsumerRecord<Bytes, Bytes>

/** What no `Date` can hold stays a number. */
const timeOf = (timestamp: bigint): string => {
  const date = new Date(Number(timestamp))
  return Number.isNaN(date.getTime()) ? String(timestamp) : date.toISOString()
}

/** One line: where it is, when, its key, its value, its headers. */
export const pretty = (record: Record, style: Service["style"]): string => {
  const shown = (bytes: Bytes) => bytes === null ? style("dim", "null") : show(bytes)
  const headers = record.headers.map(([name, value]) => `${escapeLine(name)}=${value === null ? "null" : show(value)}`)
  const { key, value } = record
  return [
    style("dim", `${record.partition}@${record.offset}  ${timeOf(record.timestamp)}`),
    key === null ? shown(key) : style("cyan", shown(key)),
    shown(value),
    ...headers.length === 0 ? [] : [style("dim", `{${headers.join(", ")}}`)]
  ].join("  ")
}

/** Text under its own name, anything else as base64 under its name with `Base64` behind it. */
const field = (name: string, bytes: Bytes): { readonly [name: string]: string | null } => {
  if (bytes === null) return { [name]: null }
  const text = decode(bytes)
  return text === undefined
    ? { [`${name}Base64`]: Buffer.from(bytes).toString("base64") }
    : { [name]: text }
}

/** One line of JSON, which `produce --json` takes. An offset is text only where a number can't hold it. */
export const json = (record: Record): string => {
  const offset = Number(record.offset)
  return JSON.stringify({
    topic: record.topicPartition.topic,
    partition: record.partition,
    offset: Number.isSafeInteger(offset) ? offset : String(record.offset),
    timestamp: timeOf(record.timestamp),
    ...field("key", record.key),
    ...field("value", record.value),
    headers: record.headers.map(([name, value]) => ({ name, ...field("value", value) }))
  })
}
