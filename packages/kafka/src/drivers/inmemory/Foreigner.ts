/**
 * A member of a group that is not the program under test: it joins, takes what it is given, and reads nothing.
 */
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { ConsumerSessionOptions } from "../../KafkaClient.ts"
import type { ClientError, ConsumerError, UnknownTopicError } from "../../KafkaError.ts"
import { fromKey, type Key, key, type TopicPartition } from "../../TopicPartition.ts"
import type { Cluster } from "./Cluster.ts"
import * as ConsumerSession from "./ConsumerSession.ts"
import type { Network, Timings } from "./Network.ts"

export interface Foreigner {
  readonly memberId: Effect.Effect<string | undefined>
  readonly assignment: Effect.Effect<ReadonlyArray<TopicPartition>>
  readonly leave: Effect.Effect<void>
}

export type ForeignerOptions = Pick<
  ConsumerSessionOptions,
  "groupInstanceId" | "assignment" | "sessionTimeout" | "heartbeatInterval" | "rebalanceTimeout"
>

export const join = (
  cluster: Cluster,
  network: Network,
  within: Scope.Scope,
  timings: Timings,
  groupId: string,
  topics: ReadonlySet<string>,
  options: ForeignerOptions
): Effect.Effect<Foreigner, ClientError | ConsumerError | UnknownTopicError> =>
  Effect.gen(function*() {
    const scope = yield* Scope.fork(within, ExecutionStrategy.sequential)
    const owned = new Map<Key, TopicPartition>()
    const release = (partitions: ReadonlyArray<TopicPartition>) =>
      Effect.sync(() => {
        for (const tp of partitions) owned.delete(key(tp))
      })
    const opened = ConsumerSession.open(cluster, network, timings, {
      ...options,
      groupId,
      clientId: "foreigner",
      isolationLevel: "read_uncommitted",
      fetchMaxBytesPerPartition: 1,
      fetchMaxBytes: 1,
      fetchMinBytes: 1,
      fetchMaxWait: 0,
      unavailableAfter: Number.POSITIVE_INFINITY,
      callbacks: {
        onAssigned: (partitions) =>
          Effect.sync(() => {
            for (const tp of partitions) owned.set(key(tp), tp)
            return new Map()
          }),
        onRevoked: release,
        onLost: release,
        onNotice: () => {}
      }
    })
    const session = yield* opened.pipe(
      Effect.tap((session) => session.subscribe({ _tag: "Topics", topics })),
      Scope.extend(scope),
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
    return {
      memberId: Effect.sync(() => session.groupMetadata()?.memberId),
      assignment: Effect.sync(() => [...owned.keys()].map(fromKey)),
      leave: Scope.close(scope, Exit.void)
    }
  })
