/**
 * What a consumer is made with, checked as a whole: contradictions are refused with all their reasons at once.
 */
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import type { Capabilities } from "../../KafkaClient.ts"
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

const millis = (input: Duration.DurationInput | undefined, fallback: number): number =>
  input === undefined ? fallback : Duration.toMillis(input)

export const make = (
  options: Options,
  capabilities: Capabilities
): Either.Either<Settings, ConfigError.ConfigError> => {
  const fetchMaxBytesPerPartition = options.fetch?.maxBytesPerPartition ?? 4 * MiB
  const rebalanceTimeout = millis(options.rebalanceTimeout, 60_000)
  const sessionTimeout = millis(options.sessionTimeout, 30_000)
  const settings: Settings = {
    groupId: options.groupId,
    autoOffsetReset: options.autoOffsetReset ?? "earliest",
    isolationLevel: options.isolationLevel ?? "read_committed",
    groupInstanceId: options.groupInstanceId,
    rebalanceProtocol: options.rebalanceProtocol ?? (capabilities.cooperative ? "cooperative" : "eager"),
    groupProtocol: options.groupProtocol ?? "classic",
    rebalanceGate: options.rebalanceGate ?? true,
    rebalanceTimeout,
    revokeTimeout: millis(options.revokeTimeout, Math.floor(rebalanceTimeout / 2)),
    sessionTimeout,
    heartbeatInterval: millis(options.heartbeatInterval, Math.min(3000, Math.floor(sessionTimeout / 3))),
    commitTimeout: millis(options.commitTimeout, 15_000),
    stopTimeout: millis(options.stopTimeout, 30_000),
    unavailableAfter: millis(options.unavailableAfter, 300_000),
    stalledAfter: millis(options.stalledAfter, 300_000),
    maxPollRecords: options.maxPollRecords ?? 500,
    fetchMaxBytesPerPartition,
    fetchMaxBytes: options.fetch?.maxBytes ?? Math.max(32 * MiB, fetchMaxBytesPerPartition),
    fetchMinBytes: options.fetch?.minBytes ?? 1,
    fetchMaxWait: millis(options.fetch?.maxWait, 200),
    prefetch: {
      partitionBytes: options.prefetch?.partitionBytes ?? 2 * fetchMaxBytesPerPartition,
      partitionRecords: options.prefetch?.partitionRecords ?? 100_000,
      totalBytes: options.prefetch?.totalBytes ?? Math.max(64 * MiB, 2 * fetchMaxBytesPerPartition),
      totalRecords: options.prefetch?.totalRecords ?? 1_000_000
    }
  }
  const problems: Array<ConfigError.ConfigError> = []
  const refuse = (name: string, ok: boolean, reason: string): void => {
    if (!ok) problems.push(ConfigError.InvalidData(["Consumer", ...name.split(".")], reason))
  }
  const positive = (name: string, value: number, integer = false): void =>
    refuse(
      name,
      Number.isFinite(value) && value > 0 && (!integer || Number.isInteger(value)),
      `${value} must be ${integer ? "a whole number" : "a finite number"} above zero`
    )

  refuse("groupId", settings.groupId.length > 0, "must not be empty")
  positive("revokeTimeout", settings.revokeTimeout)
  positive("rebalanceTimeout", settings.rebalanceTimeout)
  positive("sessionTimeout", settings.sessionTimeout)
  positive("heartbeatInterval", settings.heartbeatInterval)
  positive("commitTimeout", settings.commitTimeout)
  positive("stopTimeout", settings.stopTimeout)
  positive("unavailableAfter", settings.unavailableAfter)
  positive("stalledAfter", settings.stalledAfter)
  positive("fetch.maxWait", settings.fetchMaxWait)
  positive("maxPollRecords", settings.maxPollRecords, true)
  positive("fetch.maxBytesPerPartition", settings.fetchMaxBytesPerPartition, true)
  positive("fetch.maxBytes", settings.fetchMaxBytes, true)
  positive("fetch.minBytes", settings.fetchMinBytes, true)
  positive("prefetch.partitionRecords", settings.prefetch.partitionRecords, true)
  positive("prefetch.totalRecords", settings.prefetch.totalRecords, true)
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
  const [first, ...rest] = problems
  return first === undefined ? Either.right(settings) : Either.left(rest.reduce(ConfigError.And, first))
}
