/** The suite's real brokers, through kafkajs. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Assigner, type Broker as KafkaJsBroker, type Cluster, Kafka, logLevel } from "kafkajs"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { Broker, type Driver, Outage } from "./Kafka.ts"

/** kafkajs has it, and does not show it. */
type Coordinator = KafkaJsBroker & {
  readonly leaveGroup: (member: { readonly groupId: string; readonly memberId: string }) => Promise<unknown>
}

/** Says to a group's coordinator that a member leaves, in the member's name: it finds itself given up. */
const evict = async (bootstrapServers: string, groupId: string, memberId: string): Promise<void> => {
  const kafka = new Kafka({ brokers: bootstrapServers.split(","), logLevel: logLevel.NOTHING })
  let cluster: Cluster | undefined
  // kafkajs shows its connections to the assigners of a consumer; this one never joins
  const consumer = kafka.consumer({
    groupId: `${groupId}.evict`,
    partitionAssigners: [(given) => {
      cluster = given.cluster
      return { ...nobody, name: "nobody", version: 0 }
    }]
  })
  try {
    await consumer.connect()
    const coordinator = await cluster!.findGroupCoordinator({ groupId }) as Coordinator
    await coordinator.leaveGroup({ groupId, memberId })
  } finally {
    await consumer.disconnect()
  }
}

const nobody: Pick<Assigner, "assign" | "protocol"> = {
  assign: () => Promise.resolve([]),
  protocol: () => ({ name: "nobody", metadata: Buffer.alloc(0) })
}

const client = (brokers: string, options: Omit<KafkaConfig.Options, "brokers"> = {}) =>
  KafkaJs.layer.pipe(Layer.provide(KafkaConfig.layer({ brokers, ...options })))

/** What a test does to real brokers, whatever driver it tests. */
export const controls = (bootstrapServers: string) =>
  Layer.succeed(Broker, {
    slowJoins: Effect.void,
    evict: (groupId, memberId) => Effect.tryPromise(() => evict(bootstrapServers, groupId, memberId)),
    // the broker's cleaner comes by every second
    compact: () => Effect.void
  })

const cluster = (bootstrapServers: string, options?: Omit<KafkaConfig.Options, "brokers">) =>
  Layer.merge(client(bootstrapServers, options), controls(bootstrapServers))

export const driver = (bootstrapServers: string): Driver => ({
  name: "KafkaJs",
  cluster: cluster(bootstrapServers),
  inMemory: undefined,
  // nobody ever listens at port 1
  unreachable: client("127.0.0.1:1", { connectionTimeout: "500 millis" })
})

/** A cluster that may go down. */
export const failing = Layer.unwrapScoped(Effect.map(RealKafka.start(), (kafka) =>
  Layer.merge(
    // a broker takes its time to start, more so on a busy machine
    cluster(kafka.bootstrapServers, { connectionTimeout: "1 minute" }),
    Layer.succeed(Outage, { begin: kafka.broker(1).kill, end: kafka.broker(1).start })
  )))
