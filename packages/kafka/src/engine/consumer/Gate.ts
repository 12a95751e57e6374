/**
 * The rebalance gate: partitions that the group wants back, and whether what was handed out of them is settled.
 */
import type { CommitBook } from "./CommitBook.ts"
import type { Lane } from "./Lane.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"

export interface Gate {
  readonly partitions: ReadonlyArray<PartitionBuffer>
  readonly startedAt: number
  /** In milliseconds: it opens then, come what may. */
  readonly deadline: number
  /** Told which partitions were not settled in time. */
  readonly open: (unsettled: ReadonlyArray<PartitionBuffer>) => void
}

/**
 * Whether nothing of this assignment is in hand any more:
 *
 * - nothing was handed out, or all of it is committed;
 * - or its reader says that it works on none of it, or has ended, and no commit of it is under way;
 * - or its reader commits nothing of this topic, and has come back for more.
 */
export const isSettled = <E>(
  partition: PartitionBuffer,
  lane: Lane<E> | undefined,
  book: CommitBook
): boolean => {
  if (partition.status === "ended") return true
  const committing = book.has(partition)
  if (partition.isCommitted) return !committing
  if (committing) return false
  if (lane === undefined || lane.closed) return true
  if (lane.inHand !== undefined) return !lane.inHand(partition)
  return !book.uses(partition.topicPartition.topic) && !lane.holds(partition)
}
