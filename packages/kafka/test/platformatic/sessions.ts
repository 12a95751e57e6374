/** The suites' sessions, through the Platformatic driver. */
import * as Effect from "effect/Effect"
import * as Admin from "../../src/drivers/platformatic/admin.ts"
import * as Connection from "../../src/drivers/platformatic/connection.ts"
import type { Source } from "../../src/drivers/platformatic/library.ts"
import * as Producer from "../../src/drivers/platformatic/producer.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as Platformatic from "../../src/Platformatic.ts"
import { defaults, type Faults } from "../kafkajs/support.ts"
import type { Sessions } from "../sessions/Sessions.ts"

export const environment = (
  brokers: string,
  faults?: Faults,
  options?: Partial<KafkaConfig.Options>,
  source?: Source
): Effect.Effect<Connection.Environment> =>
  Connection.environment(faults?.intercept, source).pipe(
    Effect.provide(
      KafkaConfig.layer({ connectionTimeout: "5 seconds", requestTimeout: "10 seconds", ...options, brokers })
    ),
    Effect.orDie
  )

const sessions = (name: string, source?: Source): Sessions => ({
  name,
  open: (brokers, options, faults) =>
    environment(brokers, faults, undefined, source).pipe(
      Effect.flatMap((environment) =>
        Producer.open(environment, Platformatic.capabilities, { ...defaults, ...options })
      ),
      Effect.orDie
    ),
  tryOpen: (brokers) =>
    Effect.flatMap(
      environment(brokers, undefined, { connectionTimeout: "1 second" }, source),
      (environment) => Producer.open(environment, Platformatic.capabilities, defaults)
    ),
  openAdmin: (brokers) => Effect.flatMap(environment(brokers, undefined, undefined, source), Admin.open)
})

export const platformatic = sessions("platformatic")

/** What brokers tell of their cluster's features is not heard: as where they have none. */
const withoutFeatures: Source["load"] = async () => {
  const library = await import("@platformatic/kafka")
  const { createRequest, parseResponse } = library.apiVersionsV3
  const api = library.createAPI<Parameters<typeof createRequest>, ReturnType<typeof parseResponse>>(
    18,
    3,
    createRequest,
    (...answer) => ({ ...parseResponse(...answer), finalizedFeatures: [] }),
    true,
    false
  )
  return { ...library, apiVersionsV3: { ...library.apiVersionsV3, api } }
}

/** With brokers that have no second part of KIP-890. */
export const beforeKip890 = sessions("platformatic, before KIP-890", {
  node: process.versions.node,
  installed: () => undefined,
  load: withoutFeatures
})
