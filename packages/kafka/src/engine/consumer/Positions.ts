/**
 * Where an assignment starts: where the stream says, where the group has committed, where its reader was before a
 * rebalance, or by `autoOffsetReset`, in this order.
 */
import * as Effect from "effect/Effect"
import type { ConsumerSession } from "../../KafkaClient.ts"
import { type ClientError, OffsetOutOfRangeError, type UnknownTopicError } from "../../KafkaError.ts"
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

export const resolve = (
  session: ConsumerSession,
  wanted: ReadonlyArray<Wanted>,
  settings: Settings,
  deadline: number
): Effect.Effect<
  ReadonlyMap<TopicPartition.Key, bigint>,
  ClientError | UnknownTopicError | OffsetOutOfRangeError
> => {
  const found = new Map<TopicPartition.Key, bigint>()
  const lookUp = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) =>
    Retry.until(effect, { deadline, retriable: Retry.isRetriable })
  return Effect.gen(function*() {
    const open: Array<Wanted> = []
    for (const one of wanted) {
      if (typeof one.explicit === "bigint") found.set(TopicPartition.key(one.topicPartition), one.explicit)
      else if (one.explicit === undefined) open.push(one)
    }
    if (open.length > 0) {
      const committed = yield* lookUp(session.committed(open.map((one) => one.topicPartition)))
      for (const one of open) {
        const key = TopicPartition.key(one.topicPartition)
        const position = committed.get(key)?.offset ?? one.left
        if (position !== undefined) found.set(key, position)
      }
    }
    for (const spec of ["earliest", "latest"] as const) {
      const partitions = wanted
        .filter((one) => !found.has(TopicPartition.key(one.topicPartition)))
        .filter((one) => (one.explicit ?? settings.autoOffsetReset) === spec)
        .map((one) => one.topicPartition)
      if (partitions.length === 0) continue
      const offsets = yield* lookUp(session.offsets(partitions, spec))
      for (const [key, offset] of offsets) found.set(key, offset)
    }
    for (const { topicPartition } of wanted) {
      if (!found.has(TopicPartition.key(topicPartition))) return yield* new OffsetOutOfRangeError({ ...topicPartition })
    }
    return found
  })
}
