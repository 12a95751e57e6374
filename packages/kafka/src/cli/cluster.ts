/** The cluster that a command works on: the environment says which, the driver how. */
import * as Options from "@effect/cli/Options"
import * as FileSystem from "@effect/platform/FileSystem"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { parseEnv } from "node:util"
import type { KafkaClient } from "../KafkaClient.ts"
import * as KafkaConfig from "../KafkaConfig.ts"
import * as Serde from "../Serde.ts"
import * as Topic from "../Topic.ts"
import * as TopicRegistry from "../TopicRegistry.ts"
import { InputError } from "./failures.ts"
import type { Bytes } from "./record.ts"

/** Whatever speaks to Kafka: kafkajs, or a Kafka in memory for tests. */
export class Driver extends Context.Tag("@coffeebuddy/kafka/cli/Driver")<
  Driver,
  Layer.Layer<KafkaClient, never, KafkaConfig.KafkaConfig>
>() {}

/** The option that every command has. */
export const envFile = Options.file("env-file", { exists: "yes" }).pipe(
  Options.withDescription("Reads KAFKA_… variables from this file too. The environment goes before it."),
  Options.optional
)

/** Variables of a file behind those of the environment. */
export const withEnvFile =
  (path: Option.Option<string>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | InputError, R | FileSystem.FileSystem> =>
    Option.match(path, {
      onNone: () => effect,
      onSome: (path) =>
        Effect.gen(function*() {
          const fileSystem = yield* FileSystem.FileSystem
          const text = yield* Effect.mapError(
            fileSystem.readFileString(path),
            (error) => new InputError({ message: error.message })
          )
          const found = Object.entries(parseEnv(text)).flatMap(([name, value]) =>
            value === undefined ? [] : [[name, value] as const]
          )
          const fromFile = ConfigProvider.fromMap(new Map(found))
          return yield* Effect.configProviderWith((before) =>
            Effect.withConfigProvider(effect, ConfigProvider.orElse(before, () => fromFile))
          )
        })
    })

/**
 * What a command needs of Kafka. The registry knows no prefix: what a command says are names on the cluster, which
 * {@link nameOf} makes.
 */
export type Services = KafkaConfig.KafkaConfig | KafkaClient | TopicRegistry.TopicRegistry

export const layerOf = (
  driver: Layer.Layer<KafkaClient, never, KafkaConfig.KafkaConfig>,
  config: KafkaConfig.Service
) =>
  Layer.merge(driver, TopicRegistry.layerWith({})).pipe(
    Layer.provideMerge(Layer.succeed(KafkaConfig.KafkaConfig, config))
  )

/** Runs a command with the cluster that the environment names. */
export const connected = (path: Option.Option<string>) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const driver = yield* Driver
    const config = yield* KafkaConfig.fromEnv
    return yield* Effect.provide(effect, layerOf(driver, config))
  }).pipe(withEnvFile(path))

/** The name on the cluster: the prefix stands before it, unless it stands there already. */
export const nameOf = (topic: string, prefix: string | undefined): string =>
  prefix === undefined || topic.startsWith(`${prefix}.`) ? topic : `${prefix}.${topic}`

/** A topic of bytes. */
export const bytesOf = (name: string): Topic.Topic<string, Bytes, Bytes> =>
  Topic.make(name, { key: Serde.nullable(Serde.bytes), value: Serde.nullable(Serde.bytes) })

/** The topic that an argument stands for, where it may be called so. */
export const topicOf = (
  argument: string
): Effect.Effect<Topic.Topic<string, Bytes, Bytes>, InputError, KafkaConfig.KafkaConfig> =>
  Effect.flatMap(KafkaConfig.KafkaConfig, ({ topicPrefix }) =>
    Effect.try({
      try: () => bytesOf(nameOf(argument, topicPrefix)),
      catch: (error) => new InputError({ message: error instanceof Error ? error.message : String(error) })
    }))
