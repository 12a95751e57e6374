/**
 * @platformatic/kafka's errors as ours.
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
  type TypedError,
  withoutFencing,
  withoutTopic
} from "../errors.ts"

// ---------------------------------------------------------------------------------------------------------------------
// answers of the broker
// ---------------------------------------------------------------------------------------------------------------------

/**
 * An error code inside of an answer, as the library would throw it.
 */
export class AnsweredError extends Error {
  override readonly name = "AnsweredError"
  readonly code: string
  readonly retriable: boolean
  constructor(code: string, reason: string, retriable: boolean) {
    super(reason)
    this.code = code
    this.retriable = retriable
  }
  /** What the broker said. */
  get reason(): string {
    return this.message
  }
}

const protocolCodeOf = (error: unknown): ProtocolCode | undefined => {
  if (error instanceof AnsweredError) {
    return { code: error.code, reason: error.message, retriable: error.retriable }
  }
  const code = text(read(error, "apiId"))
  if (code === undefined) return undefined
  return {
    code,
    // the broker's own words, where there are some
    reason: text(read(error, "serverErrorMessage")) ?? text(read(error, "message")) ?? code,
    retriable: read(error, "canRetry") === true
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

// ---------------------------------------------------------------------------------------------------------------------
// what it means
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What we say ourselves about a connection, so that it is recognised.
 */
export class ConnectionProblem extends Error {
  override readonly name = "ConnectionProblem"
  /** Whether a request was on its way, and may have been done. */
  readonly timedOut: boolean
  constructor(reason: string, options: { readonly timedOut?: boolean; readonly cause?: unknown } = {}) {
    super(reason, options.cause === undefined ? {} : { cause: options.cause })
    this.timedOut = options.timedOut === true
  }
}

/**
 * An answer, or a version of the protocol, that makes no sense to us.
 */
export class Misunderstood extends Error {
  override readonly name = "Misunderstood"
  readonly code: "MALFORMED_RESPONSE" | "UNSUPPORTED_VERSION"
  constructor(code: Misunderstood["code"], reason: string, cause?: unknown) {
    super(reason, cause === undefined ? {} : { cause })
    this.code = code
  }
}

const closed = "the broker closed the connection: check that the security protocol is that of the listener"
const silent = "no answer: check the address, the port, any firewall between, and the security protocol"

const meaningOf = (error: unknown): Meaning | undefined => {
  if (KafkaError.isKafkaError(error)) return { _tag: "Ours", error }
  if (error instanceof Misunderstood) {
    return { _tag: "Protocol", code: error.code, reason: error.message, retriable: false }
  }
  if (error instanceof ConnectionProblem) {
    // what is inside says more
    return error.cause !== undefined
      ? undefined
      : error.timedOut
      ? { _tag: "Timeout" }
      : { _tag: "Connection", reason: error.message }
  }
  const answered = protocolCodeOf(error)
  if (answered !== undefined) {
    const found = fromProtocol(answered)
    return found._tag === "Authentication" && answered.code === "SASL_AUTHENTICATION_FAILED"
      ? { ...found, ...saslProblem(answered.reason) }
      : found
  }
  const code = text(read(error, "code"))
  const socket = code === undefined ? undefined : fromSocket(code)
  if (socket !== undefined) return socket
  const message = text(read(error, "message")) ?? ""
  switch (code) {
    case "PLT_KFK_AUTHENTICATION":
      // what the broker, or our own provider of credentials, says is inside
      return read(error, "cause") === undefined
        ? { _tag: "Authentication", mechanism: undefined, ...saslProblem(message) }
        : undefined
    case "PLT_KFK_USER":
      return /requires TLS/i.test(message)
        ? {
          _tag: "Connection",
          reason: "the listener speaks TLS: use KafkaConfig.ssl, or the port of another listener"
        }
        : /TLS handshake failed/i.test(message)
        ? { _tag: "Connection", reason: "the listener does not speak TLS: check the port, and the security protocol" }
        : undefined
    case "PLT_KFK_NETWORK":
      if (read(error, "cause") !== undefined) return undefined
      return /timed out/i.test(message)
        ? message.startsWith("Connection") ? { _tag: "Connection", reason: silent } : { _tag: "Timeout" }
        : { _tag: "Connection", reason: closed }
    case "PLT_KFK_UNEXPECTED_CORRELATION_ID":
    case "PLT_KFK_OUT_OF_BOUNDS":
      return {
        _tag: "Protocol",
        code: "MALFORMED_RESPONSE",
        reason: "the answer is not what was asked for: check that a Kafka broker listens there",
        retriable: false
      }
    default:
      return undefined
  }
}

/** A connection that ended, whatever is inside that we can't read. */
const endOf = (error: unknown): Meaning | undefined =>
  error instanceof ConnectionProblem
    ? { _tag: "Connection", reason: error.message }
    : text(read(error, "code")) === "PLT_KFK_NETWORK"
    ? { _tag: "Connection", reason: closed }
    : undefined

/**
 * What an error means: the first meaning found in it, from the outside inwards.
 */
export const meaning = (error: unknown): Meaning => {
  const found = firstMeaning(error, meaningOf)
  return found._tag === "Protocol" && found.code === "CLIENT_ERROR" ? firstMeaning(error, endOf) : found
}

/**
 * What was thrown, as the error of a request to the cluster.
 */
export const clientError = (error: unknown, attempt: Attempt): TypedError => typed(error, meaning(error), attempt)
