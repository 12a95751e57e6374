/**
 * The protocol's error codes, and how a client turns them into typed errors.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import {
  type ClientError,
  CommitError,
  KafkaAuthorizationError,
  KafkaConnectionError,
  KafkaRequestError,
  KafkaTimeoutError,
  UnknownTopicError
} from "../../KafkaError.ts"
import type { TopicPartition } from "../../TopicPartition.ts"

/** The protocol's names of its errors, with whether a client may send the same request again. */
const retriable = {
  CLUSTER_AUTHORIZATION_FAILED: false,
  CONCURRENT_TRANSACTIONS: true,
  COORDINATOR_LOAD_IN_PROGRESS: true,
  COORDINATOR_NOT_AVAILABLE: true,
  CORRUPT_MESSAGE: true,
  FENCED_INSTANCE_ID: false,
  GROUP_AUTHORIZATION_FAILED: false,
  GROUP_ID_NOT_FOUND: false,
  ILLEGAL_GENERATION: false,
  INCONSISTENT_GROUP_PROTOCOL: false,
  INVALID_CONFIG: false,
  INVALID_GROUP_ID: false,
  INVALID_PARTITIONS: false,
  INVALID_PRODUCER_EPOCH: false,
  INVALID_PRODUCER_ID_MAPPING: false,
  INVALID_RECORD: false,
  INVALID_REPLICATION_FACTOR: false,
  INVALID_REQUEST: false,
  INVALID_SESSION_TIMEOUT: false,
  INVALID_TIMESTAMP: false,
  INVALID_TOPIC_EXCEPTION: false,
  INVALID_TRANSACTION_TIMEOUT: false,
  INVALID_TXN_STATE: false,
  LEADER_NOT_AVAILABLE: true,
  MESSAGE_TOO_LARGE: false,
  NON_EMPTY_GROUP: false,
  NOT_CONTROLLER: true,
  NOT_COORDINATOR: true,
  NOT_ENOUGH_REPLICAS: true,
  NOT_LEADER_OR_FOLLOWER: true,
  OFFSET_METADATA_TOO_LARGE: false,
  OFFSET_OUT_OF_RANGE: false,
  OUT_OF_ORDER_SEQUENCE_NUMBER: false,
  POLICY_VIOLATION: false,
  PRODUCER_FENCED: false,
  REBALANCE_IN_PROGRESS: false,
  REQUEST_TIMED_OUT: true,
  TOPIC_ALREADY_EXISTS: false,
  TOPIC_AUTHORIZATION_FAILED: false,
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: false,
  UNKNOWN_MEMBER_ID: false,
  UNKNOWN_SERVER_ERROR: false,
  UNKNOWN_TOPIC_OR_PARTITION: true,
  UNSTABLE_OFFSET_COMMIT: true
} as const

export type Code = keyof typeof retriable

export const isRetriable = (code: Code): boolean => retriable[code]

/** The broker's refusal, with what it is about. */
export interface Refusal {
  readonly code: Code
  /** The topic, group or transactional id. */
  readonly name?: string | undefined
  readonly partition?: number | undefined
  readonly reason?: string | undefined
}

/** What a broker answers. */
export type Reply<A> = Either.Either<A, Refusal>

export const ok: <A>(a: A) => Reply<A> = Either.right

export const done: Reply<void> = Either.void

export const refuse = (code: Code, name?: string, reason?: string): Reply<never> => Either.left({ code, name, reason })

/** Why a request did not succeed, as its sender sees it. */
export type Failure =
  | { readonly _tag: "Refused"; readonly refusal: Refusal }
  /** `sent`: the connection broke after the request was sent, so that it may have been carried out. */
  | { readonly _tag: "Disconnected"; readonly sent: boolean; readonly reason: string }
  | { readonly _tag: "TimedOut"; readonly millis: number }

export const refused = (refusal: Refusal): Failure => ({ _tag: "Refused", refusal })

/** Whether the same request may succeed later. Clients do not wait for a topic to come into being. */
export const canRetry = (failure: Failure): boolean =>
  failure._tag !== "Refused" ||
  (isRetriable(failure.refusal.code) && failure.refusal.code !== "UNKNOWN_TOPIC_OR_PARTITION")

/** The typed error of a failed request. */
export const clientError = (
  operation: string,
  brokers: ReadonlyArray<string>,
  failure: Failure
): ClientError | UnknownTopicError => {
  switch (failure._tag) {
    case "Disconnected":
      return new KafkaConnectionError({ operation, brokers: [...brokers], reason: failure.reason })
    case "TimedOut":
      return new KafkaTimeoutError({ operation, millis: failure.millis })
    case "Refused": {
      const { code, name = "", partition, reason } = failure.refusal
      switch (code) {
        case "UNKNOWN_TOPIC_OR_PARTITION":
          return new UnknownTopicError({ operation, topic: name, ...(partition === undefined ? {} : { partition }) })
        case "TOPIC_AUTHORIZATION_FAILED":
          return new KafkaAuthorizationError({ operation, resource: "topic", resourceName: name })
        case "GROUP_AUTHORIZATION_FAILED":
          return new KafkaAuthorizationError({ operation, resource: "group", resourceName: name })
        case "TRANSACTIONAL_ID_AUTHORIZATION_FAILED":
          return new KafkaAuthorizationError({ operation, resource: "transactional-id", resourceName: name })
        case "CLUSTER_AUTHORIZATION_FAILED":
          return new KafkaAuthorizationError({ operation, resource: "cluster", resourceName: name })
        default:
          return new KafkaRequestError({ operation, code, retriable: isRetriable(code), reason: reason ?? name })
      }
    }
  }
}

/** For requests that name no topic, and so can not be refused for one. */
export const aboutNoTopic = <A>(
  request: Effect.Effect<A, ClientError | UnknownTopicError>
): Effect.Effect<A, ClientError> => Effect.catchTag(request, "UnknownTopicError", Effect.die)

/** What became of a commit. */
export const commitError = (
  brokers: ReadonlyArray<string>,
  partitions: ReadonlyArray<TopicPartition>,
  failure: Failure
): { readonly error: CommitError | ClientError; readonly retriable: boolean } => {
  const refusal = failure._tag === "Refused" ? failure.refusal : undefined
  const because = (reason: CommitError["reason"], retriable: boolean) => ({
    error: new CommitError({
      reason,
      partitions: partitions.map(({ partition, topic }) => ({ topic, partition })),
      ...(refusal === undefined ? {} : { code: refusal.code }),
      ...(refusal?.reason === undefined ? {} : { description: refusal.reason })
    }),
    retriable
  })
  switch (refusal?.code) {
    case "ILLEGAL_GENERATION":
      return because("stale", false)
    case "UNKNOWN_MEMBER_ID":
    case "FENCED_INSTANCE_ID":
      return because("fenced", false)
    case "REBALANCE_IN_PROGRESS":
      return because("rebalancing", true)
    case "OFFSET_METADATA_TOO_LARGE":
      return because("refused", false)
  }
  const error = clientError("commit", brokers, failure)
  return error._tag === "UnknownTopicError"
    ? because("refused", false)
    : { error, retriable: canRetry(failure) }
}
