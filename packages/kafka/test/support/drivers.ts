/** The drivers for a real cluster, by the names that commands and processes of tests go by. */
import type * as Layer from "effect/Layer"
import type { KafkaClient } from "../../src/KafkaClient.ts"
import type { KafkaConfig } from "../../src/KafkaConfig.ts"
import type { UnsupportedFeatureError } from "../../src/KafkaError.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import * as Platformatic from "../../src/Platformatic.ts"

export const driverNames = ["kafkajs", "platformatic"] as const

export type DriverName = typeof driverNames[number]

export const drivers: Readonly<Record<DriverName, Layer.Layer<KafkaClient, UnsupportedFeatureError, KafkaConfig>>> = {
  kafkajs: KafkaJs.layer,
  platformatic: Platformatic.layer
}
