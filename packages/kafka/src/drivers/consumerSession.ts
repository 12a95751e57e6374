/**
 * A consumer's conversation with a real cluster, whatever client library it goes through: lanes and their fetcher, the
 * member of the group, and what looks after them. A driver brings the requests and the member.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type {
  Capabilities,
  ConsumerCallbacks,
  ConsumerSession,
  ConsumerSessionOptions,
  GroupMetadata,
  OffsetAndMetadata,
  OffsetSpec,
  Subscription
} from "../KafkaClient.ts"
import { type ClientError, CommitError, ConsumerError, UnknownTopicError } from "../KafkaError.ts"
import * as TopicPartition from "../TopicPartition.ts"
import * as Alarm from "./alarm.ts"
import { Fetcher, type Source } from "./fetcher.ts"
import { Lanes } from "./lanes.ts"

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>

export type LookupError = ClientError | UnknownTopicError

export type FatalError = ClientError | ConsumerError

/** A commit that failed. */
export interface CommitFailure {
  readonly error: CommitError | ClientError
  readonly retriable: boolean
}

export interface Tuning {
  /** How often new partitions and topics are looked for, in milliseconds. */
  readonly metadataInterval: number
}

export const defaultTuning: Tuning = { metadataInterval: 30_000 }

/**
 * What a consumer asks the cluster, membership aside.
 */
export interface Requests extends Source {
  /** Loads the metadata of topics, and fails where one of them can't be had. */
  readonly load: (topics: Iterable<string>, operation: string) => Effect.Effect<void, LookupError>
  /** All topics there are that match, but for those that Kafka keeps for itself. */
  readonly matching: (pattern: RegExp) => Effect.Effect<ReadonlySet<string>, ClientError>
  /** The partitions of a topic whose metadata was loaded. */
  readonly partitionsOf: (topic: string) => ReadonlyArray<number>
  readonly partitionsFor: (topic: string) => Effect.Effect<ReadonlyArray<number>, LookupError>
  readonly offsets: (
    partitions: Partitions,
    spec: OffsetSpec
  ) => Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, LookupError>
  readonly committed: (
    partitions: Partitions
  ) => Effect.Effect<ReadonlyMap<TopicPartition.Key, OffsetAndMetadata>, ClientError>
  /** One request, once. `member` is absent for a reader without a group. */
  readonly commit: (
    offsets: ReadonlyArray<OffsetAndMetadata>,
    member: GroupMetadata | undefined
  ) => Effect.Effect<void, CommitFailure>
}

/**
 * What becomes of partitions.
 */
export interface Holding {
  /** They are ours: find out where to start, and start. */
  readonly assign: (partitions: Partitions) => Effect.Effect<void>
  /** Nothing more of them is fetched. */
  readonly halt: (partitions: Partitions) => void
  readonly revoke: ConsumerCallbacks["onRevoked"]
  readonly lose: ConsumerCallbacks["onLost"]
  readonly notice: ConsumerCallbacks["onNotice"]
}

/** What a member of a group finds in its session. */
export interface Membership {
  readonly holding: Holding
  /** Called with each sign of life of the cluster. */
  readonly alive: () => void
  /** How long none was seen, in milliseconds. */
  readonly silence: () => number
}

/**
 * A member of a group.
 */
export interface Member {
  /** Joins with these topics, or changes to them, in the background. */
  readonly subscribe: (topics: ReadonlySet<string>) => void
  /** Is a member from the first subscription on, until it fails. When it ends, it leaves the group. */
  readonly run: Effect.Effect<void, FatalError>
  readonly metadata: GroupMetadata | undefined
  /**
   * Rejoins for partitions that the group has not heard of.
   *
   * @param count how many partitions a topic has
   */
  readonly lookForPartitions: (count: (topic: string) => number) => Effect.Effect<void>
}

export interface Parts<E, R extends Requests> {
  readonly capabilities: Capabilities
  readonly options: ConsumerSessionOptions
  readonly tuning: Tuning
  /** Connects. `alive` is called with each answer of the cluster. */
  readonly connect: (alive: () => void) => Effect.Effect<R, E, Scope.Scope>
  readonly member: (requests: R, membership: Membership) => Effect.Effect<Member, never, Scope.Scope>
}

/** Connects, and joins no group before `subscribe`. */
export const open = <E, R extends Requests>(
  { capabilities, connect, member: makeMember, options, tuning }: Parts<E, R>
): Effect.Effect<ConsumerSession, E, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const { callbacks, groupId } = options

    let death: FatalError | undefined = undefined
    let subscription: Subscription | undefined = undefined
    let lastAlive = clock.unsafeCurrentTimeMillis()
    const alive = (): void => {
      lastAlive = clock.unsafeCurrentTimeMillis()
    }
    const silence = (): number => clock.unsafeCurrentTimeMillis() - lastAlive

    // what a poll waits for
    const alarm = yield* Alarm.make
    const wake = alarm.ring
    const arrived = (): void => {
      if (lanes.hasReady()) wake()
    }
    const ended = yield* Deferred.make<void>()
    const die = (error: FatalError): void => {
      if (death !== undefined) return
      death = error
      halt(lanes.partitions())
      Deferred.unsafeDone(ended, Effect.void)
      wake()
    }
    /** What runs in the background: if it dies, the session does, and says so. */
    const background = (effect: Effect.Effect<unknown, FatalError>): Effect.Effect<void> =>
      Effect.asVoid(Effect.forkIn(
        Effect.catchAllCause(effect, (cause) =>
          Effect.sync(() => {
            if (Cause.isInterruptedOnly(cause)) return
            die(Option.getOrElse(Cause.failureOption(cause), () =>
              new ConsumerError({
                reason: "crashed",
                groupId,
                description: "the session died",
                cause: Cause.squash(cause)
              })))
          })),
        scope
      ))
    const dead = Effect.suspend(() => death === undefined ? Effect.void : Effect.fail(death))

    const requests = yield* connect(alive)
    const lanes = new Lanes({ maxBytesPerPartition: options.fetchMaxBytesPerPartition, maxWait: options.fetchMaxWait })
    const fetcher = new Fetcher(
      { source: requests, lanes, arrived, alive, notice: callbacks.onNotice, background },
      clock
    )

    // with or without a position yet; since which assignment
    const held = new Map<TopicPartition.Key, Partitions>()
    const halt = (partitions: Partitions): void => {
      for (const tp of partitions) {
        held.delete(TopicPartition.key(tp))
        lanes.close(tp)
      }
    }
    const assign = (partitions: Partitions): Effect.Effect<void> =>
      Effect.suspend(() => {
        for (const tp of partitions) held.set(TopicPartition.key(tp), partitions)
        return Effect.flatMap(callbacks.onAssigned(partitions), (positions) => {
          for (const tp of partitions) {
            const position = positions.get(TopicPartition.key(tp))
            // some may be gone again by now, or have come once more
            if (position !== undefined && held.get(TopicPartition.key(tp)) === partitions) lanes.open(tp, position)
          }
          // a demand that came with the answer found no lanes yet
          wake()
          return fetcher.lead
        })
      })

    const member = yield* makeMember(requests, {
      alive,
      silence,
      holding: {
        assign,
        halt,
        revoke: callbacks.onRevoked,
        lose: callbacks.onLost,
        notice: callbacks.onNotice
      }
    })

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => die(new ConsumerError({ reason: "closed", groupId, description: "its scope was closed" })))
    )

    const subscribeTopics = (topics: ReadonlySet<string>): Effect.Effect<void, ClientError | UnknownTopicError> =>
      Effect.zipRight(requests.load(topics, "subscribe"), Effect.sync(() => member.subscribe(topics)))

    const subscribe: ConsumerSession["subscribe"] = (next) =>
      Effect.gen(function*() {
        yield* dead
        const before = subscription
        if (before !== undefined && (before._tag === "Manual") !== (next._tag === "Manual")) {
          return yield* new ConsumerError({
            reason: "subscription",
            groupId,
            description: "a session is either in a group or reads given partitions"
          })
        }
        switch (next._tag) {
          case "Topics":
            yield* subscribeTopics(next.topics)
            break
          case "Pattern":
            yield* subscribeTopics(yield* requests.matching(next.pattern)).pipe(
              // deleted just now
              Effect.catchTag("UnknownTopicError", () => Effect.void)
            )
            break
          case "Manual": {
            yield* requests.load(new Set(next.partitions.map(({ topic }) => topic)), "subscribe")
            const unknown = next.partitions.find(({ partition, topic }) =>
              !requests.partitionsOf(topic).includes(partition)
            )
            if (unknown !== undefined) return yield* new UnknownTopicError({ operation: "subscribe", ...unknown })
            const wanted = new Set(next.partitions.map(TopicPartition.key))
            halt([...held.keys()].filter((key) => !wanted.has(key)).map(TopicPartition.fromKey))
            yield* background(assign(next.partitions.filter((tp) => !held.has(TopicPartition.key(tp)))))
          }
        }
        subscription = next
        alive()
        if (before === undefined) {
          // a session that died leaves its group, so that others may go on
          if (next._tag !== "Manual") yield* background(Effect.raceFirst(member.run, Deferred.await(ended)))
          yield* background(watch)
          yield* background(refresh)
        }
      })

    /** Looks for new partitions and for new topics that match. */
    const refresh = Effect.forever(Effect.zipRight(
      Effect.sleep(tuning.metadataInterval),
      Effect.gen(function*() {
        yield* requests.refresh
        yield* fetcher.lead
        if (subscription?._tag === "Pattern") {
          const topics = yield* requests.matching(subscription.pattern)
          yield* requests.load(topics, "subscribe")
          member.subscribe(topics)
        }
        yield* member.lookForPartitions((topic) => requests.partitionsOf(topic).length)
      }).pipe(Effect.ignore)
    ))

    /** Fails the session when nothing was heard for too long. Where nothing is to be heard, it asks. */
    const watch: Effect.Effect<void> = Effect.gen(function*() {
      const askAfter = Math.min(3000, options.unavailableAfter / 3)
      while (death === undefined) {
        yield* Effect.sleep(Math.min(1000, askAfter))
        if (silence() >= options.unavailableAfter) {
          die(
            new ConsumerError({
              reason: "unavailable",
              groupId,
              description: `nothing was heard from the cluster for ${silence()} ms`
            })
          )
        } else if (silence() >= askAfter) {
          yield* requests.refresh.pipe(
            Effect.timeoutOption(options.unavailableAfter - silence()),
            Effect.ignore
          )
        }
      }
    })

    const poll: ConsumerSession["poll"] = (demand, maxWait) =>
      Effect.suspend(() => {
        if (death !== undefined) return Effect.fail(death)
        const now = clock.unsafeCurrentTimeMillis()
        const fetched = lanes.take(demand, now)
        fetcher.look()
        if (fetched.length > 0) {
          alarm.silence()
          return Effect.succeed(fetched)
        }
        return Effect.flatMap(
          alarm.sleep(now + maxWait),
          () => death === undefined ? Effect.succeed(lanes.takeMore()) : Effect.fail(death)
        )
      })

    const refuse = (
      offsets: ReadonlyArray<OffsetAndMetadata>,
      reason: "stale" | "closed",
      description: string
    ): CommitFailure => ({
      error: new CommitError({
        reason,
        partitions: offsets.map(({ partition, topic }) => ({ topic, partition })),
        description
      }),
      retriable: false
    })
    const commit: ConsumerSession["commit"] = (offsets) =>
      Effect.suspend(() => {
        if (death !== undefined) return Effect.fail(refuse(offsets, "closed", death.message))
        if (subscription?._tag === "Manual") return requests.commit(offsets, undefined)
        const identity = member.metadata
        return identity === undefined
          ? Effect.fail(refuse(offsets, "stale", "this member holds no partitions"))
          : requests.commit(offsets, identity)
      })

    return {
      capabilities,
      subscribe,
      poll,
      wake,
      commit,
      seek: (tp, offset) =>
        Effect.suspend(() => {
          if (!held.has(TopicPartition.key(tp))) return Effect.void
          if (lanes.has(tp)) {
            lanes.seek(tp, offset)
            return Effect.sync(() => fetcher.look())
          }
          lanes.open(tp, offset)
          return fetcher.lead
        }),
      committed: (partitions) => requests.committed(partitions),
      offsets: (partitions, spec) => requests.offsets(partitions, spec),
      partitionsFor: (topic) => requests.partitionsFor(topic),
      groupMetadata: () => member.metadata
    }
  })
