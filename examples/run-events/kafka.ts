/**
 * Which Kafka the program runs on. Only this file knows; all others ask for the services.
 */
import { InMemoryKafka, KafkaClient, KafkaConfig, TopicRegistry } from "@coffeebuddy/kafka"
import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
import { Console, Effect, Layer, Option, Runtime } from "effect"
import { KafkaFailure, KafkaUnavailable, startKafka } from "../../scripts/kafka/index.ts"

/** A Kafka inside this process. */
export const inMemory = Layer.merge(InMemoryKafka.layer, TopicRegistry.layerWith({ prefix: "coffeebuddy" }))

/** A cluster, reached through kafkajs: the one that `KafkaConfig` names. */
export const onKafkaJs = Layer.merge(KafkaJs.layer, TopicRegistry.layer)

/** The cluster of the environment: `KAFKA_BOOTSTRAP_SERVERS` and its companions. */
export const cluster = Layer.provideMerge(onKafkaJs, KafkaConfig.layerEnv)

/** A real broker on this machine, for as long as the program runs. Its data goes with it. */
const localBroker = Layer.unwrapScoped(Effect.gen(function*() {
  const log = Runtime.runSync(yield* Effect.runtime())
  const starting = Effect.tryPromise({
    try: () => startKafka({ log: (line) => log(Console.error(line)) }),
    catch: (cause) =>
      cause instanceof KafkaUnavailable || cause instanceof KafkaFailure
        ? cause
        : new KafkaFailure(String(cause), { cause })
  })
  yield* Console.error("Starting a Kafka on this machine …")
  // Ctrl-C while it starts need not wait: the broker ends with this process in any case.
  const kafka = yield* Effect.uninterruptibleMask((restore) =>
    Effect.tap(restore(starting), (kafka) => Effect.addFinalizer(() => Effect.promise(kafka.close)))
  )
  return KafkaConfig.layer({ brokers: kafka.bootstrapServers, topicPrefix: "coffeebuddy" })
}))

export const local = Layer.provideMerge(onKafkaJs, localBroker)

/** Where the program runs, for people. */
export const where = Effect.gen(function*() {
  const { driver } = yield* KafkaClient.KafkaClient
  const config = yield* Effect.serviceOption(KafkaConfig.KafkaConfig)
  return Option.match(config, {
    onNone: () => "Kafka in this process",
    onSome: ({ brokers }) => `Kafka at ${brokers.join(", ")} (${driver})`
  })
})
