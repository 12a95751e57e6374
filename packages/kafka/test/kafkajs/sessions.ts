/** The suites' sessions, through kafkajs. */
import * as Effect from "effect/Effect"
import * as Admin from "../../src/drivers/kafkajs/admin.ts"
import * as Producer from "../../src/drivers/kafkajs/producer.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import type { Sessions } from "../sessions/Sessions.ts"
import { defaults, environment, open } from "./support.ts"

export const kafkajs: Sessions = {
  name: "kafkajs",
  open,
  tryOpen: (brokers) =>
    Effect.flatMap(
      environment(brokers, undefined, { connectionTimeout: "1 second" }),
      (environment) => Producer.open(environment, KafkaJs.capabilities, defaults)
    ),
  openAdmin: (brokers) => Effect.flatMap(environment(brokers), Admin.open)
}
