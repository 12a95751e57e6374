/**
 * Where an acknowledged record is: a plain object, but one that a constructor makes.
 *
 * V8 takes what a literal makes for long-lived where most of it once outlived a collection, as the metadata of a
 * thousand fibers that send together do while a process is young, and makes it old from then on, with all that it holds.
 * It never does so to what a constructor makes. See docs/operations.md.
 */
import type { RecordMetadata } from "../../ProducerRecord.ts"

const construct = function(
  this: { topic: string; partition: number; offset: bigint; timestamp: bigint },
  topic: string,
  partition: number,
  offset: bigint,
  timestamp: bigint
) {
  this.topic = topic
  this.partition = partition
  this.offset = offset
  this.timestamp = timestamp
}
// whoever compares it with a literal finds them equal, which a class can not be given
construct.prototype = Object.prototype

export const Metadata = construct as unknown as new(
  topic: string,
  partition: number,
  offset: bigint,
  timestamp: bigint
) => RecordMetadata
