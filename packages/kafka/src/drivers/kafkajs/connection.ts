/**
 * How kafkajs gets at the cluster: `Kafka` instances made from our configuration. This is the only place where
 * secrets are unwrapped.
 *
 * Each instance has sockets of its own that we keep hold of, so that it can be ended for good: kafkajs itself
 * reconnects and sends again after a `disconnect` if it was just then retrying.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import { Kafka, type Mechanism, type RetryOptions, type SASLOptions } from "kafkajs"
import * as Net from "node:net"
import * as Tls from "node:tls"
import * as KafkaConfig from "../../KafkaConfig.ts"
import type { ClientError, KafkaAuthenticationError } from "../../KafkaError.ts"
import { asked } from "../asked.ts"
import { attempt, mechanismOf } from "../errors.ts"
import { Secrets } from "../secrets.ts"
import { clientError, meaning, withoutTopic } from "./errors.ts"
import { guarded } from "./frames.ts"
import * as Logger from "./logger.ts"
import * as OAuthBearer from "./oauthBearer.ts"

// ---------------------------------------------------------------------------------------------------------------------
// the environment of a driver
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What all connections of one layer share.
 */
export interface Environment {
  readonly config: KafkaConfig.Service
  readonly runtime: Runtime.Runtime<never>
  /** Secrets seen so far, never to be shown. */
  readonly secrets: Secrets
  /** The mechanism for errors to name: of SASL, `"ssl"`, or `"none"`. */
  readonly mechanism: string
  /** Stands between kafkajs and the socket: where a test injects faults. */
  readonly intercept: (socket: Net.Socket, destination: Destination) => Net.Socket
}

export interface Destination {
  readonly host: string
  readonly port: number
}

export const environment = (
  intercept: Environment["intercept"] = (socket) => socket
): Effect.Effect<Environment, never, KafkaConfig.KafkaConfig> =>
  Effect.gen(function*() {
    const config = yield* KafkaConfig.KafkaConfig
    const runtime = yield* Effect.runtime<never>()
    return {
      config,
      runtime,
      secrets: new Secrets(),
      mechanism: mechanismOf(config),
      intercept
    }
  })

export { attempt } from "../errors.ts"

// ---------------------------------------------------------------------------------------------------------------------
// a connection
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A `Kafka` instance, and the end of it.
 */
export interface Connection {
  readonly kafka: Kafka
  /**
   * Ends it for good: open sockets are destroyed, which fails whatever waits for an answer, and no new one is opened.
   */
  readonly kill: () => void
  readonly killed: () => boolean
  /** What a socket failed with last, for where kafkajs says nothing but "timeout". */
  readonly lastSocketError: () => unknown
}

export interface Options {
  readonly clientId?: string | undefined
  readonly requestTimeout?: number | undefined
  readonly retry?: RetryOptions | undefined
}

/**
 * How long before its end a session is renewed, in milliseconds, at the next request. Brokers take a renewal after the
 * end as well, but at most one in a second: kafkajs's own ten seconds would have it at each request of a short session.
 */
const reauthenticationThreshold = 3000

/** Each broker of the list gets its share of the time in which one has to be reached. */
const connectionTimeoutPerBroker = (config: KafkaConfig.Service): number => {
  const whole = Duration.toMillis(config.connectionTimeout)
  return Math.min(whole, Math.max(1000, Math.floor(whole / config.brokers.length)))
}

/**
 * How kafkajs retries what it does by itself: each broker is tried twice. The caller bounds the time.
 */
export const connectRetry = (config: KafkaConfig.Service): RetryOptions => ({
  retries: 2 * config.brokers.length,
  initialRetryTime: 100,
  maxRetryTime: 1000,
  factor: 0.2,
  multiplier: 2
})

class Killed extends Error {
  readonly retriable = false
  constructor() {
    super("this connection was closed")
    this.name = "Killed"
  }
}

/** kafkajs splits `host:port` at the first colon, so the colons of an IPv6 address are hidden from it. */
const hideColons = (broker: string): string => {
  const colon = broker.lastIndexOf(":")
  const host = broker.slice(0, colon).replace(/^\[(.*)\]$/, "$1")
  return `${host.replaceAll(":", "%")}${broker.slice(colon)}`
}

const showColons = (host: string): string => host.includes("%") ? host.replaceAll("%", ":") : host

export const make = (self: Environment, options: Options = {}): Connection => {
  const { config, runtime, secrets } = self
  const sockets = new Set<Net.Socket>()
  let killed = false
  let lastSocketError: unknown = undefined

  const tls = config.security._tag === "Ssl"
    ? new TlsSettings(self, config.security.tls)
    : config.security._tag === "Sasl" && config.security.over._tag === "Ssl"
    ? new TlsSettings(self, config.security.over.tls)
    : undefined

  const open = (destination: Destination, onConnect: () => void): Net.Socket => {
    if (killed) throw new Killed()
    lastSocketError = undefined
    const { port } = destination
    const host = showColons(destination.host)
    const socket = tls === undefined ? Net.connect({ host, port }, onConnect) : openTls(tls, host, port, onConnect)
    socket.setKeepAlive(true, 60_000)
    socket.setNoDelay(true)
    // in an outage kafkajs says goodbye to the same closed socket again and again, which leaves a listener each time
    socket.setMaxListeners(0)
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
    socket.on("error", (error) => {
      lastSocketError = error
    })
    return guarded(self.intercept(socket, { host, port }))
  }

  const openTls = (tls: TlsSettings, host: string, port: number, onConnect: () => void): Net.Socket => {
    try {
      const servername = Net.isIP(host) === 0 ? { servername: host } : {}
      return Tls.connect({ host, port, ...servername, ...tls.now() }, onConnect)
    } catch (error) {
      // kafkajs keeps its message alone
      lastSocketError = error
      throw error
    }
  }

  const kafka = new Kafka({
    clientId: options.clientId ?? config.clientId,
    // asked at each bootstrap, which is when TLS settings can be waited for
    brokers: async () => {
      // none at all is what kafkajs does not try again
      if (killed) return []
      try {
        if (tls !== undefined) await tls.refresh()
      } catch (error) {
        lastSocketError = error
        throw error
      }
      return config.brokers.map(hideColons)
    },
    ssl: tls !== undefined,
    ...(config.security._tag === "Sasl" ? { sasl: sasl(self, config.security) } : {}),
    connectionTimeout: connectionTimeoutPerBroker(config),
    authenticationTimeout: Duration.toMillis(config.connectionTimeout),
    reauthenticationThreshold,
    requestTimeout: options.requestTimeout ?? Duration.toMillis(config.requestTimeout),
    enforceRequestTimeout: true,
    retry: options.retry ?? connectRetry(config),
    socketFactory: ({ host, onConnect, port }) => open({ host, port }, onConnect),
    logLevel: Logger.levelOf(runtime),
    logCreator: Logger.make(runtime, secrets)
  })

  return {
    kafka,
    kill: () => {
      killed = true
      for (const socket of sockets) socket.destroy(new Killed())
    },
    killed: () => killed,
    lastSocketError: () => lastSocketError
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// opening and closing
// ---------------------------------------------------------------------------------------------------------------------

/** What kafkajs's producer, consumer and admin have in common. */
export interface Client {
  readonly connect: () => Promise<void>
  readonly disconnect: () => Promise<unknown>
}

/** How long a client may take to say goodbye before its sockets are destroyed. */
const closeGrace = 2000

/** Whether another try may go well. kafkajs passes on what a socket broke with, whatever it is. */
const isPassing = (error: ClientError): boolean =>
  error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
  (error._tag === "KafkaRequestError" && (error.retriable || error.code === "CLIENT_ERROR"))

/** Between two tries to connect, in milliseconds, beside the pauses of kafkajs. */
const connectPause = 200

/**
 * Connects, and tries again until the connection timeout is over: a broker that restarts refuses connections for a
 * while. Fails with what the socket said where kafkajs says little.
 */
export const establish = (
  self: Environment,
  connection: Connection,
  client: { readonly connect: () => Promise<unknown> },
  operation: string
): Effect.Effect<void, ClientError> => {
  const millis = Duration.toMillis(self.config.connectionTimeout)
  return Effect.tryPromise({
    try: () => client.connect(),
    catch: (error) => connectError(self, connection, error, operation)
  }).pipe(
    Effect.retry({
      while: isPassing,
      schedule: Schedule.spaced(connectPause)
    }),
    Effect.timeoutFail({
      duration: millis,
      onTimeout: () =>
        connectError(
          self,
          connection,
          Object.assign(new Error("Connection timeout"), { name: "KafkaJSConnectionError" }),
          operation
        )
    }),
    // nothing is worth a goodbye
    Effect.onError(() => Effect.sync(connection.kill))
  )
}

const connectError = (
  self: Environment,
  connection: Connection,
  error: unknown,
  operation: string
): ClientError => {
  const last = connection.lastSocketError()
  const telling = last !== undefined && ["Connection", "Timeout", "Protocol"].includes(meaning(error)._tag)
    ? last
    : error
  return withoutTopic(clientError(
    telling,
    attempt(self, operation, { millis: Duration.toMillis(self.config.connectionTimeout) })
  ))
}

/**
 * Disconnects, and destroys what is left after a grace. Never fails.
 */
export const close = (connection: Connection, client: Pick<Client, "disconnect">): Effect.Effect<void> =>
  Effect.promise(() => client.disconnect().catch(() => undefined)).pipe(
    Effect.interruptible,
    Effect.timeoutOption(closeGrace),
    Effect.ensuring(Effect.sync(connection.kill))
  )

// ---------------------------------------------------------------------------------------------------------------------
// security
// ---------------------------------------------------------------------------------------------------------------------

/** TLS settings are asked for at each connection; kafkajs opens sockets synchronously, so a slow answer serves the next. */
class TlsSettings {
  private latest: Tls.ConnectionOptions = {}
  private readonly self: Environment
  private readonly settings: Effect.Effect<Tls.ConnectionOptions, KafkaAuthenticationError>

  constructor(self: Environment, tls: Effect.Effect<KafkaConfig.Tls, KafkaAuthenticationError>) {
    const { secrets } = self
    this.self = self
    this.settings = Effect.map(tls, (given): Tls.ConnectionOptions => ({
      ...(given.ca === undefined ? {} : { ca: given.ca }),
      ...(given.cert === undefined ? {} : { cert: given.cert }),
      ...(given.key === undefined ? {} : { key: secrets.reveal(given.key) }),
      ...(given.passphrase === undefined ? {} : { passphrase: secrets.reveal(given.passphrase) }),
      ...(given.serverName === undefined ? {} : { servername: given.serverName }),
      ...(given.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: given.rejectUnauthorized })
    }))
  }

  async refresh(): Promise<void> {
    this.latest = await asked(this.self, this.settings)
  }

  now(): Tls.ConnectionOptions {
    const fiber = Runtime.runFork(this.self.runtime)(Effect.tap(this.settings, (settings) =>
      Effect.sync(() => {
        this.latest = settings
      })))
    const exit = fiber.unsafePoll()
    if (exit !== null && Exit.isFailure(exit)) throw Cause.squash(exit.cause)
    return this.latest
  }
}

/**
 * kafkajs reads the credentials from this object whenever it authenticates, but can't wait for them. So the provider
 * that it installs in `authenticationProvider` is wrapped in one that asks for the credentials first.
 */
class PasswordOptions {
  readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512"
  private readonly ask: () => Promise<KafkaConfig.Credentials>
  private readonly secrets: Secrets
  private current: KafkaConfig.Credentials | undefined
  private installed: AuthenticationProvider | undefined

  constructor(
    mechanism: PasswordOptions["mechanism"],
    secrets: Secrets,
    ask: () => Promise<KafkaConfig.Credentials>
  ) {
    this.mechanism = mechanism
    this.secrets = secrets
    this.ask = ask
  }

  get username(): string {
    return this.current?.username ?? ""
  }
  get password(): string {
    return this.current === undefined ? "" : this.secrets.reveal(this.current.password)
  }
  get authenticationProvider(): AuthenticationProvider | undefined {
    const installed = this.installed
    return installed === undefined ? undefined : (args) => ({
      authenticate: async () => {
        this.current = await this.ask()
        await installed(args).authenticate()
      }
    })
  }
  set authenticationProvider(provider: AuthenticationProvider | undefined) {
    this.installed = provider
  }
}

type AuthenticationProvider = (args: unknown) => { readonly authenticate: () => Promise<void> }

const sasl = (
  self: Environment,
  security: KafkaConfig.SaslPassword | KafkaConfig.SaslToken
): SASLOptions | Mechanism => {
  if (security.mechanism === "oauthbearer") {
    const { token } = security
    return OAuthBearer.mechanism(async () => self.secrets.reveal(await asked(self, token)))
  }
  const { credentials } = security
  // the class stands for one of three shapes that differ in the name of the mechanism alone
  return new PasswordOptions(security.mechanism, self.secrets, () => asked(self, credentials)) as SASLOptions
}
