/**
 * Where an assignment starts: where the stream says, where the group has committed, where its reader was before a
 * rebalance, or by `autoOffsetReset`, in this order.
 */
import * as Effect from "effect/Effect"
import type { ConsumerSession, OffsetSpec } from "../../KafkaClient.ts"
import {
  type ClientError,
  type KafkaAuthorizationError,
  OffsetOutOfRangeError,
  type UnknownTopicError
} from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import * as Retry from "./Retry.ts"
import type { Settings } from "./Settings.ts"

export interface Wanted {
  readonly topicPartition: TopicPartition.TopicPartition
  /** Named by the stream. */
  readonly explicit: bigint | "earliest" | "latest" | undefined
  /** Where the reader was, when the last assignment of this consumer ended in order. */
  readonly left: bigint | undefined
}

export interface Resolved {
  readonly positions: ReadonlyMap<TopicPartition.Key, bigint>
  /** What the group has committed, where that was looked up. */
  readonly committed: ReadonlyMap<TopicPartition.Key, bigint>
  /** Partitions that have nowhere to start, and why. It concerns no other. */
  readonly nowhere: ReadonlyMap<
    TopicPartition.Key,
    OffsetOutOfRangeError | UnknownTopicError | KafkaAuthorizationError
  >
}

/** The topic that an error is about, where it is about one. */
const topicOf = (error: ClientError | UnknownTopicError): string | undefined =>
  error._tag === "UnknownTopicError"
    ? error.topic
    : error._tag === "KafkaAuthorizationError" && error.resource === "topic"
    ? error.resourceName
    : undefined

export const resolve = (
  session: ConsumerSession,
  wanted: ReadonlyArray<Wanted>,
  settings: Settings,
  deadline: number
): Effect.Effect<Resolved, ClientError | UnknownTopicError> => {
  const positions = new Map<TopicPartition.Key, bigint>()
  const committed = new Map<TopicPartition.Key, bigint>()
  const nowhere = new Map<
    TopicPartition.Key,
    OffsetOutOfRangeError | UnknownTopicError | KafkaAuthorizationError
  >()
  const lookUp = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
    Retry.until(effect, { deadline, retriable: Retry.isRetriable })

  /** Offsets of the log; topics that are refused are left out. */
  const offsets = (
    partitions: ReadonlyArray<TopicPartition.TopicPartition>,
    spec: OffsetSpec
  ): Effect.Effect<void, ClientError | UnknownTopicError> => {
    if (partitions.length === 0) return Effect.void
    return Effect.matchEffect(lookUp(session.offsets(partitions, spec)), {
      onSuccess: (found) =>
        Effect.sync(() => {
          for (const [key, offset] of found) positions.set(key, offset)
        }),
      onFailure: (error) => {
        const others = partitions.filter(({ topic }) => topic !== topicOf(error))
        if (
          others.length === partitions.length ||
          (error._tag !== "UnknownTopicError" && error._tag !== "KafkaAuthorizationError")
        ) return Effect.fail(error)
        for (const one of partitions) if (!others.includes(one)) nowhere.set(TopicPartition.key(one), error)
        return offsets(others, spec)
      }
    })
  }

  return Effect.gen(function*() {
    const open: Array<Wanted> = []
    for (const one of wanted) {
      if (typeof one.explicit === "bigint") positions.set(TopicPartition.key(one.topicPartition), one.explicit)
      else if (one.explicit === undefined) open.push(one)
    }
    if (open.length > 0) {
      const found = yield* lookUp(session.committed(open.map((one) => one.topicPartition)))
      for (const [key, { offset }] of found) committed.set(key, offset)
      for (const one of open) {
        const key = TopicPartition.key(one.topicPartition)
        const position = committed.get(key) ?? one.left
        if (position !== undefined) positions.set(key, position)
      }
    }
    for (const spec of ["earliest", "latest"] as const) {
      const partitions = wanted
        .filter((one) => !positions.has(TopicPartition.key(one.topicPartition)))
        .filter((one) => (one.explicit ?? settings.autoOffsetReset) === spec)
        .map((one) => one.topicPartition)
      yield* offsets(partitions, spec)
    }
    for (const { topicPartition } of wanted) {
      const key = TopicPartition.key(topicPartition)
      if (!positions.has(key) && !nowhere.has(key)) nowhere.set(key, new OffsetOutOfRangeError({ ...topicPartition }))
    }
    return { positions, committed, nowhere }
  })
}
