/**
 * Connections to single brokers, made from our configuration. This is the only place where secrets are unwrapped.
 *
 * A connection of the library is dead after a timeout or a reset; then whoever needs one opens another. None is ever
 * used before it is known which versions of the protocol the broker speaks.
 */
import type { Connection as LibraryConnection, ConnectionOptions, SASLMechanismValue } from "@platformatic/kafka"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Redacted from "effect/Redacted"
import * as Runtime from "effect/Runtime"
import * as Net from "node:net"
import type * as Tls from "node:tls"
import * as KafkaConfig from "../../KafkaConfig.ts"
import { KafkaAuthenticationError, type UnsupportedFeatureError } from "../../KafkaError.ts"
import { mechanismOf } from "../errors.ts"
import { Secrets } from "../secrets.ts"
import * as Api from "./api.ts"
import { AnsweredError, ConnectionProblem, meaning, Misunderstood, protocolCode } from "./errors.ts"
import * as Library from "./library.ts"

// ---------------------------------------------------------------------------------------------------------------------
// the environment of a driver
// ---------------------------------------------------------------------------------------------------------------------

export interface Address {
  readonly host: string
  readonly port: number
}

/**
 * What all connections of one layer share.
 */
export interface Environment {
  readonly config: KafkaConfig.Service
  readonly runtime: Runtime.Runtime<never>
  readonly library: Library.Library
  readonly apis: Api.Apis
  /** Secrets seen so far, never to be shown. */
  readonly secrets: Secrets
  /** The mechanism for errors to name: of SASL, `"ssl"`, or `"none"`. */
  readonly mechanism: string
  /** Told of each socket before anything is sent on it: where a test injects faults. */
  readonly onSocket: (socket: Net.Socket, broker: Address) => void
}

export const environment = (
  onSocket: Environment["onSocket"] = () => undefined,
  source?: Library.Source
): Effect.Effect<Environment, UnsupportedFeatureError, KafkaConfig.KafkaConfig> =>
  Effect.gen(function*() {
    const config = yield* KafkaConfig.KafkaConfig
    const runtime = yield* Effect.runtime<never>()
    const library = yield* Library.load(source)
    const apis = yield* Api.make(library)
    return {
      config,
      runtime,
      library,
      apis,
      secrets: new Secrets(),
      mechanism: mechanismOf(config),
      onSocket
    }
  })

export { attempt } from "../errors.ts"

/** An error code inside of an answer as what the library would throw for it; `undefined` if it is none. */
export const answeredError = (
  { library }: Environment,
  errorCode: number,
  errorMessage?: string | null
): AnsweredError | undefined => {
  if (errorCode === 0) return undefined
  const id = library.protocolErrorsCodesById[errorCode]
  const known = id === undefined ? undefined : library.protocolErrors[id]
  return known === undefined
    ? new AnsweredError(`CODE_${errorCode}`, `an error this client does not know, code ${errorCode}`, false)
    : new AnsweredError(known.id, errorMessage ?? known.message, known.canRetry)
}

// ---------------------------------------------------------------------------------------------------------------------
// a connection
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A request that failed.
 */
export class RequestFailure<A = unknown> {
  readonly _tag = "RequestFailure"
  /** What was thrown; see `meaning` and `protocolCode`. */
  readonly error: unknown
  /** What the broker answered, where it did: the library throws an answer that has an error anywhere inside. */
  readonly answer: A | undefined
  constructor(error: unknown, answer: A | undefined) {
    this.error = error
    this.answer = answer
  }
  /** The first error in the answer, by its name in the protocol. */
  get code(): string | undefined {
    return protocolCode(this.error)?.code
  }
}

export interface Options {
  readonly clientId: string
  /** In milliseconds. What takes longer ends the connection, and fails all that waits on it. */
  readonly requestTimeout: number
  /** In milliseconds, TLS and authentication included. */
  readonly connectTimeout: number
  /** Whoever waits for it to open does so no more. */
  readonly signal: AbortSignal
}

/** So many that the library never lets a request wait by itself: who sends decides what waits. */
const unlimited = 100_000

/** How long what was written last may take to leave, in milliseconds. */
const closeGrace = 500

export class Connection {
  readonly address: Address
  /** Which versions of which requests the broker takes. */
  readonly spoken: Api.Spoken
  /** The levels of the cluster's features, for instance of `"group.version"` and `"transaction.version"`. */
  readonly features: ReadonlyMap<string, number>
  /** Requests that wait for their answers. */
  underWay = 0
  private readonly inner: LibraryConnection
  private readonly listeners = new Set<() => void>()
  private closed = false
  private lastError: unknown = undefined

  private constructor(
    inner: LibraryConnection,
    address: Address,
    spoken: Api.Spoken,
    features: ReadonlyMap<string, number>
  ) {
    this.inner = inner
    this.address = address
    this.spoken = spoken
    this.features = features
    inner.on("error", (error) => {
      this.lastError = error
      // no more than half closed, where a session could not be extended
      destroy(inner)
    })
    inner.once("close", () => {
      stopExtending(inner)
      this.onClosed()
    })
  }

  /** Rejects with what stands in the way. */
  static async open(self: Environment, address: Address, options: Options): Promise<Connection> {
    const inner = new self.library.Connection(options.clientId, {
      connectTimeout: options.connectTimeout,
      requestTimeout: options.requestTimeout,
      maxInflights: unlimited,
      ...(await tlsOptions(self, address)),
      ...saslOptions(self)
    })
    extendInTime(inner)
    let lastError: unknown
    // without a listener, an error of the socket would end the process
    inner.on("error", (error) => {
      lastError = error
    })
    const end = (): void => destroy(inner)
    const timer = setTimeout(end, options.connectTimeout)
    options.signal.addEventListener("abort", end)
    try {
      if (options.signal.aborted) throw new ConnectionProblem("this connection was closed")
      const connected = Promise.resolve(inner.connect(address.host, address.port))
      inner.socket.setKeepAlive(true, 60_000)
      self.onSocket(inner.socket, address)
      guard(inner.socket)
      await connected
      const { apiKeys, finalizedFeatures } = await self.library.apiVersionsV3.api.async(
        inner,
        self.config.clientId.replace(/[^a-zA-Z0-9.-]/g, "-"),
        "0"
      )
      const spoken = new Map(apiKeys.map((one) => [one.apiKey, one]))
      const features = new Map((finalizedFeatures ?? []).map((one) => [one.name, one.maxVersionLevel]))
      return new Connection(inner, address, spoken, features)
    } catch (error) {
      destroy(inner)
      if (protocolCode(error)?.code === "UNSUPPORTED_VERSION") {
        throw new Misunderstood(
          "UNSUPPORTED_VERSION",
          "the broker is older than this driver can speak to: it needs Kafka 3.2 or later",
          error
        )
      }
      throw telling(understood(error), lastError)
    } finally {
      clearTimeout(timer)
      options.signal.removeEventListener("abort", end)
    }
  }

  /** Whether requests can be sent. */
  get isOpen(): boolean {
    return !this.closed && (this.inner.isConnected() || this.inner.status === "reauthenticating")
  }

  /** Calls back once when the connection has ended, whatever ended it. Answers how to withdraw that. */
  onClose(listener: () => void): () => void {
    if (this.closed) listener()
    else this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }

  /** Whether the broker takes it in a version that we speak. */
  speaks(api: Api.Api<never, unknown>): boolean {
    return Api.choose(api, this.spoken) !== undefined
  }

  /**
   * Sends a request, in the newest version that both sides speak. Rejects with what the library throws: also where any
   * part of the answer is an error.
   */
  async call<Args extends ReadonlyArray<unknown>, A>(api: Api.Api<Args, A>, ...args: Args): Promise<A> {
    const version = Api.choose(api, this.spoken)
    if (version === undefined) throw new Misunderstood("UNSUPPORTED_VERSION", Api.mismatch(api, this.spoken))
    // the broker closes a connection on which it is told anything between the two requests of an authentication
    while (this.inner.status === "reauthenticating" && !this.closed) await this.reauthenticated()
    if (!this.isOpen) throw new ConnectionProblem("the connection was lost", { cause: this.lastError })
    try {
      this.underWay++
      return await version.async(this.inner, ...args)
    } catch (error) {
      const found = understood(error)
      if (found instanceof Misunderstood) this.close()
      throw telling(found, this.lastError)
    } finally {
      this.underWay--
    }
  }

  /** The same as an Effect. What is interrupted is still done by the broker, and its answer is ignored. */
  request<Args extends ReadonlyArray<unknown>, A>(
    api: Api.Api<Args, A>,
    ...args: Args
  ): Effect.Effect<A, RequestFailure<A>> {
    return Effect.async((resume) => {
      this.call(api, ...args).then(
        (answer) => resume(Effect.succeed(answer)),
        (error: unknown) => resume(Effect.fail(new RequestFailure(error, answerIn<A>(error))))
      )
    })
  }

  /** The same, but succeeds with whatever the broker answers: error codes inside of it are the caller's to look at. */
  ask<Args extends ReadonlyArray<unknown>, A>(
    api: Api.Api<Args, A>,
    ...args: Args
  ): Effect.Effect<A, RequestFailure<A>> {
    return Effect.catchAll(
      this.request(api, ...args),
      (failure) => failure.answer === undefined ? Effect.fail(failure) : Effect.succeed(failure.answer)
    )
  }

  /** What was written leaves, within reason; what waits for an answer fails. */
  close(): void {
    if (this.inner.status === "connected" || this.inner.status === "reauthenticating") {
      this.inner.close(() => undefined)
      setTimeout(() => destroy(this.inner), closeGrace).unref()
    } else destroy(this.inner)
    this.onClosed()
  }

  private reauthenticated(): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        this.inner.removeListener("connect", done)
        withdraw()
        resolve()
      }
      this.inner.once("connect", done)
      const withdraw = this.onClose(done)
    })
  }

  private onClosed(): void {
    if (this.closed) return
    this.closed = true
    const listeners = [...this.listeners]
    this.listeners.clear()
    for (const one of listeners) one()
  }
}

/** What the broker answered, though some of it be errors: they are the caller's to look at. */
export const answered = <A>(call: Promise<A>): Promise<A> =>
  call.catch((error: unknown) => {
    const answer = answerIn<A>(error)
    if (answer === undefined) throw error
    return answer
  })

/** A connection that is closed, or is told to close, stops the timer of its next authentication. */
const stopExtending = (inner: LibraryConnection): void => void inner.close(() => undefined)

/** No session is extended sooner after it began, in milliseconds. */
const soonest = 500

/**
 * The library extends a session before it ends by a timer. One of more than 31 days is more than a timer can hold, which
 * is over at once: it would authenticate without end. Such a session ends with its connection.
 */
const extendInTime = (inner: LibraryConnection): void => {
  let since = 0
  const begins = (): void => {
    since = performance.now()
  }
  inner.on("sasl:authentication", begins)
  inner.on("sasl:authentication:extended", begins)
  const extend = inner.reauthenticate.bind(inner)
  inner.reauthenticate = () => {
    if (performance.now() - since >= soonest) extend()
  }
}

/**
 * The library reads lengths as the socket brings them, and one that can't be is thrown where nobody catches it: that
 * would end the process. It ends the connection.
 */
const guard = (socket: Net.Socket): void => {
  const others = new Set(socket.listeners("data"))
  const wrap = (): void => {
    for (const listener of socket.listeners("data")) {
      if (others.has(listener)) continue
      const guarded = (chunk: Buffer): void => {
        try {
          listener.call(socket, chunk)
        } catch (error) {
          socket.destroy(error instanceof Error ? error : new Error(String(error)))
        }
      }
      others.add(guarded)
      socket.off("data", listener as (chunk: Buffer) => void)
      socket.on("data", guarded)
    }
  }
  // the library begins to listen in the first of them, or with TLS in the second
  socket.once("connect", wrap)
  socket.once("secureConnect", wrap)
}

/** After this nothing is sent and nothing arrives any more. */
const destroy = (inner: LibraryConnection): void => {
  stopExtending(inner)
  // there is none yet, whatever the types say, if connecting failed at once
  const socket = inner.socket as Net.Socket | undefined
  socket?.destroy()
}

/** What the broker answered, where the library throws its answer. */
const answerIn = <A>(error: unknown): A | undefined =>
  typeof error === "object" && error !== null && "response" in error ? error.response as A : undefined

/** What is thrown that is none of the library's own errors comes from reading an answer that makes no sense. */
const understood = (error: unknown): unknown => {
  const found = meaning(error)
  return found._tag === "Protocol" && found.code === "CLIENT_ERROR"
    ? new Misunderstood(
      "MALFORMED_RESPONSE",
      "the answer makes no sense: check that a Kafka broker listens there",
      error
    )
    : error
}

/** What the socket said is more telling than that it is closed. */
const telling = (error: unknown, lastError: unknown): unknown =>
  lastError !== undefined && meaning(error)._tag === "Connection"
    ? new ConnectionProblem("the connection was lost", { cause: lastError })
    : error

// ---------------------------------------------------------------------------------------------------------------------
// security
// ---------------------------------------------------------------------------------------------------------------------

/** The library's callbacks are promises. They reject with the error itself, so that it is found again in what it throws. */
const askFor = <A>(self: Environment, effect: Effect.Effect<A, KafkaAuthenticationError>): Promise<A> => {
  const inTime = Effect.timeoutFail(effect, {
    duration: self.config.connectionTimeout,
    onTimeout: () =>
      new KafkaAuthenticationError({
        operation: "credentials",
        mechanism: self.mechanism,
        kind: "unobtainable",
        reason: "they did not come within the connection timeout"
      })
  })
  return Runtime.runPromiseExit(self.runtime)(inTime).then((exit) => {
    if (Exit.isSuccess(exit)) return exit.value
    throw Cause.squash(exit.cause)
  })
}

const tlsOptions = async (self: Environment, { host }: Address): Promise<Pick<ConnectionOptions, "tls">> => {
  const { security } = self.config
  const over = security._tag === "Sasl" ? security.over : security
  if (over._tag === "Plaintext") return {}
  const given = await askFor(self, over.tls)
  const { secrets } = self
  const tls: Tls.ConnectionOptions = {
    ...(Net.isIP(host) === 0 ? { servername: host } : {}),
    ...(given.ca === undefined ? {} : { ca: given.ca }),
    ...(given.cert === undefined ? {} : { cert: given.cert }),
    ...(given.key === undefined ? {} : { key: secrets.reveal(given.key) }),
    ...(given.passphrase === undefined ? {} : { passphrase: secrets.reveal(given.passphrase) }),
    ...(given.serverName === undefined ? {} : { servername: given.serverName }),
    ...(given.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: given.rejectUnauthorized })
  }
  return { tls }
}

const mechanisms = {
  plain: "PLAIN",
  "scram-sha-256": "SCRAM-SHA-256",
  "scram-sha-512": "SCRAM-SHA-512",
  oauthbearer: "OAUTHBEARER"
} as const satisfies Record<string, SASLMechanismValue>

/** Credentials are asked for whenever the connection authenticates: when it opens, and before they expire. */
const saslOptions = (self: Environment): Pick<ConnectionOptions, "sasl"> => {
  const { security } = self.config
  if (security._tag !== "Sasl") return {}
  const mechanism = mechanisms[security.mechanism]
  const reveal = (secret: Redacted.Redacted<string>): string => self.secrets.reveal(secret)
  if (security.mechanism === "oauthbearer") {
    const { token } = security
    return {
      sasl: {
        mechanism,
        token: () => askFor(self, token).then(reveal),
        authBytesValidator: (bytes, callback) => {
          // a token that is refused is not an error of the request: the answer says why
          if (bytes.length === 0) callback(null, bytes)
          else callback(new AnsweredError("SASL_AUTHENTICATION_FAILED", bytes.toString("utf8"), false))
        }
      }
    }
  }
  const { credentials } = security
  // the library asks for the name first, and then for the password
  let current: Promise<KafkaConfig.Credentials> = Promise.reject(new Error("not asked for"))
  current.catch(() => undefined)
  return {
    sasl: {
      mechanism,
      username: () => {
        current = askFor(self, credentials)
        return current.then(({ username }) => username)
      },
      password: () => current.then(({ password }) => reveal(password))
    }
  }
}
