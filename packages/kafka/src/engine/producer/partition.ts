/**
 * Where a record goes, and whether it can.
 */
import { ProducerError, UnknownTopicError } from "../../KafkaError.ts"
import type { Partitioner } from "../../Partitioner.ts"
import { anyPartition } from "./accumulator.ts"
import type { KnownTopic } from "./topics.ts"

/** The partition asked for, or the one of the partitioner, or {@link anyPartition}. */
export const choose = (
  topic: KnownTopic,
  key: Uint8Array | null,
  explicit: number | undefined,
  partitioner: Partitioner
): number | ProducerError | UnknownTopicError => {
  const count = topic.queues.partitionCount
  let partition = explicit
  if (partition === undefined) {
    try {
      partition = partitioner(key, count, topic.name)
    } catch (cause) {
      return invalid(topic.name, "the partitioner threw: see the cause", cause)
    }
    if (partition === undefined) return anyPartition
  }
  if (!Number.isInteger(partition) || partition < 0) {
    return invalid(topic.name, `a partition is a whole number from zero, and this is ${partition}`)
  }
  return partition < count ? partition : new UnknownTopicError({ operation: "produce", topic: topic.name, partition })
}

export const invalid = (topic: string, description: string, cause?: unknown): ProducerError =>
  new ProducerError({
    topic,
    reason: "invalid",
    retriable: false,
    description,
    ...(cause === undefined ? {} : { cause })
  })
