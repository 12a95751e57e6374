import { type Bench, inNode } from "../harness/model.ts"

/** Writing a topic, idempotent and acknowledged by all. */
export const producing: ReadonlyArray<Bench> = [
  {
    name: "produce",
    about: "Batches of 1,000 one after the other, and single sends of 1,000 fibers beside them.",
    share: 0.3,
    contenders: [
      inNode("kafkajs send, batches", ["kafkajs", "sendBatches"]),
      inNode("Producer.sendAll, KafkaJs", ["library", "sendAll"]),
      inNode("Producer.send, 1,000 fibers, KafkaJs", ["library", "sendSingles"]),
      inNode("Producer.sink, KafkaJs", ["library", "sink"])
    ]
  },
  {
    name: "single sends",
    about: "One record with each send, from 1,000 callers.",
    share: 0.05,
    contenders: [
      inNode("kafkajs send", ["kafkajs", "sendSingles"]),
      inNode("Producer.send, KafkaJs", ["library", "sendSingles"])
    ]
  },
  {
    name: "lone sends",
    about: "One record after the other from one caller: the latency of a send.",
    share: 0.003,
    contenders: [
      inNode("kafkajs send", ["kafkajs", "sendLone"]),
      inNode("Producer.send, KafkaJs", ["library", "sendLone"])
    ]
  }
]
