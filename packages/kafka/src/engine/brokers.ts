/** The list of brokers: `host:port`, separated by commas, IPv6 addresses in brackets. */
import { isIPv6 } from "node:net"

/**
 * The brokers in their normal form and without repetitions, and what is wrong, one sentence for each bad entry.
 */
export interface Parsed {
  readonly brokers: ReadonlyArray<string>
  readonly problems: ReadonlyArray<string>
}

const hostPattern = /^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,253}[a-zA-Z0-9_.])?$/

/** A user and a password in front of a host, as in a URL, are not shown. */
const shown = (entry: string): string => JSON.stringify(entry.replace(/^.*@/, "<redacted>@").slice(0, 300))

const problemOf = (entry: string): string | undefined => {
  if (entry === "") return `expected host:port between the commas, found nothing`
  if (entry.includes("://")) return `expected host:port without a protocol before it, found ${shown(entry)}`
  const { host, port } = split(entry)
  if (port === undefined) {
    return isIPv6(entry)
      ? `expected brackets around an IPv6 address and a port after it, as in "[::1]:9092", found ${shown(entry)}`
      : `expected host:port, as in "kafka-1:9092", found ${shown(entry)} without a port`
  }
  if (entry.startsWith("[") ? !isIPv6(host) : !hostPattern.test(host)) {
    return `expected host:port with a host name or an address, found ${shown(entry)}`
  }
  return /^[0-9]{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65535
    ? undefined
    : `expected a port from 1 to 65535, found ${shown(entry)}`
}

/** The host without its brackets, and the port as it is written. */
const split = (entry: string): { readonly host: string; readonly port: string | undefined } => {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(entry)
  if (bracketed !== null) return { host: bracketed[1]!, port: bracketed[2] }
  const colon = entry.indexOf(":")
  if (colon === -1 || isIPv6(entry)) return { host: entry, port: undefined }
  return { host: entry.slice(0, colon), port: entry.slice(colon + 1) }
}

/** `undefined` is what a variable that is not set gives to a program in JavaScript. */
export const parseBrokers = (input: string | ReadonlyArray<string> | undefined): Parsed => {
  const entries = (typeof input === "string" ? input : (input ?? []).join(",")).split(",").map((entry) => entry.trim())
  if (entries.every((entry) => entry === "")) {
    return { brokers: [], problems: [`expected at least one host:port, as in "kafka-1:9092", found none`] }
  }
  const problems = entries.map(problemOf).filter((problem) => problem !== undefined)
  return {
    problems,
    brokers: problems.length > 0 ? [] : [
      ...new Set(entries.map((entry) => {
        const { host, port } = split(entry)
        return `${entry.startsWith("[") ? `[${host}]` : host}:${Number(port)}`
      }))
    ]
  }
}

/** Of a broker in its normal form. An IPv6 address comes without its brackets, as `net.connect` wants it. */
export const hostAndPort = (broker: string): { readonly host: string; readonly port: number } => {
  const { host, port } = split(broker)
  return { host, port: Number(port) }
}
