import * as KafkaConfig from "@coffeebuddy/kafka/KafkaConfig"
import * as KafkaError from "@coffeebuddy/kafka/KafkaError"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Config,
  type ConfigError,
  ConfigProvider,
  Duration,
  Effect,
  Either,
  Exit,
  FastCheck,
  Logger,
  LogLevel,
  Redacted
} from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inspect } from "node:util"
import { hostAndPort, parseBrokers } from "../src/engine/brokers.ts"
import * as tls from "./fixtures/tls.ts"

type Environment = Readonly<Record<string, string>>

const provider = (environment: Environment): ConfigProvider.ConfigProvider =>
  ConfigProvider.fromMap(new Map(Object.entries(environment)))

const load = (environment: Environment): Effect.Effect<KafkaConfig.Service, ConfigError.ConfigError> =>
  Effect.withConfigProvider(KafkaConfig.fromEnv, provider(environment))

interface Problem {
  readonly op: "missing" | "invalid"
  readonly path: string
  readonly message: string
}

const list = (error: ConfigError.ConfigError): ReadonlyArray<Problem> => {
  switch (error._op) {
    case "And":
    case "Or":
      return [...list(error.left), ...list(error.right)]
    default:
      return [{
        op: error._op === "MissingData" ? "missing" : "invalid",
        path: error.path.join("."),
        message: error.message
      }]
  }
}

const problemsOf = (environment: Environment): Effect.Effect<ReadonlyArray<Problem>, KafkaConfig.Service> =>
  Effect.map(Effect.flip(load(environment)), list)

const expectProblems = (
  environment: Environment,
  ...expected: ReadonlyArray<readonly [path: string, message: RegExp]>
) =>
  Effect.map(problemsOf(environment), (problems) => {
    expect(problems.map(({ path }) => path).sort()).toEqual(expected.map(([path]) => path).sort())
    for (const [path, message] of expected) {
      expect(problems.some((problem) => problem.path === path && message.test(problem.message)), `${path} ${message}`)
        .toBe(true)
    }
  })

const brokers = { KAFKA_BOOTSTRAP_SERVERS: "kafka-1:9092" }

const files = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = mkdtempSync(join(tmpdir(), "coffeebuddy-config-"))
    return {
      folder,
      write: (name: string, text: string): string => {
        const path = join(folder, name)
        writeFileSync(path, text)
        return path
      }
    }
  }),
  ({ folder }) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

const expectSasl = (security: KafkaConfig.Security): KafkaConfig.SaslPassword => {
  if (security._tag !== "Sasl" || security.mechanism === "oauthbearer") throw new Error(`found ${security._tag}`)
  return security
}

const expectSsl = (security: KafkaConfig.Plaintext | KafkaConfig.Ssl | KafkaConfig.Security): KafkaConfig.Ssl => {
  if (security._tag !== "Ssl") throw new Error(`found ${security._tag}`)
  return security
}

describe("brokers", () => {
  it.each([
    ["kafka-1:9092", ["kafka-1:9092"]],
    [" kafka-1:9092 , kafka_2.internal:19092", ["kafka-1:9092", "kafka_2.internal:19092"]],
    ["10.0.0.1:9092,[::1]:9092,[fe80::1]:9093", ["10.0.0.1:9092", "[::1]:9092", "[fe80::1]:9093"]],
    ["kafka-1:9092,kafka-1:9092,kafka-1:09092", ["kafka-1:9092"]]
  ])("%s is understood", (text, expected) => {
    expect(parseBrokers(text)).toEqual({ brokers: expected, problems: [] })
  })

  it.each([
    ["", /at least one/],
    [" , ,", /at least one/],
    ["kafka-1:9092,", /found nothing/],
    ["kafka-1", /without a port/],
    ["kafka-1:", /port/],
    ["kafka-1:0", /1 to 65535/],
    ["kafka-1:65536", /1 to 65535/],
    ["kafka-1:90a2", /1 to 65535/],
    ["kafka-1:9092:9093", /1 to 65535/],
    [":9092", /host name/],
    ["kafka 1:9092", /host name/],
    ["-kafka:9092", /host name/],
    ["::1", /brackets/],
    ["[::1]", /port/],
    ["[not-an-address]:9092", /host name/],
    ["PLAINTEXT://kafka-1:9092", /without a protocol/]
  ])("%j is refused with what is allowed", (text, message) => {
    const { brokers, problems } = parseBrokers(text)
    expect(brokers).toEqual([])
    expect(problems).toHaveLength(1)
    expect(problems[0]).toMatch(message)
  })

  it("a variable that is not set is told as such, where a program takes it unseen", () => {
    expect(parseBrokers(undefined).problems).toEqual([expect.stringMatching(/expected at least one host:port/)])
  })

  it("a client id that is no text is told as such", () => {
    const options: KafkaConfig.Options = JSON.parse(`{ "brokers": "a:1", "clientId": 5 }`)
    expect(String(Either.getOrThrow(Either.flip(KafkaConfig.make(options))))).toMatch(
      /clientId: "expected a name, found/
    )
  })

  it("every bad entry is named", () => {
    expect(parseBrokers("a,b:1,c").problems).toHaveLength(2)
  })

  it("a password in front of a host is not shown", () => {
    expect(parseBrokers("user:canary@host:9092").problems.join()).not.toContain("canary")
    expect(parseBrokers("https://user:canary@host:9092").problems.join()).not.toContain("canary")
  })

  const host = FastCheck.oneof(
    FastCheck.domain(),
    FastCheck.ipV4(),
    FastCheck.ipV6().map((address) => `[${address}]`)
  )

  it.prop(
    "whatever is understood comes back as it was",
    [FastCheck.array(FastCheck.tuple(host, FastCheck.integer({ min: 1, max: 65535 })), { minLength: 1 })],
    ([entries]) => {
      const list = entries.map(([host, port]) => `${host}:${port}`)
      const parsed = parseBrokers(list)
      expect(parsed).toEqual({ brokers: [...new Set(list)], problems: [] })
      for (const broker of parsed.brokers) {
        const { host, port } = hostAndPort(broker)
        expect(broker).toBe(host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`)
      }
    }
  )

  it.prop("any text is understood or refused, never thrown at", [FastCheck.string()], ([text]) => {
    const { brokers, problems } = parseBrokers(text)
    expect(brokers.length > 0).toBe(problems.length === 0)
  })
})

describe("from the environment", () => {
  it.effect("brokers alone are enough, and the rest has its defaults", () =>
    Effect.gen(function*() {
      const config = yield* load({ KAFKA_BOOTSTRAP_SERVERS: "kafka-1:9092,kafka-2:9092" })
      expect(config.brokers).toEqual(["kafka-1:9092", "kafka-2:9092"])
      expect(config.clientId).toBe("coffeebuddy-kafka")
      expect(config.topicPrefix).toBeUndefined()
      expect(config.security).toEqual({ _tag: "Plaintext" })
      expect(Duration.toMillis(config.connectionTimeout)).toBe(10_000)
      expect(Duration.toMillis(config.requestTimeout)).toBe(30_000)
    }))

  it.effect("every plain variable is taken up", () =>
    Effect.gen(function*() {
      const config = yield* load({
        ...brokers,
        KAFKA_CLIENT_ID: "run-projector",
        KAFKA_TOPIC_PREFIX: "coffeebuddy",
        KAFKA_CONNECTION_TIMEOUT: "5 seconds",
        KAFKA_REQUEST_TIMEOUT: "1500"
      })
      expect(config.clientId).toBe("run-projector")
      expect(config.topicPrefix).toBe("coffeebuddy")
      expect(Duration.toMillis(config.connectionTimeout)).toBe(5000)
      expect(Duration.toMillis(config.requestTimeout)).toBe(1500)
    }))

  it.effect("a variable that is set to nothing counts as unset", () =>
    Effect.gen(function*() {
      const config = yield* load({
        ...brokers,
        KAFKA_CLIENT_ID: "",
        KAFKA_TOPIC_PREFIX: " ",
        KAFKA_SECURITY_PROTOCOL: "",
        KAFKA_SASL_PASSWORD: "",
        KAFKA_SSL_CA_FILE: ""
      })
      expect(config.clientId).toBe("coffeebuddy-kafka")
      expect(config.topicPrefix).toBeUndefined()
      expect(config.security._tag).toBe("Plaintext")
    }))

  it.effect("without brokers it is missing data, so that a default of the caller's may stand in", () =>
    Effect.gen(function*() {
      expect(yield* problemsOf({})).toEqual([
        { op: "missing", path: "KAFKA_BOOTSTRAP_SERVERS", message: expect.stringContaining("kafka-1:9092") }
      ])
      const other = yield* KafkaConfig.make({ brokers: "localhost:9092" })
      const config = yield* Effect.withConfigProvider(
        Config.withDefault(KafkaConfig.fromEnv, other),
        provider({})
      )
      expect(config).toBe(other)
    }))

  it.effect("a default never hides a contradiction", () =>
    Effect.gen(function*() {
      const other = yield* KafkaConfig.make({ brokers: "localhost:9092" })
      const exit = yield* Effect.exit(Effect.withConfigProvider(
        Config.withDefault(KafkaConfig.fromEnv, other),
        provider({ ...brokers, KAFKA_SECURITY_PROTOCOL: "SASL_SSL" })
      ))
      expect(Exit.isFailure(exit)).toBe(true)
    }))

  it.effect("it can be nested under a prefix of one's own, and problems are named with it", () =>
    Effect.gen(function*() {
      const nested = Config.nested(KafkaConfig.fromEnv, "ORDERS")
      const config = yield* Effect.withConfigProvider(nested, provider({ "ORDERS.KAFKA_BOOTSTRAP_SERVERS": "a:1" }))
      expect(config.brokers).toEqual(["a:1"])
      const error = yield* Effect.flip(
        Effect.withConfigProvider(nested, provider({ "ORDERS.KAFKA_BOOTSTRAP_SERVERS": "a" }))
      )
      expect(list(error).map(({ path }) => path)).toEqual(["ORDERS.KAFKA_BOOTSTRAP_SERVERS"])
    }))

  it.effect.each(["PLAINTEXT", "plaintext", "Plaintext"])(
    "protocol %s is read whatever its case",
    (protocol) =>
      Effect.map(load({ ...brokers, KAFKA_SECURITY_PROTOCOL: protocol }), (config) => {
        expect(config.security._tag).toBe("Plaintext")
      })
  )

  it.effect.each(
    [
      ["PLAIN", "plain"],
      ["scram-sha-256", "scram-sha-256"],
      ["SCRAM-SHA-512", "scram-sha-512"]
    ] as const
  )("mechanism %s with a user and a password", ([written, mechanism]) =>
    Effect.gen(function*() {
      const config = yield* load({
        ...brokers,
        KAFKA_SECURITY_PROTOCOL: "sasl_plaintext",
        KAFKA_SASL_MECHANISM: written,
        KAFKA_SASL_USERNAME: "barista",
        KAFKA_SASL_PASSWORD: " a, b = c "
      })
      const security = expectSasl(config.security)
      expect(security.mechanism).toBe(mechanism)
      expect(security.over._tag).toBe("Plaintext")
      const credentials = yield* security.credentials
      expect(credentials.username).toBe("barista")
      expect(Redacted.value(credentials.password)).toBe(" a, b = c ")
    }))

  it.scoped("secrets as files, as secret stores mount them: the line's end does not count", () =>
    Effect.gen(function*() {
      const { write } = yield* files
      const config = yield* load({
        ...brokers,
        KAFKA_SECURITY_PROTOCOL: "SASL_SSL",
        KAFKA_SASL_MECHANISM: "SCRAM-SHA-512",
        KAFKA_SASL_USERNAME_FILE: write("username", "barista\r\n"),
        KAFKA_SASL_PASSWORD_FILE: write("password", "se cret \n"),
        KAFKA_SSL_CA_FILE: write("ca.pem", tls.certificate),
        KAFKA_SSL_CERT_FILE: write("cert.pem", tls.certificate),
        KAFKA_SSL_KEY_FILE: write("key.pem", tls.encryptedKey),
        KAFKA_SSL_KEY_PASSPHRASE_FILE: write("passphrase", tls.passphrase)
      })
      const security = expectSasl(config.security)
      const credentials = yield* security.credentials
      expect(credentials.username).toBe("barista")
      expect(Redacted.value(credentials.password)).toBe("se cret ")
      const found = yield* expectSsl(security.over).tls
      expect(found.ca).toBe(tls.certificate.trimEnd())
      expect(found.cert).toBe(tls.certificate.trimEnd())
      expect(Redacted.value(found.key ?? Redacted.make(""))).toBe(tls.encryptedKey.trimEnd())
      expect(Redacted.value(found.passphrase ?? Redacted.make(""))).toBe(tls.passphrase)
      expect(found.rejectUnauthorized).toBe(true)
    }))

  it.scoped("files are read again at each connect, so that rotated secrets are taken up", () =>
    Effect.gen(function*() {
      const { write } = yield* files
      const password = write("password", "old")
      const ca = write("ca.pem", tls.certificate)
      const config = yield* load({
        ...brokers,
        KAFKA_SECURITY_PROTOCOL: "SASL_SSL",
        KAFKA_SASL_MECHANISM: "PLAIN",
        KAFKA_SASL_USERNAME: "barista",
        KAFKA_SASL_PASSWORD_FILE: password,
        KAFKA_SSL_CA_FILE: ca
      })
      const security = expectSasl(config.security)
      expect(Redacted.value((yield* security.credentials).password)).toBe("old")
      writeFileSync(password, "new\n")
      expect(Redacted.value((yield* security.credentials).password)).toBe("new")

      writeFileSync(ca, "not a certificate")
      const wrong = yield* Effect.flip(expectSsl(security.over).tls)
      expect(wrong.message).toMatch(/ca: expected certificates/)

      rmSync(password)
      const gone = yield* Effect.flip(security.credentials)
      expect(gone).toBeInstanceOf(KafkaError.KafkaAuthenticationError)
      expect(gone.message).toMatch(/KAFKA_SASL_PASSWORD_FILE.*no such file/)
    }))

  it.effect("certificates may stand in the variables, with their line ends written out", () =>
    Effect.gen(function*() {
      const oneLine = (pem: string): string => pem.replaceAll("\n", "\\n")
      const config = yield* load({
        ...brokers,
        KAFKA_SECURITY_PROTOCOL: "SSL",
        KAFKA_SSL_CA: tls.certificate,
        KAFKA_SSL_CERT: oneLine(tls.certificate),
        KAFKA_SSL_KEY: oneLine(tls.key),
        KAFKA_SSL_SERVER_NAME: "kafka.internal",
        KAFKA_SSL_REJECT_UNAUTHORIZED: "false"
      })
      const found = yield* expectSsl(config.security).tls
      expect(found.cert).toBe(tls.certificate)
      expect(found.key && Redacted.value(found.key)).toBe(tls.key)
      expect(found.serverName).toBe("kafka.internal")
      expect(found.rejectUnauthorized).toBe(false)
    }))

  it.scoped("a bearer token comes from a variable or from a file that is read again", () =>
    Effect.gen(function*() {
      const { write } = yield* files
      const path = write("token", "first\n")
      const config = yield* load({
        ...brokers,
        KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT",
        KAFKA_SASL_MECHANISM: "OAUTHBEARER",
        KAFKA_SASL_OAUTHBEARER_TOKEN_FILE: path
      })
      if (config.security._tag !== "Sasl" || config.security.mechanism !== "oauthbearer") throw new Error("no token")
      expect(Redacted.value(yield* config.security.token)).toBe("first")
      writeFileSync(path, "second")
      expect(Redacted.value(yield* config.security.token)).toBe("second")
    }))

  it.effect("layerEnv reads the same", () =>
    Effect.gen(function*() {
      const config = yield* KafkaConfig.KafkaConfig
      expect(config.brokers).toEqual(["kafka-1:9092"])
    }).pipe(Effect.provide(KafkaConfig.layerEnv), Effect.withConfigProvider(provider(brokers))))
})

describe("what is wrong in the environment", () => {
  it.effect("all of it is said at once", () =>
    expectProblems(
      {
        KAFKA_BOOTSTRAP_SERVERS: "kafka-1,kafka-2:0",
        KAFKA_TOPIC_PREFIX: "coffee buddy",
        KAFKA_SECURITY_PROTOCOL: "TLS",
        KAFKA_CONNECTION_TIMEOUT: "soon",
        KAFKA_REQUEST_TIMEOUT: "0",
        KAFKA_SSL_CA_FILE: "/no/such/file"
      },
      ["KAFKA_BOOTSTRAP_SERVERS", /found "kafka-1" without a port/],
      ["KAFKA_BOOTSTRAP_SERVERS", /1 to 65535, found "kafka-2:0"/],
      ["KAFKA_TOPIC_PREFIX", /letters, digits.*found "coffee buddy"/],
      ["KAFKA_SECURITY_PROTOCOL", /one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL, found "TLS"/],
      ["KAFKA_CONNECTION_TIMEOUT", /at least one millisecond.*found "soon"/],
      ["KAFKA_REQUEST_TIMEOUT", /at least one millisecond/],
      ["KAFKA_SSL_CA_FILE", /"\/no\/such\/file": there is no such file/]
    ))

  it.effect("it is said even where the brokers are missing", () =>
    expectProblems(
      { KAFKA_SECURITY_PROTOCOL: "nothing" },
      ["KAFKA_BOOTSTRAP_SERVERS", /not set/],
      ["KAFKA_SECURITY_PROTOCOL", /one of/]
    ))

  it.effect("a prefix with a dot at its end is refused, since a dot is put there", () =>
    expectProblems({ ...brokers, KAFKA_TOPIC_PREFIX: "coffeebuddy." }, ["KAFKA_TOPIC_PREFIX", /no "\." at its ends/]))

  it.effect("SASL settings without SASL", () =>
    expectProblems(
      { ...brokers, KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_SASL_USERNAME: "a", KAFKA_SASL_PASSWORD: "b" },
      ["KAFKA_SASL_MECHANISM", /KAFKA_SECURITY_PROTOCOL is PLAINTEXT, its default: use SASL_PLAINTEXT or SASL_SSL/],
      ["KAFKA_SASL_USERNAME", /PLAINTEXT/],
      ["KAFKA_SASL_PASSWORD", /PLAINTEXT/]
    ))

  it.effect("SASL settings with SSL", () =>
    expectProblems(
      { ...brokers, KAFKA_SECURITY_PROTOCOL: "SSL", KAFKA_SASL_MECHANISM: "PLAIN" },
      ["KAFKA_SASL_MECHANISM", /KAFKA_SECURITY_PROTOCOL is SSL: use SASL_PLAINTEXT or SASL_SSL/]
    ))

  it.effect("SSL settings without SSL", () =>
    expectProblems(
      { ...brokers, KAFKA_SSL_CA: tls.certificate, KAFKA_SSL_SERVER_NAME: "a" },
      ["KAFKA_SSL_CA", /use SSL or SASL_SSL/],
      ["KAFKA_SSL_SERVER_NAME", /use SSL or SASL_SSL/]
    ))

  it.effect("SASL without mechanism", () =>
    expectProblems(
      { ...brokers, KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT" },
      ["KAFKA_SASL_MECHANISM", /one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER.*not set/]
    ))

  it.effect("an unknown mechanism", () =>
    expectProblems(
      { ...brokers, KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT", KAFKA_SASL_MECHANISM: "GSSAPI" },
      ["KAFKA_SASL_MECHANISM", /one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, found "GSSAPI"/]
    ))

  it.effect("SASL without user and password", () =>
    expectProblems(
      { ...brokers, KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT", KAFKA_SASL_MECHANISM: "PLAIN" },
      ["KAFKA_SASL_USERNAME", /KAFKA_SASL_USERNAME or KAFKA_SASL_USERNAME_FILE/],
      ["KAFKA_SASL_PASSWORD", /KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE/]
    ))

  it.effect("a token where a password is needed, and the reverse", () =>
    Effect.zipRight(
      expectProblems(
        {
          ...brokers,
          KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT",
          KAFKA_SASL_MECHANISM: "PLAIN",
          KAFKA_SASL_USERNAME: "a",
          KAFKA_SASL_PASSWORD: "b",
          KAFKA_SASL_OAUTHBEARER_TOKEN: "c"
        },
        ["KAFKA_SASL_OAUTHBEARER_TOKEN", /KAFKA_SASL_MECHANISM is PLAIN, which has no use for it/]
      ),
      expectProblems(
        {
          ...brokers,
          KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT",
          KAFKA_SASL_MECHANISM: "OAUTHBEARER",
          KAFKA_SASL_PASSWORD: "b"
        },
        ["KAFKA_SASL_OAUTHBEARER_TOKEN", /neither is set/],
        ["KAFKA_SASL_PASSWORD", /no use for it/]
      )
    ))

  it.effect("a value and a file for the same", () =>
    expectProblems(
      {
        ...brokers,
        KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT",
        KAFKA_SASL_MECHANISM: "PLAIN",
        KAFKA_SASL_USERNAME: "a",
        KAFKA_SASL_PASSWORD: "b",
        KAFKA_SASL_PASSWORD_FILE: "/b"
      },
      ["KAFKA_SASL_PASSWORD", /either KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE, found both/]
    ))

  it.scoped("files that are no files, or empty", () =>
    Effect.gen(function*() {
      const { folder, write } = yield* files
      yield* expectProblems(
        {
          ...brokers,
          KAFKA_SECURITY_PROTOCOL: "SASL_SSL",
          KAFKA_SASL_MECHANISM: "PLAIN",
          KAFKA_SASL_USERNAME_FILE: folder,
          KAFKA_SASL_PASSWORD_FILE: write("empty", "\n"),
          KAFKA_SSL_CA_FILE: write("huge", "x".repeat(1024 * 1024 + 1))
        },
        ["KAFKA_SASL_USERNAME_FILE", /it is a directory/],
        ["KAFKA_SASL_PASSWORD_FILE", /it is empty/],
        ["KAFKA_SSL_CA_FILE", /at most 1048576 bytes/]
      )
    }))

  it.effect.each(
    [
      ["a certificate without its key", { KAFKA_SSL_CERT: tls.certificate }, "KAFKA_SSL_KEY", /needs its private key/],
      ["a key without its certificate", { KAFKA_SSL_KEY: tls.key }, "KAFKA_SSL_CERT", /needs its certificate/],
      ["a passphrase without a key", { KAFKA_SSL_KEY_PASSPHRASE: "a" }, "KAFKA_SSL_KEY", /private key is missing/],
      ["a CA that is none", { KAFKA_SSL_CA: "ca" }, "KAFKA_SSL_CA", /certificates as PEM/],
      [
        "a certificate that is none",
        { KAFKA_SSL_CERT: tls.key, KAFKA_SSL_KEY: tls.key },
        "KAFKA_SSL_CERT",
        /certificates as PEM/
      ],
      [
        "a key that is none",
        { KAFKA_SSL_CERT: tls.certificate, KAFKA_SSL_KEY: tls.certificate },
        "KAFKA_SSL_KEY",
        /private key as PEM/
      ],
      [
        "the key of another certificate",
        { KAFKA_SSL_CERT: tls.certificate, KAFKA_SSL_KEY: tls.otherKey },
        "KAFKA_SSL_KEY",
        /not the one of the certificate/
      ],
      [
        "an encrypted key without its passphrase",
        { KAFKA_SSL_CERT: tls.certificate, KAFKA_SSL_KEY: tls.encryptedKey },
        "KAFKA_SSL_KEY_PASSPHRASE",
        /passphrase is missing/
      ],
      [
        "an encrypted key with a wrong passphrase",
        { KAFKA_SSL_CERT: tls.certificate, KAFKA_SSL_KEY: tls.encryptedKey, KAFKA_SSL_KEY_PASSPHRASE: "wrong" },
        "KAFKA_SSL_KEY_PASSPHRASE",
        /can't be decrypted/
      ],
      [
        "an answer that is neither true nor false",
        { KAFKA_SSL_REJECT_UNAUTHORIZED: "maybe" },
        "KAFKA_SSL_REJECT_UNAUTHORIZED",
        /one of TRUE, FALSE, found "maybe"/
      ]
    ] as const
  )(
    "%s",
    ([, environment, path, message]) =>
      expectProblems({ ...brokers, KAFKA_SECURITY_PROTOCOL: "SSL", ...environment }, [path, message])
  )
})

describe("in code", () => {
  it("takes brokers as a list and durations as they are written", () => {
    const config = Either.getOrThrow(KafkaConfig.make({
      brokers: ["kafka-1:9092", "kafka-2:9092"],
      connectionTimeout: "5 seconds",
      requestTimeout: 1000
    }))
    expect(config.brokers).toEqual(["kafka-1:9092", "kafka-2:9092"])
    expect(Duration.toMillis(config.connectionTimeout)).toBe(5000)
    expect(Duration.toMillis(config.requestTimeout)).toBe(1000)
  })

  it("says all that is wrong at once, by the names of the options", () => {
    const result = KafkaConfig.make({
      brokers: [],
      clientId: "",
      topicPrefix: "..",
      connectionTimeout: "forever" as "1 second",
      requestTimeout: Duration.infinity,
      security: KafkaConfig.sasl({
        over: KafkaConfig.ssl({ cert: tls.certificate }),
        mechanism: "plain",
        credentials: { username: "", password: Redacted.make("") }
      })
    })
    expect(Either.isLeft(result) && list(result.left).map(({ path }) => path)).toEqual([
      "brokers",
      "clientId",
      "topicPrefix",
      "security.over.tls.key",
      "security.credentials.username",
      "security.credentials.password",
      "connectionTimeout",
      "requestTimeout"
    ])
  })

  it("an empty token, and a mechanism that a program without types made up", () => {
    const wrong = (security: KafkaConfig.SecurityOptions): ReadonlyArray<string> => {
      const result = KafkaConfig.make({ brokers: "a:1", security })
      return Either.isLeft(result) ? list(result.left).map(({ message, path }) => `${path} ${message}`) : []
    }
    expect(wrong(KafkaConfig.sasl({ mechanism: "oauthbearer", token: Redacted.make("") }))).toEqual([
      "security.token expected a token, found an empty one"
    ])
    expect(wrong(KafkaConfig.sasl({
      mechanism: "gssapi" as "plain",
      credentials: { username: "a", password: Redacted.make("b") }
    }))).toEqual([
      `security.mechanism expected one of plain, scram-sha-256, scram-sha-512, oauthbearer, found "gssapi"`
    ])
  })

  it.effect("credentials given as an effect are asked for again each time", () =>
    Effect.gen(function*() {
      let asked = 0
      const config = yield* KafkaConfig.make({
        brokers: "a:1",
        security: KafkaConfig.sasl({
          mechanism: "plain",
          credentials: Effect.sync(() => ({ username: "barista", password: Redacted.make(`password-${++asked}`) }))
        })
      })
      expect(asked).toBe(0)
      const security = expectSasl(config.security)
      expect(security.over._tag).toBe("Ssl")
      expect(Redacted.value((yield* security.credentials).password)).toBe("password-1")
      expect(Redacted.value((yield* security.credentials).password)).toBe("password-2")
    }))

  it.effect("where they can't be had, or are wrong, it is an authentication error with its cause", () =>
    Effect.gen(function*() {
      const sasl = (credentials: Effect.Effect<KafkaConfig.Credentials, unknown>) =>
        Effect.flatMap(
          KafkaConfig.make({ brokers: "a:1", security: KafkaConfig.sasl({ mechanism: "plain", credentials }) }),
          ({ security }) => Effect.flip(expectSasl(security).credentials)
        )
      const cause = new Error("the vault is closed")
      const closed = yield* sasl(Effect.fail(cause))
      expect(closed._tag).toBe("KafkaAuthenticationError")
      expect(closed.mechanism).toBe("plain")
      expect(closed.cause).toBe(cause)
      const empty = yield* sasl(Effect.succeed({ username: "a", password: Redacted.make("") }))
      expect(empty.message).toMatch(/expected a password, found none/)
      // as a program in JavaScript may give it
      const bare: KafkaConfig.Credentials = JSON.parse(`{ "username": "a", "password": "hunter2" }`)
      const refused = yield* sasl(Effect.succeed(bare))
      expect(refused.message).toMatch(/expected a password within Redacted.make/)
      expect(refused.message).not.toContain("hunter2")
      const security = KafkaConfig.sasl({ mechanism: "plain", credentials: bare })
      const early = String(yield* Effect.flip(KafkaConfig.make({ brokers: "a:1", security })))
      expect(early).toMatch(/security.credentials.password: "expected a password within Redacted.make/)
      expect(early).not.toContain("hunter2")

      const token = yield* KafkaConfig.make({
        brokers: "a:1",
        security: KafkaConfig.sasl({ mechanism: "oauthbearer", token: Effect.succeed(Redacted.make("")) })
      })
      if (token.security._tag !== "Sasl" || token.security.mechanism !== "oauthbearer") throw new Error("no token")
      expect((yield* Effect.flip(token.security.token)).message).toMatch(/the token is empty/)

      const ssl = yield* KafkaConfig.make({
        brokers: "a:1",
        security: KafkaConfig.ssl(Effect.succeed({ cert: tls.certificate }))
      })
      expect((yield* Effect.flip(expectSsl(ssl.security).tls)).message).toMatch(/key: a certificate needs/)
    }))

  it.effect("layer fails with what is wrong", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Effect.provide(KafkaConfig.KafkaConfig, KafkaConfig.layer({ brokers: "a" })))
      expect(list(error)).toEqual([{
        op: "invalid",
        path: "brokers",
        message: expect.stringContaining("without a port")
      }])
    }))

  it.effect("layerConfig takes a Config for each option", () =>
    Effect.gen(function*() {
      const config = yield* KafkaConfig.KafkaConfig
      expect(config.brokers).toEqual(["kafka-1:9092"])
      expect(config.clientId).toBe("projector")
      expect(Redacted.value((yield* expectSasl(config.security).credentials).password)).toBe("b")
    }).pipe(
      Effect.provide(KafkaConfig.layerConfig({
        brokers: Config.string("BROKERS"),
        clientId: Config.succeed("projector"),
        requestTimeout: Config.duration("TIMEOUT"),
        security: Config.all({ username: Config.string("USER"), password: Config.redacted("PASSWORD") }).pipe(
          Config.map((credentials) => KafkaConfig.sasl({ mechanism: "plain", credentials }))
        )
      })),
      Effect.withConfigProvider(provider({ BROKERS: "kafka-1:9092", USER: "a", PASSWORD: "b", TIMEOUT: "3 seconds" }))
    ))
})

describe("secrets", () => {
  const canary = FastCheck.string({ minLength: 12, maxLength: 40, unit: "grapheme-ascii" }).map((text) =>
    `canary-${text}`
  )

  const printed = (value: unknown): string =>
    [
      String(value),
      JSON.stringify(value, (_, one) => typeof one === "bigint" ? String(one) : one),
      inspect(value, { depth: Infinity, showHidden: true }),
      value instanceof Error ? `${value.message} ${value.stack}` : ""
    ].join("\n")

  /** What a log line would hold. */
  const logged = (value: unknown): Effect.Effect<string> =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const keep = (logger: Logger.Logger<unknown, string>): Logger.Logger<unknown, void> =>
        Logger.map(logger, (line) => void lines.push(line))
      yield* Effect.log(value, Cause.fail(value)).pipe(
        Effect.annotateLogs("value", value),
        Effect.provide(Logger.replace(Logger.defaultLogger, keep(Logger.jsonLogger))),
        Logger.withMinimumLogLevel(LogLevel.All)
      )
      yield* Effect.log(value).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, keep(Logger.stringLogger)))
      )
      return lines.join("\n")
    })

  const hidden = (canary: string, value: unknown) =>
    Effect.map(logged(value), (log) => {
      for (const text of [printed(value), log]) {
        expect(text).not.toContain(canary)
        expect(text).not.toContain(JSON.stringify(canary).slice(1, -1))
      }
      return log
    })

  it.effect.prop(
    "none shows in the configuration, however it is printed",
    [canary],
    ([secret]) =>
      Effect.gen(function*() {
        const password = Redacted.make(secret)
        for (
          const security of [
            KafkaConfig.sasl({ mechanism: "plain", credentials: { username: "a", password } }),
            KafkaConfig.sasl({ mechanism: "scram-sha-512", credentials: Effect.succeed({ username: "a", password }) }),
            KafkaConfig.sasl({ mechanism: "oauthbearer", token: password }),
            KafkaConfig.ssl({ cert: tls.certificate, key: Redacted.make(tls.key) })
          ]
        ) {
          const config = yield* KafkaConfig.make({ brokers: "a:1", security })
          const log = yield* hidden(secret, config)
          expect(log).toContain("a:1")
          expect(printed(config)).not.toContain(tls.key.slice(40, 80))
        }
        const environment = yield* load({
          ...brokers,
          KAFKA_SECURITY_PROTOCOL: "SASL_PLAINTEXT",
          KAFKA_SASL_MECHANISM: "PLAIN",
          KAFKA_SASL_USERNAME: "a",
          KAFKA_SASL_PASSWORD: secret
        })
        yield* hidden(secret, environment)
        yield* hidden(secret, yield* expectSasl(environment.security).credentials)
      }),
    { fastCheck: { numRuns: 25 } }
  )

  it.effect.prop(
    "none shows in an error, wherever it was put by mistake",
    [
      canary,
      FastCheck.constantFrom(
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SASL_PASSWORD_FILE",
        "KAFKA_SASL_OAUTHBEARER_TOKEN",
        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        "KAFKA_SSL_KEY",
        "KAFKA_SSL_KEY_FILE",
        "KAFKA_SSL_KEY_PASSPHRASE",
        "KAFKA_SSL_KEY_PASSPHRASE_FILE"
      ),
      FastCheck.constantFrom("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "wrong"),
      FastCheck.constantFrom("PLAIN", "OAUTHBEARER", "wrong", "")
    ],
    ([secret, name, protocol, mechanism]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(load({
          ...brokers,
          KAFKA_SECURITY_PROTOCOL: protocol,
          KAFKA_SASL_MECHANISM: mechanism,
          KAFKA_REQUEST_TIMEOUT: "wrong",
          [name]: secret
        }))
        yield* hidden(secret, error)
      })
  )
})
