/**
 * The driver on kafkajs: plain JavaScript, nothing to compile.
 *
 * It is not in the barrel, so that a program on another driver never loads kafkajs.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Net from "node:net"
import * as Admin from "./drivers/kafkajs/admin.ts"
import * as Compression from "./drivers/kafkajs/compression.ts"
import * as Connection from "./drivers/kafkajs/connection.ts"
import * as Consumer from "./drivers/kafkajs/consumer.ts"
import * as Producer from "./drivers/kafkajs/producer.ts"
import * as KafkaClient from "./KafkaClient.ts"
import type { KafkaConfig } from "./KafkaConfig.ts"

/**
 * What kafkajs can do, and what it can't.
 *
 * @since 0.1.0
 * @category capabilities
 */
export const capabilities: KafkaClient.Capabilities = {
  awaitedRevoke: true,
  cooperative: false,
  perPartitionDemand: true,
  transactionalGroupMetadata: false,
  staticMembership: false,
  consumerProtocol: false
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * Stands between kafkajs and each of its sockets: answers the same socket, watched or changed, or another. For going
   * through a proxy, for measuring, and for faults in tests. The host and port are those of the broker.
   */
  readonly onSocket?:
    | ((socket: Net.Socket, broker: { readonly host: string; readonly port: number }) => Net.Socket)
    | undefined
}

/**
 * kafkajs as the driver, with options.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
 * import { Layer } from "effect"
 *
 * let connections = 0
 * const Live = KafkaJs.layerWith({
 *   onSocket: (socket) => {
 *     connections++
 *     return socket
 *   }
 * }).pipe(Layer.provideMerge(KafkaConfig.layer({ brokers: "localhost:9092" })))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (options: Options): Layer.Layer<KafkaClient.KafkaClient, never, KafkaConfig> =>
  Layer.effect(
    KafkaClient.KafkaClient,
    Effect.map(
      Effect.zipLeft(Connection.environment(options.onSocket), Compression.install),
      (environment): KafkaClient.Service => ({
        driver: "kafkajs",
        capabilities,
        openConsumer: (options) => Consumer.open(environment, capabilities, options),
        openProducer: (options) => Producer.open(environment, capabilities, options),
        openAdmin: Admin.open(environment)
      })
    )
  )

/**
 * kafkajs as the driver. Opens nothing by itself: connections belong to the producers, consumers and admins.
 *
 * Snappy, lz4 and zstd need the packages `snappy`, `lz4-napi` and `@mongodb-js/zstd` (the last not from Node 22.15 on),
 * each when it is first met.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
 * import { Layer } from "effect"
 *
 * const Live = KafkaJs.layer.pipe(Layer.provideMerge(KafkaConfig.layer({ brokers: "localhost:9092" })))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<KafkaClient.KafkaClient, never, KafkaConfig> = layerWith({})
