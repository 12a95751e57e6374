/**
 * Which partitions to fetch, and how much of each: a pure decision over what is buffered.
 */
import type { Demand } from "../../KafkaClient.ts"
import type * as TopicPartition from "../../TopicPartition.ts"

export interface Bounds {
  readonly partitionBytes: number
  readonly partitionRecords: number
  readonly totalBytes: number
  readonly totalRecords: number
}

export interface PartitionFill {
  readonly key: TopicPartition.Key
  readonly bufferedBytes: number
  readonly bufferedRecords: number
  /** Somebody is waiting for records of it. */
  readonly hungry: boolean
  /** It was left out of the last plan. */
  readonly withheld: boolean
}

export interface Plan {
  readonly demand: ReadonlyMap<TopicPartition.Key, Demand>
  readonly withheld: ReadonlySet<TopicPartition.Key>
}

/**
 * A partition is fetched while its buffer is below its bound. Once full it is left out until half of it is gone, so
 * that a driver does not pause and resume it for every chunk.
 *
 * When all buffers together are full, only a partition that has nothing buffered and a reader waiting for it is
 * fetched: stalled partitions may fill the memory they are granted, and never starve one that moves. What is held is
 * therefore bounded by `totalBytes`, plus one fetch response for each broker, plus one for each partition being read.
 */
export const plan = (partitions: ReadonlyArray<PartitionFill>, bounds: Bounds): Plan => {
  let bytes = 0
  let records = 0
  for (const partition of partitions) {
    bytes += partition.bufferedBytes
    records += partition.bufferedRecords
  }
  const full = bytes >= bounds.totalBytes || records >= bounds.totalRecords
  const demand = new Map<TopicPartition.Key, Demand>()
  const withheld = new Set<TopicPartition.Key>()
  for (const partition of partitions) {
    const limit = partition.withheld ? 0.5 : 1
    const room = partition.bufferedBytes < bounds.partitionBytes * limit &&
      partition.bufferedRecords < bounds.partitionRecords * limit
    const starving = partition.hungry && partition.bufferedRecords === 0
    if (room && (!full || starving)) {
      demand.set(partition.key, { maxBytes: bounds.partitionBytes - partition.bufferedBytes })
    } else {
      withheld.add(partition.key)
    }
  }
  return { demand, withheld }
}
