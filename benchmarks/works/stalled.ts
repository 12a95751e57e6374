import { type Bench, inNode } from "../harness/model.ts"

const parameters = { seconds: 10 }

/** Consumers that stand still before a long backlog. */
export const stalled: ReadonlyArray<Bench> = [
  {
    name: "stalled",
    about: "A consumer that does not go on stays in its group before the whole backlog for ten seconds. The library " +
      "fills its prefetch meanwhile, 64 MiB by default, and no more.",
    compares: "memory",
    contenders: [
      inNode("kafkajs eachBatch, paused", ["stalled", "paused"], parameters),
      inNode("Consumer.partitionedStream, never pulled, KafkaJs", ["stalled", "neverPulled"], parameters),
      inNode("Consumer.stream, pulled once, KafkaJs", ["stalled", "pulledOnce"], parameters)
    ]
  }
]
