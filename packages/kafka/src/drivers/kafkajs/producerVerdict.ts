/**
 * What a failed attempt to produce means. Pure: the rules that keep a record from being lost or stored twice are here.
 */
import { meaning, protocolCode } from "./errors.ts"

/**
 * How an attempt failed. An attempt is one produce request to one broker at most, without any retry of kafkajs's own.
 */
export interface Failure {
  readonly error: unknown
  /** Whether kafkajs came as far as encoding the request: if not, nothing was sent. */
  readonly encoded: boolean
}

/**
 * - `"again"`: it may pass. `perhapsStored` says whether this attempt may have stored records.
 * - `"lost"`: perhaps stored, and trying again would not help.
 * - `"metadata"`: kafkajs could not find out about its topics; nothing was sent.
 * - `"stored"`: the broker has these very records already.
 * - `"refused"`: not stored, and would not be next time.
 * - `"estranged"`: the broker and kafkajs disagree about the producer's sequence: it takes a fresh one. These records
 *   were not stored by this attempt.
 * - `"fenced"`: a newer producer has the transactional id.
 */
export type Verdict =
  | { readonly _tag: "again"; readonly perhapsStored: boolean; readonly soon: boolean }
  | { readonly _tag: "lost" }
  | { readonly _tag: "metadata" }
  | { readonly _tag: "stored" }
  | { readonly _tag: "refused"; readonly tooLarge: boolean }
  | { readonly _tag: "estranged" }
  | { readonly _tag: "fenced" }

/**
 * Codes that may come from the look at the metadata with which kafkajs follows a failed request, in place of what the
 * request itself failed with.
 */
const metadataCodes: ReadonlySet<string> = new Set([
  "UNKNOWN_TOPIC_OR_PARTITION",
  "LEADER_NOT_AVAILABLE",
  "REPLICA_NOT_AVAILABLE",
  "LISTENER_NOT_FOUND",
  "BROKER_NOT_AVAILABLE",
  "TOPIC_AUTHORIZATION_FAILED",
  "CLUSTER_AUTHORIZATION_FAILED",
  "INVALID_TOPIC_EXCEPTION",
  "SASL_AUTHENTICATION_FAILED",
  "ILLEGAL_SASL_STATE",
  "UNSUPPORTED_SASL_MECHANISM",
  "UNSUPPORTED_VERSION",
  "UNKNOWN"
])

const again = (perhapsStored: boolean, soon = false): Verdict => ({ _tag: "again", perhapsStored, soon })
const refused = (tooLarge = false): Verdict => ({ _tag: "refused", tooLarge })

const lost: Verdict = { _tag: "lost" }

/** If not, something broke that breaks again: neither the broker nor the network said no. */
const isKnown = (error: unknown): boolean => {
  const found = meaning(error)
  return found._tag !== "Protocol" || found.code !== "CLIENT_ERROR"
}

/** kafkajs rejects with the broker's error itself when it does not even look at the metadata after it. */
const isBare = (error: unknown): boolean => error instanceof Error && error.name === "KafkaJSProtocolError"

/**
 * The code with which the broker answered the produce request itself, if it surely did.
 */
export const answer = ({ encoded, error }: Failure): string | undefined => {
  const code = protocolCode(error)?.code
  return encoded && code !== undefined && (isBare(error) || !metadataCodes.has(code)) ? code : undefined
}

export const judge = (failure: Failure, transactional: boolean): Verdict => {
  const answered = answer(failure)
  if (answered !== undefined) return judgeAnswer(answered, transactional)
  if (failure.encoded) return isKnown(failure.error) ? again(true) : lost
  return judgeUnsent(failure.error, transactional)
}

/** The broker answered the produce request. */
const judgeAnswer = (code: string, transactional: boolean): Verdict => {
  switch (code) {
    case "DUPLICATE_SEQUENCE_NUMBER":
      return { _tag: "stored" }
    case "MESSAGE_TOO_LARGE":
    case "RECORD_LIST_TOO_LARGE":
      return refused(true)
    case "NOT_LEADER_OR_FOLLOWER":
    case "LEADER_NOT_AVAILABLE":
    case "FENCED_LEADER_EPOCH":
    case "UNKNOWN_LEADER_EPOCH":
    case "UNKNOWN_TOPIC_OR_PARTITION":
    case "REPLICA_NOT_AVAILABLE":
    case "BROKER_NOT_AVAILABLE":
    case "NOT_ENOUGH_REPLICAS":
    case "CORRUPT_MESSAGE":
    case "COORDINATOR_LOAD_IN_PROGRESS":
    case "COORDINATOR_NOT_AVAILABLE":
    case "NOT_COORDINATOR":
    case "THROTTLING_QUOTA_EXCEEDED":
      return again(false)
    case "CONCURRENT_TRANSACTIONS":
      return again(false, true)
    case "OUT_OF_ORDER_SEQUENCE_NUMBER":
    case "UNKNOWN_PRODUCER_ID":
      return { _tag: "estranged" }
    case "INVALID_PRODUCER_ID_MAPPING":
    case "INVALID_PRODUCER_EPOCH":
    case "PRODUCER_FENCED":
      return transactional ? { _tag: "fenced" } : { _tag: "estranged" }
    case "NOT_ENOUGH_REPLICAS_AFTER_APPEND":
    case "REQUEST_TIMED_OUT":
    case "NETWORK_EXCEPTION":
    case "KAFKA_STORAGE_ERROR":
    case "UNKNOWN":
      return again(true)
    default:
      return refused()
  }
}

/** Something before the produce request failed. */
const judgeUnsent = (error: unknown, transactional: boolean): Verdict => {
  const code = protocolCode(error)?.code
  switch (code) {
    case "UNKNOWN_TOPIC_OR_PARTITION":
    case "LEADER_NOT_AVAILABLE":
    case "REPLICA_NOT_AVAILABLE":
    case "TOPIC_AUTHORIZATION_FAILED":
    case "INVALID_TOPIC_EXCEPTION":
      return { _tag: "metadata" }
    case "CONCURRENT_TRANSACTIONS":
      return again(false, true)
    case "INVALID_PRODUCER_ID_MAPPING":
    case "INVALID_PRODUCER_EPOCH":
    case "PRODUCER_FENCED":
      return transactional ? { _tag: "fenced" } : { _tag: "estranged" }
    case undefined:
      break
    default:
      return protocolCode(error)?.retriable === true ? again(false) : refused()
  }
  const found = meaning(error)
  switch (found._tag) {
    case "Authentication":
    case "Authorization":
      return refused()
    case "UnknownTopic":
      return { _tag: "metadata" }
    case "Protocol":
      return found.retriable ? again(false) : refused()
    case "Ours":
      return found.error._tag === "KafkaConnectionError" || found.error._tag === "KafkaTimeoutError"
        ? again(false)
        : refused()
    default:
      return again(false)
  }
}
