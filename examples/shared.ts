/** What the small examples share: the Kafka they run on, coffee runs to read, and how a program ends. */
import { type KafkaClient, Producer, type TopicRegistry } from "@coffeebuddy/kafka"
import { Config, type ConfigError, Effect, Layer, Option } from "effect"
import { cluster, inMemory } from "./run-events/kafka.ts"
import * as Plan from "./run-events/Plan.ts"
import { RUN_EVENTS_TOPIC } from "./run-events/topic.ts"

export { run } from "./run-events/cli.ts"

type Kafka = Layer.Layer<KafkaClient.KafkaClient | TopicRegistry.TopicRegistry, ConfigError.ConfigError>

/** The cluster of `KAFKA_BOOTSTRAP_SERVERS` where that is set, else a Kafka in this process. */
export const Kafka: Kafka = Layer.unwrapEffect(
  Effect.map(
    Config.option(Config.string("KAFKA_BOOTSTRAP_SERVERS")),
    (brokers): Kafka => Option.isSome(brokers) ? cluster : inMemory
  )
)

/** Sends the events of so many coffee runs, those of a run in order, and answers them. */
export const sendRuns = (count: number) =>
  Effect.gen(function*() {
    const { runs } = yield* Plan.Plan
    const events = runs.flatMap((run) => run.events)
    yield* Producer.sendAll(RUN_EVENTS_TOPIC, events.map((event) => ({ key: event.runId, value: event })))
    return events
  }).pipe(Effect.provide(Plan.layer({ runs: count, within: 0 })))
