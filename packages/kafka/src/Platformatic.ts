/**
 * The driver on @platformatic/kafka's protocol requests: faster, and able to do what kafkajs can't.
 *
 * It needs Node 22.22 or later and the package `@platformatic/kafka`, which is loaded when the layer is made. It is not
 * in the barrel, so that a program on another driver needs neither.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Net from "node:net"
import * as Admin from "./drivers/platformatic/admin.ts"
import * as Connection from "./drivers/platformatic/connection.ts"
import * as Consumer from "./drivers/platformatic/consumer.ts"
import * as Producer from "./drivers/platformatic/producer.ts"
import * as KafkaClient from "./KafkaClient.ts"
import type { KafkaConfig } from "./KafkaConfig.ts"
import type { UnsupportedFeatureError } from "./KafkaError.ts"

/**
 * What the driver can do: all there is.
 *
 * @since 0.1.0
 * @category capabilities
 */
export const capabilities: KafkaClient.Capabilities = {
  awaitedRevoke: true,
  cooperative: true,
  perPartitionDemand: true,
  transactionalGroupMetadata: true,
  staticMembership: true,
  consumerProtocol: true
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * Told of each socket before anything is sent on it. For measuring, and for faults in tests. The host and port are
   * those of the broker.
   */
  readonly onSocket?:
    | ((socket: Net.Socket, broker: { readonly host: string; readonly port: number }) => void)
    | undefined
}

/**
 * The driver, with options.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import * as Platformatic from "@coffeebuddy/kafka/Platformatic"
 * import { Layer } from "effect"
 *
 * let connections = 0
 * const Live = Platformatic.layerWith({ onSocket: () => connections++ }).pipe(
 *   Layer.provideMerge(KafkaConfig.layer({ brokers: "localhost:9092" }))
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerWith = (
  options: Options
): Layer.Layer<KafkaClient.KafkaClient, UnsupportedFeatureError, KafkaConfig> =>
  Layer.effect(
    KafkaClient.KafkaClient,
    Effect.map(Connection.environment(options.onSocket), (environment): KafkaClient.Service => ({
      driver: "platformatic",
      capabilities,
      openConsumer: (options) => Consumer.open(environment, capabilities, options),
      openProducer: (options) => Producer.open(environment, capabilities, options),
      openAdmin: Admin.open(environment)
    }))
  )

/**
 * The driver. Opens nothing by itself: connections belong to the producers, consumers and admins.
 *
 * Fails with an `UnsupportedFeatureError` that says what to do where this Node is older than 22.22, or the package
 * `@platformatic/kafka` is missing or of a version that the driver does not know.
 *
 * @example
 * ```ts
 * import { KafkaConfig } from "@coffeebuddy/kafka"
 * import * as Platformatic from "@coffeebuddy/kafka/Platformatic"
 * import { Layer } from "effect"
 *
 * const Live = Platformatic.layer.pipe(Layer.provideMerge(KafkaConfig.layer({ brokers: "localhost:9092" })))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<KafkaClient.KafkaClient, UnsupportedFeatureError, KafkaConfig> = layerWith({})
