/**
 * A consumer as a client of the brokers.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type {
  Capabilities,
  ConsumerSession,
  ConsumerSessionOptions,
  OffsetAndMetadata,
  Subscription
} from "../../KafkaClient.ts"
import { type ClientError, CommitError, ConsumerError, type UnknownTopicError } from "../../KafkaError.ts"
import type { Key } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import * as Alarm from "../alarm.ts"
import type { Cluster } from "./Cluster.ts"
import { Fetcher } from "./Fetcher.ts"
import { nobody } from "./Group.ts"
import { connect, Lifeline } from "./Lifeline.ts"
import { Membership } from "./Membership.ts"
import type { Network, Timings } from "./Network.ts"
import { aboutNoTopic, commitError, done, ok } from "./Protocol.ts"

export const capabilities: Capabilities = {
  awaitedRevoke: true,
  cooperative: true,
  perPartitionDemand: true,
  transactionalGroupMetadata: true,
  staticMembership: true,
  consumerProtocol: false
}

type Death = ClientError | ConsumerError | UnknownTopicError

/** With no feature that is not supported. */
export interface Session extends ConsumerSession {
  readonly subscribe: (subscription: Subscription) => Effect.Effect<void, Death>
}

export const open = (
  cluster: Cluster,
  network: Network,
  timings: Timings,
  options: ConsumerSessionOptions
): Effect.Effect<Session, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const { callbacks, groupId, isolationLevel, unavailableAfter } = options
    const link = yield* network.connect({ kind: "consumer", clientId: options.clientId ?? "consumer", groupId })

    let death: Death | undefined
    let subscription: Subscription | undefined

    const lifeline = new Lifeline({
      brokers: cluster.addresses,
      unavailableAfter,
      onDisconnected: (reason) => callbacks.onNotice({ _tag: "Disconnected", reason }),
      onReconnected: () => callbacks.onNotice({ _tag: "Reconnected" }),
      onUnavailable: (cause) => {
        const description = `no broker could be reached for ${unavailableAfter} ms`
        die(new ConsumerError({ reason: "unavailable", groupId, description, cause }))
      }
    })
    const fetcher = new Fetcher(cluster, network, link, lifeline, options, yield* Alarm.make, scope)
    const membership = new Membership(cluster, network, link, lifeline, fetcher, {
      ...options,
      leaveWhenEmpty: () => subscription?._tag !== "Pattern",
      onDeath: (error) => die(error)
    })
    const die = (error: Death): void => {
      death ??= error
      membership.end()
      fetcher.nudge()
    }

    /** A callback that dies must not leave a session that looks alive. */
    const mortally = (effect: Effect.Effect<void>): Effect.Effect<void> =>
      Effect.catchAllDefect(effect, (cause) => {
        die(new ConsumerError({ reason: "crashed", groupId, description: "a callback died", cause }))
        return Effect.void
      })

    const anyBroker = () => cluster.anyBroker
    const coordinator = () => cluster.coordinator(groupId)

    yield* connect(cluster, network, link, timings)
    yield* Effect.addFinalizer(() => Effect.interruptible(membership.leave))

    const matching = (pattern: RegExp): ReadonlySet<string> =>
      new Set([...cluster.topics.keys()].filter((topic) => {
        pattern.lastIndex = 0
        return pattern.test(topic) && cluster.authorize("topic", topic) === undefined
      }))

    const refreshMetadata = Effect.gen(function*() {
      while (death === undefined) {
        yield* Clock.sleep(timings.metadataRefresh)
        yield* Effect.ignore(lifeline.noted(network.call(link, anyBroker, "metadata", () => {
          if (subscription?._tag === "Pattern") {
            const topics = matching(subscription.pattern)
            const before = membership.subscribed
            if (topics.size !== before.size || [...topics].some((topic) => !before.has(topic))) {
              membership.subscribe(topics)
            }
          }
          membership.checkPartitions()
          return done
        })))
      }
    })

    const lookUp = (topics: Iterable<string>) =>
      Effect.forEach(topics, (topic) =>
        lifeline.request("subscribe", network.call(link, anyBroker, "metadata", () => cluster.lookUp(topic))), {
        discard: true
      })

    const subscribe = (next: Subscription) =>
      Effect.gen(function*() {
        if (death !== undefined) {
          return yield* Effect.fail(death)
        }
        const before = subscription
        if (before !== undefined && (next._tag === "Manual") !== (before._tag === "Manual")) {
          const description = "a session is a member of a group, or reads given partitions, and not both"
          return yield* new ConsumerError({ reason: "subscription", groupId, description })
        }
        if (next._tag === "Manual") {
          yield* lookUp(
            new Set(next.partitions.map(({ topic }) =>
              topic
            ))
          )
          for (const tp of next.partitions) {
            yield* lifeline.request("subscribe", network.call(link, anyBroker, "metadata", () => cluster.log(tp)))
          }
          subscription = next
          const keys = new Set(next.partitions.map(key))
          fetcher.remove(fetcher.owned.filter((tp) => !keys.has(key(tp))))
          yield* Effect.forkIn(mortally(membership.assign(next.partitions.filter((tp) => !fetcher.has(tp)))), scope)
          return
        }
        if (next._tag === "Topics") yield* lookUp(next.topics)
        const topics = next._tag === "Topics" ? new Set(next.topics) : yield* lifeline.request(
          "subscribe",
          network.call(link, anyBroker, "metadata", () => ok(matching(next.pattern)))
        )
        subscription = next
        membership.subscribe(topics)
        if (before === undefined) {
          for (const activity of [...membership.activities, refreshMetadata]) {
            yield* Effect.forkIn(mortally(activity), scope)
          }
        }
      })

    const isMember = () => subscription !== undefined && subscription._tag !== "Manual"

    const commit = (offsets: ReadonlyArray<OffsetAndMetadata>) =>
      Effect.suspend(() => {
        const from = isMember() ? membership.identity : nobody
        if (isMember() && from.generation < 0) {
          // it would be taken for a commit from outside the group
          const partitions = offsets.map(({ partition, topic }) => ({ topic, partition }))
          const error = new CommitError({ reason: "fenced", partitions, code: "UNKNOWN_MEMBER_ID" })
          return Effect.fail({ error, retriable: false })
        }
        const request = network.call(link, coordinator, "commit", () => cluster.commit(groupId, from, offsets))
        return Effect.mapError(lifeline.noted(request), (failure) => {
          if (isMember()) membership.learnAs(from, failure)
          return commitError(cluster.addresses, offsets, failure)
        })
      })

    const session: Session = {
      capabilities,
      subscribe,
      poll: (demand, maxWait) =>
        Effect.flatMap(
          fetcher.poll(demand, maxWait, () => death !== undefined),
          (fetched) => death === undefined ? Effect.succeed(fetched) : Effect.fail(death)
        ),
      wake: () => fetcher.wake(),
      commit,
      seek: (tp, offset) => Effect.sync(() => fetcher.seek(key(tp), offset)),
      committed: (partitions) =>
        Effect.map(
          aboutNoTopic(lifeline.request(
            "fetch committed offsets",
            network.call(link, coordinator, "fetch-offsets", () =>
              isolationLevel === "read_committed"
                ? cluster.stableCommitted(groupId, partitions)
                : cluster.committed(groupId))
          )),
          (offsets) => {
            const found = new Map<Key, OffsetAndMetadata>()
            for (const tp of partitions) {
              const committed = offsets.get(key(tp))
              if (committed === undefined) continue
              const { metadata, offset, partition, topic } = committed
              found.set(key(tp), { topic, partition, offset, metadata })
            }
            return found
          }
        ),
      offsets: (partitions, spec) =>
        Effect.map(
          Effect.forEach(partitions, (tp) =>
            Effect.map(
              lifeline.request(
                "list offsets",
                network.call(
                  link,
                  () => cluster.leaderOf(tp),
                  "list-offsets",
                  () => cluster.listOffset(tp, spec, isolationLevel)
                )
              ),
              (offset) => [key(tp), offset] as const
            )),
          (offsets) => new Map(offsets)
        ),
      partitionsFor: (topic) =>
        lifeline.request(
          "fetch metadata",
          network.call(link, anyBroker, "metadata", () =>
            Either.map(cluster.lookUp(topic), ({ partitions }) =>
              partitions.map((_, i) =>
                i
              )))
        ),
      groupMetadata: () => {
        const { generation, instanceId, memberId } = membership.identity
        return generation < 0
          ? undefined
          : { groupId, memberId, generation, ...(instanceId === undefined ? {} : { groupInstanceId: instanceId }) }
      }
    }
    return session
  })
