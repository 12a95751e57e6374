/**
 * A real Kafka for tests, examples and benchmarks, without containers.
 *
 *     import { startKafka } from "../scripts/kafka/index.ts"
 *
 *     await using kafka = await startKafka({ brokers: 3 })
 *     kafka.bootstrapServers          // 127.0.0.1:15803,127.0.0.1:20411,127.0.0.1:28873
 *     await kafka.broker(2).kill()
 *     await kafka.broker(2).start()   // same port, same data
 */
export type { KafkaBroker } from "./broker.ts"
export { type Certificate, type Certificates, makeCertificates } from "./certificates.ts"
export { type KafkaCluster, type KafkaOptions, startKafka } from "./cluster.ts"
export { cacheDirectory, defaultVersion, type Distribution, resolveDistribution } from "./distribution.ts"
export { clientEnvironment, type ClientOptions, clientProperties, type PasswordMechanism } from "./environment.ts"
export { KafkaFailure, KafkaUnavailable } from "./errors.ts"
export {
  javaConsume,
  type JavaConsumerRecord,
  type JavaHeader,
  type JavaMember,
  javaMember,
  type JavaMemberEvent,
  type JavaMetadata,
  javaPartitions,
  javaProduce,
  type JavaProducerRecord,
  prepareJava
} from "./interop.ts"
export type { JavaTarget } from "./java.ts"
export type { KafkaListener } from "./listeners.ts"
export {
  type ConsoleConsumerRecord,
  type ConsoleRecord,
  dumpLog,
  type GroupPosition,
  javaTools,
  type KafkaTool,
  type Performance,
  runTool,
  table,
  type TopicDescription
} from "./tools.ts"
