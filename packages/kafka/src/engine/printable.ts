/**
 * A value as JSON can hold it, for logs: bigints as text, bytes by their size alone, everything else as `JSON.stringify`
 * has it. Never throws, whatever a user's value is.
 */
export const printable = (value: unknown): unknown => print(value, new Set())

const print = (value: unknown, within: Set<unknown>): unknown => {
  if (typeof value === "bigint") return String(value)
  if (typeof value !== "object" || value === null) return value
  if (value instanceof Uint8Array) return `${value.length} ${value.length === 1 ? "byte" : "bytes"}`
  if (within.has(value)) return "<circular>"
  within.add(value)
  try {
    if ("toJSON" in value && typeof value.toJSON === "function") return print(value.toJSON(), within)
    if (Array.isArray(value)) return value.map((one) => print(one, within))
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, print(one, within)]))
  } catch (error) {
    return `<unprintable: ${String(error)}>`
  } finally {
    within.delete(value)
  }
}
