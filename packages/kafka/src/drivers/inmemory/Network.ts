/**
 * What lies between clients and brokers: delays, lost requests, lost answers, dead brokers.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type { Cluster } from "./Cluster.ts"
import { type Code, type Failure, refused, type Reply } from "./Protocol.ts"

export type RequestKind =
  | "metadata"
  | "produce"
  | "fetch"
  | "list-offsets"
  | "join-group"
  | "sync-group"
  | "heartbeat"
  | "leave-group"
  | "commit"
  | "fetch-offsets"
  | "init-producer"
  | "txn-offsets"
  | "end-txn"
  | "admin"

/**
 * - `"connection-refused"`: the request was never sent.
 * - `"request-lost"`: the connection broke before the request arrived; its sender can't know.
 * - `"response-lost"`: the request was carried out, and the connection broke before the answer.
 * - a code: the broker answered it.
 */
export type Fault = "connection-refused" | "request-lost" | "response-lost" | Code

/** One client's end of the wire. */
export interface Link {
  readonly id: number
  readonly kind: "consumer" | "producer" | "admin"
  readonly clientId: string
  readonly groupId: string | undefined
  memberId: string | undefined
  /** Nothing gets through. */
  cut: boolean
}

/** What all clients do alike, in milliseconds. */
export interface Timings {
  /** How long one that is opened looks for a broker. */
  readonly connectionTimeout: number
  /** How often one looks for new topics and partitions. */
  readonly metadataRefresh: number
}

/** A fault that waits for its requests. */
export interface Trap {
  readonly kind: RequestKind
  readonly fault: Fault
  readonly catches: (link: Link, broker: number) => boolean
  remaining: number
  fired: number
}

/** A way that is slow. */
export interface Detour {
  readonly kind: RequestKind
  readonly millis: number
  readonly catches: (link: Link) => boolean
  fired: number
}

/** Somebody who waits for an answer that the broker gives when it sees fit. */
interface Waiting {
  readonly link: Link
  readonly broker: number
  readonly disconnect: () => void
}

/** The broker a request goes to, as the client would find it in its metadata. */
export type Target = () => number | undefined

const disconnected = (sent: boolean, reason: string): Either.Either<never, Failure> =>
  Either.left({ _tag: "Disconnected", sent, reason })

const broken = "the connection was closed before the answer"

/** How long a client waits for an answer if nothing else is said, as Kafka's `request.timeout.ms`. */
const defaultTimeout = 30_000

export class Network {
  private readonly cluster: Cluster
  private readonly scope: Scope.Scope
  readonly links = new Set<Link>()
  readonly traps = new Set<Trap>()
  readonly detours = new Set<Detour>()
  private readonly waiting = new Set<Waiting>()

  /** What is on the wire belongs to `scope`, and outlives its sender. */
  constructor(cluster: Cluster, scope: Scope.Scope) {
    this.cluster = cluster
    this.scope = scope
  }

  connect(link: Omit<Link, "id" | "cut" | "memberId">): Effect.Effect<Link, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => {
        const connected: Link = { ...link, id: this.cluster.nextSession(), memberId: undefined, cut: false }
        this.links.add(connected)
        return connected
      }),
      (connected) => Effect.sync(() => this.links.delete(connected))
    )
  }

  private trap(link: Link, kind: RequestKind, broker: number): Fault | undefined {
    for (const trap of this.traps) {
      if (trap.kind === kind && trap.catches(link, broker)) {
        trap.fired++
        if (--trap.remaining === 0) this.traps.delete(trap)
        return trap.fault
      }
    }
    return undefined
  }

  private delay(link: Link, kind: RequestKind): number {
    let millis = 0
    if (this.detours.size === 0) return millis
    for (const detour of this.detours) {
      if (detour.kind === kind && detour.catches(link)) {
        detour.fired++
        millis += detour.millis
      }
    }
    return millis
  }

  /** Whether requests of this kind arrive and are answered at once. */
  isInstant(link: Link, kind: RequestKind): boolean {
    if (this.detours.size === 0) return true
    for (const detour of this.detours) if (detour.kind === kind && detour.catches(link)) return false
    return true
  }

  /** A request that arrives now. */
  now<A>(link: Link, target: Target, kind: RequestKind, handle: () => Reply<A>): Either.Either<A, Failure> {
    const { cluster } = this
    if (link.cut) return disconnected(false, "the network is unreachable")
    const broker = target()
    if (broker === undefined) {
      return cluster.anyBroker === undefined
        ? disconnected(false, "connection refused")
        : Either.left(refused({ code: "LEADER_NOT_AVAILABLE", reason: "no replica of the partition is up" }))
    }
    if (!cluster.isUp(broker)) return disconnected(false, "connection refused")
    const fault = this.traps.size === 0 ? undefined : this.trap(link, kind, broker)
    switch (fault) {
      case undefined: {
        const reply = handle()
        return Either.isRight(reply) ? Either.right(reply.right) : Either.left(refused(reply.left))
      }
      case "connection-refused":
        return disconnected(false, "connection refused")
      case "request-lost":
        return disconnected(true, broken)
      case "response-lost":
        handle()
        return disconnected(true, broken)
      default:
        return Either.left(refused({ code: fault, reason: "a fault set by the test" }))
    }
  }

  /** A request that the broker answers at once. */
  call<A>(
    link: Link,
    target: Target,
    kind: RequestKind,
    handle: () => Reply<A>,
    timeout: number = defaultTimeout
  ): Effect.Effect<A, Failure> {
    return Effect.suspend((): Effect.Effect<A, Failure> => {
      const delay = this.delay(link, kind)
      return delay === 0
        ? this.now(link, target, kind, handle)
        : this.onTheWire(delay, timeout, Effect.suspend(() => this.now(link, target, kind, handle)))
    })
  }

  /** What was sent arrives, whether or not its sender still waits for it. */
  private onTheWire<A>(delay: number, timeout: number, arrival: Effect.Effect<A, Failure>): Effect.Effect<A, Failure> {
    return Effect.gen(this, function*() {
      const answer = yield* Deferred.make<A, Failure>()
      yield* Clock.sleep(delay).pipe(
        Effect.zipRight(Deferred.complete(answer, arrival)),
        Effect.forkIn(this.scope)
      )
      return yield* Effect.timeoutFail(Deferred.await(answer), {
        duration: timeout,
        onTimeout: (): Failure => ({ _tag: "TimedOut", millis: timeout })
      })
    })
  }

  /** A request that the broker answers when it sees fit. */
  wait<A>(
    link: Link,
    target: Target,
    kind: RequestKind,
    handle: (reply: (reply: Reply<A>) => void) => void
  ): Effect.Effect<A, Failure> {
    const arrival = Effect.async<A, Failure>((resume) => {
      const broker = target()
      let waiting: Waiting | undefined
      let early: Reply<A> | undefined
      let arriving = true
      const finish = (answer: Either.Either<A, Failure>): void => {
        if (waiting !== undefined) this.waiting.delete(waiting)
        resume(answer)
      }
      const arrived = this.now(link, target, kind, () => {
        handle((reply) => {
          if (arriving) early = reply
          // whose connection is broken hears nothing
          else if (waiting !== undefined && this.waiting.has(waiting)) finish(Either.mapLeft(reply, refused))
        })
        return Either.right(undefined)
      })
      arriving = false
      if (Either.isLeft(arrived)) finish(Either.left(arrived.left))
      else if (early !== undefined) finish(Either.mapLeft(early, refused))
      else if (broker !== undefined) {
        waiting = { link, broker, disconnect: () => finish(disconnected(true, broken)) }
        this.waiting.add(waiting)
      }
      return Effect.sync(() => {
        if (waiting !== undefined) this.waiting.delete(waiting)
      })
    })
    return Effect.suspend(() => {
      const delay = this.delay(link, kind)
      return delay === 0 ? arrival : Effect.zipRight(Clock.sleep(delay), arrival)
    })
  }

  /** Breaks connections on which somebody waits. */
  disconnect(which: (link: Link, broker: number) => boolean): void {
    for (const waiting of [...this.waiting]) if (which(waiting.link, waiting.broker)) waiting.disconnect()
  }
}
