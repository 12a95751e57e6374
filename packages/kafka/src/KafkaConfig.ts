/**
 * Where the cluster is, who we are, and how long to wait: everything a driver has to know before it connects.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { parseBrokers } from "./engine/brokers.ts"
import { ConfigProblems, nameProblem, type SettingNames, shown } from "./engine/configProblems.ts"
import * as environment from "./engine/environment.ts"
import { tlsProblem } from "./engine/tls.ts"
import { prefixProblem } from "./engine/topicPrefix.ts"
import { KafkaAuthenticationError } from "./KafkaError.ts"

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
  /** How long reaching a broker is tried, TLS and authentication included. */
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
  /** How long reaching a broker is tried, TLS and authentication included. Ten seconds if absent. */
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

const optionNames: SettingNames = {
  brokers: ["brokers"],
  clientId: ["clientId"],
  topicPrefix: ["topicPrefix"],
  security: ["security"],
  connectionTimeout: ["connectionTimeout"],
  requestTimeout: ["requestTimeout"]
}

/** Longer than timers go, in milliseconds. */
const longest = 0x7fffffff

const checkDuration = (
  input: Duration.DurationInput | undefined,
  otherwise: Duration.Duration,
  path: ReadonlyArray<string>,
  problems: ConfigProblems
): Duration.Duration => {
  if (input === undefined) return otherwise
  const duration = Duration.decodeUnknown(input)
  const millis = Option.isSome(duration) ? Duration.toMillis(duration.value) : 0
  if (Option.isSome(duration) && millis >= 1 && millis <= longest) return duration.value
  problems.add(
    path,
    `expected a duration of at least one millisecond and at most 24 days, such as "10 seconds", found ${shown(input)}`
  )
  return otherwise
}

const failed = (mechanism: string, reason: string) => (cause: unknown): KafkaAuthenticationError =>
  cause instanceof KafkaAuthenticationError
    ? cause
    : new KafkaAuthenticationError({ operation: "credentials", mechanism, kind: "unobtainable", reason, cause })

const checkTls = (tls: Tls): Effect.Effect<Tls, KafkaAuthenticationError> => {
  const problem = tlsProblem(tls)
  return problem === undefined
    ? Effect.succeed(tls)
    : new KafkaAuthenticationError({
      operation: "credentials",
      mechanism: "ssl",
      kind: "unobtainable",
      reason: `${problem.name}: ${problem.message}`
    })
}

/** What is wrong with a password, which a program in JavaScript may give as it is. */
const passwordProblem = (password: Redacted.Redacted<string>): string | undefined =>
  !Redacted.isRedacted(password)
    ? "expected a password within Redacted.make, found something else"
    : Redacted.value(password) === ""
    ? "expected a password, found none"
    : undefined

const credentialsProblems = ({ password, username }: Credentials) => ({
  username: username === "" ? "expected a username, found none" : undefined,
  password: passwordProblem(password)
})

const checkCredentials =
  (mechanism: string) => (credentials: Credentials): Effect.Effect<Credentials, KafkaAuthenticationError> => {
    const problems = credentialsProblems(credentials)
    const reason = problems.username ?? problems.password
    return reason === undefined
      ? Effect.succeed(credentials)
      : new KafkaAuthenticationError({ operation: "credentials", mechanism, kind: "unobtainable", reason })
  }

const checkSsl = (options: SslOptions, path: ReadonlyArray<string>, problems: ConfigProblems): Ssl => {
  const tls = options.tls ?? {}
  if (Effect.isEffect(tls)) {
    return {
      _tag: "Ssl",
      tls: Effect.flatMap(Effect.mapError(tls, failed("ssl", "the TLS settings could not be obtained")), checkTls)
    }
  }
  const problem = tlsProblem(tls)
  if (problem !== undefined) problems.add([...path, "tls", problem.name], problem.message)
  return { _tag: "Ssl", tls: Effect.succeed(tls) }
}

const checkToken = (
  token: Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, unknown>,
  path: ReadonlyArray<string>,
  problems: ConfigProblems
): SaslToken["token"] => {
  if (Redacted.isRedacted(token)) {
    if (Redacted.value(token) === "") problems.add([...path, "token"], "expected a token, found an empty one")
    return Effect.succeed(token)
  }
  return Effect.mapError(token, failed("oauthbearer", "the token could not be obtained")).pipe(
    Effect.filterOrFail(
      (token) => Redacted.value(token) !== "",
      () =>
        new KafkaAuthenticationError({
          operation: "credentials",
          mechanism: "oauthbearer",
          kind: "unobtainable",
          reason: "the token is empty"
        })
    )
  )
}

const mechanisms: ReadonlySet<string> = new Set(["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"])

const checkSecurity = (
  options: SecurityOptions | undefined,
  path: ReadonlyArray<string>,
  problems: ConfigProblems
): Security => {
  if (options === undefined || options._tag === "Plaintext") return plaintext
  if (options._tag === "Ssl") return checkSsl(options, path, problems)
  const over = options.over._tag === "Ssl" ? checkSsl(options.over, [...path, "over"], problems) : plaintext
  const { mechanism } = options
  if (!mechanisms.has(mechanism)) {
    problems.add(
      [...path, "mechanism"],
      `expected one of ${[...mechanisms].join(", ")}, found ${JSON.stringify(mechanism)}`
    )
  }
  if (mechanism === "oauthbearer") {
    return {
      _tag: "Sasl",
      over,
      mechanism,
      token: checkToken(options.token, path, problems)
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
  for (const [name, problem] of Object.entries(credentialsProblems(credentials))) {
    if (problem !== undefined) problems.add([...path, "credentials", name], problem)
  }
  return { _tag: "Sasl", over, mechanism, credentials: Effect.succeed(credentials) }
}

const check = (options: Options, names: SettingNames, problems: ConfigProblems): Service => {
  const brokers = parseBrokers(options.brokers)
  for (const message of brokers.problems) problems.add(names.brokers, message)
  const wrongId = options.clientId === undefined ? undefined : nameProblem(options.clientId)
  if (wrongId !== undefined) problems.add(names.clientId, wrongId)
  const wrongPrefix = options.topicPrefix === undefined ? undefined : prefixProblem(options.topicPrefix)
  if (wrongPrefix !== undefined) problems.add(names.topicPrefix, wrongPrefix)
  return {
    brokers: brokers.brokers as Service["brokers"],
    clientId: options.clientId ?? defaults.clientId,
    topicPrefix: options.topicPrefix,
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
  const problems = new ConfigProblems()
  const service = check(options, optionNames, problems)
  return problems.orElse(() => service)
}

// ---------------------------------------------------------------------------------------------------------------------
// the environment
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The configuration as the environment has it, under the names that docs/configuration.md lists, from whatever
 * `ConfigProvider` is in force.
 *
 * All that is wrong is said at once: a malformed value, one that contradicts another, a file that can't be read. Each
 * is named by its variable, with what was found (never a secret) and what is allowed. Passwords, tokens, keys and
 * certificates may be files, under the variable's name with `_FILE` behind it; these are read again at each
 * (re)connect.
 *
 * @since 0.1.0
 * @category environment
 */
export const fromEnv: Config.Config<Service> = Config.mapOrFail(environment.variables, (found) => {
  const problems = new ConfigProblems()
  const service = check(environment.options(found, problems), environment.names, problems)
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
