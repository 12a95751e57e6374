/**
 * A consumer's conversation with the cluster through @platformatic/kafka: its low-level requests, and no consumer of
 * its own.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Capabilities, ConsumerSession, ConsumerSessionOptions } from "../../KafkaClient.ts"
import type { ClientError } from "../../KafkaError.ts"
import * as Session from "../consumerSession.ts"
import type * as Connection from "./connection.ts"
import * as Classic from "./consumerClassic.ts"
import * as Reconciling from "./consumerReconciling.ts"
import * as Requests from "./consumerRequests.ts"

/**
 * Connects, and joins no group before `subscribe`.
 */
export const open = (
  environment: Connection.Environment,
  capabilities: Capabilities,
  options: ConsumerSessionOptions,
  tuning: Session.Tuning = Session.defaultTuning
): Effect.Effect<ConsumerSession, ClientError, Scope.Scope> =>
  Session.open({
    capabilities,
    options,
    tuning,
    connect: (alive) => Requests.open({ environment, options, alive }),
    member: (requests, membership) =>
      options.groupProtocol === "consumer"
        ? Reconciling.make(requests, options, membership)
        : Classic.make(requests, options, membership)
  })
