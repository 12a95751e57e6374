/**
 * What lies between clients and brokers: delays, lost requests, lost answers, dead brokers.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type { Cluster } from "./Cluster.ts"
import type { Code, Failure, Reply } from "./Protocol.ts"
import { refused } from "./Protocol.ts"

export type RequestKind =
  | "metadata"
  | "produce"
  | "fetch"
  | "list-offsets"
  | "commit"
  | "committed"
  | "join"
  | "sync"
  | "heartbeat"
  | "leave"
  | "init-producer"
  | "txn-offsets"
  | "end-txn"
  | "admin"

export type Fault = "refused-connection" | "request-lost" | "response-lost" | Code

/** A fault that waits for its requests. */
export interface Trap {
  readonly kind: RequestKind
  readonly fault: Fault
  readonly applies: (clientId: string, broker: number | undefined) => boolean
  remaining: number
  fired: number
}

/** One client's end of the wire. */
export interface Link {
  readonly clientId: string
  cut: boolean
}

interface Waiting {
  readonly link: Link
  readonly broker: number
  readonly fail: (failure: Failure) => void
}

export type Target = () => number | undefined

export class Network {
  private readonly cluster: Cluster
  private readonly scope: Scope.Scope
  readonly traps = new Set<Trap>()
  readonly delays = new Map<RequestKind, number>()
  readonly links = new Set<Link>()
  private readonly waiting = new Set<Waiting>()

  constructor(cluster: Cluster, scope: Scope.Scope) {
    this.cluster = cluster
    this.scope = scope
  }

  private take(link: Link, kind: RequestKind, broker: number | undefined): Fault | undefined {
    for (const trap of this.traps) {
      if (trap.kind === kind && trap.remaining > 0 && trap.applies(link.clientId, broker)) {
        trap.remaining--
        trap.fired++
        if (trap.remaining === 0) this.traps.delete(trap)
        return trap.fault
      }
    }
    return undefined
  }

  private disconnected(sent: boolean, reason: string): Either.Either<never, Failure> {
    return Either.left({ _tag: "Disconnected", sent, reason })
  }

  /** Whether requests of a kind are answered at once. */
  isInstant(kind: RequestKind): boolean {
    return !this.delays.has(kind)
  }

  /** A request that arrives now. */
  now<A>(link: Link, target: Target, kind: RequestKind, handle: () => Reply<A>): Either.Either<A, Failure> {
    const broker = target()
    if (broker === undefined || !this.cluster.isUp(broker)) {
      return this.disconnected(false, broker === undefined ? "no broker is up" : "connection refused")
    }
    if (link.cut) return this.disconnected(false, "network is unreachable")
    const fault = this.traps.size === 0 ? undefined : this.take(link, kind, broker)
    switch (fault) {
      case undefined:
        return Either.mapLeft(handle(), refused)
      case "refused-connection":
        return this.disconnected(false, "connection refused")
      case "request-lost":
        return this.disconnected(true, "connection closed before the answer")
      case "response-lost":
        handle()
        return this.disconnected(true, "connection closed before the answer")
      default:
        return Either.left(refused({ code: fault, reason: "injected" }))
    }
  }

  /** A request that is answered at once, or after the delay set for its kind. */
  call<A>(
    link: Link,
    target: Target,
    kind: RequestKind,
    handle: () => Reply<A>,
    timeout = 30_000
  ): Effect.Effect<A, Failure> {
    return Effect.suspend((): Effect.Effect<A, Failure> => {
      const delay = this.delays.get(kind)
      if (delay === undefined) return this.now(link, target, kind, handle)
      // it goes on when its sender has given up, as what is on the wire does
      return Effect.gen(this, function*() {
        const answer = yield* Deferred.make<A, Failure>()
        yield* Clock.sleep(delay).pipe(
          Effect.zipRight(Effect.suspend(() => Deferred.complete(answer, this.now(link, target, kind, handle)))),
          Effect.forkIn(this.scope)
        )
        return yield* Deferred.await(answer).pipe(
          Effect.timeoutFail({ duration: timeout, onTimeout: (): Failure => ({ _tag: "TimedOut", millis: timeout }) })
        )
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
    const arrive = Effect.async<A, Failure>((resume) => {
      let waiting: Waiting | undefined
      let answered = false
      const finish = (exit: Either.Either<A, Failure>) => {
        if (answered) return
        answered = true
        if (waiting !== undefined) this.waiting.delete(waiting)
        resume(exit)
      }
      const broker = target()
      let early: Reply<A> | undefined
      let arriving = true
      const arrived = this.now<boolean>(link, target, kind, () => {
        handle((reply) => {
          if (arriving) early = reply
          else finish(Either.mapLeft(reply, refused))
        })
        return Either.right(true)
      })
      arriving = false
      // an answer that a fault loses is lost whenever it comes
      if (Either.isLeft(arrived)) finish(Either.left(arrived.left))
      else if (early !== undefined) finish(Either.mapLeft(early, refused))
      else if (broker !== undefined) {
        waiting = { link, broker, fail: (failure) => finish(Either.left(failure)) }
        this.waiting.add(waiting)
      }
      return Effect.sync(() => {
        answered = true
        if (waiting !== undefined) this.waiting.delete(waiting)
      })
    })
    return Effect.suspend(() => {
      const delay = this.delays.get(kind)
      return delay === undefined ? arrive : Effect.zipRight(Clock.sleep(delay), arrive)
    })
  }

  /** Breaks the connections on which somebody waits for an answer. */
  drop(which: (link: Link, broker: number) => boolean): void {
    for (const waiting of [...this.waiting]) {
      if (which(waiting.link, waiting.broker)) {
        waiting.fail({ _tag: "Disconnected", sent: true, reason: "connection closed before the answer" })
      }
    }
  }
}
