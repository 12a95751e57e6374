/**
 * One stream's share in a consumer: which partitions are its own, and the lanes they flow into.
 */
import type * as TopicPartition from "../../TopicPartition.ts"
import type { Lane } from "./Lane.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"
import type { StreamError } from "./StreamError.ts"

/** What a stream reads. */
export type Source =
  | { readonly _tag: "Topics"; readonly topics: ReadonlySet<string> }
  | { readonly _tag: "Pattern"; readonly pattern: RegExp }
  | {
    readonly _tag: "Manual"
    readonly topic: string
    /** Where each partition starts; `undefined`: where the group has committed, or by `autoOffsetReset`. */
    readonly partitions: ReadonlyMap<number, bigint | "earliest" | "latest" | undefined>
  }

export interface Subscriber {
  readonly source: Source
  /** The lane that a newly assigned partition flows into. */
  readonly laneFor: (partition: PartitionBuffer) => Lane<StreamError>
  /** Bounds of a `streamUntil`, by partition; a partition without one has nothing to read. */
  readonly ends: ReadonlyMap<TopicPartition.Key, bigint> | undefined
  /** All lanes made so far that are not closed. */
  readonly lanes: Set<Lane<StreamError>>
  /** No more lanes: regular end (`undefined`) or failure. */
  readonly finish: (error: StreamError | undefined) => void
  /** Told after every assignment that came since `requested`. */
  readonly onPositioned: () => void
  /** Whether the driver has been asked for it. */
  requested: boolean
  /** When the stream ended, in milliseconds; it may linger until what it handed out is committed. */
  closedAt: number | undefined
}

export const covers = (source: Source, topicPartition: TopicPartition.TopicPartition): boolean => {
  switch (source._tag) {
    case "Topics":
      return source.topics.has(topicPartition.topic)
    case "Pattern":
      return source.pattern.test(topicPartition.topic)
    case "Manual":
      return source.topic === topicPartition.topic && source.partitions.has(topicPartition.partition)
  }
}

/** Whether two streams would share partitions. Two patterns are taken to do so only where they are the same. */
export const overlap = (a: Source, b: Source): boolean => {
  if (a._tag === "Pattern") {
    if (b._tag === "Pattern") return a.pattern.source === b.pattern.source
    return b._tag === "Topics" ? [...b.topics].some((topic) => a.pattern.test(topic)) : a.pattern.test(b.topic)
  }
  if (b._tag === "Pattern") return overlap(b, a)
  if (a._tag === "Topics") {
    return b._tag === "Topics" ? [...b.topics].some((topic) => a.topics.has(topic)) : a.topics.has(b.topic)
  }
  if (b._tag === "Topics") return overlap(b, a)
  return a.topic === b.topic && [...b.partitions.keys()].some((partition) => a.partitions.has(partition))
}
