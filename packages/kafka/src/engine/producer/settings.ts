/**
 * The producer's options, checked and filled in. What nobody set gives way to what somebody did; only what was set on
 * both sides can contradict.
 */
import type * as ConfigError from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import type * as Either from "effect/Either"
import type { CompressionType } from "../../KafkaClient.ts"
import * as Partitioner from "../../Partitioner.ts"
import type { Options } from "../../Producer.ts"
import { ConfigProblems } from "../configProblems.ts"
import { millisOf } from "../duration.ts"

/** Sizes in bytes, times in milliseconds. */
export interface Settings {
  readonly clientId: string | undefined
  readonly acks: "all" | "leader" | "none"
  readonly idempotent: boolean
  readonly compression: CompressionType
  readonly linger: number
  readonly batchSize: number
  readonly maxRequestSize: number
  readonly bufferMemory: number
  readonly onBufferFull: "wait" | "fail"
  readonly onUnknownOutcome: "fail" | "resend"
  readonly deliveryTimeout: number
  readonly requestTimeout: number
  readonly closeTimeout: number
  readonly transactionalId: string | undefined
  readonly transactionTimeout: number
  /** Whether somebody chose it. */
  readonly transactionTimeoutGiven: boolean
  readonly partitioner: Partitioner.Partitioner
}

const Key: unique symbol = Symbol.for("@coffeebuddy/kafka/engine/producer/Settings")

/** Lets {@link settingsOf} know. */
export const withSettings = <A extends object>(service: A, settings: Settings): A & { readonly [Key]: Settings } =>
  Object.assign(service, { [Key]: settings })

/** What a producer was made with; unknown where it is somebody's own. */
export const settingsOf = (service: object | { readonly [Key]: Settings }): Settings | undefined =>
  Key in service ? service[Key] : undefined

export const defaults = {
  batchSize: 1_000_000,
  maxRequestSize: 1_048_576,
  bufferMemory: 32 * 1024 * 1024,
  requestTimeout: 30_000,
  deliveryTimeout: 120_000,
  closeTimeout: 10_000,
  // below the default session timeout of consumers, as Consumer.transform needs it
  transactionTimeout: 20_000
} as const

/** The settings, or every problem there is. */
export const check = (options: Options): Either.Either<Settings, ConfigError.ConfigError> => {
  const problems = new ConfigProblems()
  const refuse = (option: keyof Options, message: string): undefined => problems.add([option], message)

  const millis = (option: keyof Options, value: Duration.DurationInput | undefined, least: 0 | 1) => {
    if (value === undefined) return undefined
    const out = millisOf(value) ?? NaN
    if (out >= least && out <= 0x7fffffff) return out
    refuse(
      option,
      `has to be a duration of ${least === 0 ? "at least zero" : "a millisecond or more"}, at most 24 days`
    )
    return undefined
  }
  const bytes = (option: keyof Options, value: number | undefined) => {
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) return value
    return refuse(option, `has to be a positive whole number of bytes, and is ${value}`)
  }
  const oneOf = <A extends string>(option: keyof Options, value: A | undefined, allowed: ReadonlyArray<A>) => {
    if (value === undefined || allowed.includes(value)) return value
    return refuse(
      option,
      `has to be one of ${allowed.map((one) => `"${one}"`).join(", ")}, and is ${JSON.stringify(value)}`
    )
  }

  const acks = oneOf("acks", options.acks, ["all", "leader", "none"]) ?? "all"
  const idempotent = options.idempotent ?? acks === "all"
  if (typeof idempotent !== "boolean") refuse("idempotent", `has to be true or false, and is ${String(idempotent)}`)
  const text = (option: keyof Options, value: unknown) => {
    if (value === undefined || (typeof value === "string" && value !== "")) return
    refuse(option, value === "" ? "can not be empty" : `has to be text, and is ${String(value)}`)
  }
  text("clientId", options.clientId)
  const partitioner = options.partitioner ?? Partitioner.java
  if (typeof partitioner !== "function") refuse("partitioner", "has to be a function")
  const compression = oneOf("compression", options.compression, ["none", "gzip", "snappy", "lz4", "zstd"]) ?? "none"
  const onBufferFull = oneOf("onBufferFull", options.onBufferFull, ["wait", "fail"]) ?? "wait"
  const onUnknownOutcome = oneOf("onUnknownOutcome", options.onUnknownOutcome, ["fail", "resend"]) ?? "fail"

  const linger = millis("linger", options.linger, 0) ?? 0
  const request = millis("requestTimeout", options.requestTimeout, 1)
  const delivery = millis("deliveryTimeout", options.deliveryTimeout, 1)
  // it gives way to a deliveryTimeout that was asked for; one that was not gives way to it
  const requestTimeout = request ??
    (delivery === undefined
      ? defaults.requestTimeout
      : Math.max(1, Math.min(defaults.requestTimeout, delivery - linger)))
  const deliveryTimeout = delivery ?? Math.max(defaults.deliveryTimeout, linger + requestTimeout)
  const closeTimeout = millis("closeTimeout", options.closeTimeout, 0) ?? defaults.closeTimeout
  const transactionTimeout = millis("transactionTimeout", options.transactionTimeout, 1) ?? defaults.transactionTimeout

  const memory = bytes("bufferMemory", options.bufferMemory)
  const largest = bytes("maxRequestSize", options.maxRequestSize)
  const batch = bytes("batchSize", options.batchSize)
  const bufferMemory = memory ?? Math.max(defaults.bufferMemory, largest ?? 0, batch ?? 0)
  const maxRequestSize = largest ?? Math.min(bufferMemory, Math.max(defaults.maxRequestSize, batch ?? 0))
  const batchSize = batch ?? Math.min(defaults.batchSize, maxRequestSize)

  if (idempotent && acks !== "all") {
    refuse("idempotent", `needs acks "all", and acks is "${acks}": leave one of the two out`)
  }
  if (deliveryTimeout < linger + requestTimeout) {
    refuse(
      "deliveryTimeout",
      `is ${deliveryTimeout} ms, and has to be at least linger + requestTimeout = ${linger + requestTimeout} ms`
    )
  }
  if (maxRequestSize > bufferMemory) {
    refuse("maxRequestSize", `is ${maxRequestSize}, and can be at most bufferMemory = ${bufferMemory}`)
  }
  if (batchSize > maxRequestSize) {
    refuse("batchSize", `is ${batchSize}, and can be at most maxRequestSize = ${maxRequestSize}`)
  }
  if (batchSize > bufferMemory) {
    refuse("batchSize", `is ${batchSize}, and can be at most bufferMemory = ${bufferMemory}`)
  }
  text("transactionalId", options.transactionalId)
  if (options.transactionalId !== undefined) {
    if (!idempotent) refuse("transactionalId", "needs an idempotent producer: leave idempotent and acks out")
  } else if (options.transactionTimeout !== undefined) {
    refuse("transactionTimeout", "has no meaning without a transactionalId")
  }

  return problems.orElse(() => ({
    clientId: options.clientId,
    acks,
    idempotent,
    compression,
    linger,
    batchSize,
    maxRequestSize,
    bufferMemory,
    onBufferFull,
    onUnknownOutcome,
    deliveryTimeout,
    requestTimeout,
    closeTimeout,
    transactionalId: options.transactionalId,
    transactionTimeout,
    transactionTimeoutGiven: options.transactionTimeout !== undefined,
    partitioner
  }))
}
