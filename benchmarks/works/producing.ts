import { type Bench, inNode } from "../harness/model.ts"
import { inJava, inNewerNode, inPeer, inPython } from "../harness/peers.ts"

const platformatic = (name: string, run: string) =>
  inNewerNode(`${name}, Platformatic`, ["library", run], { driver: "platformatic" })

/** The clients that are installed apart, each by the same function's name. */
const peers = (run: string) => [
  inPeer("effect-kafka, kafkajs", ["effect-kafka", run]),
  inPeer("@platformatic/kafka", ["platformatic", run], "newer"),
  inPeer("kafka-ts", ["kafka-ts", run]),
  inPython("aiokafka", run),
  inJava("Java", run)
]

/** Writing a topic, idempotent and acknowledged by all. */
export const producing: ReadonlyArray<Bench> = [
  {
    name: "produce",
    about: "Batches of 1,000 one after the other; and, beside them, single sends of 1,000 fibers and a sink.",
    share: 0.3,
    contenders: [
      inNode("kafkajs send, batches", ["kafkajs", "sendBatches"]),
      inNode("Producer.sendAll, KafkaJs", ["library", "sendAll"]),
      inNode("Producer.send, 1,000 fibers, KafkaJs", ["library", "sendSingles"]),
      inNode("Producer.sink, KafkaJs", ["library", "sink"]),
      platformatic("Producer.sendAll", "sendAll"),
      platformatic("Producer.send, 1,000 fibers", "sendSingles"),
      ...peers("sendBatches")
    ]
  },
  {
    name: "single sends",
    about: "One record with each send, from 1,000 callers.",
    share: 0.05,
    contenders: [
      inNode("kafkajs send", ["kafkajs", "sendSingles"]),
      inNode("Producer.send, KafkaJs", ["library", "sendSingles"]),
      platformatic("Producer.send", "sendSingles"),
      ...peers("sendSingles")
    ]
  },
  {
    name: "lone sends",
    about: "One record after the other from one caller: the latency of a send.",
    share: 0.005,
    contenders: [
      inNode("kafkajs send", ["kafkajs", "sendLone"]),
      inNode("Producer.send, KafkaJs", ["library", "sendLone"]),
      platformatic("Producer.send", "sendLone"),
      ...peers("sendLone")
    ]
  },
  {
    name: "memory producer",
    about: "Writing to the broker in memory: what a test suite spends.",
    share: 0.1,
    contenders: [
      inNode("Producer.sendAll, InMemoryKafka", ["memory", "sendAll"], { driver: "memory" }),
      inNode("Producer.send, 1,000 fibers, InMemoryKafka", ["memory", "sendSingles"], { driver: "memory" }),
      inNode("Producer.send, one by one, InMemoryKafka", ["memory", "sendLone"], { driver: "memory" })
    ]
  }
]
