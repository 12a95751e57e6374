/**
 * The protocol's error codes, and how a client turns them into typed errors.
 */
import * as Either from "effect/Either"
import type { CommitError as CommitErrorType } from "../../KafkaError.ts"
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
  UNKNOWN_SERVER_ERROR: false,
  OFFSET_OUT_OF_RANGE: false,
  CORRUPT_MESSAGE: true,
  UNKNOWN_TOPIC_OR_PARTITION: true,
  LEADER_NOT_AVAILABLE: true,
  NOT_LEADER_OR_FOLLOWER: true,
  REQUEST_TIMED_OUT: true,
  BROKER_NOT_AVAILABLE: false,
  MESSAGE_TOO_LARGE: false,
  OFFSET_METADATA_TOO_LARGE: false,
  NETWORK_EXCEPTION: true,
  COORDINATOR_LOAD_IN_PROGRESS: true,
  COORDINATOR_NOT_AVAILABLE: true,
  NOT_COORDINATOR: true,
  INVALID_TOPIC_EXCEPTION: false,
  RECORD_LIST_TOO_LARGE: false,
  NOT_ENOUGH_REPLICAS: true,
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: true,
  INVALID_REQUIRED_ACKS: false,
  ILLEGAL_GENERATION: false,
  INCONSISTENT_GROUP_PROTOCOL: false,
  INVALID_GROUP_ID: false,
  UNKNOWN_MEMBER_ID: false,
  INVALID_SESSION_TIMEOUT: false,
  REBALANCE_IN_PROGRESS: false,
  TOPIC_AUTHORIZATION_FAILED: false,
  GROUP_AUTHORIZATION_FAILED: false,
  CLUSTER_AUTHORIZATION_FAILED: false,
  INVALID_TIMESTAMP: false,
  TOPIC_ALREADY_EXISTS: false,
  INVALID_PARTITIONS: false,
  INVALID_REPLICATION_FACTOR: false,
  INVALID_REPLICA_ASSIGNMENT: false,
  INVALID_CONFIG: false,
  NOT_CONTROLLER: true,
  INVALID_REQUEST: false,
  POLICY_VIOLATION: false,
  OUT_OF_ORDER_SEQUENCE_NUMBER: false,
  DUPLICATE_SEQUENCE_NUMBER: false,
  INVALID_PRODUCER_EPOCH: false,
  INVALID_TXN_STATE: false,
  INVALID_PRODUCER_ID_MAPPING: false,
  INVALID_TRANSACTION_TIMEOUT: false,
  CONCURRENT_TRANSACTIONS: true,
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: false,
  NON_EMPTY_GROUP: false,
  GROUP_ID_NOT_FOUND: false,
  GROUP_SUBSCRIBED_TO_TOPIC: false,
  FENCED_INSTANCE_ID: false,
  UNSTABLE_OFFSET_COMMIT: true,
  PRODUCER_FENCED: false,
  INVALID_RECORD: false
} as const

export type Code = keyof typeof retriable

export const isCode = (u: string): u is Code => Object.hasOwn(retriable, u)

export const isRetriable = (code: Code): boolean => retriable[code]

/** The broker's refusal, with what it is about. */
export interface Refusal {
  readonly code: Code
  /** The topic, group, transactional id or setting. */
  readonly name?: string | undefined
  readonly partition?: number | undefined
  readonly reason?: string | undefined
}

export type Reply<A> = Either.Either<A, Refusal>

export const ok: <A>(a: A) => Reply<A> = Either.right
export const done: Reply<void> = Either.void

export const refuse = (code: Code, name?: string, reason?: string): Reply<never> => Either.left({ code, name, reason })

/** Why a request did not succeed, as its sender sees it. */
export type Failure =
  | { readonly _tag: "Refused"; readonly refusal: Refusal }
  /** `sent`: the connection broke after the request was sent, so it may have been carried out. */
  | { readonly _tag: "Disconnected"; readonly sent: boolean; readonly reason: string }
  | { readonly _tag: "TimedOut"; readonly millis: number }

export const refused = (refusal: Refusal): Failure => ({ _tag: "Refused", refusal })

export const canRetry = (failure: Failure): boolean => failure._tag !== "Refused" || isRetriable(failure.refusal.code)

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
          return new KafkaAuthorizationError({ operation, resource: "topic", name })
        case "GROUP_AUTHORIZATION_FAILED":
          return new KafkaAuthorizationError({ operation, resource: "group", name })
        case "TRANSACTIONAL_ID_AUTHORIZATION_FAILED":
          return new KafkaAuthorizationError({ operation, resource: "transactional-id", name })
        case "CLUSTER_AUTHORIZATION_FAILED":
          return new KafkaAuthorizationError({ operation, resource: "cluster", name: "kafka-cluster" })
        default:
          return requestError(operation, failure.refusal.code, reason ?? name)
      }
    }
  }
}

export const requestError = (operation: string, code: Code, reason: string): KafkaRequestError =>
  new KafkaRequestError({ operation, code, retriable: isRetriable(code), reason: reason === "" ? code : reason })

/** What became of a commit. */
export const commitError = (
  brokers: ReadonlyArray<string>,
  partitions: ReadonlyArray<TopicPartition>,
  failure: Failure
): { readonly error: CommitErrorType | ClientError; readonly retriable: boolean } => {
  const refusal = failure._tag === "Refused" ? failure.refusal : undefined
  const because = (reason: CommitErrorType["reason"], retriable: boolean) => ({
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
    case "UNKNOWN_TOPIC_OR_PARTITION":
    case "OFFSET_METADATA_TOO_LARGE":
      return because("refused", false)
  }
  const error = clientError("commit", brokers, failure)
  return error._tag === "UnknownTopicError" ? because("refused", false) : { error, retriable: canRetry(failure) }
}
