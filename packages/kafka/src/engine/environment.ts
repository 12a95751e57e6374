/** The environment variables of `KafkaConfig.fromEnv`: their names, and how they become options. */
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { Credentials, Options, Plaintext, SecurityOptions, SslOptions, Tls } from "../KafkaConfig.ts"
import { KafkaAuthenticationError } from "../KafkaError.ts"
import type { ConfigProblems, SettingNames } from "./configProblems.ts"
import { type FileOrValue, isSet, nameOf, readSource } from "./secretSource.ts"
import { tlsProblem } from "./tls.ts"

// ---------------------------------------------------------------------------------------------------------------------
// names
// ---------------------------------------------------------------------------------------------------------------------

/** Given as they are. One that is set to nothing counts as unset. */
export const plainNames = [
  "KAFKA_BOOTSTRAP_SERVERS",
  "KAFKA_CLIENT_ID",
  "KAFKA_TOPIC_PREFIX",
  "KAFKA_SECURITY_PROTOCOL",
  "KAFKA_SASL_MECHANISM",
  "KAFKA_SSL_SERVER_NAME",
  "KAFKA_SSL_REJECT_UNAUTHORIZED",
  "KAFKA_CONNECTION_TIMEOUT",
  "KAFKA_REQUEST_TIMEOUT"
] as const

/** Given as they are, or as the path of a file under their name with `_FILE` behind it. */
export const fileOrValueNames = [
  "KAFKA_SASL_USERNAME",
  "KAFKA_SASL_PASSWORD",
  "KAFKA_SASL_OAUTHBEARER_TOKEN",
  "KAFKA_SSL_CA",
  "KAFKA_SSL_CERT",
  "KAFKA_SSL_KEY",
  "KAFKA_SSL_KEY_PASSPHRASE"
] as const

type PlainName = (typeof plainNames)[number]
type FileOrValueName = (typeof fileOrValueNames)[number]

const showable: ReadonlySet<FileOrValueName> = new Set(["KAFKA_SASL_USERNAME", "KAFKA_SSL_CA", "KAFKA_SSL_CERT"])

export const names: SettingNames = {
  brokers: ["KAFKA_BOOTSTRAP_SERVERS"],
  clientId: ["KAFKA_CLIENT_ID"],
  topicPrefix: ["KAFKA_TOPIC_PREFIX"],
  security: ["KAFKA_SECURITY_PROTOCOL"],
  connectionTimeout: ["KAFKA_CONNECTION_TIMEOUT"],
  requestTimeout: ["KAFKA_REQUEST_TIMEOUT"]
}

const protocols = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] as const
type Protocol = (typeof protocols)[number]

const mechanisms = {
  "PLAIN": "plain",
  "SCRAM-SHA-256": "scram-sha-256",
  "SCRAM-SHA-512": "scram-sha-512",
  "OAUTHBEARER": "oauthbearer"
} as const

// ---------------------------------------------------------------------------------------------------------------------
// reading
// ---------------------------------------------------------------------------------------------------------------------

type Texts = { readonly [Name in PlainName]: string | undefined }
type Sources = { readonly [Name in FileOrValueName]: FileOrValue }

export interface Variables {
  readonly texts: Texts
  readonly sources: Sources
}

const text = (name: string): Config.Config<string | undefined> =>
  Config.map(Config.option(Config.string(name)), (found) => {
    const trimmed = Option.getOrElse(found, () => "").trim()
    return trimmed === "" ? undefined : trimmed
  })

const secret = (name: string): Config.Config<Redacted.Redacted<string> | undefined> =>
  Config.map(
    Config.option(Config.redacted(name)),
    (found) => Option.getOrUndefined(Option.filter(found, (secret) => Redacted.value(secret) !== ""))
  )

const source = (name: FileOrValueName): Config.Config<FileOrValue> =>
  Config.all({
    name: Config.succeed(name),
    showable: Config.succeed(showable.has(name)),
    value: secret(name),
    file: secret(`${name}_FILE`)
  })

const byName = <Name extends string, A>(
  names: ReadonlyArray<Name>,
  of: (name: Name) => Config.Config<A>
): Config.Config<{ readonly [K in Name]: A }> =>
  Config.all(Object.fromEntries(names.map((name) => [name, of(name)]))) as Config.Config<{ readonly [K in Name]: A }>

/** Everything as it stands there. Never fails for what is missing. */
export const variables: Config.Config<Variables> = Config.all({
  texts: byName(plainNames, text),
  sources: byName(fileOrValueNames, source)
})

// ---------------------------------------------------------------------------------------------------------------------
// understanding
// ---------------------------------------------------------------------------------------------------------------------

/** The options that the variables stand for; what is wrong with them is added to the problems. */
export const options = (variables: Variables, problems: ConfigProblems): Options => {
  const { texts } = variables
  const servers = texts.KAFKA_BOOTSTRAP_SERVERS
  if (servers === undefined) {
    problems.missing(
      ["KAFKA_BOOTSTRAP_SERVERS"],
      `expected brokers, as in "kafka-1:9092,kafka-2:9092", and it is not set`
    )
  }
  return {
    brokers: servers ?? "not-set:9092", // never seen: there is a problem already
    clientId: texts.KAFKA_CLIENT_ID,
    topicPrefix: texts.KAFKA_TOPIC_PREFIX,
    security: securityOptions(variables, problems),
    connectionTimeout: duration(texts.KAFKA_CONNECTION_TIMEOUT),
    requestTimeout: duration(texts.KAFKA_REQUEST_TIMEOUT)
  }
}

/** A bare number is milliseconds. Whether anything else is a duration is checked with the other options. */
const duration = (text: string | undefined): Duration.DurationInput | undefined =>
  text !== undefined && /^\d+$/.test(text) ? Number(text) : text as Duration.DurationInput | undefined

const oneOf = <A extends string>(
  name: PlainName,
  text: string,
  allowed: ReadonlyArray<A>,
  problems: ConfigProblems
): A | undefined =>
  allowed.find((one) => one === text.toUpperCase())
    ?? problems.add([name], `expected one of ${allowed.join(", ")}, found ${JSON.stringify(text)}`)

const securityOptions = (variables: Variables, problems: ConfigProblems): SecurityOptions => {
  const { sources, texts } = variables
  const said = texts.KAFKA_SECURITY_PROTOCOL
  const protocol = said === undefined ? "PLAINTEXT" : oneOf("KAFKA_SECURITY_PROTOCOL", said, protocols, problems)
  // each file is read now, so that what is wrong with it is said now
  for (const name of fileOrValueNames) checkSource(sources[name], problems)
  if (protocol === undefined) return { _tag: "Plaintext" }

  const over = protocol === "SSL" || protocol === "SASL_SSL" ? sslOptions(variables, problems) : plaintext
  if (over._tag === "Plaintext") refuse(variables, "KAFKA_SSL", protocol, problems)
  if (protocol === "SASL_PLAINTEXT" || protocol === "SASL_SSL") return saslOptions(variables, over, protocol, problems)
  refuse(variables, "KAFKA_SASL", protocol, problems)
  return over
}

const plaintext: Plaintext = { _tag: "Plaintext" }

const checkSource = (source: FileOrValue, problems: ConfigProblems): void => {
  if (source.value !== undefined && source.file !== undefined) {
    problems.add([source.name], `expected either ${source.name} or ${source.name}_FILE, found both`)
  } else if (isSet(source)) {
    Either.mapLeft(readSource(source), (message) => problems.add([nameOf(source)], message))
  }
}

/** What is set, and has no use under this protocol. */
const refuse = (
  { sources, texts }: Variables,
  family: "KAFKA_SASL" | "KAFKA_SSL",
  protocol: Protocol,
  problems: ConfigProblems
): void => {
  const is = texts.KAFKA_SECURITY_PROTOCOL === undefined ? `${protocol}, its default` : protocol
  const allowed = protocols.filter((one) => family === "KAFKA_SASL" ? one.startsWith("SASL") : one.endsWith("SSL"))
  const message = `is set, but KAFKA_SECURITY_PROTOCOL is ${is}: use ${allowed.join(" or ")}, or unset it`
  for (const name of plainNames) {
    if (name.startsWith(family) && texts[name] !== undefined) problems.add([name], message)
  }
  for (const name of fileOrValueNames) {
    if (name.startsWith(family) && isSet(sources[name])) problems.add([nameOf(sources[name])], message)
  }
}

/** As it is now: a file may have changed since. On the left: why it can't be had. */
const current = (source: FileOrValue): Either.Either<string, string> =>
  Either.mapLeft(readSource(source), (message) => `${nameOf(source)}: ${message}`)

const currentOrNone = (source: FileOrValue): Either.Either<string | undefined, string> =>
  isSet(source) ? current(source) : Either.right(undefined)

/** Asked again at each (re)connect. */
const renewed = <A>(
  mechanism: string,
  read: () => Either.Either<A, string>
): Effect.Effect<A, KafkaAuthenticationError> =>
  Effect.suspend(() =>
    Either.mapLeft(
      read(),
      (reason) => new KafkaAuthenticationError({ operation: "credentials", mechanism, kind: "unobtainable", reason })
    )
  )

// ---------------------------------------------------------------------------------------------------------------------
// TLS
// ---------------------------------------------------------------------------------------------------------------------

const tlsNames = {
  ca: "KAFKA_SSL_CA",
  cert: "KAFKA_SSL_CERT",
  key: "KAFKA_SSL_KEY",
  passphrase: "KAFKA_SSL_KEY_PASSPHRASE"
} as const

/** A PEM in a variable often has its line ends written as `\\n`. */
const pem = (text: string): string => text.includes("\n") ? text : text.replaceAll("\\n", "\n")

const mapPresent = <A, B>(value: A | undefined, f: (value: A) => B): B | undefined =>
  value === undefined ? undefined : f(value)

const sslOptions = ({ sources, texts }: Variables, problems: ConfigProblems): SslOptions => {
  const reject = texts.KAFKA_SSL_REJECT_UNAUTHORIZED
  const rejectUnauthorized = reject === undefined
    || oneOf("KAFKA_SSL_REJECT_UNAUTHORIZED", reject, ["TRUE", "FALSE"], problems) !== "FALSE"
  const read = (): Either.Either<Tls, string> =>
    Either.map(
      Either.all({
        ca: currentOrNone(sources.KAFKA_SSL_CA),
        cert: currentOrNone(sources.KAFKA_SSL_CERT),
        key: currentOrNone(sources.KAFKA_SSL_KEY),
        passphrase: currentOrNone(sources.KAFKA_SSL_KEY_PASSPHRASE)
      }),
      ({ ca, cert, key, passphrase }) => ({
        ca: mapPresent(ca, pem),
        cert: mapPresent(cert, pem),
        key: mapPresent(key, (key) => Redacted.make(pem(key))),
        passphrase: mapPresent(passphrase, Redacted.make),
        serverName: texts.KAFKA_SSL_SERVER_NAME,
        rejectUnauthorized
      })
    )
  // what can't be read has been said already
  const problem = Either.match(read(), { onLeft: () => undefined, onRight: tlsProblem })
  if (problem !== undefined) problems.add([nameOf(sources[tlsNames[problem.name]])], problem.message)
  return { _tag: "Ssl", tls: renewed("ssl", read) }
}

// ---------------------------------------------------------------------------------------------------------------------
// SASL
// ---------------------------------------------------------------------------------------------------------------------

const saslOptions = (
  { sources, texts }: Variables,
  over: Plaintext | SslOptions,
  protocol: Protocol,
  problems: ConfigProblems
): SecurityOptions => {
  const { KAFKA_SASL_OAUTHBEARER_TOKEN: token, KAFKA_SASL_PASSWORD: password, KAFKA_SASL_USERNAME: username } = sources
  const said = texts.KAFKA_SASL_MECHANISM
  const allowed = Object.keys(mechanisms) as Array<keyof typeof mechanisms>
  const name = said === undefined
    ? problems.add(
      ["KAFKA_SASL_MECHANISM"],
      `expected one of ${allowed.join(", ")}, since KAFKA_SECURITY_PROTOCOL is ${protocol}, and it is not set`
    )
    : oneOf("KAFKA_SASL_MECHANISM", said, allowed, problems)
  if (name === undefined) return over

  for (const wanted of name === "OAUTHBEARER" ? [token] : [username, password]) {
    if (isSet(wanted)) continue
    problems.add(
      [wanted.name],
      `expected ${wanted.name} or ${wanted.name}_FILE, since KAFKA_SASL_MECHANISM is ${name}, and neither is set`
    )
  }
  for (const unwanted of name === "OAUTHBEARER" ? [username, password] : [token]) {
    if (!isSet(unwanted)) continue
    problems.add([nameOf(unwanted)], `is set, but KAFKA_SASL_MECHANISM is ${name}, which has no use for it: unset it`)
  }

  const mechanism = mechanisms[name]
  return mechanism === "oauthbearer"
    ? {
      _tag: "Sasl",
      over,
      mechanism,
      token: renewed(mechanism, () => Either.map(current(token), Redacted.make))
    }
    : {
      _tag: "Sasl",
      over,
      mechanism,
      credentials: renewed(mechanism, () =>
        Either.map(
          Either.all({ username: current(username), password: current(password) }),
          ({ password, username }): Credentials => ({ username, password: Redacted.make(password) })
        ))
    }
}
