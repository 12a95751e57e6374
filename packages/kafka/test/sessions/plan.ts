import { Lanes, type Plan } from "../../src/drivers/lanes.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

/** A fetch of these partitions, each from its beginning. */
export const planOf = (...partitions: ReadonlyArray<TopicPartition.TopicPartition>): Plan => {
  const lanes = new Lanes({ maxBytesPerPartition: 100, maxWait: 200 })
  for (const one of partitions) lanes.open(one, 0n)
  lanes.lead(() => 1)
  lanes.take(new Map(partitions.map((one) => [TopicPartition.key(one), { maxBytes: 100 }])), 0)
  return lanes.plan(1, 0)!
}
