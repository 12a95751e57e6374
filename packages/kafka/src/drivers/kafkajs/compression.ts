import * as Effect from "effect/Effect"
import { CompressionTypes } from "kafkajs"
import type { CompressionType } from "../../KafkaClient.ts"
import { UnsupportedFeatureError } from "../../KafkaError.ts"

export const prepare = (type: CompressionType): Effect.Effect<number, UnsupportedFeatureError> =>
  type === "none" || type === "gzip"
    ? Effect.succeed(type === "none" ? CompressionTypes.None : CompressionTypes.GZIP)
    : new UnsupportedFeatureError({ driver: "kafkajs", feature: `${type} compression`, reason: "it is being written" })
