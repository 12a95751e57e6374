import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Redacted from "effect/Redacted"
import * as Errors from "../../src/drivers/kafkajs/errors.ts"
import { Secrets } from "../../src/drivers/secrets.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import { KafkaAuthenticationError } from "../../src/KafkaError.ts"
import * as tls from "../fixtures/tls.ts"
import { expectNone, printed, watch } from "./Leaks.ts"

/** As long as one that is worth the name, of any characters; no part of what is said in its place. */
const secret = FastCheck.oneof(
  FastCheck.string({ minLength: 8, maxLength: 60, unit: "grapheme" }),
  FastCheck.string({ minLength: 8, maxLength: 60, unit: "binary" }),
  FastCheck.stringMatching(/^[A-Z0-9_]{8,20}$/),
  FastCheck.stringMatching(/^eyJ[A-Za-z0-9_-]{10,30}\.[A-Za-z0-9_-]{10,30}\.$/)
).filter((text) => new Set(text).size > 4 && text.trim() === text)

const secrets = FastCheck.uniqueArray(secret, { minLength: 1, maxLength: 4 })

/** Text with secrets in it, as they are or as JSON. */
const around = (known: ReadonlyArray<string>) =>
  FastCheck.tuple(
    FastCheck.string({ maxLength: 10 }),
    FastCheck.constantFrom(...known),
    FastCheck.constantFrom(" ", ": ", "\n", "=", "\""),
    FastCheck.boolean(),
    FastCheck.constantFrom(...known)
  ).map(([before, one, between, asJson, other]) => `${before} ${asJson ? JSON.stringify(one) : one}${between}${other}`)

/** Anything a client library may throw, with secrets wherever there can be text. */
const thrown = (known: ReadonlyArray<string>) => {
  const text = FastCheck.oneof(around(known), FastCheck.constantFrom(...known))
  const some = FastCheck.option(text, { nil: undefined })
  return FastCheck.letrec((tie) => ({
    error: FastCheck.record({
      message: text,
      name: FastCheck.oneof(
        text,
        FastCheck.constantFrom(
          "Error",
          "KafkaJSSASLAuthenticationError",
          "KafkaJSConnectionError",
          "KafkaJSProtocolError",
          "KafkaJSRequestTimeoutError"
        )
      ),
      type: FastCheck.oneof(some, FastCheck.constantFrom("SASL_AUTHENTICATION_FAILED", "NOT_COORDINATOR_FOR_GROUP")),
      code: FastCheck.oneof(some, FastCheck.constantFrom("ECONNRESET", "ERR_OSSL_BAD_DECRYPT", 58)),
      errorMessage: some,
      broker: some,
      stack: some,
      sasl: FastCheck.constant({ password: known[0] }),
      cause: FastCheck.option(tie("error"), { maxDepth: 3, nil: undefined }),
      errors: FastCheck.oneof({ maxDepth: 2 }, FastCheck.constant(undefined), FastCheck.array(tie("error")))
    }).map((properties) => Object.assign(new Error("none"), properties))
  })).error
}

const withThrown = secrets.chain((known) =>
  FastCheck.tuple(FastCheck.constant(known), FastCheck.oneof(thrown(known), around(known)))
)

describe("secrets", () => {
  it.prop("show in no error that the driver makes of what was thrown, however it is printed", [withThrown], ([
    [known, error]
  ]) => {
    const seen = new Secrets()
    for (const one of known) seen.reveal(Redacted.make(one))
    for (const mechanism of ["plain", "oauthbearer", "ssl", "none"]) {
      const ours = Errors.clientError(error, {
        operation: "connect",
        brokers: ["kafka-1:9092"],
        mechanism,
        millis: 1000,
        secrets: seen
      })
      expectNone(printed(ours), known)
    }
  })

  it.effect.prop(
    "show nowhere when all of them are configured: not in the service, its parts, a log, a span or an error",
    [FastCheck.uniqueArray(secret, { minLength: 3, maxLength: 3 }), FastCheck.boolean()],
    ([[password = "", token = "", passphrase = ""], asEffect]) => {
      const given = <A>(value: A): A | Effect.Effect<A> => asEffect ? Effect.succeed(value) : value
      const over = KafkaConfig.ssl(given({
        ca: tls.certificate,
        cert: tls.certificate,
        key: Redacted.make(tls.key)
      }))
      const known = [password, token, passphrase, ...tls.key.split("\n").filter((line) => line.length > 40)]
      return watch(known)(Effect.gen(function*() {
        const services = yield* Effect.all([
          KafkaConfig.make({ brokers: "a:1", security: over }),
          KafkaConfig.make({
            brokers: "a:1",
            security: KafkaConfig.sasl({
              over,
              mechanism: "scram-sha-512",
              credentials: given({ username: "barista", password: Redacted.make(password) })
            })
          }),
          KafkaConfig.make({
            brokers: "a:1",
            security: KafkaConfig.sasl({ over, mechanism: "oauthbearer", token: given(Redacted.make(token)) })
          })
        ])
        const parts = yield* Effect.forEach(services, ({ security }) => {
          if (security._tag === "Ssl") return security.tls
          if (security._tag === "Plaintext") return Effect.void
          return security.mechanism === "oauthbearer" ? security.token : security.credentials
        })
        yield* Effect.annotateLogs(Effect.logInfo("configured", services, parts), { services, parts })
        yield* Effect.void.pipe(Effect.withSpan("configured", { attributes: { services, parts } }))
        // an error of the program's own that was made of one of them
        const failing = yield* KafkaConfig.make({
          brokers: "a:1",
          security: KafkaConfig.ssl(Effect.succeed({
            cert: tls.certificate,
            key: Redacted.make(tls.encryptedKey),
            passphrase: Redacted.make(passphrase)
          }))
        })
        const error = failing.security._tag === "Ssl"
          ? yield* Effect.flip(failing.security.tls)
          : new KafkaAuthenticationError({ operation: "none", mechanism: "none", reason: "none" })
        yield* Effect.logError(error)
        return [services, parts, error]
      })).pipe(Effect.asVoid)
    },
    { fastCheck: { numRuns: 20 } }
  )
})
