/**
 * A consumer as a client of the brokers: membership in a fiber of its own, fetching in the caller's.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type {
  Capabilities,
  ConsumerSession,
  ConsumerSessionOptions,
  Demand,
  Fetched,
  OffsetAndMetadata,
  Subscription
} from "../../KafkaClient.ts"
import { type ClientError, CommitError, ConsumerError, UnknownTopicError } from "../../KafkaError.ts"
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import * as Assignor from "./Assignor.ts"
import type { Cluster } from "./Cluster.ts"
import type { Group, Identity, JoinReply, Metadata, Partitions } from "./Group.ts"
import { view } from "./Log.ts"
import type { Link, Network } from "./Network.ts"
import type { Failure, Reply } from "./Protocol.ts"
import { canRetry, clientError, commitError, done, ok } from "./Protocol.ts"
import { Signal } from "./Signal.ts"

export const capabilities: Capabilities = {
  awaitedRevoke: true,
  cooperative: true,
  perPartitionDemand: true,
  transactionalGroupMetadata: true,
  staticMembership: true,
  consumerProtocol: false
}

type Death = ClientError | ConsumerError | UnknownTopicError

const firstBackoff = 100
const longestBackoff = 1000

export const open = (
  cluster: Cluster,
  network: Network,
  metadataRefresh: number,
  options: ConsumerSessionOptions
): Effect.Effect<ConsumerSession, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const { callbacks, groupId, groupInstanceId: instanceId } = options
    const clientId = cluster.nextClientId(options.clientId ?? "consumer")
    const link: Link = { clientId, cut: false }
    const brokers = cluster.addresses

    // -----------------------------------------------------------------------------------------------------------------
    // state
    // -----------------------------------------------------------------------------------------------------------------

    let death: Death | undefined
    /** Since when nothing has been heard from any broker. */
    let silentSince: number | undefined
    let subscription: Subscription | undefined
    /** The topics a pattern or a list stands for at the moment. */
    let topics: ReadonlySet<string> = new Set()
    let memberId = ""
    /** -1 while it is no member. */
    let generation = -1
    /** Whether a heartbeat makes sense. */
    let beating = false
    /** Whether the group has given our partitions away. */
    let lost = false
    /** The partition counts the last assignment was made from, while we lead. */
    let ledTopics: ReadonlyMap<string, number> | undefined
    const owned = new Map<Key, TopicPartition>()
    const positions = new Map<Key, bigint>()
    /** About to be taken away: not fetched any more. */
    const leaving = new Set<Key>()
    let turn = 0
    const rejoin = new Signal()
    const news = new Signal()

    const die = (error: Death): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (death !== undefined) return Effect.void
        death = error
        beating = false
        news.raise()
        return Effect.void
      })

    const consumerError = (reason: ConsumerError["reason"], description: string, cause?: unknown) =>
      new ConsumerError({ reason, groupId, description, ...(cause === undefined ? {} : { cause }) })

    // -----------------------------------------------------------------------------------------------------------------
    // requests
    // -----------------------------------------------------------------------------------------------------------------

    /** Keeps count of silence: every answer ends it, even a refusal. */
    const heard = (failure: Failure | undefined): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (failure?._tag !== "Disconnected") {
          if (silentSince !== undefined) {
            silentSince = undefined
            callbacks.onNotice({ _tag: "Reconnected" })
          }
          return Effect.void
        }
        return Effect.flatMap(Clock.currentTimeMillis, (now) => {
          if (silentSince === undefined) {
            silentSince = now
            callbacks.onNotice({ _tag: "Disconnected", reason: failure.reason })
          }
          return now - silentSince < options.unavailableAfter
            ? Effect.void
            : die(consumerError(
              "unavailable",
              `no broker was reached for ${options.unavailableAfter} ms`,
              clientError("poll", brokers, failure)
            ))
        })
      })

    const noted = <A>(request: Effect.Effect<A, Failure>): Effect.Effect<A, Failure> =>
      Effect.tapBoth(request, { onSuccess: () => heard(undefined), onFailure: heard })

    const coordinator = () => cluster.coordinator(groupId)
    const anyBroker = () => cluster.anyBroker

    const inGroup = <A>(f: (group: Group) => Reply<A>) => (): Reply<A> => {
      const group = cluster.group(groupId)
      return group._tag === "Left" ? Either.left(group.left) : f(group.right)
    }

    /** Tries again while that may help and the session is not dead. */
    const retrying = <A>(
      operation: string,
      request: Effect.Effect<A, Failure>
    ): Effect.Effect<A, ClientError | UnknownTopicError> =>
      Effect.gen(function*() {
        const start = yield* Clock.currentTimeMillis
        for (let backoff = firstBackoff;; backoff = Math.min(backoff * 2, longestBackoff)) {
          const answer = yield* Effect.either(noted(request))
          if (Either.isRight(answer)) return answer.right
          const failure = answer.left
          const missing = failure._tag === "Refused" && failure.refusal.code === "UNKNOWN_TOPIC_OR_PARTITION"
          const now = yield* Clock.currentTimeMillis
          if (missing || !canRetry(failure) || now - start >= options.unavailableAfter || death !== undefined) {
            return yield* Effect.fail(clientError(operation, brokers, failure))
          }
          yield* Clock.sleep(Math.min(backoff, options.unavailableAfter - (now - start)))
        }
      })

    // a refusal about a topic can't come from a request that names none
    const withoutTopic = <A>(
      effect: Effect.Effect<A, ClientError | UnknownTopicError>
    ): Effect.Effect<A, ClientError> => Effect.catchTag(effect, "UnknownTopicError", Effect.die)

    // -----------------------------------------------------------------------------------------------------------------
    // membership
    // -----------------------------------------------------------------------------------------------------------------

    const identity = (): Identity => ({ memberId, generation, instanceId })

    const loseMembership = (forgetId: boolean): void => {
      lost = true
      generation = -1
      beating = false
      if (forgetId) memberId = ""
      rejoin.raise()
      news.raise()
    }

    /** What a refusal says about our membership; whether there was anything to be learnt. */
    const learn = (failure: Failure): Effect.Effect<boolean> =>
      Effect.suspend(() => {
        if (failure._tag !== "Refused") return Effect.succeed(false)
        switch (failure.refusal.code) {
          case "REBALANCE_IN_PROGRESS":
            rejoin.raise()
            return Effect.succeed(true)
          case "ILLEGAL_GENERATION":
            loseMembership(false)
            return Effect.succeed(true)
          case "UNKNOWN_MEMBER_ID":
            loseMembership(true)
            return Effect.succeed(true)
          case "FENCED_INSTANCE_ID":
            return Effect.as(
              die(consumerError("fenced", `another member took over instance id "${instanceId}"`)),
              true
            )
          case "GROUP_AUTHORIZATION_FAILED":
          case "TOPIC_AUTHORIZATION_FAILED":
            return Effect.as(die(clientError("join group", brokers, failure)), true)
          case "INCONSISTENT_GROUP_PROTOCOL":
          case "INVALID_GROUP_ID":
          case "INVALID_SESSION_TIMEOUT":
            return Effect.as(
              die(consumerError(
                "crashed",
                failure.refusal.reason ?? failure.refusal.code,
                clientError("join group", brokers, failure)
              )),
              true
            )
          default:
            return Effect.succeed(false)
        }
      })

    const heartbeats = Effect.gen(function*() {
      while (true) {
        yield* Clock.sleep(options.heartbeatInterval)
        if (!beating || death !== undefined) continue
        const sentAs = identity()
        const answer = yield* Effect.either(noted(
          network.call(link, coordinator, "heartbeat", inGroup((group) => group.heartbeat(sentAs)))
        ))
        if (Either.isRight(answer)) callbacks.onNotice({ _tag: "Heartbeat" })
        // an answer to what we were before says nothing about what we are now
        else if (beating && sentAs.generation === generation && sentAs.memberId === memberId) yield* learn(answer.left)
      }
    })

    const protocol = options.assignment === "cooperative" ? "cooperative-sticky" : "range"

    const release = (partitions: Partitions): void => {
      for (const tp of partitions) {
        const k = key(tp)
        owned.delete(k)
        positions.delete(k)
        leaving.delete(k)
      }
    }

    const revoke = (partitions: Partitions): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (partitions.length === 0) return Effect.void
        for (const tp of partitions) leaving.add(key(tp))
        return Effect.zipRight(callbacks.onRevoked(partitions), Effect.sync(() => release(partitions)))
      })

    const lose = Effect.suspend(() => {
      const partitions = [...owned.values()]
      release(partitions)
      return partitions.length === 0 ? Effect.void : callbacks.onLost(partitions)
    })

    const assign = (partitions: Partitions): Effect.Effect<void> =>
      Effect.suspend(() => {
        for (const tp of partitions) owned.set(key(tp), tp)
        return Effect.map(callbacks.onAssigned(partitions), (starts) => {
          for (const [k, offset] of starts) if (owned.has(k)) positions.set(k, offset)
          news.raise()
        })
      })

    const metadata = (): Metadata => ({
      topics,
      owned: options.assignment === "cooperative" ? [...owned.values()] : [],
      generation
    })

    const joinGroup = network.wait<JoinReply>(link, coordinator, "join", (reply) => {
      const found = cluster.group(groupId)
      if (found._tag === "Left") return reply(Either.left(found.left))
      if (memberId === "" && instanceId === undefined) memberId = found.right.reserve(clientId)
      found.right.join({
        memberId,
        instanceId,
        clientId,
        sessionTimeout: options.sessionTimeout,
        rebalanceTimeout: options.rebalanceTimeout,
        protocol,
        metadata: metadata()
      }, reply)
    })

    const syncGroup = (assignment: ReadonlyMap<string, Partitions>) =>
      network.wait<Partitions>(link, coordinator, "sync", (reply) => {
        const found = cluster.group(groupId)
        if (found._tag === "Left") return reply(Either.left(found.left))
        found.right.sync(identity(), assignment, reply)
      })

    /** The leader's part: who gets what. */
    const distribute = (joined: JoinReply): ReadonlyMap<string, Partitions> => {
      if (joined.members.length === 0) return new Map()
      const members = joined.members.map(({ memberId, metadata }) => ({ memberId, ...metadata }))
      const all = new Set(members.flatMap((member) => [...member.topics]))
      ledTopics = new Map([...all].map((topic) => [topic, cluster.partitionCount(topic)] as const))
      const spread = options.assignment === "cooperative" ? Assignor.cooperative : Assignor.balanced
      return spread(members, cluster.partitionCount.bind(cluster))
    }

    /** One attempt to become a member of the next generation. Whether it succeeded. */
    const round: Effect.Effect<boolean> = Effect.gen(function*() {
      callbacks.onNotice({ _tag: "Rebalancing" })
      if (lost) yield* lose
      else if (options.assignment === "eager") yield* revoke([...owned.values()])
      else yield* revoke([...owned.values()].filter((tp) => !topics.has(tp.topic)))
      // it may have been lost while what was in hand was finished
      if (lost) yield* lose
      lost = false
      rejoin.take()
      beating = false

      const joined = yield* Effect.either(noted(joinGroup))
      if (Either.isLeft(joined)) {
        yield* learn(joined.left)
        return false
      }
      memberId = joined.right.memberId
      generation = joined.right.generation
      beating = true
      ledTopics = undefined
      const synced = yield* Effect.either(noted(syncGroup(distribute(joined.right))))
      if (Either.isLeft(synced)) {
        const learnt = yield* learn(synced.left)
        if (!learnt) rejoin.raise()
        return false
      }
      callbacks.onNotice({ _tag: "Joined", memberId, generation })
      const assigned = synced.right
      const keys = new Set(assigned.map(key))
      const removed = [...owned.values()].filter((tp) => !keys.has(key(tp)))
      const added = assigned.filter((tp) => !owned.has(key(tp)))
      if (removed.length > 0) {
        yield* revoke(removed)
        // so that the others can have them
        rejoin.raise()
      }
      if (lost) return false
      yield* assign(added)
      return true
    })

    const leave = Effect.suspend(() => {
      const leaver = memberId
      memberId = ""
      generation = -1
      beating = false
      return leaver === "" || instanceId !== undefined
        ? Effect.void
        : Effect.ignore(network.call(link, coordinator, "leave", inGroup((group) => group.leave(leaver))))
    })

    const membership = Effect.gen(function*() {
      for (let backoff = firstBackoff; death === undefined;) {
        if (subscription?._tag === "Topics" && topics.size === 0) {
          yield* revoke([...owned.values()])
          yield* leave
          yield* rejoin.wait
        } else if (yield* round) {
          backoff = firstBackoff
          yield* rejoin.wait
        } else if (death === undefined && !rejoin.take()) {
          yield* Clock.sleep(backoff)
          backoff = Math.min(backoff * 2, longestBackoff)
        }
      }
      yield* lose
    })

    const matching = (pattern: RegExp): ReadonlySet<string> =>
      new Set([...cluster.topics.keys()].filter((topic) => {
        pattern.lastIndex = 0
        return pattern.test(topic) && cluster.authorize("topic", topic) === undefined
      }))

    const refresh = Effect.gen(function*() {
      while (true) {
        yield* Clock.sleep(metadataRefresh)
        if (death !== undefined || subscription === undefined) continue
        yield* Effect.ignore(noted(network.call(link, anyBroker, "metadata", () => {
          if (subscription?._tag === "Pattern") {
            const now = matching(subscription.pattern)
            if (now.size !== topics.size || [...now].some((topic) => !topics.has(topic))) {
              topics = now
              rejoin.raise()
            }
          }
          for (const [topic, count] of ledTopics ?? []) if (cluster.partitionCount(topic) !== count) rejoin.raise()
          return done
        })))
      }
    })

    // -----------------------------------------------------------------------------------------------------------------
    // the session
    // -----------------------------------------------------------------------------------------------------------------

    yield* Effect.acquireRelease(
      Effect.sync(() => network.links.add(link)),
      () => Effect.zipRight(leave, Effect.sync(() => network.links.delete(link)))
    )
    yield* withoutTopic(retrying("connect", network.call(link, anyBroker, "metadata", () => done)))

    const exists = (topic: string): Reply<void> => Either.map(cluster.find(topic), () => undefined)

    const subscribe = (next: Subscription) =>
      Effect.gen(function*() {
        if (death !== undefined) return yield* Effect.fail(death)
        const first = subscription === undefined
        if (!first && (next._tag === "Manual") !== (subscription?._tag === "Manual")) {
          return yield* consumerError("subscription", "a session is either in a group or reads given partitions")
        }
        switch (next._tag) {
          case "Manual": {
            for (const tp of next.partitions) {
              yield* retrying("subscribe", network.call(link, anyBroker, "metadata", () => cluster.log(tp)))
            }
            subscription = next
            const keys = new Set(next.partitions.map(key))
            release([...owned.values()].filter((tp) => !keys.has(key(tp))))
            yield* Effect.forkIn(assign(next.partitions.filter((tp) => !owned.has(key(tp)))), scope)
            return
          }
          case "Topics": {
            for (const topic of next.topics) {
              yield* retrying("subscribe", network.call(link, anyBroker, "metadata", () => exists(topic)))
            }
            topics = new Set(next.topics)
            break
          }
          case "Pattern": {
            topics = yield* withoutTopic(
              retrying("subscribe", network.call(link, anyBroker, "metadata", () => ok(matching(next.pattern))))
            )
          }
        }
        subscription = next
        if (first) {
          yield* Effect.forkIn(membership, scope)
          yield* Effect.forkIn(heartbeats, scope)
          yield* Effect.forkIn(refresh, scope)
        } else rejoin.raise()
      })

    const fetchOne = (
      tp: TopicPartition,
      from: bigint,
      maxBytes: number
    ): Either.Either<Fetched | undefined, Failure> =>
      Either.match(
        network.now(
          link,
          () => cluster.leaderOf(tp),
          "fetch",
          () => cluster.read(tp, from, maxBytes, options.isolationLevel)
        ),
        {
          onRight: (slice) => {
            if (slice.nextOffset === from) return Either.right(undefined)
            positions.set(key(tp), slice.nextOffset)
            return Either.right<Fetched>({ _tag: "Chunk", topicPartition: tp, view, ...slice })
          },
          onLeft: (failure) => {
            if (failure._tag !== "Refused") return Either.left(failure)
            switch (failure.refusal.code) {
              case "OFFSET_OUT_OF_RANGE":
                // not fetched again before somebody says from where
                positions.delete(key(tp))
                return Either.right<Fetched>({ _tag: "OutOfRange", topicPartition: tp, offset: from })
              case "UNKNOWN_TOPIC_OR_PARTITION":
              case "TOPIC_AUTHORIZATION_FAILED": {
                const error = clientError("fetch", brokers, failure)
                if (error._tag === "UnknownTopicError" || error._tag === "KafkaAuthorizationError") {
                  positions.delete(key(tp))
                  return Either.right<Fetched>({ _tag: "Failed", topicPartition: tp, error })
                }
              }
            }
            return Either.left(failure)
          }
        }
      )

    const gather = (
      demand: ReadonlyMap<Key, Demand>
    ): { readonly fetched: Array<Fetched>; readonly failure: Failure | undefined } => {
      const fetched: Array<Fetched> = []
      let failure: Failure | undefined
      let budget = options.fetchMaxBytes
      const keys = [...demand.keys()]
      // whoever was served first is served last next time
      for (let i = 0; i < keys.length && (budget > 0 || fetched.length === 0); i++) {
        const k = keys[(turn + i) % keys.length]!
        const tp = owned.get(k)
        const from = positions.get(k)
        if (tp === undefined || from === undefined || leaving.has(k)) continue
        const { maxBytes } = demand.get(k)!
        const one = fetchOne(tp, from, Math.min(maxBytes, options.fetchMaxBytesPerPartition, budget))
        if (Either.isLeft(one)) failure = one.left
        else if (one.right !== undefined) {
          fetched.push(one.right)
          if (one.right._tag === "Chunk") budget -= one.right.bytes
        }
      }
      turn++
      return { fetched, failure }
    }

    /** Until something arrives in what is demanded, or anything else happens. */
    const arrival = (demand: ReadonlyMap<Key, Demand>): Effect.Effect<void> =>
      Effect.suspend(() => {
        const stops: Array<() => void> = []
        for (const k of demand.keys()) {
          const tp = owned.get(k)
          const log = tp === undefined ? undefined : cluster.topics.get(tp.topic)?.partitions[tp.partition]
          if (log !== undefined && positions.has(k)) stops.push(log.listen(() => news.raise()))
        }
        return Effect.ensuring(news.wait, Effect.sync(() => stops.forEach((stop) => stop())))
      })

    let woken = false

    const poll = (demand: ReadonlyMap<Key, Demand>, maxWait: number) =>
      Effect.gen(function*() {
        const deadline = (yield* Clock.currentTimeMillis) + maxWait
        for (let backoff = firstBackoff;; backoff = Math.min(backoff * 2, longestBackoff)) {
          if (death !== undefined) return yield* Effect.fail(death)
          news.take()
          const { failure, fetched } = gather(demand)
          yield* heard(failure)
          if (fetched.length > 0 || woken) {
            woken = false
            return fetched
          }
          const left = deadline - (yield* Clock.currentTimeMillis)
          if (left <= 0) return []
          yield* Effect.timeoutOption(arrival(demand), failure === undefined ? left : Math.min(backoff, left))
        }
      })

    const session: ConsumerSession = {
      capabilities,
      subscribe,
      poll,
      wake: () => {
        woken = true
        news.raise()
      },
      commit: (offsets: ReadonlyArray<OffsetAndMetadata>) =>
        Effect.suspend(() => {
          const from: Identity = subscription === undefined || subscription._tag === "Manual"
            ? { memberId: "", generation: -1 }
            : identity()
          if (subscription !== undefined && subscription._tag !== "Manual" && generation === -1) {
            return Effect.fail({
              error: new CommitError({
                reason: "fenced",
                partitions: offsets.map(({ partition, topic }) => ({ topic, partition })),
                code: "UNKNOWN_MEMBER_ID"
              }),
              retriable: false
            })
          }
          return noted(network.call(link, coordinator, "commit", () => cluster.commit(groupId, from, offsets))).pipe(
            Effect.tapError((failure) =>
              from.generation === generation && generation >= 0 ? learn(failure) : Effect.void
            ),
            Effect.mapError((failure) => commitError(brokers, offsets, failure))
          )
        }),
      seek: (tp, offset) =>
        Effect.sync(() => {
          if (owned.has(key(tp))) positions.set(key(tp), offset)
          news.raise()
        }),
      committed: (partitions) =>
        withoutTopic(retrying(
          "fetch committed offsets",
          network.call(
            link,
            coordinator,
            "committed",
            () => cluster.committed(groupId, options.isolationLevel === "read_committed")
          )
        )).pipe(
          Effect.map((all) => {
            const found = new Map<Key, OffsetAndMetadata>()
            for (const tp of partitions) {
              const offset = all.get(key(tp))
              if (offset !== undefined) {
                found.set(key(tp), {
                  topic: offset.topic,
                  partition: offset.partition,
                  offset: offset.offset,
                  metadata: offset.metadata
                })
              }
            }
            return found
          })
        ),
      offsets: (partitions, spec) =>
        Effect.gen(function*() {
          const found = new Map<Key, bigint>()
          for (const tp of partitions) {
            found.set(
              key(tp),
              yield* retrying(
                "list offsets",
                network.call(
                  link,
                  () => cluster.leaderOf(tp),
                  "list-offsets",
                  () => cluster.listOffset(tp, spec, options.isolationLevel)
                )
              )
            )
          }
          return found
        }),
      partitionsFor: (topic) =>
        retrying(
          "fetch metadata",
          network.call(
            link,
            anyBroker,
            "metadata",
            () => Either.map(cluster.find(topic), ({ partitions }) => partitions.map((_, i) => i))
          )
        ),
      groupMetadata: () =>
        generation === -1 || memberId === ""
          ? undefined
          : { groupId, memberId, generation, ...(instanceId === undefined ? {} : { groupInstanceId: instanceId }) }
    }
    return session
  })
