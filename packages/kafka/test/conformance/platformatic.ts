/** The suite's real brokers, through @platformatic/kafka. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as Platformatic from "../../src/Platformatic.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { type Driver, Outage } from "./Kafka.ts"
import { controls } from "./kafkajs.ts"

const client = (brokers: string, options: Omit<KafkaConfig.Options, "brokers"> = {}) =>
  Platformatic.layer.pipe(Layer.provide(KafkaConfig.layer({ brokers, ...options })))

const cluster = (bootstrapServers: string, options?: Omit<KafkaConfig.Options, "brokers">) =>
  Layer.merge(client(bootstrapServers, options), controls(bootstrapServers))

export const driver = (bootstrapServers: string): Driver => ({
  name: "Platformatic",
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
