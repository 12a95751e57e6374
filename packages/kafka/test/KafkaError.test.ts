import * as KafkaError from "@coffeebuddy/kafka/KafkaError"
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import { Arbitrary, Cause, Effect, FastCheck, Logger, Schema } from "effect"
import { inspect } from "node:util"

/** One of each, with everything set. */
const cause = new Error("the driver said so")
const partitions = [{ topic: "orders", partition: 1 }, { topic: "orders", partition: 2 }]
const examples: ReadonlyArray<readonly [error: KafkaError.KafkaError, message: string]> = [
  [
    new KafkaError.KafkaConnectionError({ operation: "connect", brokers: ["a:1", "b:2"], reason: "refused", cause }),
    "connect: no connection to Kafka at a:1, b:2: refused"
  ],
  [
    new KafkaError.KafkaAuthenticationError({
      operation: "connect",
      mechanism: "plain",
      reason: "wrong password",
      cause
    }),
    "connect: authentication by plain failed: wrong password"
  ],
  [
    new KafkaError.KafkaAuthorizationError({ operation: "produce", resource: "topic", resourceName: "orders", cause }),
    `produce: not authorized on topic "orders": grant the principal an ACL for it`
  ],
  [new KafkaError.KafkaTimeoutError({ operation: "commit", millis: 500, cause }), "commit: no answer within 500 ms"],
  [
    new KafkaError.KafkaRequestError({
      operation: "create topics",
      code: "INVALID_CONFIG",
      retriable: false,
      reason: "no such entry",
      cause
    }),
    "create topics: the broker answered INVALID_CONFIG: no such entry"
  ],
  [
    new KafkaError.UnsupportedFeatureError({
      driver: "kafkajs",
      feature: "static membership",
      reason: "not reachable"
    }),
    "the kafkajs driver has no static membership: not reachable"
  ],
  [
    new KafkaError.UnknownTopicError({ operation: "subscribe", topic: "orders", cause }),
    `subscribe: topic "orders" does not exist: create it, or let TopicRegistry.ensure create it`
  ],
  [
    new KafkaError.UnknownTopicError({ operation: "produce", topic: "orders", partition: 9, cause }),
    `produce: topic "orders" has no partition 9`
  ],
  [
    new KafkaError.ProducerError({
      topic: "orders",
      partition: 1,
      reason: "refused",
      code: "NOT_ENOUGH_REPLICAS",
      retriable: true,
      records: [0, 2],
      description: "too few replicas in sync",
      cause
    }),
    "produce to orders[1]: refused: too few replicas in sync"
  ],
  [
    new KafkaError.ProducerError({ topic: "orders", reason: "closed", retriable: false, description: "it was closed" }),
    "produce to orders: closed: it was closed"
  ],
  [
    new KafkaError.ProducerFencedError({ transactionalId: "billing", cause }),
    `transactional id "billing" was taken over by a newer producer`
  ],
  [
    new KafkaError.HandlerTimeoutError({ topic: "orders", partition: 1, offset: 7n, attempt: 3, millis: 500 }),
    "orders[1]@7: the handler did not end within 500 ms (attempt 3)"
  ],
  [
    new KafkaError.HandlerDefectError({
      topic: "orders",
      partition: 1,
      offset: 7n,
      attempt: 1,
      reason: "spilt",
      cause
    }),
    "orders[1]@7: the handler died (attempt 1): spilt"
  ],
  [
    new KafkaError.ForwardError({
      purpose: "dead-letter",
      target: "orders.dlt",
      topic: "orders",
      partition: 1,
      offset: 7n,
      reason: "refused",
      cause
    }),
    `orders[1]@7: not sent to the dead-letter topic "orders.dlt": refused`
  ],
  [
    new KafkaError.MalformedDeadLetterError({ topic: "orders.dlt", partition: 1, offset: 7n }),
    "orders.dlt[1]@7: it has no headers that say where it came from"
  ],
  [
    new KafkaError.TransactionError({ reason: "nested" }),
    "a transaction inside a transaction of the same producer: Kafka has no such thing"
  ],
  [
    new KafkaError.TransactionError({ reason: "not-transactional" }),
    "the producer has no transactionalId: give it one in its options"
  ],
  [
    new KafkaError.BufferFullError({ topic: "orders", bufferedBytes: 10, limitBytes: 8 }),
    "produce to orders: 10 of 8 bytes are buffered already"
  ],
  [
    new KafkaError.CommitError({ reason: "refused", partitions, code: "OFFSET_METADATA_TOO_LARGE", cause }),
    "commit of orders[1], orders[2]: refused (OFFSET_METADATA_TOO_LARGE)"
  ],
  [
    new KafkaError.CommitError({ reason: "stale", partitions, description: "the partition has moved on" }),
    "commit of orders[1], orders[2]: stale: the partition has moved on"
  ],
  [
    new KafkaError.ConsumerError({ reason: "unavailable", groupId: "projector", description: "nothing heard", cause }),
    `consumer of group "projector": unavailable: nothing heard`
  ],
  [
    new KafkaError.OffsetOutOfRangeError({ topic: "orders", partition: 1, offset: 2n ** 60n, cause }),
    `orders[1]: offset 1152921504606846976 is not in the log, and autoOffsetReset is "fail"`
  ],
  [
    new KafkaError.OffsetOutOfRangeError({ topic: "orders", partition: 1 }),
    `orders[1]: the group has no committed offset, and autoOffsetReset is "fail"`
  ],
  [
    new KafkaError.SerializationError({ topic: "orders", part: "key", reason: "1.5 is no integer", cause }),
    "orders: the key can not be serialized: 1.5 is no integer"
  ],
  [
    new KafkaError.DeserializationError({
      topic: "orders",
      partition: 1,
      offset: 42n,
      part: "value",
      bytes: Buffer.from("the payload"),
      headers: [["trace", Buffer.from("in a header")], ["none", null]],
      reason: "no JSON",
      cause
    }),
    "orders[1]@42: the value can not be deserialized: no JSON"
  ],
  [
    new KafkaError.TopicMismatchError({
      differences: [
        { topic: "orders", setting: "partitions", expected: "6", actual: "3" },
        { topic: "runs", setting: "cleanup.policy", expected: "compact", actual: "delete" }
      ]
    }),
    "topics differ from their definitions:\n  orders: partitions is 3, defined as 6\n"
    + "  runs: cleanup.policy is delete, defined as compact"
  ],
  [
    new KafkaError.GroupActiveError({ operation: "reset offsets", groupId: "projector", state: "Stable", members: 1 }),
    `reset offsets: group "projector" is Stable with 1 member: stop its consumers first`
  ],
  [
    new KafkaError.GroupActiveError({ operation: "reset offsets", groupId: "projector", state: "active", cause }),
    `reset offsets: group "projector" is active with members: stop its consumers first`
  ]
]

describe("each error", () => {
  it.each(examples.map(([error, message]) => [error._tag, error, message] as const))(
    "%s says what was attempted and what to do",
    (tag, error, message) => {
      expect(error.message).toBe(message)
      expect(String(error)).toBe(`${tag}: ${message}`)
      expect(Cause.pretty(Cause.fail(error))).toContain(message.split("\n")[0])
    }
  )

  it.each(examples.filter(([error]) => error.cause !== undefined).map(([error]) => [error._tag, error] as const))(
    "%s carries the driver's own error",
    (_, error) => {
      expect(error.cause).toBe(cause)
      expect(inspect(error)).toContain("the driver said so")
    }
  )

  it.each(examples.map(([error]) => [error._tag, error] as const))("%s is told by the guard", (_, error) => {
    expect(KafkaError.isKafkaError(error)).toBe(true)
  })

  it("no other is, not even of the same name", () => {
    class ProducerError extends Error {
      readonly _tag = "ProducerError"
    }
    for (
      const other of [new ProducerError(), new Error("no"), { _tag: "CommitError" }, null, undefined, "ConsumerError"]
    ) {
      expect(KafkaError.isKafkaError(other)).toBe(false)
    }
  })

  it.effect("fails an Effect as it is, and is caught by its tag", () =>
    Effect.gen(function*() {
      const millis = yield* new KafkaError.KafkaTimeoutError({ operation: "poll", millis: 7 }).pipe(
        Effect.catchTag("KafkaTimeoutError", (error) => Effect.succeed(error.millis))
      )
      expect(millis).toBe(7)
    }))
})

describe("what a log shows", () => {
  it.each(examples.map(([error]) => [error._tag, error] as const))("%s has a JSON form", (tag, error) => {
    const shown = JSON.parse(JSON.stringify(error))
    expect(shown).toMatchObject({ _tag: tag, message: error.message })
    expect(shown.cause).toBe(error.cause === undefined ? undefined : "Error: the driver said so")
  })

  it("a payload is shown by its size alone, offsets are exact", () => {
    const error = new KafkaError.DeserializationError({
      topic: "orders",
      partition: 1,
      offset: 9007199254740993n,
      part: "value",
      bytes: Buffer.from("the payload"),
      headers: [["trace", Buffer.from("abc")], ["none", null]],
      reason: "no JSON"
    })
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      _tag: "DeserializationError",
      message: "orders[1]@9007199254740993: the value can not be deserialized: no JSON",
      topic: "orders",
      partition: 1,
      offset: "9007199254740993",
      part: "value",
      bytes: "11 bytes",
      headers: [["trace", "3 bytes"], ["none", null]],
      reason: "no JSON"
    })
  })

  it.effect("every logger of Effect's can print every one of them", () =>
    Effect.gen(function*() {
      const lines: Array<unknown> = []
      for (const logger of [Logger.jsonLogger, Logger.stringLogger, Logger.logfmtLogger, Logger.structuredLogger]) {
        const keep = Logger.map(logger as Logger.Logger<unknown, unknown>, (line) => void lines.push(line))
        for (const [error] of examples) {
          yield* Effect.log(error).pipe(
            Effect.annotateLogs("error", error),
            Effect.provide(Logger.replace(Logger.defaultLogger, keep))
          )
        }
      }
      expect(lines).toHaveLength(4 * examples.length)
    }))
})

describe("schemas", () => {
  const encode = Schema.encodeSync(KafkaError.KafkaError)
  const decode = Schema.decodeUnknownSync(KafkaError.KafkaError)

  // JSON has no number that is not finite; a cause keeps its name and message, and is looked at below
  const isPlain = (value: unknown): boolean =>
    typeof value === "number" ? Number.isFinite(value) : typeof value === "object" && value !== null
      ? !("cause" in value) && Object.values(value).every(isPlain)
      : true
  const anyError = Arbitrary.make(KafkaError.KafkaError).filter((error) => isPlain(encode(error)))

  it.prop("any error comes through JSON unchanged", [anyError], ([error]) => {
    const text = JSON.stringify(encode(error))
    const back = decode(JSON.parse(text))
    expect(back).toBeInstanceOf(error.constructor)
    expect(back.message).toBe(error.message)
    expect(JSON.stringify(encode(back))).toBe(text)
    expect(KafkaError.isKafkaError(back)).toBe(true)
  }, { fastCheck: { numRuns: 200 } })

  it.prop("and any has a JSON form without its payload", [
    FastCheck.uint8Array({ minLength: 8 }),
    FastCheck.bigInt({ min: 0n, max: 2n ** 63n })
  ], ([bytes, offset]) => {
    const error = new KafkaError.DeserializationError({
      topic: "t",
      partition: 0,
      offset,
      part: "value",
      bytes,
      headers: [["h", bytes]],
      reason: "r"
    })
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({ bytes: `${bytes.length} bytes`, offset: String(offset) })
  })

  it("a cause comes through with its name and message", () => {
    const error = new KafkaError.KafkaTimeoutError({ operation: "poll", millis: 1, cause: new RangeError("too far") })
    const back = decode(JSON.parse(JSON.stringify(encode(error))))
    expect(String(back.cause)).toBe("RangeError: too far")
  })

  it("ClientError is part of KafkaError", () => {
    expectTypeOf<KafkaError.ClientError>().toExtend<KafkaError.KafkaError>()
  })
})
