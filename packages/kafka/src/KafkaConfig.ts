/**
 * Where the cluster is, who we are, and how long to wait: everything a driver has to know before it connects.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { parseBrokers } from "./engine/brokers.ts"
import { type FileOrValue, readSource } from "./engine/secretSource.ts"
import { KafkaAuthenticationError } from "./KafkaError.ts"
import * as Topic from "./Topic.ts"

// ---------------------------------------------------------------------------------------------------------------------
// models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A user and a password. A password is never printed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Credentials {
  readonly username: string
  readonly password: Redacted.Redacted<string>
}

/**
 * What TLS needs. All of it is optional: without a `ca` the roots that Node knows are trusted.
 *
 * @since 0.1.0
 * @category models
 */
export interface Tls {
  /** The certificates to trust, as PEM, instead of Node's own roots. */
  readonly ca?: string | undefined
  /** Our certificate as PEM, where the broker asks for one. It goes with `key`. */
  readonly cert?: string | undefined
  /** The private key of `cert`, as PEM. */
  readonly key?: Redacted.Redacted<string> | undefined
  /** What `key` is encrypted with. */
  readonly passphrase?: Redacted.Redacted<string> | undefined
  /** The name the broker's certificate is checked against; the host that is connected to if absent. */
  readonly serverName?: string | undefined
  /** `false` trusts any certificate: for experiments only. `true` if absent. */
  readonly rejectUnauthorized?: boolean | undefined
}

/**
 * No encryption and nobody's name.
 *
 * @since 0.1.0
 * @category models
 */
export interface Plaintext {
  readonly _tag: "Plaintext"
}

/**
 * TLS. `tls` is asked again at each (re)connect, so that renewed certificates are taken up.
 *
 * @since 0.1.0
 * @category models
 */
export interface Ssl {
  readonly _tag: "Ssl"
  readonly tls: Effect.Effect<Tls, KafkaAuthenticationError>
}

/**
 * SASL with a user and a password, which are asked for again at each (re)connect.
 *
 * @since 0.1.0
 * @category models
 */
export interface SaslPassword {
  readonly _tag: "Sasl"
  readonly over: Plaintext | Ssl
  readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512"
  readonly credentials: Effect.Effect<Credentials, KafkaAuthenticationError>
}

/**
 * SASL with a bearer token, which is asked for again at each (re)connect.
 *
 * @since 0.1.0
 * @category models
 */
export interface SaslToken {
  readonly _tag: "Sasl"
  readonly over: Plaintext | Ssl
  readonly mechanism: "oauthbearer"
  readonly token: Effect.Effect<Redacted.Redacted<string>, KafkaAuthenticationError>
}

/**
 * How to be safe, and who we are.
 *
 * @since 0.1.0
 * @category models
 */
export type Security = Plaintext | Ssl | SaslPassword | SaslToken

/**
 * Checked configuration.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** `host:port`, at least one; an IPv6 address is in brackets. */
  readonly brokers: Arr.NonEmptyReadonlyArray<string>
  /** The name that brokers log and count us by. */
  readonly clientId: string
  /** What `TopicRegistry` puts before each slug, with a dot between. */
  readonly topicPrefix: string | undefined
  readonly security: Security
  /** How long reaching a broker may take, TLS and authentication included. */
  readonly connectionTimeout: Duration.Duration
  /** How long one request may wait for its answer. */
  readonly requestTimeout: Duration.Duration
}

/**
 * The configuration of the whole library.
 *
 * @since 0.1.0
 * @category tags
 */
export class KafkaConfig extends Context.Tag("@coffeebuddy/kafka/KafkaConfig")<KafkaConfig, Service>() {}

/**
 * What is used where nothing is given: client id `coffeebuddy-kafka`, ten seconds to connect, thirty for a request.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaults = {
  clientId: "coffeebuddy-kafka",
  connectionTimeout: Duration.seconds(10),
  requestTimeout: Duration.seconds(30)
} as const

// ---------------------------------------------------------------------------------------------------------------------
// what is given in code
// ---------------------------------------------------------------------------------------------------------------------

/**
 * `tls` may be an `Effect`, which is asked again at each (re)connect.
 *
 * @since 0.1.0
 * @category options
 */
export interface SslOptions {
  readonly _tag: "Ssl"
  readonly tls?: Tls | Effect.Effect<Tls, unknown> | undefined
}

/**
 * `credentials` and `token` may be an `Effect`, which is asked again at each (re)connect.
 *
 * @since 0.1.0
 * @category options
 */
export type SaslOptions =
  | {
    readonly _tag: "Sasl"
    readonly over: Plaintext | SslOptions
    readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512"
    readonly credentials: Credentials | Effect.Effect<Credentials, unknown>
  }
  | {
    readonly _tag: "Sasl"
    readonly over: Plaintext | SslOptions
    readonly mechanism: "oauthbearer"
    readonly token: Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, unknown>
  }

/**
 * @since 0.1.0
 * @category options
 */
export type SecurityOptions = Plaintext | SslOptions | SaslOptions

/**
 * Configuration as it is given. Only `brokers` must be.
 *
 * @since 0.1.0
 * @category options
 */
export interface Options {
  /** `host:port`, several as a list or separated by commas; an IPv6 address in brackets. */
  readonly brokers: string | ReadonlyArray<string>
  /** `"coffeebuddy-kafka"` if absent. */
  readonly clientId?: string | undefined
  /** No prefix if absent. */
  readonly topicPrefix?: string | undefined
  /** Plaintext if absent. */
  readonly security?: SecurityOptions | undefined
  /** How long reaching a broker may take, TLS and authentication included. Ten seconds if absent. */
  readonly connectionTimeout?: Duration.DurationInput | undefined
  /** How long one request may wait for its answer. Thirty seconds if absent. */
  readonly requestTimeout?: Duration.DurationInput | undefined
}

/**
 * No encryption and nobody's name.
 *
 * @since 0.1.0
 * @category security
 */
export const plaintext: Plaintext = { _tag: "Plaintext" }

/**
 * TLS, with Node's own roots if nothing is given.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import { Effect } from "effect"
 * import { readFileSync } from "node:fs"
 *
 * // asked again at each (re)connect: a renewed file is taken up
 * const security = KafkaConfig.ssl(Effect.try(() => ({ ca: readFileSync("/etc/kafka/ca.pem", "utf8") })))
 * ```
 *
 * @since 0.1.0
 * @category security
 */
export const ssl = (tls?: Tls | Effect.Effect<Tls, unknown>): SslOptions => ({ _tag: "Ssl", tls })

/**
 * SASL over TLS, or over plaintext where that is asked for.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import { Redacted } from "effect"
 *
 * const security = KafkaConfig.sasl({
 *   mechanism: "scram-sha-512",
 *   credentials: { username: "coffeebuddy", password: Redacted.make("change-me") }
 * })
 * ```
 *
 * @since 0.1.0
 * @category security
 */
export const sasl = (
  options:
    | {
      /** `ssl()` if absent. */
      readonly over?: Plaintext | SslOptions | undefined
      readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512"
      readonly credentials: Credentials | Effect.Effect<Credentials, unknown>
    }
    | {
      /** `ssl()` if absent. */
      readonly over?: Plaintext | SslOptions | undefined
      readonly mechanism: "oauthbearer"
      readonly token: Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, unknown>
    }
): SaslOptions => ({ ...options, _tag: "Sasl", over: options.over ?? ssl() })

// ---------------------------------------------------------------------------------------------------------------------
// checking
// ---------------------------------------------------------------------------------------------------------------------

/** Everything that is wrong, gathered, so that it is said all at once. */
class Problems {
  private readonly found: Array<ConfigError.ConfigError> = []

  add(path: ReadonlyArray<string>, message: string): undefined {
    this.found.push(ConfigError.InvalidData([...path], message))
    return undefined
  }
  missing(path: ReadonlyArray<string>, message: string): undefined {
    this.found.push(ConfigError.MissingData([...path], message))
    return undefined
  }
  orElse<A>(value: () => A): Either.Either<A, ConfigError.ConfigError> {
    return Arr.isNonEmptyArray(this.found)
      ? Either.left(this.found.reduce((left, right) => ConfigError.And(left, right)))
      : Either.right(value())
  }
}

/** What each setting is called where it was given. */
type Names = { readonly [K in keyof Options]-?: ReadonlyArray<string> }

const optionNames: Names = {
  brokers: ["brokers"],
  clientId: ["clientId"],
  topicPrefix: ["topicPrefix"],
  security: ["security"],
  connectionTimeout: ["connectionTimeout"],
  requestTimeout: ["requestTimeout"]
}

/** Leaves room for a dot and a slug within Kafka's 249. */
const prefixLimit = 200

const checkDuration = (
  input: Duration.DurationInput | undefined,
  otherwise: Duration.Duration,
  path: ReadonlyArray<string>,
  problems: Problems
): Duration.Duration => {
  if (input === undefined) return otherwise
  const duration = Duration.decodeUnknown(input)
  if (Option.isSome(duration) && Duration.isFinite(duration.value) && Duration.toMillis(duration.value) >= 1) {
    return duration.value
  }
  problems.add(
    path,
    `expected a duration of at least one millisecond, such as "10 seconds", found ${JSON.stringify(String(input))}`
  )
  return otherwise
}

const failed = (mechanism: string, reason: string) => (cause: unknown): KafkaAuthenticationError =>
  cause instanceof KafkaAuthenticationError
    ? cause
    : new KafkaAuthenticationError({ operation: "credentials", mechanism, reason, cause })

/** What is wrong with TLS settings, by the name of the setting. */
const tlsProblem = (tls: Tls): readonly [name: keyof Tls, message: string] | undefined => {
  if (tls.cert !== undefined && tls.key === undefined) {
    return ["key", "a certificate needs its private key: it is missing"]
  }
  if (tls.key !== undefined && tls.cert === undefined) {
    return ["cert", "a private key needs its certificate: it is missing"]
  }
  if (tls.passphrase !== undefined && tls.key === undefined) return ["key", "there is a passphrase, and no private key"]
  for (const name of ["ca", "cert"] as const) {
    const pem = tls[name]
    if (pem !== undefined && !isPem(pem)) return [name, "expected certificates as PEM (-----BEGIN CERTIFICATE-----)"]
  }
  if (tls.key !== undefined && !isPem(Redacted.value(tls.key))) {
    return ["key", "expected a private key as PEM (-----BEGIN PRIVATE KEY-----), found something else (redacted)"]
  }
  return undefined
}

const isPem = (text: string): boolean => text.includes("-----BEGIN ")

const checkTls = (tls: Tls): Effect.Effect<Tls, KafkaAuthenticationError> => {
  const problem = tlsProblem(tls)
  return problem === undefined
    ? Effect.succeed(tls)
    : new KafkaAuthenticationError({
      operation: "credentials",
      mechanism: "ssl",
      reason: `${problem[0]}: ${problem[1]}`
    })
}

const checkCredentials =
  (mechanism: string) => (credentials: Credentials): Effect.Effect<Credentials, KafkaAuthenticationError> =>
    credentials.username === "" || Redacted.value(credentials.password) === ""
      ? new KafkaAuthenticationError({
        operation: "credentials",
        mechanism,
        reason: `the ${credentials.username === "" ? "username" : "password"} is empty`
      })
      : Effect.succeed(credentials)

const checkSsl = (options: SslOptions, path: ReadonlyArray<string>, problems: Problems): Ssl => {
  const tls = options.tls ?? {}
  if (Effect.isEffect(tls)) {
    return {
      _tag: "Ssl",
      tls: Effect.flatMap(Effect.mapError(tls, failed("ssl", "the TLS settings could not be obtained")), checkTls)
    }
  }
  const problem = tlsProblem(tls)
  if (problem !== undefined) problems.add([...path, "tls", problem[0]], problem[1])
  return { _tag: "Ssl", tls: Effect.succeed(tls) }
}

const checkSecurity = (
  options: SecurityOptions | undefined,
  path: ReadonlyArray<string>,
  problems: Problems
): Security => {
  if (options === undefined || options._tag === "Plaintext") return plaintext
  if (options._tag === "Ssl") return checkSsl(options, path, problems)
  const over = options.over._tag === "Ssl" ? checkSsl(options.over, [...path, "over"], problems) : plaintext
  const { mechanism } = options
  if (mechanism === "oauthbearer") {
    return {
      _tag: "Sasl",
      over,
      mechanism,
      token: Redacted.isRedacted(options.token)
        ? Effect.succeed(options.token)
        : Effect.mapError(options.token, failed(mechanism, "the token could not be obtained"))
    }
  }
  const { credentials } = options
  if (Effect.isEffect(credentials)) {
    return {
      _tag: "Sasl",
      over,
      mechanism,
      credentials: Effect.flatMap(
        Effect.mapError(credentials, failed(mechanism, "the credentials could not be obtained")),
        checkCredentials(mechanism)
      )
    }
  }
  if (credentials.username === "") problems.add([...path, "credentials", "username"], "expected a username, found none")
  if (Redacted.value(credentials.password) === "") {
    problems.add([...path, "credentials", "password"], "expected a password, found none")
  }
  return { _tag: "Sasl", over, mechanism, credentials: Effect.succeed(credentials) }
}

const check = (options: Options, names: Names, problems: Problems): Service => {
  const brokers = parseBrokers(options.brokers)
  for (const message of brokers.problems) problems.add(names.brokers, message)
  if (options.clientId === "") problems.add(names.clientId, "expected a name, found an empty one")
  const { topicPrefix } = options
  if (topicPrefix !== undefined) {
    if (!Topic.isValidName(topicPrefix) || topicPrefix.length > prefixLimit) {
      problems.add(
        names.topicPrefix,
        `expected 1 to ${prefixLimit} of letters, digits, ".", "_" and "-", found ${JSON.stringify(topicPrefix)}`
      )
    } else if (topicPrefix.startsWith(".") || topicPrefix.endsWith(".")) {
      problems.add(
        names.topicPrefix,
        `expected no "." at its ends, since one is put between prefix and slug, found ${JSON.stringify(topicPrefix)}`
      )
    }
  }
  return {
    brokers: brokers.brokers as Service["brokers"],
    clientId: options.clientId ?? defaults.clientId,
    topicPrefix,
    security: checkSecurity(options.security, names.security, problems),
    connectionTimeout: checkDuration(
      options.connectionTimeout,
      defaults.connectionTimeout,
      names.connectionTimeout,
      problems
    ),
    requestTimeout: checkDuration(options.requestTimeout, defaults.requestTimeout, names.requestTimeout, problems)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Checked configuration, or everything that is wrong with it. An `Either` is an `Effect` too.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import { Either } from "effect"
 *
 * const config = Either.getOrThrow(KafkaConfig.make({ brokers: "localhost:9092", topicPrefix: "coffeebuddy" }))
 * console.log(config.brokers) // ["localhost:9092"]
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Either.Either<Service, ConfigError.ConfigError> => {
  const problems = new Problems()
  const service = check(options, optionNames, problems)
  return problems.orElse(() => service)
}

// ---------------------------------------------------------------------------------------------------------------------
// the environment
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The variables that {@link fromEnv} reads. One that is set to nothing counts as unset.
 *
 * Each of those in `orFile` may instead be given as a file, under its name with `_FILE` behind it, as secret stores
 * mount them. Such a file is read again at each (re)connect.
 *
 * @since 0.1.0
 * @category environment
 */
export const variables = {
  plain: [
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_CLIENT_ID",
    "KAFKA_TOPIC_PREFIX",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SSL_SERVER_NAME",
    "KAFKA_SSL_REJECT_UNAUTHORIZED",
    "KAFKA_CONNECTION_TIMEOUT",
    "KAFKA_REQUEST_TIMEOUT"
  ],
  orFile: [
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SASL_TOKEN",
    "KAFKA_SSL_CA",
    "KAFKA_SSL_CERT",
    "KAFKA_SSL_KEY",
    "KAFKA_SSL_KEY_PASSPHRASE"
  ]
} as const

type Plain = (typeof variables.plain)[number]
type OrFile = (typeof variables.orFile)[number]

/** What of those is no secret, and may be shown. */
const showable: ReadonlySet<OrFile> = new Set(["KAFKA_SASL_USERNAME", "KAFKA_SSL_CA", "KAFKA_SSL_CERT"])

const environmentNames: Names = {
  brokers: ["KAFKA_BOOTSTRAP_SERVERS"],
  clientId: ["KAFKA_CLIENT_ID"],
  topicPrefix: ["KAFKA_TOPIC_PREFIX"],
  security: ["KAFKA_SECURITY_PROTOCOL"],
  connectionTimeout: ["KAFKA_CONNECTION_TIMEOUT"],
  requestTimeout: ["KAFKA_REQUEST_TIMEOUT"]
}

const protocols = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] as const
const mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] as const

interface Read {
  readonly plain: Readonly<Record<Plain, string | undefined>>
  readonly orFile: Readonly<Record<OrFile, FileOrValue>>
}

const present = (name: string): Config.Config<string | undefined> =>
  Config.map(
    Config.option(Config.string(name)),
    Option.match({
      onNone: () => undefined,
      onSome: (text) => text.trim() === "" ? undefined : text.trim()
    })
  )

const presentSecret = (name: string): Config.Config<Redacted.Redacted<string> | undefined> =>
  Config.map(
    Config.option(Config.redacted(name)),
    Option.match({
      onNone: () => undefined,
      onSome: (secret) => Redacted.value(secret) === "" ? undefined : secret
    })
  )

const read: Config.Config<Read> = Config.all({
  plain: Config.all(Object.fromEntries(variables.plain.map((name) => [name, present(name)]))),
  orFile: Config.all(Object.fromEntries(variables.orFile.map((name) => [
    name,
    Config.all({
      name: Config.succeed(name),
      showable: Config.succeed(showable.has(name)),
      value: presentSecret(name),
      file: presentSecret(`${name}_FILE`)
    })
  ])))
}) as Config.Config<Read>

const oneOf = <A extends string>(
  name: Plain,
  text: string,
  allowed: ReadonlyArray<A>,
  problems: Problems
): A | undefined =>
  allowed.find((one) => one === text.toUpperCase())
    ?? problems.add([name], `expected one of ${allowed.join(", ")}, found ${JSON.stringify(text)}`)

const durationOf = (text: string | undefined): Duration.DurationInput | undefined =>
  text !== undefined && /^\d+$/.test(text) ? Number(text) : text as Duration.DurationInput | undefined

const environmentSecurity = ({ orFile, plain }: Read, problems: Problems): SecurityOptions => {
  const protocol = plain.KAFKA_SECURITY_PROTOCOL === undefined
    ? "PLAINTEXT"
    : oneOf("KAFKA_SECURITY_PROTOCOL", plain.KAFKA_SECURITY_PROTOCOL, protocols, problems)
  const said = plain.KAFKA_SECURITY_PROTOCOL === undefined ? "PLAINTEXT, its default" : String(protocol)

  // each is read now, so that what is wrong with it is said now
  const texts = new Map<OrFile, string>()
  const given = (name: OrFile): boolean => orFile[name].value !== undefined || orFile[name].file !== undefined
  const nameOf = (name: OrFile): string => orFile[name].file === undefined ? name : `${name}_FILE`
  for (const name of variables.orFile) {
    if (!given(name)) continue
    if (orFile[name].value !== undefined && orFile[name].file !== undefined) {
      problems.add([name], `expected either ${name} or ${name}_FILE, found both`)
      continue
    }
    Either.match(readSource(orFile[name]), {
      onLeft: (message) => problems.add([nameOf(name)], message),
      onRight: (text) => texts.set(name, text)
    })
  }

  // what contradicts the protocol
  const unwanted = (name: string, needs: string): void =>
    problems.add([name], `is set, but KAFKA_SECURITY_PROTOCOL is ${said}: use ${needs}, or unset it`)
  if (protocol === "PLAINTEXT" || protocol === "SSL") {
    const needs = protocol === "SSL" ? "SASL_SSL" : "SASL_SSL or SASL_PLAINTEXT"
    if (plain.KAFKA_SASL_MECHANISM !== undefined) unwanted("KAFKA_SASL_MECHANISM", needs)
    for (const name of variables.orFile) {
      if (name.startsWith("KAFKA_SASL") && given(name)) unwanted(nameOf(name), needs)
    }
  }
  if (protocol === "PLAINTEXT" || protocol === "SASL_PLAINTEXT") {
    const needs = protocol === "PLAINTEXT" ? "SSL or SASL_SSL" : "SASL_SSL"
    for (const name of variables.plain) {
      if (name.startsWith("KAFKA_SSL") && plain[name] !== undefined) unwanted(name, needs)
    }
    for (const name of variables.orFile) {
      if (name.startsWith("KAFKA_SSL") && given(name)) unwanted(nameOf(name), needs)
    }
  }

  const over = protocol === "SSL" || protocol === "SASL_SSL"
    ? environmentSsl(orFile, plain, texts, problems)
    : plaintext
  if (protocol !== "SASL_PLAINTEXT" && protocol !== "SASL_SSL") return over
  return environmentSasl(orFile, plain, over, protocol, problems)
}

const pem = (text: string): string => text.includes("\n") ? text : text.replaceAll("\\n", "\n")

const environmentSsl = (
  orFile: Read["orFile"],
  plain: Read["plain"],
  texts: ReadonlyMap<OrFile, string>,
  problems: Problems
): SslOptions => {
  const { KAFKA_SSL_REJECT_UNAUTHORIZED: reject } = plain
  const rejectUnauthorized = reject === undefined
    || oneOf("KAFKA_SSL_REJECT_UNAUTHORIZED", reject, ["TRUE", "FALSE"], problems) !== "FALSE"
  const tlsOf = (text: (name: OrFile) => string | undefined): Tls => {
    const secret = (name: OrFile, change: (text: string) => string): Redacted.Redacted<string> | undefined => {
      const found = text(name)
      return found === undefined ? undefined : Redacted.make(change(found))
    }
    const certificates = (name: OrFile): string | undefined => {
      const found = text(name)
      return found === undefined ? undefined : pem(found)
    }
    return {
      ca: certificates("KAFKA_SSL_CA"),
      cert: certificates("KAFKA_SSL_CERT"),
      key: secret("KAFKA_SSL_KEY", pem),
      passphrase: secret("KAFKA_SSL_KEY_PASSPHRASE", (passphrase) => passphrase),
      serverName: plain.KAFKA_SSL_SERVER_NAME,
      rejectUnauthorized
    }
  }

  const variable = { ca: "KAFKA_SSL_CA", cert: "KAFKA_SSL_CERT", key: "KAFKA_SSL_KEY" } as const
  // what is set and could not be read has been said already
  const unread = variables.orFile.some((name) => isSet(orFile[name]) && !texts.has(name))
  const problem = unread ? undefined : tlsProblem(tlsOf((name) => texts.get(name)))
  if (problem !== undefined) {
    const name = variable[problem[0] as keyof typeof variable]
    problems.add([orFile[name].file === undefined ? name : `${name}_FILE`], problem[1])
  }

  return ssl(Effect.gen(function*() {
    const now = new Map<OrFile, string>()
    for (const name of variables.orFile) {
      if (name.startsWith("KAFKA_SSL") && isSet(orFile[name])) now.set(name, yield* readAgain(orFile[name], "ssl"))
    }
    return tlsOf((name) => now.get(name))
  }))
}

const isSet = (source: FileOrValue): boolean => source.value !== undefined || source.file !== undefined

const readAgain = (source: FileOrValue, mechanism: string): Effect.Effect<string, KafkaAuthenticationError> =>
  Effect.suspend(() =>
    Either.mapLeft(
      readSource(source),
      (message) =>
        new KafkaAuthenticationError({ operation: "credentials", mechanism, reason: `${source.name}_FILE: ${message}` })
    )
  )

const environmentSasl = (
  orFile: Read["orFile"],
  plain: Read["plain"],
  over: Plaintext | SslOptions,
  protocol: string,
  problems: Problems
): SecurityOptions => {
  const { KAFKA_SASL_PASSWORD: password, KAFKA_SASL_TOKEN: token, KAFKA_SASL_USERNAME: username } = orFile
  const mechanism = plain.KAFKA_SASL_MECHANISM === undefined
    ? problems.add(
      ["KAFKA_SASL_MECHANISM"],
      `expected one of ${mechanisms.join(", ")}, since KAFKA_SECURITY_PROTOCOL is ${protocol}, and it is not set`
    )
    : oneOf("KAFKA_SASL_MECHANISM", plain.KAFKA_SASL_MECHANISM, mechanisms, problems)
  if (mechanism === undefined) return over

  const wanted = mechanism === "OAUTHBEARER" ? [token] : [username, password]
  const unwanted = mechanism === "OAUTHBEARER" ? [username, password] : [token]
  for (const source of wanted) {
    if (!isSet(source)) {
      problems.add(
        [source.name],
        `expected ${source.name} or ${source.name}_FILE, since KAFKA_SASL_MECHANISM is ${mechanism}, and neither is set`
      )
    }
  }
  for (const source of unwanted) {
    if (isSet(source)) {
      problems.add(
        [source.file === undefined ? source.name : `${source.name}_FILE`],
        `is set, but KAFKA_SASL_MECHANISM is ${mechanism}, which has no use for it: unset it`
      )
    }
  }
  if (mechanism === "OAUTHBEARER") {
    return sasl({
      over,
      mechanism: "oauthbearer",
      token: Effect.map(readAgain(token, "oauthbearer"), Redacted.make)
    })
  }
  const lower = mechanism === "PLAIN" ? "plain" : mechanism === "SCRAM-SHA-256" ? "scram-sha-256" : "scram-sha-512"
  return sasl({
    over,
    mechanism: lower,
    credentials: Effect.zipWith(
      readAgain(username, lower),
      readAgain(password, lower),
      (username, password): Credentials => ({ username, password: Redacted.make(password) })
    )
  })
}

/**
 * The configuration as the environment has it; the names are those of {@link variables}, and of any `ConfigProvider`.
 *
 * All that is wrong is said at once: a malformed value, one that contradicts another, a file that can't be read. Each
 * is named by its variable, with what was found (never a secret) and what is allowed.
 *
 * @since 0.1.0
 * @category environment
 */
export const fromEnv: Config.Config<Service> = Config.mapOrFail(read, (found) => {
  const problems = new Problems()
  const { plain } = found
  const servers = plain.KAFKA_BOOTSTRAP_SERVERS
  if (servers === undefined) {
    problems.missing(
      ["KAFKA_BOOTSTRAP_SERVERS"],
      `expected brokers, such as "kafka-1:9092,kafka-2:9092", and it is not set`
    )
  }
  const service = check(
    {
      brokers: servers ?? "unset:1",
      clientId: plain.KAFKA_CLIENT_ID,
      topicPrefix: plain.KAFKA_TOPIC_PREFIX,
      security: environmentSecurity(found, problems),
      connectionTimeout: durationOf(plain.KAFKA_CONNECTION_TIMEOUT),
      requestTimeout: durationOf(plain.KAFKA_REQUEST_TIMEOUT)
    },
    environmentNames,
    problems
  )
  return problems.orElse(() => service)
})

// ---------------------------------------------------------------------------------------------------------------------
// layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Configuration given in code.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import { Redacted } from "effect"
 *
 * const Live = KafkaConfig.layer({
 *   brokers: ["kafka-1:9093", "kafka-2:9093"],
 *   topicPrefix: "coffeebuddy",
 *   security: KafkaConfig.sasl({
 *     mechanism: "scram-sha-512",
 *     credentials: { username: "coffeebuddy", password: Redacted.make("change-me") }
 *   }),
 *   connectionTimeout: "5 seconds"
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<KafkaConfig, ConfigError.ConfigError> =>
  Layer.effect(KafkaConfig, Effect.suspend(() => make(options)))

/**
 * Configuration by `Config`s of your own.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import { Config } from "effect"
 *
 * const Live = KafkaConfig.layerConfig({
 *   brokers: Config.string("BROKERS"),
 *   topicPrefix: Config.succeed("coffeebuddy"),
 *   security: Config.all({ username: Config.string("USER"), password: Config.redacted("PASSWORD") }).pipe(
 *     Config.map((credentials) => KafkaConfig.sasl({ mechanism: "plain", credentials }))
 *   )
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<KafkaConfig, ConfigError.ConfigError> =>
  Layer.effect(KafkaConfig, Effect.flatMap(Config.unwrap<Options>(config), make))

/**
 * Configuration from the environment: {@link fromEnv}.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerEnv: Layer.Layer<KafkaConfig, ConfigError.ConfigError> = Layer.effect(KafkaConfig, fromEnv)
