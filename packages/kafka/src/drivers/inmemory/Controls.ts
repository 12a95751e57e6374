/**
 * What a test can do to the brokers and to the network, and see of them.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type { Armed, Broker, Session } from "../../InMemoryKafka.ts"
import * as RecordHeaders from "../../RecordHeaders.ts"
import type { TopicPartition } from "../../TopicPartition.ts"
import type { Cluster, Resource } from "./Cluster.ts"
import * as Foreigner from "./Foreigner.ts"
import type { Network, Timings } from "./Network.ts"
import { clientError, type Failure, refused } from "./Protocol.ts"

const encoder = new TextEncoder()
const toBytes = (value: RecordHeaders.Value | undefined): Uint8Array | null =>
  typeof value === "string" ? encoder.encode(value) : value ?? null

/** The controls over a cluster and its network. `nudgeTimers` is called when timers may be due again. */
export const make = (
  cluster: Cluster,
  network: Network,
  scope: Scope.Scope,
  timings: Timings,
  nudgeTimers: () => void
): Broker => {
  const partition = ({ partition, topic }: TopicPartition) => cluster.topics.get(topic)?.partitions[partition]
  const brokers = (broker: number | undefined) => broker === undefined ? cluster.brokerIds : [broker]
  const some = (results: ReadonlyArray<boolean>) => results.some((result) => result)

  const arm = <A extends { fired: number }>(set: Set<A>, armed: A): Armed => {
    set.add(armed)
    return {
      fired: Effect.sync(() => armed.fired),
      disarm: Effect.sync(() => {
        set.delete(armed)
        return armed.fired
      })
    }
  }

  const setCut = (which: (session: Session) => boolean, cut: boolean): number => {
    const links = [...network.links].filter((link) => link.cut !== cut && which(link))
    for (const link of links) link.cut = cut
    if (cut) network.disconnect((link) => links.includes(link))
    return links.length
  }

  const permit = (change: "forbid" | "allow") => (resource: Resource, name: string) =>
    Effect.sync(() => cluster[change](resource, name))

  return {
    log: (tp) =>
      Effect.sync(() =>
        (partition(tp)?.all() ?? []).map(({ batch, headers, key, offset, timestamp, value }) => ({
          offset,
          timestamp,
          key,
          value,
          headers,
          kind: batch.kind,
          aborted: batch.aborted
        }))
      ),
    committed: (groupId) =>
      Effect.sync(() =>
        [...cluster.groups.get(groupId)?.offsets.values() ?? []].map(({ metadata, offset, partition, topic }) => ({
          topic,
          partition,
          offset,
          metadata
        }))
      ),
    group: (groupId) =>
      Effect.sync(() => {
        const group = cluster.groups.get(groupId)
        return group && { state: group.state, generation: group.generation, members: group.describe() }
      }),
    sessions: Effect.sync(() =>
      [...network.links].map(({ clientId, groupId, id, kind, memberId }) => ({ id, kind, clientId, groupId, memberId }))
    ),
    openTransactions: Effect.sync(() => cluster.transactions.ongoing()),

    produce: (tp, records) =>
      Effect.suspend(() => {
        const raw = records.map(({ headers = [], key, timestamp = cluster.now, value }) => ({
          key: toBytes(key),
          value: toBytes(value),
          headers: RecordHeaders.make(headers),
          timestamp
        }))
        const failure = (failure: Failure) => clientError("produce", cluster.addresses, failure)
        if (cluster.leaderOf(tp) === undefined) {
          return Effect.fail(
            failure({ _tag: "Disconnected", sent: false, reason: "no replica of the partition is up" })
          )
        }
        return Either.mapBoth(cluster.append(tp, raw, "leader"), {
          onRight: ({ baseOffset }) => baseOffset,
          onLeft: (refusal) => failure(refused(refusal))
        })
      }),
    join: (groupId, topics, options = {}) =>
      Foreigner.join(cluster, network, scope, timings, groupId, new Set(topics), {
        groupInstanceId: options.groupInstanceId,
        assignment: options.assignment ?? "eager",
        sessionTimeout: Duration.toMillis(options.sessionTimeout ?? "45 seconds"),
        heartbeatInterval: Duration.toMillis(options.heartbeatInterval ?? "3 seconds"),
        rebalanceTimeout: Duration.toMillis(options.rebalanceTimeout ?? "5 minutes")
      }),

    expireSession: (groupId, memberId) => Effect.sync(() => cluster.groups.get(groupId)?.remove(memberId) ?? false),
    rebalance: (groupId) => Effect.sync(() => cluster.groups.get(groupId)?.forceRebalance() ?? false),

    deleteBefore: (tp, offset) =>
      Effect.sync(() => {
        const log = partition(tp)
        const start = log?.startOffset
        log?.deleteBefore(offset)
        return log?.startOffset !== start
      }),
    applyRetention: (topic) =>
      Effect.sync(() => {
        const found = cluster.topics.get(topic)
        return found === undefined ? 0 : cluster.applyRetention(found)
      }),
    compact: (tp, options) => Effect.sync(() => partition(tp)?.compact(options?.dropTombstones ?? false) ?? 0),
    skipTo: (tp, offset) => Effect.sync(() => partition(tp)?.skipTo(offset) ?? false),

    failNext: (kind, times, fault, only = {}) =>
      Effect.sync(() =>
        arm(network.traps, {
          kind,
          fault,
          catches: (link, broker) =>
            (only.session?.(link) ?? true) && (only.broker === undefined || only.broker === broker),
          remaining: times,
          fired: 0
        })
      ),
    delay: (kind, duration, only = {}) =>
      Effect.sync(() =>
        arm(network.detours, {
          kind,
          millis: Duration.toMillis(duration),
          catches: (link) => only.session?.(link) ?? true,
          fired: 0
        })
      ),
    kill: (broker) =>
      Effect.sync(() => {
        const killed = brokers(broker).map((one) => cluster.kill(one))
        network.disconnect((_, one) => !cluster.isUp(one))
        return some(killed)
      }),
    restart: (broker) =>
      Effect.sync(() => {
        const restarted = brokers(broker).map((one) => cluster.restart(one))
        nudgeTimers()
        return some(restarted)
      }),
    isolate: (which) => Effect.sync(() => setCut(which, true)),
    reconnect: (which) => Effect.sync(() => setCut(which, false)),
    deny: permit("forbid"),
    allow: permit("allow")
  }
}
