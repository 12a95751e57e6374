/**
 * What a client library throws, as our errors: what all drivers on a real cluster share. Pure and total: whatever is
 * thrown becomes a typed error that says what to check, and none of them holds a secret.
 */
import * as Duration from "effect/Duration"
import type * as KafkaConfig from "../KafkaConfig.ts"
import * as KafkaError from "../KafkaError.ts"

// ---------------------------------------------------------------------------------------------------------------------
// what a failed request was about
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What was attempted, for the error to say.
 */
export interface Attempt {
  /** For instance `"connect"` or `"create topic"`. */
  readonly operation: string
  readonly brokers: ReadonlyArray<string>
  /** The SASL mechanism, `"ssl"`, or `"none"`. */
  readonly mechanism: string
  /** How long an answer was waited for. */
  readonly millis: number
  /** Never to be shown, wherever they come from. */
  readonly secrets: Iterable<string>
  readonly topic?: string | undefined
  readonly partition?: number | undefined
  readonly group?: string | undefined
  readonly transactionalId?: string | undefined
}

/** What all requests of a layer have in common, for their errors to say. */
export interface Asker extends Pick<Attempt, "mechanism" | "secrets"> {
  readonly config: KafkaConfig.Service
}

/**
 * What an error of this operation has to say.
 */
export const attempt = (
  self: Asker,
  operation: string,
  about?: Pick<Attempt, "topic" | "partition" | "group" | "transactionalId"> & { readonly millis?: number }
): Attempt => ({
  ...about,
  operation,
  brokers: self.config.brokers,
  mechanism: self.mechanism,
  millis: about?.millis ?? Duration.toMillis(self.config.requestTimeout),
  secrets: self.secrets
})

/** The mechanism for errors to name: of SASL, `"ssl"`, or `"none"`. */
export const mechanismOf = ({ security }: KafkaConfig.Service): string =>
  security._tag === "Sasl" ? security.mechanism : security._tag === "Ssl" ? "ssl" : "none"

// ---------------------------------------------------------------------------------------------------------------------
// looking into what was thrown
// ---------------------------------------------------------------------------------------------------------------------

const depthLimit = 12

/** Reads a property of anything at all; a getter that throws counts as absent. */
export const read = (u: unknown, name: string): unknown => {
  if ((typeof u !== "object" && typeof u !== "function") || u === null) return undefined
  try {
    return (u as Record<string, unknown>)[name]
  } catch {
    return undefined
  }
}

/** A text that says something. */
export const text = (u: unknown): string | undefined => typeof u === "string" && u !== "" ? u : undefined

/** The errors inside of an error, the most telling first. */
const inner = (error: unknown): ReadonlyArray<unknown> => {
  const out: Array<unknown> = []
  const members = read(error, "errors") ?? read(error, "groups") ?? read(error, "partitions")
  if (Array.isArray(members)) {
    for (const member of members.slice(0, 100)) {
      out.push(member)
      const own = read(member, "error")
      if (own !== undefined && own !== null) out.push(own)
    }
  }
  for (const name of ["cause", "originalError"]) {
    const cause = read(error, name)
    if (cause !== undefined && cause !== null) out.push(cause)
  }
  return out
}

/** The error and all in it, from the outside inwards, without running in circles. */
export const chain = (error: unknown): ReadonlyArray<unknown> => {
  const seen = new Set<unknown>()
  let level: ReadonlyArray<unknown> = [error]
  for (let depth = 0; depth < depthLimit && level.length > 0; depth++) {
    const next: Array<unknown> = []
    for (const one of level) {
      if (seen.has(one)) continue
      seen.add(one)
      next.push(...inner(one))
    }
    level = next
  }
  return [...seen]
}

/** An answer of the broker. */
export interface ProtocolCode {
  /** As the protocol names it now, for instance `"NOT_LEADER_OR_FOLLOWER"`. */
  readonly code: string
  readonly reason: string
  readonly retriable: boolean
}

// ---------------------------------------------------------------------------------------------------------------------
// what it means
// ---------------------------------------------------------------------------------------------------------------------

const connectionReasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused: check the address, and that a broker listens there",
  ECONNRESET: "the connection was reset: check that the security protocol is that of the listener",
  EPIPE: "the connection was closed by the broker",
  ENOTFOUND: "the host name is not known: check the addresses of the brokers",
  EAI_AGAIN: "the host name could not be looked up: check DNS and the network",
  EHOSTUNREACH: "there is no route to the host: check the network and the address",
  ENETUNREACH: "the network can not be reached",
  ETIMEDOUT: "no answer: check the address, the port and any firewall between",
  ERR_SSL_WRONG_VERSION_NUMBER: "the listener does not speak TLS: check the port, and the security protocol",
  EPROTO: "the TLS handshake failed: check that the listener speaks TLS, and which versions it allows",
  ERR_NOT_KAFKA: "what answers there does not speak Kafka's protocol: check the port, and the security protocol",
  ERR_SSL_UNSUPPORTED_PROTOCOL: "no TLS version in common with the broker"
}

type AuthenticationKind = KafkaError.KafkaAuthenticationError["kind"]

/** Why the two sides could not agree who each of them is. */
export interface AuthenticationProblem {
  readonly kind: AuthenticationKind
  readonly reason: string
}

const because = (kind: AuthenticationKind) => (reason: string): AuthenticationProblem => ({ kind, reason })
const untrusted = because("untrusted-certificate")
const ownFiles = because("unobtainable")

const certificateProblems: Readonly<Record<string, AuthenticationProblem>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: untrusted("the broker's certificate is self-signed and not trusted: give it as the CA"),
  SELF_SIGNED_CERT_IN_CHAIN: untrusted("the broker's CA is not trusted: give its certificate as the CA"),
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted(
    "the broker's certificate is of no trusted CA: give the CA's certificate"
  ),
  UNABLE_TO_GET_ISSUER_CERT: untrusted("the broker's certificate is of no trusted CA: give the CA's certificate"),
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted(
    "the broker's certificate is of no trusted CA: give the CA's certificate"
  ),
  CERT_UNTRUSTED: untrusted("the broker's certificate is not trusted: give the CA's certificate"),
  CERT_SIGNATURE_FAILURE: untrusted(
    "the broker's certificate is not signed by the given CA: give the CA's certificate"
  ),
  CERT_HAS_EXPIRED: untrusted("the broker's certificate has expired: renew it"),
  CERT_NOT_YET_VALID: untrusted("the broker's certificate is not valid yet: check the clocks"),
  CERT_REVOKED: untrusted("the broker's certificate was revoked"),
  ERR_TLS_CERT_ALTNAME_INVALID: because("host-name")(
    "the broker's certificate is for another host name: connect by a name in it, or set the server name"
  ),
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: ownFiles("the private key does not belong to the certificate"),
  ERR_OSSL_PEM_NO_START_LINE: ownFiles("the CA, certificate or key is not PEM"),
  ERR_OSSL_PEM_BAD_END_LINE: ownFiles("the CA, certificate or key is not PEM"),
  ERR_OSSL_BAD_DECRYPT: ownFiles("the passphrase of the private key is wrong"),
  ERR_OSSL_EVP_BAD_DECRYPT: ownFiles("the passphrase of the private key is wrong"),
  ERR_MISSING_PASSPHRASE: ownFiles("the private key is encrypted, and there is no passphrase")
}

/** What is the table's own: a code is somebody else's text, and may be `"toString"`. */
const own = <A>(table: Readonly<Record<string, A>>, code: string): A | undefined =>
  Object.hasOwn(table, code) ? table[code] : undefined

const certificateProblem = (code: string): AuthenticationProblem | undefined => {
  const known = own(certificateProblems, code)
  if (known !== undefined) return known
  if (/^ERR_SSL_.*ALERT.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE)/.test(code)) {
    return {
      kind: "client-certificate",
      reason:
        "the broker refused our certificate, or asks for one: check cert and key, and that the broker trusts our CA"
    }
  }
  return /^(CERT_|CRL_|ERR_TLS_CERT|ERR_OSSL)/.test(code)
    ? { kind: "other", reason: "the TLS settings or certificates do not fit" }
    : undefined
}

/**
 * What an error means, before it is about anything.
 */
export type Meaning =
  | { readonly _tag: "Ours"; readonly error: KafkaError.KafkaError }
  | { readonly _tag: "Connection"; readonly reason: string }
  | ({ readonly _tag: "Authentication"; readonly mechanism: string | undefined } & AuthenticationProblem)
  | { readonly _tag: "Authorization"; readonly resource: "topic" | "group" | "transactional-id" | "cluster" }
  | { readonly _tag: "Timeout" }
  | { readonly _tag: "UnknownTopic" }
  | { readonly _tag: "Fenced" }
  | ({ readonly _tag: "Protocol" } & ProtocolCode)

const notAccepted: AuthenticationProblem = {
  kind: "credentials",
  reason: "the broker does not accept the credentials: check username and password"
}

const tokenNotAccepted: AuthenticationProblem = {
  kind: "token",
  reason: "the broker does not accept the token: check that it has not expired, and that it is for this cluster"
}

const notOffered: AuthenticationProblem = {
  kind: "mechanism",
  reason: "the listener does not offer this mechanism: check the SASL mechanism, and the port"
}

/** What an answer of the broker means. */
export const fromProtocol = (code: ProtocolCode): Meaning => {
  switch (code.code) {
    case "TOPIC_AUTHORIZATION_FAILED":
      return { _tag: "Authorization", resource: "topic" }
    case "GROUP_AUTHORIZATION_FAILED":
      return { _tag: "Authorization", resource: "group" }
    case "TRANSACTIONAL_ID_AUTHORIZATION_FAILED":
      return { _tag: "Authorization", resource: "transactional-id" }
    case "CLUSTER_AUTHORIZATION_FAILED":
      return { _tag: "Authorization", resource: "cluster" }
    case "SASL_AUTHENTICATION_FAILED":
      return { _tag: "Authentication", mechanism: undefined, ...notAccepted }
    case "UNSUPPORTED_SASL_MECHANISM":
      return { _tag: "Authentication", mechanism: undefined, ...notOffered }
    case "ILLEGAL_SASL_STATE":
      return {
        _tag: "Authentication",
        mechanism: undefined,
        kind: "mechanism",
        reason: "the listener expects no SASL, or another order of it: check the security protocol"
      }
    case "UNKNOWN_TOPIC_OR_PARTITION":
    case "UNKNOWN_TOPIC_ID":
      return { _tag: "UnknownTopic" }
    case "PRODUCER_FENCED":
    case "INVALID_PRODUCER_EPOCH":
      return { _tag: "Fenced" }
    case "REQUEST_TIMED_OUT":
      return { _tag: "Timeout" }
    default:
      return { _tag: "Protocol", ...code }
  }
}

/** What to check when the broker refuses our credentials, by what it says. */
export const saslProblem = (message: string): AuthenticationProblem =>
  /mechanism is not supported/i.test(message)
    ? notOffered
    : /expired|invalid_token/i.test(message)
    ? tokenNotAccepted
    : notAccepted

/** What an error of Node's sockets or of its TLS means. */
export const fromSocket = (code: string): Meaning | undefined => {
  const certificate = certificateProblem(code)
  if (certificate !== undefined) {
    const { kind, reason } = certificate
    return { _tag: "Authentication", mechanism: "ssl", kind, reason: `${reason} (${code})` }
  }
  const connection = own(connectionReasons, code)
  return connection === undefined ? undefined : { _tag: "Connection", reason: connection }
}

/**
 * What an error means: the first meaning found in it, from the outside inwards.
 */
export const firstMeaning = (error: unknown, meaningOf: (one: unknown) => Meaning | undefined): Meaning => {
  for (const one of chain(error)) {
    const found = meaningOf(one)
    if (found !== undefined) return found
  }
  return {
    _tag: "Protocol",
    code: "CLIENT_ERROR",
    reason: text(read(error, "message")) ?? "the client failed without saying why",
    retriable: false
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// secrets
// ---------------------------------------------------------------------------------------------------------------------

const hidden = "<redacted>"

/** As it is, and as a text in JSON. */
const forms = (secret: string): ReadonlyArray<string> => {
  const escaped = JSON.stringify(secret).slice(1, -1)
  return escaped === secret ? [secret] : [escaped, secret]
}

/**
 * A text without any of the secrets.
 */
export const scrub = (value: string, secrets: Iterable<string>): string => {
  let out = value
  // one may be a part of another
  for (const secret of [...secrets].sort((a, b) => b.length - a.length)) {
    if (secret === "") continue
    for (const form of forms(secret)) {
      if (out.includes(form)) out = out.replaceAll(form, hidden)
    }
  }
  return out
}

/**
 * What the driver threw, as the `cause` of our error: its name, message, stack and code, and nothing else of it, since
 * the rest may hold anything.
 */
export class DriverError extends Error {
  readonly code: string | undefined
  constructor(error: unknown, secrets: Iterable<string>) {
    const own = chain(error).filter((one) => read(one, "message") !== undefined)
    const outer = own[0] ?? error
    const messages = own.map((one) => text(read(one, "message")) ?? "").filter((one, i, all) =>
      one !== "" && all.indexOf(one) === i
    )
    let fallback = ""
    if (messages.length === 0) {
      try {
        fallback = String(error)
      } catch {
        fallback = "an error that can not be shown"
      }
    }
    super(scrub(messages.length === 0 ? fallback : messages.slice(0, 5).join(": "), secrets))
    this.name = scrub(text(read(outer, "name")) ?? "Error", secrets)
    const code = read(outer, "type") ?? read(outer, "code")
    this.code = typeof code === "string" || typeof code === "number" ? scrub(String(code), secrets) : undefined
    const stack = text(read(outer, "stack"))
    if (stack !== undefined) this.stack = scrub(stack, secrets)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// our errors
// ---------------------------------------------------------------------------------------------------------------------

/** An error of a request to the cluster. */
export type TypedError = KafkaError.ClientError | KafkaError.UnknownTopicError | KafkaError.ProducerFencedError

/**
 * What was thrown, and what it means, as the error of a request to the cluster.
 */
export const typed = (
  error: unknown,
  found: Meaning,
  attempt: Attempt
): TypedError => {
  const { operation, secrets } = attempt
  const cause = new DriverError(error, secrets)
  switch (found._tag) {
    case "Ours":
      return isClientError(found.error)
        ? found.error
        : new KafkaError.KafkaRequestError({
          operation,
          code: "CLIENT_ERROR",
          retriable: false,
          reason: scrub(found.error.message, secrets),
          cause
        })
    case "Connection":
      return new KafkaError.KafkaConnectionError({
        operation,
        brokers: attempt.brokers,
        reason: scrub(found.reason, secrets),
        cause
      })
    case "Authentication": {
      const mechanism = found.mechanism ?? attempt.mechanism
      // with a token there is nothing else that could be refused
      const { kind, reason } = mechanism === "oauthbearer" && found.kind === "credentials" ? tokenNotAccepted : found
      return new KafkaError.KafkaAuthenticationError({
        operation,
        mechanism,
        kind,
        reason: scrub(reason, secrets),
        cause
      })
    }
    case "Authorization":
      return new KafkaError.KafkaAuthorizationError({
        operation,
        resource: found.resource,
        resourceName: resourceName(found.resource, attempt),
        cause
      })
    case "Timeout":
      return new KafkaError.KafkaTimeoutError({ operation, millis: attempt.millis, cause })
    case "UnknownTopic":
      return new KafkaError.UnknownTopicError({
        operation,
        topic: attempt.topic ?? "",
        partition: attempt.partition,
        cause
      })
    case "Fenced":
      return new KafkaError.ProducerFencedError({ transactionalId: attempt.transactionalId ?? "", cause })
    case "Protocol":
      return new KafkaError.KafkaRequestError({
        operation,
        code: scrub(found.code, secrets),
        retriable: found.retriable,
        reason: scrub(found.reason, secrets),
        cause
      })
  }
}

const clientTags: ReadonlySet<string> = new Set<
  TypedError["_tag"]
>([
  "KafkaConnectionError",
  "KafkaAuthenticationError",
  "KafkaAuthorizationError",
  "KafkaTimeoutError",
  "KafkaRequestError",
  "UnknownTopicError",
  "ProducerFencedError"
])

const isClientError = (
  error: KafkaError.KafkaError
): error is TypedError => clientTags.has(error._tag)

const resourceName = (resource: KafkaError.KafkaAuthorizationError["resource"], attempt: Attempt): string => {
  switch (resource) {
    case "topic":
      return attempt.topic ?? ""
    case "group":
      return attempt.group ?? ""
    case "transactional-id":
      return attempt.transactionalId ?? ""
    case "cluster":
      return "kafka-cluster"
  }
}

/**
 * The error of a request that is about no topic and no transaction.
 */
export const withoutTopic = (
  error: TypedError
): KafkaError.ClientError => {
  switch (error._tag) {
    case "UnknownTopicError":
      return new KafkaError.KafkaRequestError({
        operation: error.operation,
        code: "UNKNOWN_TOPIC_OR_PARTITION",
        retriable: true,
        reason: "the broker does not host this topic or partition",
        cause: error.cause
      })
    case "ProducerFencedError":
      return new KafkaError.KafkaRequestError({
        operation: "produce",
        code: "PRODUCER_FENCED",
        retriable: false,
        reason: error.message,
        cause: error.cause
      })
    default:
      return error
  }
}

/**
 * The error of a request that is about topics, and no transaction.
 */
export const withoutFencing = (
  error: TypedError
): KafkaError.ClientError | KafkaError.UnknownTopicError =>
  error._tag === "ProducerFencedError" ? withoutTopic(error) : error
