/** The suites' sessions, through the Platformatic driver. */
import * as Effect from "effect/Effect"
import * as Admin from "../../src/drivers/platformatic/admin.ts"
import * as Connection from "../../src/drivers/platformatic/connection.ts"
import * as Producer from "../../src/drivers/platformatic/producer.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as Platformatic from "../../src/Platformatic.ts"
import { defaults, type Faults } from "../kafkajs/support.ts"
import type { Sessions } from "../sessions/Sessions.ts"

export const environment = (
  brokers: string,
  faults?: Faults,
  options?: Partial<KafkaConfig.Options>
): Effect.Effect<Connection.Environment> =>
  Connection.environment(faults?.intercept).pipe(
    Effect.provide(
      KafkaConfig.layer({ connectionTimeout: "5 seconds", requestTimeout: "10 seconds", ...options, brokers })
    ),
    Effect.orDie
  )

export const platformatic: Sessions = {
  name: "platformatic",
  open: (brokers, options, faults) =>
    environment(brokers, faults).pipe(
      Effect.flatMap((environment) =>
        Producer.open(environment, Platformatic.capabilities, { ...defaults, ...options })
      ),
      Effect.orDie
    ),
  tryOpen: (brokers) =>
    Effect.flatMap(
      environment(brokers, undefined, { connectionTimeout: "1 second" }),
      (environment) => Producer.open(environment, Platformatic.capabilities, defaults)
    ),
  openAdmin: (brokers) => Effect.flatMap(environment(brokers), Admin.open)
}
