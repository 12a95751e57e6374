/**
 * A member's conversation with its group's coordinator. It joins on a connection of its own: a broker answers the requests
 * of a connection one after the other, and it holds a member that joins until the others have come.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { ConsumerSessionOptions } from "../../KafkaClient.ts"
import { type ClientError, ConsumerError, KafkaRequestError, KafkaTimeoutError } from "../../KafkaError.ts"
import type { FatalError } from "../consumerSession.ts"
import * as SessionTimeout from "../sessionTimeout.ts"
import type { Cluster, Dedicated } from "./cluster.ts"
import type { ConsumerRequests } from "./consumerRequests.ts"
import type { Api } from "./versions.ts"

/** A request that came to nothing. */
export interface Refusal<A = unknown> {
  /** The coordinator's answer, by its name in the protocol; `undefined` if there was none. */
  readonly code: string | undefined
  readonly answer: A | undefined
  readonly error: ClientError
}

/** An assignment that makes no sense. */
export const malformed = (cause: unknown): Refusal<never> => ({
  code: undefined,
  answer: undefined,
  error: new KafkaRequestError({
    operation: "join group",
    code: "MALFORMED_ASSIGNMENT",
    retriable: false,
    reason: "the leader of the group sent an assignment that can't be read",
    cause
  })
})

/** How much longer than the group may take a request may, in milliseconds. */
const margin = 5000

/** Whoever leaves does not wait for long, in milliseconds. */
const leaveTimeout = 2000

/** A cluster that was heard so lately is told goodbye, in milliseconds. */
const reachableWithin = 5000

/** The coordinator is to be looked for again. */
const moved: ReadonlySet<string> = new Set(["NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE"])

/** No member of this kind can be in the group, now or later. */
const hopeless: ReadonlySet<string> = new Set([
  "MALFORMED_ASSIGNMENT",
  "MALFORMED_RESPONSE",
  "INCONSISTENT_GROUP_PROTOCOL",
  "INVALID_GROUP_ID",
  "INVALID_REQUEST",
  "GROUP_MAX_SIZE_REACHED",
  "UNSUPPORTED_ASSIGNOR",
  "UNSUPPORTED_VERSION",
  "INVALID_REGULAR_EXPRESSION",
  "GROUP_ID_NOT_FOUND"
])

export class Coordinator {
  readonly cluster: Cluster
  private readonly requests: ConsumerRequests
  private readonly options: ConsumerSessionOptions
  private readonly alive: () => void
  private readonly silence: () => number
  private readonly dedicated: Dedicated

  constructor(
    requests: ConsumerRequests,
    options: ConsumerSessionOptions,
    life: { readonly alive: () => void; readonly silence: () => number }
  ) {
    this.cluster = requests.cluster
    this.requests = requests
    this.options = options
    this.alive = life.alive
    this.silence = life.silence
    this.dedicated = {
      purpose: "group",
      requestTimeout: Math.max(requests.cluster.attempt("").millis, options.rebalanceTimeout + margin)
    }
  }

  /** One request, once, which may take as long as the group takes. */
  request<Args extends ReadonlyArray<unknown>, A>(
    operation: string,
    api: Api<Args, A>,
    ...args: Args
  ): Effect.Effect<A, Refusal<A>> {
    return this.send(this.dedicated, operation, api, args)
  }

  /** The same for what is answered at once: if not, the connection is of no use any more. */
  prompt<Args extends ReadonlyArray<unknown>, A>(
    operation: string,
    api: Api<Args, A>,
    ...args: Args
  ): Effect.Effect<A, Refusal<A>> {
    const millis = Math.min(this.cluster.attempt("").millis, this.options.sessionTimeout)
    const { groupId } = this.options
    return Effect.timeoutFail(this.send(undefined, operation, api, args), {
      duration: millis,
      onTimeout: (): Refusal<A> => ({
        code: undefined,
        answer: undefined,
        error: new KafkaTimeoutError({ operation, millis })
      })
    }).pipe(Effect.tapError(({ error }) =>
      error._tag === "KafkaTimeoutError"
        ? Effect.ignore(Effect.map(
          this.cluster.coordinator(operation, "group", groupId),
          (connection) => connection.close()
        ))
        : Effect.void
    ))
  }

  /** Says goodbye, where there is somebody to say it to. */
  goodbye<Args extends ReadonlyArray<unknown>, A>(api: Api<Args, A>, ...args: Args): Effect.Effect<void> {
    return this.lastly(this.send(undefined, "leave group", api, args))
  }

  /** Waits for an answer that who leaves has to know, where there is somebody to give it. */
  heard(asking: Fiber.Fiber<unknown, unknown>): Effect.Effect<void> {
    return Effect.zipRight(this.lastly(Fiber.await(asking)), Fiber.interruptFork(asking))
  }

  /** In a fiber of its own, because who leaves may have been interrupted. */
  private lastly(effect: Effect.Effect<unknown, unknown>): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.silence() >= reachableWithin
        ? Effect.void
        : Effect.timeout(effect, leaveTimeout).pipe(
          Effect.interruptible,
          Effect.forkDaemon,
          Effect.flatMap(Fiber.await),
          Effect.asVoid
        )
    )
  }

  private send<Args extends ReadonlyArray<unknown>, A>(
    dedicated: Dedicated | undefined,
    operation: string,
    api: Api<Args, A>,
    args: Args
  ): Effect.Effect<A, Refusal<A>> {
    const { groupId } = this.options
    return Effect.matchEffect(this.cluster.coordinator(operation, "group", groupId, dedicated), {
      onFailure: (error) => Effect.fail<Refusal<A>>({ code: undefined, answer: undefined, error }),
      onSuccess: (connection) =>
        Effect.mapError(connection.request(api, ...args), (failure): Refusal<A> => ({
          code: failure.code,
          answer: failure.answer,
          error: this.cluster.clientError(operation, failure, { group: groupId })
        }))
    }).pipe(
      Effect.tapBoth({
        onSuccess: () => Effect.sync(this.alive),
        onFailure: ({ code }) =>
          Effect.sync(() => {
            if (code !== undefined) this.alive()
            if (code === undefined || moved.has(code)) this.cluster.forgetCoordinator("group", groupId)
          })
      })
    )
  }

  /** Why there is no going on after this, if so. What passes is `undefined`. */
  fatal({ code, error }: Refusal): Effect.Effect<FatalError | undefined> {
    const { groupId, groupInstanceId, groupProtocol, sessionTimeout } = this.options
    if (error._tag === "KafkaAuthorizationError" || error._tag === "KafkaAuthenticationError") {
      return Effect.succeed(error)
    }
    const crashed = (description: string): ConsumerError =>
      new ConsumerError({ reason: "crashed", groupId, description, cause: error })
    switch (code) {
      case "FENCED_INSTANCE_ID":
      case "UNRELEASED_INSTANCE_ID":
        return Effect.succeed(
          new ConsumerError({
            reason: "fenced",
            groupId,
            description: `another member has instance id "${groupInstanceId}"${
              code === "FENCED_INSTANCE_ID" ? " now" : ", until it leaves or its session is over"
            }`,
            cause: error
          })
        )
      case "UNSUPPORTED_VERSION":
        if (groupProtocol !== "consumer") break
        return Effect.succeed(crashed(
          "the brokers have no groups of KIP-848: finish the upgrade to Kafka 4.0 or later with kafka-features.sh, or " +
            "allow the protocol \"consumer\" in group.coordinator.rebalance.protocols"
        ))
      case "INVALID_SESSION_TIMEOUT":
        return Effect.map(
          this.requests.allowedSessionTimeouts,
          (allowed) => crashed(SessionTimeout.refusal(sessionTimeout, allowed))
        )
    }
    if (error._tag !== "KafkaRequestError") return Effect.succeed(undefined)
    return Effect.succeed(hopeless.has(code ?? error.code) ? crashed(error.reason) : undefined)
  }
}
