import * as Layer from "effect/Layer"
import type { Parameters } from "../harness/model.ts"

/** The driver's layer by the name the parameters give, loaded only when it is asked for. */
export const driver = async (parameters: Parameters) => {
  switch (parameters["driver"] ?? "kafkajs") {
    case "kafkajs":
      return (await import("@coffeebuddy/kafka/KafkaJs")).layer
    case "platformatic":
      return (await import("@coffeebuddy/kafka/Platformatic")).layer
    case "memory":
      return Layer.orDie(
        (await import("@coffeebuddy/kafka/InMemoryKafka")).layerWith({ autoCreateTopics: true, defaultPartitions: 6 })
      )
    default:
      throw new Error(`there is no driver "${String(parameters["driver"])}"`)
  }
}
