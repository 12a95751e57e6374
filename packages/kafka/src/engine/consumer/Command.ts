/**
 * What the run loop is told: by streams, by the driver, and by work of its own that has ended.
 */
import type * as Deferred from "effect/Deferred"
import type * as Exit from "effect/Exit"
import type { CommitError } from "../../KafkaError.ts"
import type * as TopicPartition from "../../TopicPartition.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"
import type { Resolved } from "./Positions.ts"
import type { StreamError } from "./StreamError.ts"
import type { Subscriber } from "./Subscriber.ts"

export type Positions = ReadonlyMap<TopicPartition.Key, bigint>

export type Command =
  | { readonly _tag: "Open"; readonly subscriber: Subscriber }
  | { readonly _tag: "Close"; readonly subscriber: Subscriber }
  | {
    readonly _tag: "Assigned"
    readonly partitions: ReadonlyArray<TopicPartition.TopicPartition>
    readonly reply: Deferred.Deferred<Positions>
  }
  /** Partitions that are still ours, for a stream that came after another had ended. */
  | { readonly _tag: "Reassign"; readonly partitions: ReadonlyArray<TopicPartition.TopicPartition> }
  | {
    readonly _tag: "Positioned"
    readonly buffers: ReadonlyArray<PartitionBuffer>
    readonly resolved: Exit.Exit<Resolved, StreamError>
    /** Absent where the driver did not ask, and must be told by a seek. */
    readonly reply: Deferred.Deferred<Positions> | undefined
  }
  | {
    readonly _tag: "Reset"
    readonly partition: PartitionBuffer
    readonly from: bigint
    readonly resolved: Exit.Exit<Resolved, StreamError>
  }
  | {
    readonly _tag: "Seek"
    readonly partition: PartitionBuffer
    readonly offset: bigint
    readonly reply: Deferred.Deferred<void>
  }
  | {
    readonly _tag: "Revoked"
    readonly partitions: ReadonlyArray<TopicPartition.TopicPartition>
    readonly reply: Deferred.Deferred<void>
  }
  | { readonly _tag: "Lost"; readonly partitions: ReadonlyArray<TopicPartition.TopicPartition> }
  | {
    readonly _tag: "Subscribed"
    readonly fingerprint: string
    readonly exit: Exit.Exit<void, StreamError>
  }
  | { readonly _tag: "CommitEnded"; readonly exit: Exit.Exit<void, CommitError> }
  | { readonly _tag: "Stop" }

/** One kind of command. */
export type Of<Tag extends Command["_tag"]> = Extract<Command, { readonly _tag: Tag }>
