import { type Bench, inNode } from "../harness/model.ts"
import { inNewerNode } from "../harness/peers.ts"

const onPlatformatic = { driver: "platformatic" }

/** Records that are written and read at once: latency, and one topic made from another. */
export const passing: ReadonlyArray<Bench> = [
  ...[1, 64].map((partitions): Bench => ({
    name: `latency, ${partitions} ${partitions === 1 ? "partition" : "partitions"}`,
    about:
      "From the call of `send` to the record in the reader's hand, at 200 records a second for 25 seconds (of a million records), in one process. Half as long before, at the same rate through the same clients, does not count: what runs for long is what is measured. A p99 is of a few full collections and pauses of the broker: it takes many rounds.",
    compares: "p99",
    share: 0.005,
    partitions,
    contenders: [
      inNode("kafkajs send, eachBatch", ["latency", "kafkajs"]),
      inNode("Producer.send, Consumer.stream, KafkaJs", ["latency", "library"]),
      inNewerNode("Producer.send, Consumer.stream, Platformatic", ["latency", "library"], onPlatformatic)
    ]
  })),
  {
    name: "consume-transform-produce",
    about:
      "Each record is read, its value passed on to another topic, and its offset committed: at least once by hand on kafkajs, at least once by streams, and exactly once by `Consumer.transform`.",
    share: 0.1,
    contenders: [
      inNode("kafkajs eachBatch, send", ["kafkajs", "passOn"]),
      inNode("Consumer.stream, Producer.produce, KafkaJs", ["library", "passOn"]),
      inNode("Consumer.transform, KafkaJs", ["library", "transform"]),
      inNewerNode("Consumer.stream, Producer.produce, Platformatic", ["library", "passOn"], onPlatformatic),
      inNewerNode("Consumer.transform, Platformatic", ["library", "transform"], onPlatformatic)
    ]
  }
]
