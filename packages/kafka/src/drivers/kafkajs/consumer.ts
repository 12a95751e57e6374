/**
 * A consumer's conversation with the cluster through kafkajs.
 *
 * kafkajs's consumer loop can not keep the promises of the contract: it rejoins while records are in hand, resets
 * positions in silence, and commits for generations it is no longer part of. So it is used as a member of the group
 * and for nothing else; fetching and commits are requests of ours to the brokers it knows.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type {
  Capabilities,
  ConsumerSession,
  ConsumerSessionOptions,
  OffsetAndMetadata,
  Subscription
} from "../../KafkaClient.ts"
import {
  type ClientError,
  CommitError,
  ConsumerError,
  UnknownTopicError,
  UnsupportedFeatureError
} from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { Lanes } from "../lanes.ts"
import type * as Connection from "./connection.ts"
import * as Requests from "./consumerCluster.ts"
import { Fetcher } from "./consumerFetcher.ts"
import * as Group from "./consumerGroup.ts"

export interface Tuning {
  /** How often new partitions and topics are looked for, in milliseconds. */
  readonly metadataInterval: number
}

const defaultTuning: Tuning = { metadataInterval: 30_000 }

/**
 * Connects, and joins no group before `subscribe`.
 */
export const open = (
  environment: Connection.Environment,
  capabilities: Capabilities,
  options: ConsumerSessionOptions,
  tuning: Tuning = defaultTuning
): Effect.Effect<ConsumerSession, ClientError | UnsupportedFeatureError, Scope.Scope> =>
  Effect.gen(function*() {
    yield* refuseUnsupported(options)
    const scope = yield* Effect.scope
    const clock = yield* Effect.clock
    const { callbacks, groupId } = options

    let death: Group.FatalError | undefined = undefined
    let subscription: Subscription | undefined = undefined
    let lastAlive = clock.unsafeCurrentTimeMillis()
    const alive = (): void => {
      lastAlive = clock.unsafeCurrentTimeMillis()
    }
    const silence = (): number => clock.unsafeCurrentTimeMillis() - lastAlive

    // a poll that waits, and whether the next one shall not
    const arrivals = yield* Effect.makeLatch(false)
    const wake = (): void => {
      arrivals.unsafeOpen()
    }
    const arrived = (): void => {
      if (lanes.hasReady()) wake()
    }
    const ended = yield* Deferred.make<void>()
    const die = (error: Group.FatalError): void => {
      if (death !== undefined) return
      death = error
      halt(lanes.partitions())
      Deferred.unsafeDone(ended, Effect.void)
      wake()
    }
    /** What runs in the background: if it dies, the session does, and says so. */
    const background = (effect: Effect.Effect<unknown, Group.FatalError>): Effect.Effect<void> =>
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

    const requests = yield* Requests.open({ environment, options, alive })
    const lanes = new Lanes({ maxBytesPerPartition: options.fetchMaxBytesPerPartition, maxWait: options.fetchMaxWait })
    const fetcher = new Fetcher(
      { environment, options, requests, lanes, arrived, alive, notice: callbacks.onNotice, background },
      clock
    )

    // with or without a position yet
    const held = new Set<TopicPartition.Key>()
    const halt = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): void => {
      for (const tp of partitions) {
        held.delete(TopicPartition.key(tp))
        lanes.close(tp)
      }
    }
    const assign = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): Effect.Effect<void> =>
      Effect.suspend(() => {
        for (const tp of partitions) held.add(TopicPartition.key(tp))
        return Effect.flatMap(callbacks.onAssigned(partitions), (positions) => {
          for (const tp of partitions) {
            const position = positions.get(TopicPartition.key(tp))
            // some may be gone again by now
            if (position !== undefined && held.has(TopicPartition.key(tp))) lanes.open(tp, position)
          }
          // a demand that came with the answer found no lanes yet
          wake()
          return fetcher.lead
        })
      })

    const group = yield* Group.Group.make({
      environment,
      options,
      alive,
      leave: (memberId) =>
        Effect.suspend(() => silence() < reachableWithin ? Effect.ignore(requests.leave(memberId)) : Effect.void),
      allowedSessionTimeouts: requests.allowedSessionTimeouts,
      callbacks: {
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
      Effect.zipRight(requests.load(topics, "subscribe"), Effect.sync(() => group.subscribe(topics)))

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
            halt([...held].filter((key) => !wanted.has(key)).map(TopicPartition.fromKey))
            yield* background(assign(next.partitions.filter((tp) => !held.has(TopicPartition.key(tp)))))
          }
        }
        subscription = next
        alive()
        if (before === undefined) {
          // a session that died leaves its group, so that others may go on
          if (next._tag !== "Manual") yield* background(Effect.raceFirst(group.run, Deferred.await(ended)))
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
          group.subscribe(topics)
        }
        yield* group.lookForPartitions((topic) => requests.partitionsOf(topic).length)
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
        const fetched = lanes.take(demand, clock.unsafeCurrentTimeMillis())
        fetcher.look()
        if (fetched.length > 0) {
          arrivals.unsafeClose()
          return Effect.succeed(fetched)
        }
        return arrivals.await.pipe(
          Effect.timeoutOption(maxWait),
          Effect.flatMap(() => {
            arrivals.unsafeClose()
            return death === undefined ? Effect.succeed(lanes.takeMore()) : Effect.fail(death)
          })
        )
      })

    const refuse = (
      offsets: ReadonlyArray<OffsetAndMetadata>,
      reason: "stale" | "closed",
      description: string
    ): Requests.CommitFailure => ({
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
        const member = group.metadata
        return member === undefined
          ? Effect.fail(refuse(offsets, "stale", "this member holds no partitions"))
          : requests.commit(offsets, member)
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
      groupMetadata: () => group.metadata
    }
  })

/** A cluster that was heard so lately is told goodbye, in milliseconds. */
const reachableWithin = 5000

const refuseUnsupported = (options: ConsumerSessionOptions): Effect.Effect<void, UnsupportedFeatureError> => {
  const refuse = (feature: string, reason: string) =>
    Effect.fail(new UnsupportedFeatureError({ driver: "kafkajs", feature, reason }))
  if (options.groupInstanceId !== undefined) {
    return refuse("static membership", "kafkajs has no group instance ids: leave the instance id out")
  }
  if (options.assignment === "cooperative") {
    return refuse("cooperative rebalancing", "kafkajs revokes all partitions at each rebalance: use \"eager\"")
  }
  return Effect.void
}
