/**
 * A consumer's conversation with the cluster through kafkajs.
 *
 * kafkajs's consumer loop can not keep the promises of the contract: it rejoins while records are in hand, resets
 * positions in silence, and commits for generations it is no longer part of. So it is used as a member of the group
 * and for nothing else; fetching and commits are requests of ours to the brokers it knows.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Capabilities, ConsumerSession, ConsumerSessionOptions } from "../../KafkaClient.ts"
import { type ClientError, UnsupportedFeatureError } from "../../KafkaError.ts"
import * as Session from "../consumerSession.ts"
import type * as Connection from "./connection.ts"
import * as Requests from "./consumerCluster.ts"
import * as Group from "./consumerGroup.ts"

/**
 * Connects, and joins no group before `subscribe`.
 */
export const open = (
  environment: Connection.Environment,
  capabilities: Capabilities,
  options: ConsumerSessionOptions,
  tuning: Session.Tuning = Session.defaultTuning
): Effect.Effect<ConsumerSession, ClientError | UnsupportedFeatureError, Scope.Scope> =>
  Effect.zipRight(
    refuseUnsupported(options),
    Session.open({
      capabilities,
      options,
      tuning,
      connect: (alive) => Requests.open({ environment, options, alive }),
      member: (requests, { alive, holding, silence }) =>
        Group.Group.make({
          environment,
          options,
          alive,
          callbacks: holding,
          leave: (memberId) =>
            Effect.suspend(() => silence() < reachableWithin ? Effect.ignore(requests.leave(memberId)) : Effect.void),
          allowedSessionTimeouts: requests.allowedSessionTimeouts
        })
    })
  )

/** A cluster that was heard so lately is told goodbye, in milliseconds. */
const reachableWithin = 5000

const refuseUnsupported = (options: ConsumerSessionOptions): Effect.Effect<void, UnsupportedFeatureError> => {
  const refuse = (feature: string, reason: string) =>
    Effect.fail(new UnsupportedFeatureError({ driver: "kafkajs", feature, reason }))
  if (options.groupInstanceId !== undefined) {
    return refuse("static membership", "kafkajs has no group instance ids: leave the instance id out")
  }
  if (options.assignment === "cooperative") {
    return refuse("cooperative rebalancing", "kafkajs revokes all partitions at each rebalance: use \"eager\"")
  }
  return Effect.void
}
