/**
 * Fetched chunks for tests of the pure cores: a record is its offset.
 */
import type { FetchedChunk, RecordView } from "../../src/KafkaClient.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

export const view: RecordView<bigint> = {
  offset: (raw) => raw,
  timestamp: () => 0n,
  key: () => null,
  value: () => null,
  headers: () => []
}

export const chunk = (
  offsets: ReadonlyArray<number>,
  options: { readonly nextOffset?: number; readonly bytes?: number; readonly partition?: number } = {}
): FetchedChunk => {
  const nextOffset = BigInt(options.nextOffset ?? (offsets.at(-1) ?? -1) + 1)
  return {
    _tag: "Chunk",
    topicPartition: TopicPartition.make("runs", options.partition ?? 0),
    records: offsets.map(BigInt),
    view,
    bytes: options.bytes ?? offsets.length * 10,
    nextOffset,
    highWatermark: nextOffset
  }
}
