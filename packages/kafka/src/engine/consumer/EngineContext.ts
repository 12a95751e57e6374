import type * as Cause from "effect/Cause"
import type * as Scope from "effect/Scope"
import type { ConsumerSession } from "../../KafkaClient.ts"
import type * as TopicPartition from "../../TopicPartition.ts"
import type { Emit } from "../observe.ts"
import type { Command } from "./Command.ts"
import type { Lane } from "./Lane.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"
import type { Settings } from "./Settings.ts"
import type { StreamError } from "./StreamError.ts"

/** What the parts of a run loop have in common. */
export interface EngineContext {
  readonly settings: Settings
  readonly session: ConsumerSession
  /** Where work that outlives a turn is forked. */
  readonly scope: Scope.Scope
  readonly emit: Emit
  /** In milliseconds, by Effect's Clock. */
  readonly now: () => number
  /** Leaves the loop a command. */
  readonly tell: (command: Command) => void
  /** Ends the consumer: every stream fails with this. */
  readonly die: (error: StreamError) => void
  readonly failureOf: (cause: Cause.Cause<StreamError>, description: string) => StreamError
  readonly partitions: ReadonlyMap<TopicPartition.Key, PartitionBuffer>
  readonly laneOf: (partition: PartitionBuffer) => Lane<StreamError> | undefined
}
