import type * as Producer from "@coffeebuddy/kafka/Producer"
import { assert, describe, it } from "@effect/vitest"
import type * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import { check, type Settings } from "../../src/engine/producer/settings.ts"

const problems = (options: Producer.Options): ReadonlyArray<readonly [path: string, message: string]> => {
  const flat = (error: ConfigError.ConfigError): ReadonlyArray<readonly [string, string]> =>
    error._op === "And"
      ? [...flat(error.left), ...flat(error.right)]
      : error._op === "InvalidData"
      ? [[error.path.join("."), error.message]]
      : []
  return Either.match(check(options), { onLeft: flat, onRight: () => [] })
}
const names = (options: Producer.Options) => problems(options).map(([path]) => path)
const settings = (options: Producer.Options): Settings => Either.getOrThrow(check(options))

describe("options", () => {
  it("are safe where none are given", () => {
    const { partitioner, ...rest } = settings({})
    assert.isFunction(partitioner)
    assert.deepStrictEqual(rest, {
      clientId: undefined,
      acks: "all",
      idempotent: true,
      compression: "none",
      linger: 0,
      batchSize: 1_000_000,
      maxRequestSize: 1_048_576,
      bufferMemory: 33_554_432,
      onBufferFull: "wait",
      onUnknownOutcome: "fail",
      deliveryTimeout: 120_000,
      requestTimeout: 30_000,
      closeTimeout: 10_000,
      transactionalId: undefined,
      transactionTimeout: 20_000,
      transactionTimeoutGiven: false
    })
  })

  it("that were not given give way to those that were", () => {
    assert.isFalse(settings({ acks: "leader" }).idempotent)
    assert.strictEqual(settings({ deliveryTimeout: "5 seconds" }).requestTimeout, 5000)
    assert.strictEqual(settings({ deliveryTimeout: "5 seconds", linger: "1 second" }).requestTimeout, 4000)
    assert.strictEqual(settings({ requestTimeout: "5 minutes" }).deliveryTimeout, 300_000)
    const { batchSize, bufferMemory, maxRequestSize } = settings({ bufferMemory: 1000 })
    assert.deepStrictEqual([batchSize, maxRequestSize, bufferMemory], [1000, 1000, 1000])
    const large = settings({ maxRequestSize: 50_000_000 })
    assert.deepStrictEqual([large.batchSize, large.bufferMemory], [1_000_000, 50_000_000])
    assert.strictEqual(settings({ batchSize: 5_000_000 }).maxRequestSize, 5_000_000)
  })

  it("that are nothing of the kind are refused, also where no compiler has looked", () => {
    const options = JSON.parse(`{ "clientId": "", "idempotent": "yes", "partitioner": "java" }`) as Producer.Options
    assert.deepStrictEqual(names(options).toSorted(), ["clientId", "idempotent", "partitioner"])
    assert.deepStrictEqual(names({ linger: NaN, deliveryTimeout: -1 }).toSorted(), ["deliveryTimeout", "linger"])
    const numbers = JSON.parse(`{ "clientId": 7, "transactionalId": 5 }`) as Producer.Options
    assert.deepStrictEqual(problems(numbers), [
      ["clientId", "has to be text, and is 7"],
      ["transactionalId", "has to be text, and is 5"]
    ])
    assert.deepStrictEqual(names({ linger: "-5 seconds", closeTimeout: -5n }).toSorted(), ["closeTimeout", "linger"])
  })

  it("that contradict each other are refused", () => {
    assert.deepStrictEqual(names({ idempotent: true, acks: "leader" }), ["idempotent"])
    assert.deepStrictEqual(names({ deliveryTimeout: 1000, requestTimeout: 900, linger: 101 }), ["deliveryTimeout"])
    assert.deepStrictEqual(names({ deliveryTimeout: 1000, linger: 2000 }), ["deliveryTimeout"])
    assert.deepStrictEqual(names({ batchSize: 2000, maxRequestSize: 2000, bufferMemory: 1000 }), [
      "maxRequestSize",
      "batchSize"
    ])
    assert.deepStrictEqual(names({ batchSize: 2000, maxRequestSize: 1000 }), ["batchSize"])
    assert.deepStrictEqual(names({ transactionalId: "a", idempotent: false }), ["transactionalId"])
    assert.deepStrictEqual(names({ transactionalId: "a", acks: "none" }), ["transactionalId"])
    assert.deepStrictEqual(names({ transactionTimeout: "1 second" }), ["transactionTimeout"])
  })

  it("that are no values are refused, with what is allowed", () => {
    // what a caller without types might do
    const options: Producer.Options = JSON.parse(`{
      "acks": "some", "compression": "zip", "onBufferFull": "drop", "linger": -5, "batchSize": 1.5, "bufferMemory": 0,
      "requestTimeout": "soon", "transactionalId": ""
    }`)
    assert.deepStrictEqual(problems(options).slice(0, 2), [
      ["acks", `has to be one of "all", "leader", "none", and is "some"`],
      ["compression", `has to be one of "none", "gzip", "snappy", "lz4", "zstd", and is "zip"`]
    ])
    assert.deepStrictEqual([...names(options)].sort(), [
      "acks",
      "batchSize",
      "bufferMemory",
      "compression",
      "linger",
      "onBufferFull",
      "requestTimeout",
      "transactionalId"
    ])
    assert.deepStrictEqual(names({ deliveryTimeout: Duration.infinity }), ["deliveryTimeout"])
  })
})
