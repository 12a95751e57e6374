import { type Bench, inNode } from "../harness/model.ts"
import { inJava, inNewerNode, inPeer, inPython } from "../harness/peers.ts"

const look = "A topic is read from its beginning with the same fetch settings, and the length of each value looked at."

/** Bytes read by raw kafkajs and by the library, over another number of partitions or records of another size. */
const versus = (
  name: string,
  about: string,
  shape: { readonly partitions?: number; readonly bytes?: number }
): Bench => ({
  name,
  about,
  ...shape,
  contenders: [
    inNode("kafkajs eachBatch", ["kafkajs", "bytes"]),
    inNode("Consumer.stream, KafkaJs", ["library", "bytes"]),
    inNewerNode("Consumer.stream, Platformatic", ["library", "bytes"], { driver: "platformatic" })
  ]
})

/** Reading a topic: bytes and typed values. */
export const consuming: ReadonlyArray<Bench> = [
  {
    name: "bytes",
    about: look,
    contenders: [
      inNode("kafkajs eachBatch", ["kafkajs", "bytes"]),
      inNode("kafkajs eachMessage", ["kafkajs", "eachMessage"]),
      inNode("Consumer.stream, KafkaJs", ["library", "bytes"]),
      inNewerNode("Consumer.stream, Platformatic", ["library", "bytes"], { driver: "platformatic" }),
      inPeer("effect-kafka serveStream, kafkajs", ["effect-kafka", "bytes"]),
      inPeer("@platformatic/kafka stream", ["platformatic", "bytes"], "newer"),
      inPeer("kafka-ts onBatch", ["kafka-ts", "bytes"]),
      inPython("aiokafka getmany", "bytes"),
      inJava("Java poll", "bytes")
    ]
  },
  {
    name: "json",
    about: "The same, each value decoded by a schema: by hand, compiled once, and by `Serde.json`.",
    contenders: [
      inNode("kafkajs eachBatch, by hand", ["kafkajs", "json"]),
      inNode("Consumer.stream, Serde.json, KafkaJs", ["library", "json"]),
      inNewerNode("Consumer.stream, Serde.json, Platformatic", ["library", "json"], { driver: "platformatic" })
    ]
  },
  ...[1, 16, 64].map((partitions) =>
    versus(`partitions ${partitions}`, `${look} ${partitions} partitions.`, { partitions })
  ),
  ...[100, 1000, 10_000, 100_000].map((bytes) =>
    versus(`size ${bytes}`, `${look} Values of ${bytes} bytes.`, { bytes })
  ),
  {
    name: "memory consumer",
    about: "A topic in memory is filled by `sendAll`, then read: what a test suite spends on its broker.",
    share: 0.2,
    contenders: [
      inNode("Consumer.stream, InMemoryKafka", ["memory", "bytes"], { driver: "memory" }),
      inNode("Consumer.forEach, key, InMemoryKafka", ["memory", "forEach"], { driver: "memory" })
    ]
  },
  {
    name: "start-up",
    about: "From the start of the process to the first record of a group that is new.",
    compares: "seconds",
    share: 0,
    contenders: [
      inNode("kafkajs eachBatch", ["kafkajs", "startUp"]),
      inNode("Consumer.stream, KafkaJs", ["library", "startUp"]),
      inNewerNode("Consumer.stream, Platformatic", ["library", "startUp"], { driver: "platformatic" })
    ]
  },
  {
    name: "scale-out",
    about: "One group in 1, 2 and 4 processes that share 8 partitions, from the moment all hold theirs.",
    share: 0.5,
    partitions: 8,
    contenders: [1, 2, 4].map((processes) =>
      inNode(`Consumer.stream, KafkaJs, ${processes} ${processes === 1 ? "process" : "processes"}`, [
        "scaleOut",
        "bytes"
      ], { processes })
    )
  }
]
