/**
 * kafkajs's errors as ours.
 */
import * as KafkaError from "../../KafkaError.ts"
import {
  type Attempt,
  chain,
  firstMeaning,
  fromProtocol,
  fromSocket,
  type Meaning,
  type ProtocolCode,
  read,
  saslProblem,
  text,
  typed,
  type TypedError
} from "../errors.ts"

export {
  type Attempt,
  DriverError,
  type Meaning,
  type ProtocolCode,
  scrub,
  withoutFencing,
  withoutTopic
} from "../errors.ts"

/** kafkajs names the codes it knows; these came after it. */
const laterCodes: Readonly<Record<string, readonly [code: string, reason: string, retriable: boolean]>> = {
  "89": ["THROTTLING_QUOTA_EXCEEDED", "the quota of this client is used up", true],
  "90": ["PRODUCER_FENCED", "a newer producer took over the transactional id", false],
  "91": ["RESOURCE_NOT_FOUND", "what the request refers to was not found", false],
  "92": ["DUPLICATE_RESOURCE", "the request names something twice", false],
  "93": ["UNACCEPTABLE_CREDENTIAL", "the credential does not meet the requirements", false],
  "100": ["UNKNOWN_TOPIC_ID", "this broker does not host this topic id", true],
  "110": ["FENCED_MEMBER_EPOCH", "the group gave this member's place away", false],
  "120": ["TRANSACTION_ABORTABLE", "the transaction has to be aborted", false]
}

/** kafkajs has older names for these. */
const newerNames: Readonly<Record<string, string>> = {
  GROUP_LOAD_IN_PROGRESS: "COORDINATOR_LOAD_IN_PROGRESS",
  GROUP_COORDINATOR_NOT_AVAILABLE: "COORDINATOR_NOT_AVAILABLE",
  NOT_COORDINATOR_FOR_GROUP: "NOT_COORDINATOR",
  NOT_LEADER_FOR_PARTITION: "NOT_LEADER_OR_FOLLOWER"
}

const protocolCodeOf = (error: unknown): ProtocolCode | undefined => {
  const type = text(read(error, "type"))
  if (type === undefined || !/^[A-Z0-9_]+$/.test(type)) return undefined
  const message = text(read(error, "message")) ?? type
  const unknown = type === "KAFKAJS_UNKNOWN_ERROR_CODE" ? /(-?\d+)\s*$/.exec(message)?.[1] : undefined
  if (unknown !== undefined) {
    const later = Object.hasOwn(laterCodes, unknown) ? laterCodes[unknown] : undefined
    return later === undefined
      ? { code: `CODE_${unknown}`, reason: `an error this client does not know, code ${unknown}`, retriable: false }
      : { code: later[0], reason: later[1], retriable: later[2] }
  }
  return {
    code: (Object.hasOwn(newerNames, type) ? newerNames[type] : undefined) ?? type,
    // the broker's own words, where there are some
    reason: text(read(error, "errorMessage")) ?? message,
    retriable: read(error, "retriable") === true
  }
}

/**
 * The broker's answer, if one is anywhere in the error.
 */
export const protocolCode = (error: unknown): ProtocolCode | undefined => {
  for (const one of chain(error)) {
    const code = protocolCodeOf(one)
    if (code !== undefined) return code
  }
  return undefined
}

const meaningOf = (error: unknown): Meaning | undefined => {
  if (KafkaError.isKafkaError(error)) return { _tag: "Ours", error }
  const name = text(read(error, "name"))
  const message = text(read(error, "message")) ?? ""
  if (name === "KafkaJSSASLAuthenticationError") {
    return { _tag: "Authentication", mechanism: undefined, ...saslProblem(message) }
  }
  const protocol = protocolCodeOf(error)
  if (protocol !== undefined) return fromProtocol(protocol)
  const code = text(read(error, "code"))
  const socket = code === undefined ? undefined : fromSocket(code)
  if (socket !== undefined) return socket
  switch (name) {
    case "KafkaJSRequestTimeoutError":
      return { _tag: "Timeout" }
    case "KafkaJSConnectionClosedError":
      return {
        _tag: "Connection",
        reason: "the broker closed the connection: check that the security protocol is that of the listener"
      }
    case "KafkaJSConnectionError":
      return {
        _tag: "Connection",
        reason: /timeout/i.test(message)
          ? "no answer: check the address, the port, any firewall between, and the security protocol"
          : "the connection broke"
      }
    case "KafkaJSBrokerNotFound":
    case "KafkaJSNoBrokerAvailableError":
    case "KafkaJSLockTimeout":
      return { _tag: "Connection", reason: "no broker that could answer is reachable" }
    case "KafkaJSGroupCoordinatorNotFound":
      return {
        _tag: "Protocol",
        code: "COORDINATOR_NOT_AVAILABLE",
        reason: "the coordinator was not found",
        retriable: true
      }
    case "KafkaJSMetadataNotLoaded":
    case "KafkaJSTopicMetadataNotLoaded":
      return { _tag: "UnknownTopic" }
    default:
      return undefined
  }
}

/**
 * What an error means: the first meaning found in it, from the outside inwards.
 */
export const meaning = (error: unknown): Meaning => firstMeaning(error, meaningOf)

/**
 * What was thrown, as the error of a request to the cluster.
 */
export const clientError = (error: unknown, attempt: Attempt): TypedError => typed(error, meaning(error), attempt)
