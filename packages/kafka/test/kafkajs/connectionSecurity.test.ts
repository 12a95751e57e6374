import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as FileSystem from "node:fs"
import { inspect } from "node:util"
import type { KafkaListener } from "../../../../scripts/kafka/listeners.ts"
import * as Producer from "../../src/drivers/kafkajs/producer.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import { KafkaAuthenticationError } from "../../src/KafkaError.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { batch, defaults, environment, Faults, makeTopic, readLog, send, summary, values } from "./support.ts"

class SecureKafka extends Context.Tag("SecureKafka")<SecureKafka, {
  readonly of: (listener: KafkaListener) => string
  readonly plaintext: string
  readonly ca: string
  readonly client: (name: string) => { readonly cert: string; readonly key: Redacted.Redacted<string> }
}>() {
  static readonly layer = Layer.scoped(
    SecureKafka,
    Effect.map(
      RealKafka.start({ listeners: ["plaintext", "ssl", "mtls", "sasl_plaintext", "sasl_ssl"], acls: true }),
      ({ cluster }) => {
        const certificates = cluster.certificates!
        const text = (file: string) => FileSystem.readFileSync(file, "utf8")
        return {
          of: cluster.bootstrapServersOf,
          plaintext: cluster.bootstrapServersOf("plaintext"),
          ca: text(certificates.caFile),
          client: (name: string) => ({
            cert: text(certificates.clients[name]!.certFile),
            key: Redacted.make(text(certificates.clients[name]!.keyFile))
          })
        }
      }
    )
  )
}

const credentials = (username: string, password: string) => ({ username, password: Redacted.make(password) })
const admin = credentials("admin", "admin-secret")

/** An unsecured JWT, as the broker's test validator takes it. */
const token = (subject: string, expiresIn: number): Redacted.Redacted<string> => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const now = Math.floor(Date.now() / 1000)
  return Redacted.make(`${part({ alg: "none" })}.${part({ sub: subject, iat: now, exp: now + expiresIn })}.`)
}

const openWith = (listener: KafkaListener, security: KafkaConfig.SecurityOptions, more: object = {}, faults?: Faults) =>
  Effect.gen(function*() {
    const { of } = yield* SecureKafka
    const one = yield* environment(of(listener), faults, { security, connectionTimeout: "10 seconds" })
    return yield* Producer.open(one, KafkaJs.capabilities, { ...defaults, ...more })
  })

const nothingShows = (error: unknown, secret: string) => {
  for (const shown of [String(error), JSON.stringify(error), inspect(error, { depth: 9 })]) {
    expect(shown).not.toContain(secret)
  }
}

RealKafka.suiteOfOwn("kafkajs and the security of a real broker", () => {
  layer(SecureKafka.layer, { excludeTestServices: true, timeout: "90 seconds" })((it) => {
    const stores = (
      listener: KafkaListener,
      security: Effect.Effect<KafkaConfig.SecurityOptions, never, SecureKafka>
    ) =>
      Effect.gen(function*() {
        const { plaintext } = yield* SecureKafka
        const topic = yield* makeTopic(plaintext)
        const session = yield* openWith(listener, yield* security)
        expect(summary(yield* send(session, [batch(topic, 0, "a")]))).toEqual(["stored@0"])
        expect(values(yield* readLog(plaintext, topic))).toEqual(["a"])
      })

    it.scoped("TLS with a private authority", () =>
      stores("ssl", Effect.map(SecureKafka, ({ ca }) => KafkaConfig.ssl({ ca }))))

    it.scoped("TLS with a certificate of the client", () =>
      stores("mtls", Effect.map(SecureKafka, ({ ca, client }) => KafkaConfig.ssl({ ca, ...client("admin") }))))

    for (const mechanism of ["plain", "scram-sha-256", "scram-sha-512"] as const) {
      it.scoped(`SASL ${mechanism} over plaintext`, () =>
        stores(
          "sasl_plaintext",
          Effect.succeed(KafkaConfig.sasl({ over: KafkaConfig.plaintext, mechanism, credentials: admin }))
        ))
      it.scoped(`SASL ${mechanism} over TLS`, () =>
        stores(
          "sasl_ssl",
          Effect.map(SecureKafka, ({ ca }) =>
            KafkaConfig.sasl({ over: KafkaConfig.ssl({ ca }), mechanism, credentials: admin }))
        ))
    }

    it.scoped("SASL oauthbearer with a token that is asked for at each connection", () =>
      Effect.gen(function*() {
        let asked = 0
        const fresh = Effect.sync(() => {
          asked++
          return token("admin", 3600)
        })
        yield* stores(
          "sasl_ssl",
          Effect.map(
            SecureKafka,
            ({ ca }) => KafkaConfig.sasl({ over: KafkaConfig.ssl({ ca }), mechanism: "oauthbearer", token: fresh })
          )
        )
        expect(asked).toBeGreaterThan(0)
      }))

    const refused = (
      listener: KafkaListener,
      security: KafkaConfig.SecurityOptions
    ) => Effect.flip(Effect.scoped(openWith(listener, security)))

    it.effect("a wrong password, an unknown user and a mechanism that is not offered are told apart from each other", () =>
      Effect.gen(function*() {
        const over = KafkaConfig.plaintext
        for (const mechanism of ["plain", "scram-sha-256", "scram-sha-512"] as const) {
          for (const wrong of [credentials("admin", "wr0ng-passw0rd"), credentials("nobody", "wr0ng-passw0rd")]) {
            const error = yield* refused("sasl_plaintext", KafkaConfig.sasl({ over, mechanism, credentials: wrong }))
            expect(error).toMatchObject({ _tag: "KafkaAuthenticationError", mechanism })
            expect(error.message).toContain("check username and password")
            nothingShows(error, "wr0ng-passw0rd")
          }
        }
      }))

    it.effect("an expired token is refused, and not shown", () =>
      Effect.gen(function*() {
        const expired = token("admin", -3600)
        const error = yield* refused(
          "sasl_plaintext",
          KafkaConfig.sasl({ over: KafkaConfig.plaintext, mechanism: "oauthbearer", token: expired })
        )
        expect(error).toMatchObject({ _tag: "KafkaAuthenticationError", mechanism: "oauthbearer" })
        nothingShows(error, Redacted.value(expired))
      }))

    it.effect("an authority that is not trusted, and a missing certificate of ours", () =>
      Effect.gen(function*() {
        const { ca } = yield* SecureKafka
        expect(yield* refused("ssl", KafkaConfig.ssl())).toMatchObject({
          _tag: "KafkaAuthenticationError",
          mechanism: "ssl",
          reason: expect.stringContaining("CA")
        })
        const without = yield* refused("mtls", KafkaConfig.ssl({ ca }))
        expect(without).toMatchObject({ _tag: "KafkaAuthenticationError", mechanism: "ssl" })
        expect(without.message).toContain("our certificate")
      }))

    it.effect("a host name that is not in the certificate", () =>
      Effect.gen(function*() {
        const { ca } = yield* SecureKafka
        const error = yield* refused("ssl", KafkaConfig.ssl({ ca, serverName: "kafka.example.com" }))
        expect(error).toMatchObject({ _tag: "KafkaAuthenticationError", mechanism: "ssl" })
        expect(error.message).toContain("another host name")
      }))

    it.effect("the wrong kind of listener fails in time, with a hint", () =>
      Effect.gen(function*() {
        const { ca } = yield* SecureKafka
        const errors = yield* Effect.all([
          refused("ssl", KafkaConfig.plaintext),
          refused("plaintext", KafkaConfig.ssl({ ca })),
          refused("sasl_plaintext", KafkaConfig.plaintext),
          refused(
            "plaintext",
            KafkaConfig.sasl({ over: KafkaConfig.plaintext, mechanism: "plain", credentials: admin })
          )
        ], { concurrency: "unbounded" })
        for (const error of errors) {
          expect(error._tag).toMatch(/KafkaConnectionError|KafkaTimeoutError|KafkaAuthenticationError/)
          expect(error.message).toMatch(/security protocol|TLS|mechanism|no answer/)
        }
      }))

    it.scoped("without an ACL for a topic its batch fails alone, and the topic is named", () =>
      Effect.gen(function*() {
        const { ca, plaintext } = yield* SecureKafka
        const topic = yield* makeTopic(plaintext)
        const session = yield* openWith(
          "sasl_ssl",
          KafkaConfig.sasl({
            over: KafkaConfig.ssl({ ca }),
            mechanism: "plain",
            credentials: credentials("alice", "alice-secret")
          }),
          { idempotent: false }
        )
        const [result] = yield* session.send([batch(topic, 0, "a")])
        expect(result).toMatchObject({
          outcome: "refuse",
          error: { _tag: "KafkaAuthorizationError", resource: "topic", resourceName: topic }
        })
      }))

    it.effect("without an ACL for a transactional id opening fails, and names it", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.scoped(openWith(
          "sasl_plaintext",
          KafkaConfig.sasl({
            over: KafkaConfig.plaintext,
            mechanism: "plain",
            credentials: credentials("alice", "alice-secret")
          }),
          { transactionalId: "tx-of-alice" }
        )))
        expect(error).toMatchObject({
          _tag: "KafkaAuthorizationError",
          resource: "transactional-id",
          resourceName: "tx-of-alice"
        })
      }))

    it.scoped("credentials are asked for again when a connection is made again", () =>
      Effect.gen(function*() {
        const { plaintext } = yield* SecureKafka
        const topic = yield* makeTopic(plaintext)
        const faults = new Faults()
        let current = admin
        let asked = 0
        const session = yield* openWith(
          "sasl_plaintext",
          KafkaConfig.sasl({
            over: KafkaConfig.plaintext,
            mechanism: "scram-sha-512",
            credentials: Effect.suspend(() => {
              asked++
              return Effect.succeed(current)
            })
          }),
          {},
          faults
        )
        expect(summary(yield* send(session, [batch(topic, 0, "a")]))).toEqual(["stored@0"])
        const before = asked
        current = credentials("admin", "n0t-any-m0re")
        yield* Effect.promise(() => faults.cutAll())
        const [result] = yield* session.send([batch(topic, 0, "b")])
        expect(asked).toBeGreaterThan(before)
        expect(result).toMatchObject({ outcome: "refuse", error: { _tag: "KafkaAuthenticationError" } })
        nothingShows(result, "n0t-any-m0re")
        current = admin
        expect(summary(yield* send(session, [batch(topic, 0, "c")]))).toEqual(["stored@1"])
      }))

    it.effect("what the credentials themselves fail with is told", () =>
      Effect.gen(function*() {
        const sealed = new KafkaAuthenticationError({
          operation: "credentials",
          mechanism: "plain",
          reason: "the vault is sealed"
        })
        const error = yield* refused(
          "sasl_plaintext",
          KafkaConfig.sasl({ over: KafkaConfig.plaintext, mechanism: "plain", credentials: Effect.fail(sealed) })
        )
        expect(error.message).toContain("the vault is sealed")
      }))
  })
})
