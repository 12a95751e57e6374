/** The suites' consumer sessions, through the Platformatic driver. */
import * as Effect from "effect/Effect"
import * as Consumer from "../../src/drivers/platformatic/consumer.ts"
import * as Platformatic from "../../src/Platformatic.ts"
import type { ConsumerDriver } from "../kafkajs/consumerSupport.ts"
import { environment } from "./sessions.ts"

export const platformatic: ConsumerDriver = {
  name: "platformatic",
  openConsumer: (brokers, options, { config, faults, metadataInterval = 30_000 }) =>
    Effect.flatMap(
      environment(brokers, faults, config),
      // the news of a rebalance comes with a heartbeat, and a test waits for it
      (env) =>
        Consumer.open(env, Platformatic.capabilities, { ...options, heartbeatInterval: 200 }, { metadataInterval })
    )
}
