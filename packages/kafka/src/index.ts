/**
 * Kafka for Effect.
 *
 * @since 0.1.0
 */
export * as Admin from "./Admin.ts"
export * as Consumer from "./Consumer.ts"
export * as ConsumerRecord from "./ConsumerRecord.ts"
export * as ConsumerWorker from "./ConsumerWorker.ts"
export * as DeadLetter from "./DeadLetter.ts"
export * as InMemoryKafka from "./InMemoryKafka.ts"
export * as KafkaActivity from "./KafkaActivity.ts"
export * as KafkaClient from "./KafkaClient.ts"
export * as KafkaConfig from "./KafkaConfig.ts"
export * as KafkaError from "./KafkaError.ts"
export * as KafkaEvent from "./KafkaEvent.ts"
export * as KafkaHealth from "./KafkaHealth.ts"
export * as KafkaTracing from "./KafkaTracing.ts"
export * as OffsetBatch from "./OffsetBatch.ts"
export * as Partitioner from "./Partitioner.ts"
export * as Producer from "./Producer.ts"
export * as ProducerRecord from "./ProducerRecord.ts"
export * as RecordHeaders from "./RecordHeaders.ts"
export * as RetryTopics from "./RetryTopics.ts"
export * as Serde from "./Serde.ts"
export * as Topic from "./Topic.ts"
export * as TopicPartition from "./TopicPartition.ts"
export * as TopicRegistry from "./TopicRegistry.ts"
