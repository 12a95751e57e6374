/**
 * Membership of a group: the gate, and who does what it says.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { isRetriable } from "../../engine/consumer/Retry.ts"
import type { ConsumerSessionOptions, GroupMetadata } from "../../KafkaClient.ts"
import { ConsumerError } from "../../KafkaError.ts"
import type { FatalError, Holding } from "../consumerSession.ts"
import * as SessionTimeout from "../sessionTimeout.ts"
import * as Connection from "./connection.ts"
import * as Assignor from "./consumerAssignor.ts"
import * as Gate from "./consumerGate.ts"
import { type Keeper, Member } from "./consumerMember.ts"
import { clientError, withoutFencing } from "./errors.ts"

export interface Membership {
  readonly environment: Connection.Environment
  readonly options: ConsumerSessionOptions
  readonly callbacks: Holding
  /** Called with each sign of life of the coordinator. */
  readonly alive: () => void
  /** Says that a member is gone. Takes as long as it likes. */
  readonly leave: (memberId: string) => Effect.Effect<void>
  /** Which session timeouts the coordinator allows, if it tells. */
  readonly allowedSessionTimeouts: Effect.Effect<SessionTimeout.Allowed | undefined>
}

/** How long kafkajs may be free to join and not do it, in milliseconds. */
const idleLimit = 10_000
const lookEvery = 1000

/** How long kafkajs may take to rejoin for partitions that it was told of, in milliseconds. */
const rejoinTime = 1000

/** When to look again for who seems to be gone, in milliseconds. */
const secondLook = 1000

const restartPause = 500

/** Outages are waited out: giving up is decided elsewhere. */
const patience = { retries: 1_000_000, initialRetryTime: 100, maxRetryTime: 1000, factor: 0.2, multiplier: 2 }

/** The generation of who is in no group. */
const notJoined = -1

type End =
  | { readonly _tag: "Fatal"; readonly error: FatalError }
  | { readonly _tag: "Again" }

export class Group {
  private readonly self: Membership
  private readonly actions: Queue.Queue<Exclude<Gate.Action, { readonly _tag: "Inspect" }>>
  private readonly inspections: Queue.Queue<void>
  private readonly wishes: Queue.Queue<void>
  private topics: ReadonlySet<string> = new Set()
  private subscribed = false
  private state: Gate.State = Gate.initial
  private member: Member | undefined = undefined
  private memberId = ""
  /** Who we are to the coordinator as the owner of the partitions that were handed out last. */
  private identity: GroupMetadata | undefined = undefined
  private owned: Assignor.Owned = Assignor.nothingOwned
  private lost: Deferred.Deferred<void> = Deferred.unsafeMake(FiberId.none)
  private released: Deferred.Deferred<void> | undefined = undefined

  static make(self: Membership): Effect.Effect<Group> {
    return Effect.map(
      Effect.all([
        Queue.unbounded<Exclude<Gate.Action, { readonly _tag: "Inspect" }>>(),
        Queue.sliding<void>(1),
        Queue.sliding<void>(1)
      ]),
      ([actions, inspections, wishes]) => new Group(self, actions, inspections, wishes)
    )
  }

  private constructor(
    self: Membership,
    actions: Group["actions"],
    inspections: Group["inspections"],
    wishes: Group["wishes"]
  ) {
    this.self = self
    this.actions = actions
    this.inspections = inspections
    this.wishes = wishes
  }

  /** Joins with these topics, or changes to them, in the background. */
  subscribe(topics: ReadonlySet<string>): void {
    if (this.subscribed && topics.size === this.topics.size && [...topics].every((one) => this.topics.has(one))) return
    this.subscribed = true
    this.topics = topics
    this.wishes.unsafeOffer(undefined)
  }

  get metadata(): GroupMetadata | undefined {
    return this.identity
  }

  // -------------------------------------------------------------------------------------------------------------------
  // the gate
  // -------------------------------------------------------------------------------------------------------------------

  private feed(input: Gate.Input): Gate.Verdict {
    const { actions, state, verdict } = Gate.next(this.state, input)
    this.state = state
    for (const action of actions) {
      if (action._tag === "Inspect") {
        this.inspections.unsafeOffer(undefined)
        continue
      }
      if (action._tag !== "Assign") this.self.callbacks.halt(action.partitions)
      if (action._tag === "Lose") Deferred.unsafeDone(this.lost, Effect.void)
      this.actions.unsafeOffer(action)
    }
    if (this.released !== undefined && Gate.mayJoin(state)) {
      Deferred.unsafeDone(this.released, Effect.void)
      this.released = undefined
    }
    return verdict
  }

  /** Does what the gate said, one after the other. */
  private get perform(): Effect.Effect<never> {
    const { callbacks, options } = this.self
    return Effect.forever(Effect.flatMap(Queue.take(this.actions), (action) => {
      switch (action._tag) {
        case "Assign":
          // until here commits were of the assignment before, for which the coordinator may refuse them
          this.identity = action.generation === notJoined
            ? undefined
            : { groupId: options.groupId, memberId: this.memberId, generation: action.generation }
          this.owned = { owned: action.partitions, generation: action.generation }
          return callbacks.assign(action.partitions)
        case "Revoke": {
          const settle = action.partitions.length === 0
            ? Effect.void
            : Effect.raceFirst(callbacks.revoke(action.partitions), Deferred.await(this.lost))
          return Effect.zipRight(
            Effect.sync(() => callbacks.halt(action.partitions)),
            Effect.zipRight(settle, Effect.sync(() => this.feed({ _tag: "Settled" })))
          )
        }
        case "Lose":
          return Effect.suspend(() => {
            callbacks.halt(action.partitions)
            this.identity = undefined
            this.owned = Assignor.nothingOwned
            this.lost = Deferred.unsafeMake(FiberId.none)
            return action.partitions.length === 0 ? Effect.void : callbacks.lose(action.partitions)
          })
      }
    }))
  }

  /** Asks the coordinator what it is that kafkajs wants to rejoin for. */
  private get inspect(): Effect.Effect<never> {
    return Effect.forever(Effect.zipRight(
      Queue.take(this.inspections),
      Effect.suspend(() => {
        const { member, memberId } = this
        return member === undefined
          ? Effect.succeed("unknown" as const)
          : this.certain(
            Effect.tryPromise(() => member.whereabouts(memberId)).pipe(
              Effect.timeout(2000),
              Effect.orElseSucceed(() => "unknown" as const)
            )
          )
      }).pipe(Effect.map((found) => this.feed({ _tag: "Inspected", found })))
    ))
  }

  /**
   * A coordinator that has just taken over was seen to know nothing of a member for a moment, and to go on with it
   * afterwards: who seems to be gone from a group that moves or rebalances is looked for twice.
   */
  private certain<A extends string>(look: Effect.Effect<A>): Effect.Effect<A> {
    return Effect.flatMap(look, (found) => {
      const { state } = this
      const moves = (state._tag === "Open" || state._tag === "Closing") && state.doubt?.why === "rebalancing"
      return found === "gone" && moves ? Effect.zipRight(Effect.sleep(secondLook), look) : Effect.succeed(found)
    })
  }

  /** Has the partitions settled, so that we may rejoin or leave. */
  private get release(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const released = this.released ?? Deferred.unsafeMake<void>(FiberId.none)
      this.released = released
      this.feed({ _tag: "Release" })
      return Deferred.await(released)
    })
  }

  /**
   * Rejoins for partitions that kafkajs has not heard of, after those we hold have settled.
   *
   * @param count how many partitions a topic has
   */
  lookForPartitions(count: (topic: string) => number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { member, state } = this
      if (member === undefined || state._tag !== "Open" || !member.hasFewer(this.topics, count)) return Effect.void
      return this.release.pipe(
        Effect.zipRight(Effect.tryPromise(() => member.learnPartitions())),
        Effect.zipRight(Effect.sleep(rejoinTime)),
        Effect.ignore,
        Effect.zipRight(Effect.sync(() => void this.feed({ _tag: "Resume" })))
      )
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // as a member
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Is a member from the first subscription on, until it fails. When it ends, it leaves the group.
   */
  get run(): Effect.Effect<never, FatalError> {
    const self = this
    const changed = Effect.zipRight(Queue.take(this.wishes), Effect.as(this.release, undefined))
    return Effect.gen(function*() {
      yield* Queue.take(self.wishes)
      while (true) {
        const end = yield* Effect.raceFirst(Effect.scoped(self.belong(self.topics)), changed)
        self.feed({ _tag: "Ended" })
        if (end === undefined) continue
        if (end._tag === "Fatal") return yield* Effect.fail(end.error)
        yield* Effect.sleep(restartPause)
      }
    }).pipe(Effect.raceFirst(this.perform), Effect.raceFirst(this.inspect))
  }

  /** Is a member with these topics, until something ends it. */
  private belong(topics: ReadonlySet<string>): Effect.Effect<End, never, Scope.Scope> {
    const { environment, options } = this.self
    const self = this
    return Effect.gen(function*() {
      if (topics.size === 0) {
        // there is nothing to be had, and that is the assignment
        self.feed({ _tag: "Joined", partitions: [], generation: notJoined })
        return yield* Effect.never
      }
      const ended = yield* Deferred.make<End>()
      const connection = Connection.make(environment, { clientId: options.clientId, retry: patience })
      const crash = (error: unknown): void => {
        Deferred.unsafeDone(ended, self.endOf(error))
      }
      const member = new Member(connection, options, topics, self.keeper(crash))
      self.member = member
      yield* Effect.addFinalizer(() => Effect.zipRight(member.leave, Effect.sync(() => (self.member = undefined))))
      const started = yield* Effect.either(Effect.tryPromise({ try: () => member.start(), catch: (error) => error }))
      if (started._tag === "Left") crash(started.left)
      const end = yield* Effect.raceFirst(Deferred.await(ended), self.idleness(member))
      // to the coordinator we are still there: what is in hand may be settled, and its commits count
      if (end._tag === "Again") yield* self.release
      return end
    })
  }

  private keeper(crashed: Keeper["crashed"]): Keeper {
    const { alive, callbacks, leave } = this.self
    let told = false
    return {
      ask: (why) => this.feed({ _tag: "JoinAsked", why }),
      mayJoin: () => Gate.mayJoin(this.state),
      owned: () => this.owned,
      joined: (memberId, generation, partitions, millis) => {
        alive()
        told = false
        this.memberId = memberId
        callbacks.notice({ _tag: "Joined", memberId, generation, millis })
        this.feed({ _tag: "Joined", partitions, generation })
      },
      heard: (millis) => callbacks.notice({ _tag: "Heartbeat", millis }),
      heartbeat: (generation, millis) => {
        alive()
        told = false
        callbacks.notice({ _tag: "Heartbeat", millis })
        this.feed({ _tag: "Heartbeat", generation })
      },
      rebalancing: () => {
        alive()
        if (!told) callbacks.notice({ _tag: "Rebalancing" })
        told = true
      },
      crashed,
      leave
    }
  }

  /** Ends when kafkajs is out of the group and does nothing about it: it lost its place while it was told to go on. */
  private idleness(member: Member): Effect.Effect<End> {
    return Effect.gen(this, function*() {
      for (let idle = 0; idle < idleLimit; idle += lookEvery) {
        yield* Effect.sleep(lookEvery)
        const { state } = this
        const out = state._tag === "Out" || (state._tag === "Closed" && !state.deliberate)
        if (!out || member.joining) idle = 0
      }
      return { _tag: "Again" }
    })
  }

  private endOf(error: unknown): Effect.Effect<End> {
    const { allowedSessionTimeouts, environment, options } = this.self
    const mapped = withoutFencing(
      clientError(error, Connection.attempt(environment, "join group", { group: options.groupId }))
    )
    // kafkajs takes metadata that it has not loaded for topics that do not exist
    if (mapped._tag === "UnknownTopicError" || isRetriable(mapped)) return Effect.succeed({ _tag: "Again" })
    if (mapped._tag !== "KafkaRequestError") return Effect.succeed({ _tag: "Fatal", error: mapped })
    const crashed = (description: string): End => ({
      _tag: "Fatal",
      error: new ConsumerError({ reason: "crashed", groupId: options.groupId, description, cause: mapped })
    })
    return mapped.code === "INVALID_SESSION_TIMEOUT"
      ? Effect.map(
        allowedSessionTimeouts,
        (allowed) => crashed(SessionTimeout.refusal(options.sessionTimeout, allowed))
      )
      : Effect.succeed(crashed(mapped.reason))
  }
}
