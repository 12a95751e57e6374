/**
 * A record's headers: names with bytes, in order. A name may occur several times and a value may be `null`, as in Kafka.
 *
 * @since 0.1.0
 */

import { isWellFormed } from "./engine/wellFormed.ts"

/**
 * @since 0.1.0
 * @category models
 */
export type Header = readonly [name: string, value: Uint8Array | null]

/**
 * Headers as the broker keeps them.
 *
 * @since 0.1.0
 * @category models
 */
export type RecordHeaders = ReadonlyArray<Header>

/**
 * What a header may be given as: text is sent as UTF-8.
 *
 * @since 0.1.0
 * @category models
 */
export type Value = string | Uint8Array | null

/**
 * What headers may be given as: pairs in order, or a record whose arrays are several values under one name.
 *
 * @since 0.1.0
 * @category models
 */
export type Input =
  | Iterable<readonly [name: string, value: Value]>
  | { readonly [name: string]: Value | ReadonlyArray<Value> }

/**
 * @since 0.1.0
 * @category constructors
 */
export const empty: RecordHeaders = []

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8")

const isValue = (u: unknown): u is Value => u === null || typeof u === "string" || u instanceof Uint8Array

const isIterable = (input: Input): input is Iterable<readonly [string, Value]> =>
  typeof (input as { readonly [Symbol.iterator]?: unknown })[Symbol.iterator] === "function"

/**
 * Headers from pairs or from a record. Throws a `TypeError` on a value that Kafka can
 * not hold; `Producer.send` turns that into a `SerializationError`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (input: Input): RecordHeaders => {
  const out: Array<Header> = []
  const add = (name: string, value: Value): void => {
    if (typeof name !== "string") throw new TypeError("a header's name must be a string")
    if (!isValue(value)) {
      throw new TypeError(`header "${name}" must be a string, a Uint8Array or null, and is ${typeof value}`)
    }
    if (!isWellFormed(name) || (typeof value === "string" && !isWellFormed(value))) {
      throw new TypeError(`header ${JSON.stringify(name)} has half of a surrogate pair in it, which UTF-8 can't hold`)
    }
    out.push([name, typeof value === "string" ? encoder.encode(value) : value])
  }
  if (isIterable(input)) {
    for (const [name, value] of input) add(name, value)
  } else {
    for (const name of Object.keys(input)) {
      const value = input[name] as Value | ReadonlyArray<Value>
      if (Array.isArray(value)) { for (const one of value) add(name, one) }
      else add(name, value as Value)
    }
  }
  return out
}

/**
 * The last value under a name (Kafka's own rule), `null` where that value is null, `undefined` where there is none.
 *
 * @since 0.1.0
 * @category getters
 */
export const get = (self: RecordHeaders, name: string): Uint8Array | null | undefined => {
  for (let i = self.length - 1; i >= 0; i--) {
    const header = self[i]!
    if (header[0] === name) return header[1]
  }
  return undefined
}

/**
 * The last value under a name, as UTF-8 text. What is not UTF-8 becomes U+FFFD.
 *
 * @example
 * ```ts
 * import { RecordHeaders } from "@coffeebuddy/kafka"
 *
 * const headers = RecordHeaders.make({ traceparent: "00-…", tag: ["a", "b"] })
 * console.log(RecordHeaders.getString(headers, "tag")) // "b"
 * ```
 *
 * @since 0.1.0
 * @category getters
 */
export const getString = (self: RecordHeaders, name: string): string | null | undefined => {
  const value = get(self, name)
  return value === null || value === undefined ? value : decoder.decode(value)
}

/**
 * All values under a name, in order.
 *
 * @since 0.1.0
 * @category getters
 */
export const getAll = (self: RecordHeaders, name: string): ReadonlyArray<Uint8Array | null> =>
  self.filter((header) => header[0] === name).map((header) => header[1])
