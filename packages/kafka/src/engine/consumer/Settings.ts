/**
 * What a consumer is made with, checked as a whole: contradictions are refused with all their reasons at once.
 */
import type * as ConfigError from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import type * as Either from "effect/Either"
import type { Capabilities } from "../../KafkaClient.ts"
import { ConfigProblems, nameProblem, shown } from "../configProblems.ts"
import { millisOf } from "../duration.ts"
import type { Bounds } from "./FetchPlanner.ts"

export interface Options {
  /** The consumer group. */
  readonly groupId: string
  /** Where a partition without a committed offset starts. `"earliest"` by default: a first start loses nothing. */
  readonly autoOffsetReset?: "earliest" | "latest" | "fail" | undefined
  /** Whether records of open or aborted transactions are seen. `"read_committed"` by default. */
  readonly isolationLevel?: "read_committed" | "read_uncommitted" | undefined
  /** A name that survives restarts, for static membership. Refused where the driver has none. */
  readonly groupInstanceId?: string | undefined
  /** How the group moves partitions. `"cooperative"` by default where the driver can, else `"eager"`. */
  readonly rebalanceProtocol?: "eager" | "cooperative" | undefined
  /**
   * How members find out who reads what: among themselves, or from the coordinator, which moves partitions without
   * stopping anybody (KIP-848). All members of a group use the same. `"classic"` by default.
   */
  readonly groupProtocol?: "classic" | "consumer" | undefined
  /** Whether a rebalance waits for records in hand. `true` by default. */
  readonly rebalanceGate?: boolean | undefined
  /** How long a rebalance waits for records in hand at most. 30 seconds by default; below `rebalanceTimeout`. */
  readonly revokeTimeout?: Duration.DurationInput | undefined
  /** How long the group waits for its members to rejoin. 60 seconds by default. */
  readonly rebalanceTimeout?: Duration.DurationInput | undefined
  /** After how long without a heartbeat the group gives a member up. 30 seconds by default. */
  readonly sessionTimeout?: Duration.DurationInput | undefined
  /** 3 seconds by default; at most a third of `sessionTimeout`. */
  readonly heartbeatInterval?: Duration.DurationInput | undefined
  /**
   * How long a commit is tried. 15 seconds by default. Where nobody waits for it, as with `commitWithin` and `forEach`,
   * it is then tried again, until `unavailableAfter`.
   */
  readonly commitTimeout?: Duration.DurationInput | undefined
  /** How long `stop` and the closing of the scope wait for records in hand. 30 seconds by default. */
  readonly stopTimeout?: Duration.DurationInput | undefined
  /** How long the cluster may be out of reach before every stream fails. 5 minutes by default. */
  readonly unavailableAfter?: Duration.DurationInput | undefined
  /** After how long a stream that has records and is not pulled counts as stalled. 5 minutes by default. */
  readonly stalledAfter?: Duration.DurationInput | undefined
  /** Most records handed out at once. 500 by default. */
  readonly maxPollRecords?: number | undefined
  readonly fetch?: {
    /** Most bytes of one partition in one response. 4 MiB by default. */
    readonly maxBytesPerPartition?: number | undefined
    /** Most bytes of one response. 32 MiB by default. */
    readonly maxBytes?: number | undefined
    /** The broker waits for so many bytes, up to `maxWait`. 1 by default. */
    readonly minBytes?: number | undefined
    /** How long the broker may hold a fetch that has nothing to return. 200 milliseconds by default. */
    readonly maxWait?: Duration.DurationInput | undefined
  } | undefined
  readonly prefetch?: {
    /** Bytes buffered for one partition. 8 MiB by default; at least `fetch.maxBytesPerPartition`. */
    readonly partitionBytes?: number | undefined
    /** Records buffered for one partition. 100,000 by default. */
    readonly partitionRecords?: number | undefined
    /** Bytes buffered for all partitions. 64 MiB by default. */
    readonly totalBytes?: number | undefined
    /** Records buffered for all partitions. 1,000,000 by default. */
    readonly totalRecords?: number | undefined
  } | undefined
}

/** All of it, durations in milliseconds. */
export interface Settings {
  readonly groupId: string
  readonly autoOffsetReset: "earliest" | "latest" | "fail"
  readonly isolationLevel: "read_committed" | "read_uncommitted"
  readonly groupInstanceId: string | undefined
  readonly rebalanceProtocol: "eager" | "cooperative"
  readonly groupProtocol: "classic" | "consumer"
  readonly rebalanceGate: boolean
  readonly revokeTimeout: number
  readonly rebalanceTimeout: number
  readonly sessionTimeout: number
  readonly heartbeatInterval: number
  readonly commitTimeout: number
  readonly stopTimeout: number
  readonly unavailableAfter: number
  readonly stalledAfter: number
  readonly maxPollRecords: number
  readonly fetchMaxBytesPerPartition: number
  readonly fetchMaxBytes: number
  readonly fetchMinBytes: number
  readonly fetchMaxWait: number
  readonly prefetch: Bounds
}

const MiB = 1024 * 1024

/** Longer than timers go. */
const longest = 0x7fffffff

export const make = (
  options: Options,
  capabilities: Capabilities
): Either.Either<Settings, ConfigError.ConfigError> => {
  const problems = new ConfigProblems()
  const add = (name: string, message: string): undefined => problems.add(["Consumer", ...name.split(".")], message)
  const refuse = (name: string, ok: boolean, reason: string): void => {
    if (!ok) add(name, reason)
  }
  const millis = (name: string, input: Duration.DurationInput | undefined, fallback: number): number => {
    if (input === undefined) return fallback
    const out = millisOf(input) ?? 0
    if (out > 0 && out <= longest) return out
    add(
      name,
      `expected a duration above zero of at most 24 days, such as "30 seconds", found ${shown(input)}`
    )
    return fallback
  }
  const count = (name: string, value: number | undefined, fallback: number): number => {
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) return value ?? fallback
    add(name, `expected a whole number above zero, found ${shown(value)}`)
    return fallback
  }
  const oneOf = <A>(name: string, value: A | undefined, allowed: ReadonlyArray<A>, fallback: A): A => {
    if (value === undefined || allowed.includes(value)) return value ?? fallback
    const list = allowed.map((one) => JSON.stringify(one)).join(", ")
    add(name, `expected one of ${list}, found ${shown(value)}`)
    return fallback
  }

  const fetchMaxBytesPerPartition = count("fetch.maxBytesPerPartition", options.fetch?.maxBytesPerPartition, 4 * MiB)
  const rebalanceTimeout = millis("rebalanceTimeout", options.rebalanceTimeout, 60_000)
  const sessionTimeout = millis("sessionTimeout", options.sessionTimeout, 30_000)
  const settings: Settings = {
    groupId: options.groupId,
    autoOffsetReset: oneOf(
      "autoOffsetReset",
      options.autoOffsetReset,
      ["earliest", "latest", "fail"],
      "earliest"
    ),
    isolationLevel: oneOf(
      "isolationLevel",
      options.isolationLevel,
      ["read_committed", "read_uncommitted"],
      "read_committed"
    ),
    groupInstanceId: options.groupInstanceId,
    rebalanceProtocol: oneOf(
      "rebalanceProtocol",
      options.rebalanceProtocol,
      ["eager", "cooperative"],
      capabilities.cooperative ? "cooperative" : "eager"
    ),
    groupProtocol: oneOf("groupProtocol", options.groupProtocol, ["classic", "consumer"], "classic"),
    rebalanceGate: oneOf("rebalanceGate", options.rebalanceGate, [true, false], true),
    rebalanceTimeout,
    revokeTimeout: millis("revokeTimeout", options.revokeTimeout, Math.floor(rebalanceTimeout / 2)),
    sessionTimeout,
    heartbeatInterval: millis(
      "heartbeatInterval",
      options.heartbeatInterval,
      Math.min(3000, Math.floor(sessionTimeout / 3))
    ),
    commitTimeout: millis("commitTimeout", options.commitTimeout, 15_000),
    stopTimeout: millis("stopTimeout", options.stopTimeout, 30_000),
    unavailableAfter: millis("unavailableAfter", options.unavailableAfter, 300_000),
    stalledAfter: millis("stalledAfter", options.stalledAfter, 300_000),
    maxPollRecords: count("maxPollRecords", options.maxPollRecords, 500),
    fetchMaxBytesPerPartition,
    fetchMaxBytes: count("fetch.maxBytes", options.fetch?.maxBytes, Math.max(32 * MiB, fetchMaxBytesPerPartition)),
    fetchMinBytes: count("fetch.minBytes", options.fetch?.minBytes, 1),
    fetchMaxWait: millis("fetch.maxWait", options.fetch?.maxWait, 200),
    prefetch: {
      partitionBytes: count("prefetch.partitionBytes", options.prefetch?.partitionBytes, 2 * fetchMaxBytesPerPartition),
      partitionRecords: count("prefetch.partitionRecords", options.prefetch?.partitionRecords, 100_000),
      totalBytes: count(
        "prefetch.totalBytes",
        options.prefetch?.totalBytes,
        Math.max(64 * MiB, 2 * fetchMaxBytesPerPartition)
      ),
      totalRecords: count("prefetch.totalRecords", options.prefetch?.totalRecords, 1_000_000)
    }
  }

  for (const name of ["groupId", "groupInstanceId"] as const) {
    const value = settings[name]
    const problem = value === undefined ? undefined : nameProblem(value)
    if (problem !== undefined) add(name, problem)
  }
  refuse(
    "heartbeatInterval",
    settings.heartbeatInterval * 3 <= settings.sessionTimeout,
    `${settings.heartbeatInterval} ms is more than a third of sessionTimeout (${settings.sessionTimeout} ms): two lost heartbeats would end the session`
  )
  refuse(
    "revokeTimeout",
    !settings.rebalanceGate || settings.revokeTimeout < settings.rebalanceTimeout,
    `${settings.revokeTimeout} ms is not below rebalanceTimeout (${settings.rebalanceTimeout} ms): the group would give this member up while it waits`
  )
  refuse(
    "commitTimeout",
    settings.commitTimeout < settings.rebalanceTimeout,
    `${settings.commitTimeout} ms is not below rebalanceTimeout (${settings.rebalanceTimeout} ms): a commit could outlast the rebalance it belongs to`
  )
  refuse(
    "commitTimeout",
    settings.commitTimeout > settings.fetchMaxWait,
    `${settings.commitTimeout} ms is not above fetch.maxWait (${settings.fetchMaxWait} ms): commits would time out behind one quiet fetch`
  )
  refuse(
    "unavailableAfter",
    settings.unavailableAfter > settings.fetchMaxWait,
    `${settings.unavailableAfter} ms is not above fetch.maxWait (${settings.fetchMaxWait} ms): a quiet topic would count as an outage`
  )
  refuse(
    "prefetch.partitionBytes",
    settings.prefetch.partitionBytes >= settings.fetchMaxBytesPerPartition,
    `${settings.prefetch.partitionBytes} is below fetch.maxBytesPerPartition (${settings.fetchMaxBytesPerPartition}): one fetch would not fit`
  )
  refuse(
    "prefetch.totalBytes",
    settings.prefetch.totalBytes >= settings.prefetch.partitionBytes,
    `${settings.prefetch.totalBytes} is below prefetch.partitionBytes (${settings.prefetch.partitionBytes})`
  )
  refuse(
    "fetch.maxBytes",
    settings.fetchMaxBytes >= settings.fetchMaxBytesPerPartition,
    `${settings.fetchMaxBytes} is below fetch.maxBytesPerPartition (${settings.fetchMaxBytesPerPartition})`
  )
  refuse(
    "rebalanceProtocol",
    settings.rebalanceProtocol === "eager" || capabilities.cooperative,
    "this driver has no incremental rebalancing: use \"eager\""
  )
  refuse(
    "groupProtocol",
    settings.groupProtocol === "classic" || capabilities.consumerProtocol,
    "this driver has no groups of KIP-848: use \"classic\""
  )
  refuse(
    "rebalanceProtocol",
    settings.groupProtocol === "classic" || settings.rebalanceProtocol === "cooperative",
    "groups of KIP-848 are never eager: leave it out"
  )
  refuse(
    "groupInstanceId",
    settings.groupInstanceId === undefined || capabilities.staticMembership,
    "this driver has no static membership: leave it out"
  )
  return problems.orElse(() => settings)
}
