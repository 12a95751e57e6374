/**
 * A process that doubles numbers from one topic into another, exactly once, until it is killed. Argument: JSON.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Consumer from "../../src/Consumer.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as Producer from "../../src/Producer.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { type DriverName, drivers } from "../support/drivers.ts"

const { brokers, driver, input, output } = JSON.parse(process.argv[2]!) as {
  readonly brokers: string
  readonly driver: DriverName
  readonly input: string
  readonly output: string
}
const serdes = { key: Serde.string, value: Serde.string }

const live = Layer.merge(
  // one id for all that follow each other: the newer fences the older
  Producer.layer({ transactionalId: `${output}-doubler`, transactionTimeout: "5 seconds" }),
  Consumer.layer({ groupId: `${output}-doublers`, sessionTimeout: "6 seconds", maxPollRecords: 50 })
).pipe(
  Layer.provide(drivers[driver]),
  Layer.provide(TopicRegistry.layerWith({})),
  Layer.provide(KafkaConfig.layer({ brokers }))
)

process.on("disconnect", () => process.exit(2))
await Effect.runPromise(
  Consumer.transform(
    Topic.make(input, serdes),
    (record) =>
      Effect.succeed({ key: record.key, value: String(2 * Number(record.value)) }).pipe(
        Effect.tap(() => process.send?.(record.value)),
        Effect.delay("2 millis")
      ),
    Topic.make(output, serdes),
    { maxRecords: 50 }
  ).pipe(Effect.provide(live))
)
