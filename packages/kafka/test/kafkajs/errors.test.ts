import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import KafkaJs from "kafkajs"
import { inspect } from "node:util"
import * as Errors from "../../src/drivers/kafkajs/errors.ts"
import { isKafkaError, KafkaAuthenticationError } from "../../src/KafkaError.ts"

const attempt: Errors.Attempt = {
  operation: "produce",
  brokers: ["kafka-1:9092"],
  mechanism: "scram-sha-256",
  millis: 5000,
  secrets: [],
  topic: "runs",
  partition: 3,
  group: "projector",
  transactionalId: "tx-1"
}

/** An answer of the broker, as kafkajs makes it. */
const answered = (type: string, message = "what it means", retriable = false) =>
  Object.assign(new Error(message), { name: "KafkaJSProtocolError", type, code: 1, retriable })

const retriesExceeded = (cause: Error) =>
  Object.assign(new Error(cause.message, { cause }), {
    name: "KafkaJSNumberOfRetriesExceeded",
    retriable: false,
    retryCount: 5,
    retryTime: 1000
  })

const connectionError = (code: string | undefined, message: string) =>
  Object.assign(new Error(`Connection error: ${message}`), {
    name: "KafkaJSConnectionError",
    broker: "kafka-1:9092",
    ...(code === undefined ? {} : { code })
  })

const said = (error: unknown) => {
  const { _tag, message } = Errors.clientError(error, attempt)
  return { _tag, message }
}

describe("kafkajs's errors as ours", () => {
  it.each([
    ["ECONNREFUSED", "connect ECONNREFUSED 127.0.0.1:1", "a broker listens there"],
    ["ENOTFOUND", "getaddrinfo ENOTFOUND nowhere", "host name is not known"],
    ["ETIMEDOUT", "connect ETIMEDOUT", "firewall"],
    ["ECONNRESET", "read ECONNRESET", "security protocol"],
    ["ERR_SSL_WRONG_VERSION_NUMBER", "wrong version number", "does not speak TLS"],
    [undefined, "Connection timeout", "no answer"]
  ])("a connection that fails with %s says what to check", (code, message, hint) => {
    const error = said(connectionError(code, message))
    expect(error._tag).toBe("KafkaConnectionError")
    expect(error.message).toContain(hint)
    expect(error.message).toContain("kafka-1:9092")
  })

  it.each([
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "untrusted-certificate", "give the CA's certificate"],
    ["SELF_SIGNED_CERT_IN_CHAIN", "untrusted-certificate", "give its certificate as the CA"],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", "untrusted-certificate", "self-signed"],
    ["CERT_HAS_EXPIRED", "untrusted-certificate", "expired"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "host-name", "another host name"],
    ["ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED", "client-certificate", "our certificate"],
    ["ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE", "client-certificate", "our certificate"],
    ["ERR_OSSL_X509_KEY_VALUES_MISMATCH", "unobtainable", "does not belong"],
    ["CERT_OF_A_NEW_KIND", "other", "do not fit"]
  ])("a certificate that does not fit, %s, is a failed authentication by TLS", (code, kind, hint) => {
    const error = Errors.clientError(retriesExceeded(connectionError(code, "no")), attempt)
    expect(error).toMatchObject({ _tag: "KafkaAuthenticationError", mechanism: "ssl", kind })
    expect(error.message).toContain(hint)
  })

  it("a refused password names the mechanism and what to check", () => {
    const error = Object.assign(new Error("SASL SCRAM SHA256 authentication failed: no"), {
      name: "KafkaJSSASLAuthenticationError"
    })
    expect(Errors.clientError(error, attempt)).toMatchObject({
      _tag: "KafkaAuthenticationError",
      mechanism: "scram-sha-256",
      reason: expect.stringContaining("check username and password")
    })
  })

  it("a mechanism that the listener does not offer is told from a wrong password", () => {
    const error = Object.assign(new Error("SASL PLAIN mechanism is not supported by the server"), {
      name: "KafkaJSSASLAuthenticationError"
    })
    expect(said(error).message).toContain("does not offer this mechanism")
  })

  it.each([
    ["TOPIC_AUTHORIZATION_FAILED", "topic", "runs"],
    ["GROUP_AUTHORIZATION_FAILED", "group", "projector"],
    ["TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "transactional-id", "tx-1"],
    ["CLUSTER_AUTHORIZATION_FAILED", "cluster", "kafka-cluster"]
  ])("%s names the %s", (type, resource, resourceName) => {
    expect(Errors.clientError(retriesExceeded(answered(type)), attempt)).toMatchObject({
      _tag: "KafkaAuthorizationError",
      resource,
      resourceName
    })
  })

  it("an unknown topic is named", () => {
    expect(Errors.clientError(answered("UNKNOWN_TOPIC_OR_PARTITION"), attempt)).toMatchObject({
      _tag: "UnknownTopicError",
      topic: "runs",
      partition: 3
    })
  })

  it("a fenced producer is told by its transactional id, also by the code that kafkajs does not know", () => {
    for (
      const error of [
        answered("INVALID_PRODUCER_EPOCH"),
        answered("KAFKAJS_UNKNOWN_ERROR_CODE", "Unknown error code 90")
      ]
    ) {
      expect(Errors.clientError(error, attempt)).toMatchObject({ _tag: "ProducerFencedError", transactionalId: "tx-1" })
    }
  })

  it("what does not answer in time is a timeout", () => {
    const late = Object.assign(new Error("Request Produce timed out"), { name: "KafkaJSRequestTimeoutError" })
    for (const error of [late, retriesExceeded(late), answered("REQUEST_TIMED_OUT", "late", true)]) {
      expect(Errors.clientError(error, attempt)).toMatchObject({ _tag: "KafkaTimeoutError", millis: 5000 })
    }
  })

  it("any other answer keeps the protocol's name, and whether it passes", () => {
    expect(Errors.clientError(answered("INVALID_REPLICATION_FACTOR", "too many"), attempt)).toMatchObject({
      _tag: "KafkaRequestError",
      code: "INVALID_REPLICATION_FACTOR",
      reason: "too many",
      retriable: false
    })
    expect(Errors.clientError(answered("NOT_COORDINATOR_FOR_GROUP", "moved", true), attempt)).toMatchObject({
      code: "NOT_COORDINATOR",
      retriable: true
    })
    expect(Errors.clientError(answered("KAFKAJS_UNKNOWN_ERROR_CODE", "Unknown error code 4711"), attempt))
      .toMatchObject({ code: "CODE_4711" })
  })

  it("the first answer in an error of several is told", () => {
    const aggregate = Object.assign(new Error("Topic creation errors"), {
      name: "KafkaJSAggregateError",
      errors: [Object.assign(answered("TOPIC_ALREADY_EXISTS"), { topic: "a" }), answered("INVALID_CONFIG")]
    })
    expect(Errors.clientError(aggregate, attempt)).toMatchObject({ code: "TOPIC_ALREADY_EXISTS" })
    const refused = new AggregateError([connectionError("ECONNREFUSED", "::1"), connectionError("ECONNREFUSED", "1")])
    expect(said(refused)._tag).toBe("KafkaConnectionError")
  })

  it("what credentials fail with is told as it is", () => {
    const ours = new KafkaAuthenticationError({
      operation: "credentials",
      mechanism: "plain",
      reason: "vault is sealed"
    })
    expect(Errors.clientError(retriesExceeded(Object.assign(new Error("no"), { cause: ours })), attempt)).toBe(ours)
  })

  it("kafkajs's own classes are understood", () => {
    expect(said(new KafkaJs.KafkaJSConnectionError("Connection error: x", { code: "ECONNREFUSED" }))._tag).toBe(
      "KafkaConnectionError"
    )
    expect(said(
      new KafkaJs.KafkaJSNumberOfRetriesExceeded(answered("NOT_LEADER_FOR_PARTITION", "moved", true), {
        retryCount: 5,
        retryTime: 100
      })
    )).toMatchObject({ _tag: "KafkaRequestError", message: expect.stringContaining("NOT_LEADER_OR_FOLLOWER") })
  })

  // -------------------------------------------------------------------------------------------------------------------

  const nasty = FastCheck.letrec((tie) => ({
    error: FastCheck.record({
      name: FastCheck.option(FastCheck.constantFrom(
        "KafkaJSConnectionError",
        "KafkaJSProtocolError",
        "KafkaJSNumberOfRetriesExceeded",
        "KafkaJSSASLAuthenticationError",
        "TypeError"
      )),
      type: FastCheck.option(
        FastCheck.constantFrom("UNKNOWN_TOPIC_OR_PARTITION", "", "lower", "KAFKAJS_UNKNOWN_ERROR_CODE")
      ),
      code: FastCheck.option(FastCheck.oneof(FastCheck.constantFrom("ECONNREFUSED", "EPROTO"), FastCheck.integer())),
      message: FastCheck.string(),
      cause: FastCheck.oneof({ maxDepth: 3 }, FastCheck.anything(), tie("error")),
      errors: FastCheck.oneof({ maxDepth: 2 }, FastCheck.constant(undefined), FastCheck.array(tie("error")))
    })
  })).error

  it("whatever is thrown becomes one of our errors", () => {
    FastCheck.assert(FastCheck.property(FastCheck.oneof(FastCheck.anything(), nasty), (thrown) => {
      expect(isKafkaError(Errors.clientError(thrown, attempt))).toBe(true)
    }))
    const circular: { cause?: unknown } = {}
    circular.cause = circular
    const hostile = new Proxy({}, {
      get: () => {
        throw new Error("do not touch")
      }
    })
    for (const thrown of [circular, hostile, Object.create(null), Symbol("x"), () => 1, undefined]) {
      expect(isKafkaError(Errors.clientError(thrown, attempt))).toBe(true)
    }
  })

  it("a secret is nowhere in the error, whatever was thrown around it", () => {
    const secret = FastCheck.string({ minLength: 8, maxLength: 20 }).filter((s) => s.trim().length === s.length)
    const around = (text: FastCheck.Arbitrary<string>) =>
      FastCheck.letrec((tie) => ({
        error: FastCheck.tuple(text, FastCheck.constantFrom(...names), FastCheck.option(tie("error"), { maxDepth: 3 }))
          .map(([message, name, cause]) => Object.assign(new Error(message, { cause }), { name, config: { message } }))
      })).error as FastCheck.Arbitrary<Error>
    const names = ["Error", "KafkaJSConnectionError", "KafkaJSSASLAuthenticationError", "KafkaJSNonRetriableError"]
    FastCheck.assert(FastCheck.property(
      secret.chain((one) =>
        FastCheck.tuple(
          FastCheck.constant(one),
          around(FastCheck.tuple(FastCheck.string(), FastCheck.string()).map(([a, b]) => `${a}${one}${b}`))
        )
      ),
      ([one, thrown]) => {
        const error = Errors.clientError(thrown, { ...attempt, secrets: [one] })
        for (const shown of [error.message, String(error), JSON.stringify(error), inspect(error, { depth: 9 })]) {
          expect(shown).not.toContain(one)
        }
      }
    ))
  })
})
