/**
 * What the brokers are made with, checked as a whole.
 */
import type * as ConfigError from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import type * as Either from "effect/Either"
import { ConfigProblems, shown } from "../../engine/configProblems.ts"
import { millisOf } from "../../engine/duration.ts"
import type { Options } from "../../InMemoryKafka.ts"
import type * as Cluster from "./Cluster.ts"
import type { Timings } from "./Network.ts"

type Count = "brokers" | "defaultPartitions"
type Time = Exclude<keyof Options, Count | "autoCreateTopics">

export const make = (
  options: Options
): Either.Either<{ readonly cluster: Cluster.Settings; readonly timings: Timings }, ConfigError.ConfigError> => {
  const problems = new ConfigProblems()
  const add = (name: keyof Options, message: string): undefined => problems.add(["InMemoryKafka", name], message)
  const count = (name: Count): number => {
    const value = options[name] ?? 1
    if (!Number.isSafeInteger(value) || value < 1) {
      add(name, `expected a whole number above zero, found ${shown(value)}`)
    }
    return value
  }
  const millis = (name: Time, otherwise: Duration.DurationInput, least: 0 | 1): number => {
    const input = options[name] ?? otherwise
    const out = millisOf(input) ?? -1
    if (out >= least) return out
    add(name, `expected a duration of at least ${least === 0 ? "zero" : "one millisecond"}, found ${shown(input)}`)
    return out
  }
  const cluster: Cluster.Settings = {
    brokers: count("brokers"),
    autoCreateTopics: options.autoCreateTopics ?? false,
    defaultPartitions: count("defaultPartitions"),
    initialRebalanceDelay: millis("initialRebalanceDelay", 0, 0),
    minSessionTimeout: millis("minSessionTimeout", "6 seconds", 0),
    maxSessionTimeout: millis("maxSessionTimeout", "30 minutes", 1),
    offsetsRetention: millis("offsetsRetention", "7 days", 1),
    maxTransactionTimeout: millis("maxTransactionTimeout", "15 minutes", 1)
  }
  const timings: Timings = {
    connectionTimeout: millis("connectionTimeout", "10 seconds", 1),
    metadataRefresh: millis("metadataRefresh", "5 minutes", 1)
  }
  if (cluster.minSessionTimeout > cluster.maxSessionTimeout) {
    add(
      "minSessionTimeout",
      `${cluster.minSessionTimeout} ms is more than maxSessionTimeout (${cluster.maxSessionTimeout} ms): no member could join`
    )
  }
  return problems.orElse(() => ({ cluster, timings }))
}
