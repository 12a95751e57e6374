/**
 * A client's view of whether the cluster can be reached: it tries again, counts the silence, and gives up in time.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { ClientError, UnknownTopicError } from "../../KafkaError.ts"
import type { Cluster } from "./Cluster.ts"
import type { Link, Network, Timings } from "./Network.ts"
import { aboutNoTopic, canRetry, clientError, done, type Failure } from "./Protocol.ts"

const firstBackoff = 100
const longestBackoff = 1000

/** How long to wait before the next attempt, in milliseconds: 100, 200, 400 and so on, up to a second. */
export const backoff = (attempt: number): number => Math.min(firstBackoff * 2 ** attempt, longestBackoff)

/** Tries again while that may help, for `patience` milliseconds. */
export const retrying = <A>(request: Effect.Effect<A, Failure>, patience: number): Effect.Effect<A, Failure> =>
  Effect.gen(function*() {
    const start = yield* Clock.currentTimeMillis
    for (let attempt = 0;; attempt++) {
      const answer = yield* Effect.either(request)
      if (Either.isRight(answer)) return answer.right
      const left = patience - ((yield* Clock.currentTimeMillis) - start)
      if (!canRetry(answer.left) || left <= 0) return yield* Effect.fail(answer.left)
      yield* Clock.sleep(Math.min(backoff(attempt), left))
    }
  })

/** Finds a broker, as a client does before anything else. */
export const connect = (
  cluster: Cluster,
  network: Network,
  link: Link,
  { connectionTimeout }: Timings
): Effect.Effect<void, ClientError> =>
  aboutNoTopic(Effect.mapError(
    retrying(network.call(link, () => cluster.anyBroker, "metadata", () => done), connectionTimeout),
    (failure) => clientError("connect", cluster.addresses, failure)
  ))

export interface LifelineOptions {
  readonly brokers: ReadonlyArray<string>
  /** How long there may be silence, in milliseconds. */
  readonly unavailableAfter: number
  readonly onDisconnected: (reason: string) => void
  readonly onReconnected: () => void
  /** Called once, when there was silence for too long. */
  readonly onUnavailable: (cause: ClientError | UnknownTopicError) => void
}

export class Lifeline {
  private readonly options: LifelineOptions
  private silentSince: number | undefined
  private ended = false

  constructor(options: LifelineOptions) {
    this.options = options
  }

  /** Every answer ends the silence, a refusal too. */
  heard(now: number, failure: Failure | undefined): void {
    const { brokers, onDisconnected, onReconnected, onUnavailable, unavailableAfter } = this.options
    if (failure?._tag !== "Disconnected") {
      if (this.silentSince !== undefined) onReconnected()
      this.silentSince = undefined
    } else if (this.silentSince === undefined) {
      this.silentSince = now
      onDisconnected(failure.reason)
    } else if (now - this.silentSince >= unavailableAfter && !this.ended) {
      this.ended = true
      onUnavailable(clientError("poll", brokers, failure))
    }
  }

  readonly noted = <A>(request: Effect.Effect<A, Failure>): Effect.Effect<A, Failure> =>
    Effect.flatMap(Effect.either(request), (answer) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        this.heard(now, Either.isLeft(answer) ? answer.left : undefined)
        return answer
      }))

  /** A request that is tried again for as long as there may be silence. */
  readonly request = <A>(
    operation: string,
    request: Effect.Effect<A, Failure>
  ): Effect.Effect<A, ClientError | UnknownTopicError> =>
    Effect.mapError(
      retrying(this.noted(request), this.options.unavailableAfter),
      (failure) => clientError(operation, this.options.brokers, failure)
    )
}
