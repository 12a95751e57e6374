/**
 * What a driver promises about security, on a real broker with permissions on: each kind of listener is produced to and
 * consumed from through the public API, configured by environment variables alone; what is refused is told apart, in
 * seconds; and no secret is seen anywhere.
 */
import { describe, expect, layer as sharing } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Crypto from "node:crypto"
import * as FileSystem from "node:fs"
import type { ClientOptions } from "../../../../scripts/kafka/index.ts"
import * as Admin from "../../src/Admin.ts"
import * as Consumer from "../../src/Consumer.ts"
import { KafkaClient } from "../../src/KafkaClient.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import type { KafkaError } from "../../src/KafkaError.ts"
import * as Producer from "../../src/Producer.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { groupName, member, readAndLeave, running, texts, textTopic, values, write } from "../conformance/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { watch } from "./Leaks.ts"
import { type Environment, layer, prefixes, SecuredKafka } from "./SecuredKafka.ts"

/** What the suite runs on. */
export interface Driver {
  readonly name: string
  readonly layer: Layer.Layer<KafkaClient, never, KafkaConfig.KafkaConfig>
}

// ---------------------------------------------------------------------------------------------------------------------
// coming in
// ---------------------------------------------------------------------------------------------------------------------

/** Well above what a refusal takes, and well below the connection timeout: nothing is found out by waiting. */
const patience = "15 seconds"
const connectionTimeout = { KAFKA_CONNECTION_TIMEOUT: "60 seconds" }

const unique = (prefix: string): string => `${prefix}${Crypto.randomBytes(5).toString("hex")}`

type Client = KafkaClient | TopicRegistry.TopicRegistry

const fromEnvironment = (environment: Environment) =>
  Layer.provide(
    KafkaConfig.layerEnv,
    Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries({ ...connectionTimeout, ...environment }))))
  )

/** A client that knows nothing but these variables. */
const clientOf = (driver: Driver) => (environment: Environment) =>
  Layer.merge(driver.layer, TopicRegistry.layer).pipe(Layer.provide(fromEnvironment(environment)))

/** A new topic, written to and read by a group, whose offsets are committed: all that a service does. */
const roundTrip = Effect.gen(function*() {
  const topic = textTopic("runs", 2)
  yield* TopicRegistry.ensure([topic])
  yield* write(topic, texts(2), 0)
  yield* write(topic, texts(1, 2), 1)
  yield* readAndLeave(topic, 3, (consumer, records) =>
    Effect.zipRight(
      consumer.commit(records),
      Effect.sync(() => expect(values(records).toSorted()).toEqual(texts(3)))
    ))
  const committed = yield* Admin.groupOffsets(yield* groupName())
  expect(committed.map(({ offset, partition }) => [partition, offset])).toEqual([[0, 2n], [1, 1n]])
  // for whoever watches to print
  return yield* Effect.all([KafkaClient, TopicRegistry.TopicRegistry, Producer.Producer, Admin.Admin])
}).pipe(Effect.provide(Layer.merge(Producer.layer(), Admin.layer)), Effect.scoped)

/** An unsecured JWT, as the broker's validator for tests takes it. */
const tokenFor = (user: string, seconds: number): Redacted.Redacted<string> => {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url")
  const now = Math.floor(Date.now() / 1000)
  return Redacted.make(`${part({ alg: "none" })}.${part({ sub: user, iat: now, exp: now + seconds })}.`)
}

// ---------------------------------------------------------------------------------------------------------------------
// the suite
// ---------------------------------------------------------------------------------------------------------------------

export const security = (driver: Driver): void => {
  const client = clientOf(driver)

  /** With nothing but these variables, and with everything watched for secrets. */
  const as = (environment: (kafka: SecuredKafka["Type"]) => Environment, secrets: ReadonlyArray<string> = []) =>
  <A, E>(
    effect: Effect.Effect<A, E, Client | SecuredKafka>
  ) =>
    Effect.gen(function*() {
      const kafka = yield* SecuredKafka
      return yield* watch([...kafka.secrets, ...secrets])(Effect.provide(effect, client(environment(kafka))))
    })

  /** What opening each of the clients fails with. */
  const refusals = Effect.forEach(
    [Producer.make(), Consumer.make({ groupId: unique(prefixes.hers) }), Admin.make] as ReadonlyArray<
      Effect.Effect<unknown, KafkaError | Consumer.MakeError, Client | Scope.Scope>
    >,
    (open) => Effect.flip(Effect.scoped(open)).pipe(Effect.timeout(patience)),
    { concurrency: "unbounded" }
  )

  RealKafka.suiteOfOwn(`${driver.name} and the security of a real Kafka`, () => {
    sharing(layer, { excludeTestServices: true, timeout: "120 seconds" })((it) => {
      // -----------------------------------------------------------------------------------------------------------------
      // what is let in
      // -----------------------------------------------------------------------------------------------------------------

      describe("configured by environment variables alone, produces and consumes", () => {
        const doors: ReadonlyArray<readonly [name: string, ClientOptions]> = [
          ["by TLS with a private authority", { listener: "ssl" }],
          ["by TLS with a certificate of the client's", { listener: "mtls", user: "alice" }],
          ...(["sasl_plaintext", "sasl_ssl"] as const).flatMap((listener) =>
            (["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] as const).map((mechanism) =>
              [`by ${listener.toUpperCase()} with ${mechanism}`, { listener, mechanism, user: "alice" }] as const
            )
          )
        ]
        for (const [name, options] of doors) {
          it.effect(name, () =>
            as((kafka) => ({
              // secrets as values and as files, by turns
              ...(options.listener === "sasl_plaintext" ? kafka.values(options) : kafka.files(options)),
              KAFKA_TOPIC_PREFIX: unique(prefixes.hers)
            }))(roundTrip))
        }

        it.effect("by TLS with a certificate of the client's whose key is encrypted, all of it as values", () =>
          as(({ encrypted }) => ({ ...encrypted, KAFKA_TOPIC_PREFIX: unique(prefixes.hers) }))(roundTrip))

        it.effect("by TLS at a host that goes by another name in its certificate, which is given", () =>
          as((kafka) => {
            const environment = kafka.files({ listener: "sasl_ssl", user: "alice" })
            return {
              ...environment,
              KAFKA_BOOTSTRAP_SERVERS: environment["KAFKA_BOOTSTRAP_SERVERS"]!.replaceAll("127.0.0.1", "localhost"),
              KAFKA_SSL_SERVER_NAME: "kafka.internal",
              KAFKA_TOPIC_PREFIX: unique(prefixes.hers)
            }
          })(roundTrip))

        it.effect("by a bearer token in a file", () =>
          as(({ values, write }) => ({
            KAFKA_BOOTSTRAP_SERVERS: values({ listener: "sasl_plaintext" })["KAFKA_BOOTSTRAP_SERVERS"]!,
            KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT",
            KAFKA_SASL_MECHANISM: "OAUTHBEARER",
            KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: write("token", Redacted.value(tokenFor("alice", 3600))),
            KAFKA_TOPIC_PREFIX: unique(prefixes.hers)
          }))(roundTrip))

        it.effect("in transactions, with permission for the transactional id", () =>
          as((kafka) => ({
            ...kafka.files({ listener: "sasl_ssl", user: "alice" }),
            KAFKA_TOPIC_PREFIX: unique(prefixes.hers)
          }))(
            Effect.gen(function*() {
              const topic = textTopic("runs")
              yield* TopicRegistry.ensure([topic])
              yield* Producer.transaction(write(topic, texts(2)))
              yield* readAndLeave(
                topic,
                2,
                (_, records) => Effect.sync(() => expect(values(records)).toEqual(texts(2)))
              )
            }).pipe(Effect.provide(Producer.layer({ transactionalId: unique(prefixes.hers) })))
          ))
      })

      // -----------------------------------------------------------------------------------------------------------------
      // who is not let in
      // -----------------------------------------------------------------------------------------------------------------

      describe("says in seconds, of each client,", () => {
        const mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] as const

        const expectRefused = (
          environment: (kafka: SecuredKafka["Type"]) => Environment,
          expected: { readonly kind: string; readonly mechanism: string; readonly message: RegExp },
          secrets: ReadonlyArray<string> = []
        ) =>
          as(environment, secrets)(Effect.gen(function*() {
            for (const error of yield* refusals) {
              expect(error).toMatchObject({
                _tag: "KafkaAuthenticationError",
                kind: expected.kind,
                mechanism: expected.mechanism,
                message: expect.stringMatching(expected.message)
              })
            }
          }))

        for (const mechanism of mechanisms) {
          it.effect(`that the password is wrong, with ${mechanism}`, () => {
            const wrong = unique("wr0ng-")
            return expectRefused(
              (kafka) => ({
                ...kafka.values({ listener: "sasl_plaintext", mechanism, user: "alice" }),
                KAFKA_SASL_PASSWORD: wrong
              }),
              { kind: "credentials", mechanism: mechanism.toLowerCase(), message: /check username and password/ },
              [wrong]
            )
          })

          it.effect(`that nobody has this name, with ${mechanism}`, () =>
            expectRefused(
              (kafka) => ({
                ...kafka.values({ listener: "sasl_ssl", mechanism, user: "alice" }),
                KAFKA_SASL_USERNAME: "nobody"
              }),
              { kind: "credentials", mechanism: mechanism.toLowerCase(), message: /check username and password/ }
            ))
        }

        const token = (text: string, listener: "sasl_plaintext" | "sasl_ssl" = "sasl_plaintext") =>
        (
          kafka: SecuredKafka["Type"]
        ): Environment => {
          const { KAFKA_SASL_PASSWORD: _, KAFKA_SASL_USERNAME: __, ...rest } = kafka.values({ listener })
          return { ...rest, KAFKA_SASL_MECHANISM: "OAUTHBEARER", KAFKA_SASL_OAUTHBEARER_TOKEN: text }
        }

        it.effect("that the token has expired", () => {
          const expired = Redacted.value(tokenFor("alice", -3600))
          return expectRefused(
            token(expired),
            { kind: "token", mechanism: "oauthbearer", message: /check that it has not expired/ },
            [expired]
          )
        })

        it.effect("that the token is none", () => {
          const nonsense = unique("n0nsense-")
          return expectRefused(
            token(nonsense),
            { kind: "token", mechanism: "oauthbearer", message: /does not accept the token/ },
            [nonsense]
          )
        })

        it.effect("that the listener does not offer the mechanism", () =>
          expectRefused(
            token(Redacted.value(tokenFor("alice", 3600)), "sasl_ssl"),
            { kind: "mechanism", mechanism: "oauthbearer", message: /check the SASL mechanism/ }
          ))

        it.effect("that nobody trusts the broker's certificate", () =>
          expectRefused(
            (kafka) => {
              const { KAFKA_SSL_CA_FILE: _, ...rest } = kafka.values({ listener: "ssl" })
              return rest
            },
            { kind: "untrusted-certificate", mechanism: "ssl", message: /give .*the CA/ }
          ))

        it.effect("that the broker's certificate is of another authority than the given one", () =>
          expectRefused(
            (kafka) => ({ ...kafka.values({ listener: "sasl_ssl" }), KAFKA_SSL_CA_FILE: kafka.strangers.caFile }),
            { kind: "untrusted-certificate", mechanism: "ssl", message: /CA/ }
          ))

        it.effect("that the broker's certificate is for another host name", () =>
          expectRefused(
            (kafka) => {
              const environment = kafka.values({ listener: "sasl_ssl" })
              const servers = environment["KAFKA_BOOTSTRAP_SERVERS"]!.replaceAll("127.0.0.1", "localhost")
              return { ...environment, KAFKA_BOOTSTRAP_SERVERS: servers }
            },
            { kind: "host-name", mechanism: "ssl", message: /connect by a name in it, or set the server name/ }
          ))

        it.effect("that the broker asks for a certificate of ours", () =>
          expectRefused(
            (kafka) => {
              const { KAFKA_SSL_CERT_FILE: _, KAFKA_SSL_KEY_FILE: __, ...rest } = kafka.values({ listener: "mtls" })
              return rest
            },
            { kind: "client-certificate", mechanism: "ssl", message: /check cert and key/ }
          ))

        it.effect("that the broker does not take our certificate", () =>
          expectRefused(
            (kafka) => ({
              ...kafka.values({ listener: "mtls", user: "alice" }),
              KAFKA_SSL_CERT_FILE: kafka.strangers.clients["alice"]!.certFile,
              KAFKA_SSL_KEY_FILE: kafka.strangers.clients["alice"]!.keyFile
            }),
            { kind: "client-certificate", mechanism: "ssl", message: /that the broker trusts our CA/ }
          ))

        it.effect("that the listener is of another kind than the security protocol", () =>
          Effect.forEach(
            [["ssl", "PLAINTEXT"], ["plaintext", "SSL"], ["sasl_plaintext", "PLAINTEXT"], [
              "plaintext",
              "SASL_PLAINTEXT"
            ]] as const,
            ([listener, protocol]) =>
              as((kafka) => {
                const own = kafka.values({
                  listener: protocol === "PLAINTEXT" ? "plaintext" : protocol === "SSL" ? "ssl" : "sasl_plaintext"
                })
                return {
                  ...own,
                  KAFKA_BOOTSTRAP_SERVERS: kafka.cluster.bootstrapServersOf(listener),
                  // some of it can be found out by waiting alone
                  KAFKA_CONNECTION_TIMEOUT: "3 seconds"
                }
              })(Effect.gen(function*() {
                for (const error of yield* refusals) {
                  expect(error._tag).toMatch(/^Kafka(Connection|Timeout|Authentication)Error$/)
                  expect(String(error)).toMatch(/security protocol|TLS|mechanism|no answer/)
                }
              })),
            { concurrency: "unbounded", discard: true }
          ))

        it.effect("that the file of a secret has gone since the start", () =>
          Effect.gen(function*() {
            const { write } = yield* SecuredKafka
            const file = write("password", "gone soon")
            yield* as((kafka) => {
              const { KAFKA_SASL_PASSWORD: _, ...rest } = kafka.values({ listener: "sasl_plaintext" })
              return { ...rest, KAFKA_SASL_PASSWORD_FILE: file }
            })(Effect.gen(function*() {
              FileSystem.rmSync(file)
              for (const error of yield* refusals) {
                expect(error).toMatchObject({
                  _tag: "KafkaAuthenticationError",
                  kind: "unobtainable",
                  message: expect.stringMatching(/KAFKA_SASL_PASSWORD_FILE.*there is no such file/)
                })
              }
            }))
          }))
      })

      // -----------------------------------------------------------------------------------------------------------------
      // what is not allowed
      // -----------------------------------------------------------------------------------------------------------------

      describe("says in seconds that there is no permission", () => {
        const alice = as((kafka) => kafka.files({ listener: "sasl_ssl", user: "alice" }))

        /** A topic with a record, made by somebody who may. */
        const made = (prefix: string) =>
          Effect.gen(function*() {
            const { operator } = yield* SecuredKafka
            const topic = textTopic(unique(prefix))
            yield* Effect.zipRight(TopicRegistry.ensure([topic]), write(topic, texts(1))).pipe(
              Effect.provide(Producer.layer()),
              Effect.provide(client(operator))
            )
            return topic
          })

        const refused = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.flip(Effect.scoped(effect)).pipe(Effect.timeout(patience))

        const expectDenied = (
          error: unknown,
          resource: "topic" | "group" | "transactional-id" | "cluster",
          resourceName: string
        ): void =>
          expect(error).toMatchObject({
            _tag: "KafkaAuthorizationError",
            resource,
            resourceName,
            message: expect.stringContaining(`on ${resource} "${resourceName}": grant the principal an ACL`)
          })

        it.effect("to write to a topic, which may be read", () =>
          alice(Effect.gen(function*() {
            const topic = yield* made(prefixes.readable)
            const error = yield* refused(
              Effect.flatMap(Producer.make(), (producer) => producer.send(topic, { key: null, value: "mine" }))
            )
            expectDenied(error, "topic", topic.slug)
            const group = unique(prefixes.hers)
            const records = yield* Effect.scoped(Effect.flatMap(Consumer.make({ groupId: group }), (consumer) =>
              consumer.stream(topic).pipe(Stream.take(1), Stream.runCollect)))
            expect(values(records)).toEqual(texts(1))
          })))

        it.effect("to read a topic, which may be written to", () =>
          alice(Effect.gen(function*() {
            const topic = yield* made(prefixes.writable)
            const error = yield* refused(Effect.flatMap(Consumer.make({ groupId: unique(prefixes.hers) }), (consumer) =>
              Stream.runDrain(consumer.stream(topic))))
            expectDenied(error, "topic", topic.slug)
            yield* Effect.scoped(Effect.flatMap(Producer.make(), (producer) =>
              producer.send(topic, { key: null, value: "mine" })))
          })))

        it.effect("for a topic at all", () =>
          alice(Effect.gen(function*() {
            const topic = yield* made("closed-")
            expectDenied(
              yield* refused(
                Effect.flatMap(Producer.make(), (producer) => producer.send(topic, { key: null, value: "mine" }))
              ),
              "topic",
              topic.slug
            )
            expectDenied(
              yield* refused(Effect.flatMap(Consumer.make({ groupId: unique(prefixes.hers) }), (consumer) =>
                Stream.runDrain(consumer.stream(topic)))),
              "topic",
              topic.slug
            )
            expectDenied(
              yield* refused(Effect.flatMap(Admin.make, (admin) =>
                admin.describeTopics([topic]))),
              "topic",
              topic.slug
            )
          })))

        it.effect("to create a topic", () =>
          alice(Effect.gen(function*() {
            const topic = textTopic(unique("closed-"))
            expectDenied(yield* refused(TopicRegistry.ensure([topic])), "topic", topic.slug)
          })))

        it.effect("for a group", () =>
          alice(Effect.gen(function*() {
            const topic = yield* made(prefixes.readable)
            const groupId = unique("closed-")
            expectDenied(
              yield* refused(
                Effect.flatMap(Consumer.make({ groupId }), (consumer) => Stream.runDrain(consumer.stream(topic)))
              ),
              "group",
              groupId
            )
            expectDenied(
              yield* refused(Effect.flatMap(Admin.make, (admin) => admin.groupOffsets(groupId))),
              "group",
              groupId
            )
          })))

        it.effect("for anything on the cluster", () =>
          as((kafka) => kafka.files({ listener: "sasl_ssl", user: "guest" }))(Effect.gen(function*() {
            expectDenied(yield* refused(Producer.make()), "cluster", "kafka-cluster")
          })))

        it.effect("for a transactional id", () =>
          alice(Effect.gen(function*() {
            const transactionalId = unique("closed-")
            expectDenied(yield* refused(Producer.make({ transactionalId })), "transactional-id", transactionalId)
          })))
      })

      describe("says in seconds that a permission was taken away", () => {
        const working = as((kafka) => ({
          ...kafka.files({ listener: "sasl_ssl", user: "alice" }),
          KAFKA_TOPIC_PREFIX: unique(prefixes.hers)
        }))

        /** Two topics, each with a stream that has read a record of it. */
        const atWork = Effect.gen(function*() {
          const [one, two] = [textTopic("one"), textTopic("two")]
          yield* TopicRegistry.ensure([one, two])
          const consumer = yield* member()
          const [first, second] = [yield* running(consumer.stream(one)), yield* running(consumer.stream(two))]
          yield* write(one, texts(1))
          yield* write(two, texts(1))
          yield* Effect.all([first.count(1), second.count(1)])
          return { one, two, first, second }
        })

        const denied = (resource: string, resourceName: string) => ({
          _tag: "KafkaAuthorizationError",
          resource,
          resourceName
        })

        it.effect("for a topic, and goes on with the others", () =>
          working(
            Effect.gen(function*() {
              const { first, one, second, two } = yield* atWork
              const name = yield* TopicRegistry.resolve(one)
              yield* (yield* SecuredKafka).deny("topic", name)
              const error = yield* Effect.flip(Fiber.join(first.fiber)).pipe(Effect.timeout(patience))
              expect(error).toMatchObject(denied("topic", name))
              expect(yield* Effect.flip(write(one, texts(1)))).toMatchObject(denied("topic", name))
              yield* write(two, texts(2, 1))
              expect(values(yield* second.count(3))).toEqual(texts(3))
            }).pipe(Effect.provide(Producer.layer()), Effect.scoped)
          ))

        it.effect("for the group, to all its streams", () =>
          working(
            Effect.gen(function*() {
              const { first, second } = yield* atWork
              const group = yield* groupName()
              yield* (yield* SecuredKafka).deny("group", group)
              for (const { fiber } of [first, second]) {
                const error = yield* Effect.flip(Fiber.join(fiber)).pipe(Effect.timeout(patience))
                expect(error).toMatchObject(denied("group", group))
              }
            }).pipe(Effect.provide(Producer.layer()), Effect.scoped)
          ))
      })

      // -----------------------------------------------------------------------------------------------------------------
      // what changes
      // -----------------------------------------------------------------------------------------------------------------

      describe("goes on", () => {
        /** A producer and a member of a group that last, and what both of them do with so many records. */
        const service = Effect.gen(function*() {
          const topic = textTopic("runs")
          yield* TopicRegistry.ensure([topic])
          const producer = yield* Producer.make()
          const consumer = yield* member()
          const read = yield* running(consumer.commitWithin(1, "1 second")(consumer.stream(topic)))
          let sent = 0
          return (count: number) =>
            Effect.gen(function*() {
              for (const value of texts(count, sent)) {
                sent += 1
                yield* producer.send(topic, { key: null, value })
                yield* Effect.sleep("100 millis")
              }
              yield* read.count(sent)
            })
        })

        it.effect("with tokens that are renewed before they expire", () =>
          Effect.gen(function*() {
            const { cluster, secrets } = yield* SecuredKafka
            const shown = new Set<string>()
            let asked = 0
            const token = Effect.sync(() => {
              asked += 1
              const one = tokenFor("alice", 10)
              shown.add(Redacted.value(one))
              return one
            })
            const config = KafkaConfig.layer({
              brokers: cluster.bootstrapServersOf("sasl_plaintext"),
              topicPrefix: unique(prefixes.hers),
              security: KafkaConfig.sasl({ over: KafkaConfig.plaintext, mechanism: "oauthbearer", token })
            })
            yield* Effect.gen(function*() {
              const work = yield* service
              yield* work(3)
              const before = asked
              yield* work(45)
              expect(asked).toBeGreaterThan(before)
            }).pipe(
              Effect.scoped,
              Effect.provide(Layer.merge(driver.layer, TopicRegistry.layer).pipe(Layer.provide(config))),
              // those that were not shown yet are looked for too: the set is read at the end
              watch({ [Symbol.iterator]: () => [...secrets, ...shown].values() })
            )
          }))

        it.effect("where credentials were wrong for a while", () =>
          Effect.gen(function*() {
            const { cluster, secrets } = yield* SecuredKafka
            const wrong = unique("wr0ng-")
            let password = cluster.users["alice"]!
            const config = KafkaConfig.layer({
              brokers: cluster.bootstrapServersOf("sasl_plaintext"),
              topicPrefix: unique(prefixes.hers),
              security: KafkaConfig.sasl({
                over: KafkaConfig.plaintext,
                mechanism: "scram-sha-256",
                credentials: Effect.sync(() => ({ username: "alice", password: Redacted.make(password) }))
              })
            })
            yield* Effect.gen(function*() {
              const topic = textTopic("runs")
              yield* TopicRegistry.ensure([topic])
              const producer = yield* Producer.make()
              const send = (value: string) => producer.send(topic, { key: null, value })
              yield* send("before")
              const consumer = yield* member()
              const read = yield* running(consumer.stream(topic))
              yield* read.count(1)
              password = wrong
              // the session that the broker gave has an end
              const error = yield* Effect.flip(
                Effect.forever(Effect.zipRight(send("meanwhile"), Effect.sleep("100 millis")))
              ).pipe(Effect.timeout(patience))
              expect(error).toMatchObject({ _tag: "KafkaAuthenticationError", kind: "credentials" })
              expect(yield* Effect.flip(Fiber.join(read.fiber)).pipe(Effect.timeout(patience))).toMatchObject({
                _tag: "KafkaAuthenticationError",
                kind: "credentials"
              })
              password = cluster.users["alice"]!
              yield* send("after")
            }).pipe(
              Effect.scoped,
              Effect.provide(Layer.merge(driver.layer, TopicRegistry.layer).pipe(Layer.provide(config))),
              watch([...secrets, wrong])
            )
          }))

        it.effect("when the password has changed, and every connection is made again", () =>
          Effect.gen(function*() {
            const kafka = yield* SecuredKafka
            const options = { listener: "sasl_ssl", mechanism: "SCRAM-SHA-512", user: "rotating" } as const
            const variables = kafka.values(options)
            const passwords = [variables["KAFKA_SASL_PASSWORD"]!, unique("renewed-")] as const
            const file = kafka.write("password", passwords[0])
            let current = Redacted.make(passwords[0])
            const { KAFKA_SASL_PASSWORD: _, ...rest } = variables
            const byFile = client({
              ...rest,
              KAFKA_SASL_PASSWORD_FILE: file,
              KAFKA_TOPIC_PREFIX: unique(prefixes.hers)
            })
            const byEffect = Layer.merge(driver.layer, TopicRegistry.layer).pipe(Layer.provide(KafkaConfig.layer({
              brokers: variables["KAFKA_BOOTSTRAP_SERVERS"]!,
              topicPrefix: unique(prefixes.hers),
              security: KafkaConfig.sasl({
                over: KafkaConfig.ssl({ ca: FileSystem.readFileSync(variables["KAFKA_SSL_CA_FILE"]!, "utf8") }),
                mechanism: "scram-sha-512",
                credentials: Effect.sync(() => ({ username: "rotating", password: current }))
              })
            })))
            const rotated = yield* Deferred.make<void>()
            const before = yield* Effect.makeLatch(false)
            let started = 0
            const user = (layer: typeof byFile) =>
              Effect.gen(function*() {
                const work = yield* service
                yield* work(3)
                if (++started === 2) yield* before.open
                yield* Deferred.await(rotated)
                yield* work(3)
              }).pipe(Effect.scoped, Effect.provide(layer))
            const rotate = Effect.gen(function*() {
              yield* before.await
              yield* kafka.changePassword("rotating", passwords[1])
              FileSystem.writeFileSync(file, `${passwords[1]}\n`)
              current = Redacted.make(passwords[1])
              yield* kafka.restart
              yield* Deferred.succeed(rotated, undefined)
            })
            yield* Effect.all([user(byFile), user(byEffect), rotate], { concurrency: "unbounded" }).pipe(
              watch([...kafka.secrets, ...passwords])
            )
            // and nobody comes in by the old one any more
            const old = yield* Effect.provide(refusals, client(variables))
            expect(old).toMatchObject(old.map(() => ({ _tag: "KafkaAuthenticationError", kind: "credentials" })))
          }))
      })
    })
  })
}
