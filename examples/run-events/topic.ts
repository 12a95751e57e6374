import { Serde, Topic } from "@coffeebuddy/kafka"
import { RunEvent } from "./RunEvent.ts"

/**
 * The events of all runs. The key is the run's id, so that the events of one run are in one partition, in order.
 */
export const RUN_EVENTS_TOPIC = Topic.make("run-events", {
  key: Serde.string,
  value: Serde.json(RunEvent),
  partitions: 3
})
