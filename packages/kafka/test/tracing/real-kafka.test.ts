import { it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { endToEnd } from "./endToEnd.ts"

RealKafka.suite("tracing through a real Kafka", ({ bootstrapServers }) => {
  it.live("a trace is seen from end to end", () =>
    endToEnd(`-${process.pid}-${Date.now()}`).pipe(
      Effect.provide(
        Layer.merge(KafkaJs.layer, TopicRegistry.layer).pipe(
          Layer.provide(KafkaConfig.layer({ brokers: bootstrapServers }))
        )
      )
    ))
})
