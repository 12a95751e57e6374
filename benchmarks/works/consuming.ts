import { type Bench, inNode } from "../harness/model.ts"

/** Reading a topic: bytes and typed values. */
export const consuming: ReadonlyArray<Bench> = [
  {
    name: "bytes",
    about: "A topic is read from its beginning with the same fetch settings, and the length of each value looked at.",
    contenders: [
      inNode("kafkajs eachBatch", ["kafkajs", "bytes"]),
      inNode("kafkajs eachMessage", ["kafkajs", "eachMessage"]),
      inNode("Consumer.stream, KafkaJs", ["library", "bytes"])
    ]
  },
  {
    name: "json",
    about: "The same, each value decoded by a schema: by hand, compiled once, and by `Serde.json`.",
    contenders: [
      inNode("kafkajs eachBatch, by hand", ["kafkajs", "json"]),
      inNode("Consumer.stream, Serde.json, KafkaJs", ["library", "json"])
    ]
  }
]
