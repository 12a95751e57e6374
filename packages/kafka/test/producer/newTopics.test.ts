import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as Session from "../../src/drivers/producer/session.ts"
import type { Leaders, LookupError, Transport } from "../../src/drivers/producer/transport.ts"
import { UnknownTopicError } from "../../src/KafkaError.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"

const topic = "t"

/** A cluster whose brokers hear of the topic one after the other, so that the first `late` of them that are asked don't know it. */
const cluster = (late: number): { readonly asked: () => number; readonly transport: Transport } => {
  let asked = 0
  const unused = (): Promise<never> => Promise.reject(new Error("nothing is sent"))
  return {
    asked: () => asked,
    transport: {
      meaning: () => ({ _tag: "Timeout" }),
      protocolCode: () => undefined,
      attempt: (operation, about) => ({
        ...about,
        operation,
        brokers: [],
        mechanism: "none",
        millis: 1000,
        secrets: []
      }),
      leaders: () =>
        Effect.sync(() =>
          new Map<string, Leaders | LookupError>([[
            topic,
            asked++ < late ? new UnknownTopicError({ operation: "produce", topic }) : new Map([[0, 1], [1, 1]])
          ]])
        ),
      produce: unused,
      initProducerId: unused,
      addPartitions: unused,
      addOffsets: unused,
      commitOffsets: unused,
      endTransaction: unused
    }
  }
}

const open = (transport: Transport) =>
  Session.make(transport, KafkaJs.capabilities, 1, {
    acks: "all",
    idempotent: false,
    compression: "none",
    transactionTimeout: 60_000,
    requestTimeout: 1000,
    deliveryTimeout: 10_000
  })
const partitions = (transport: Transport) => Effect.flatMap(open(transport), (session) => session.partitionCount(topic))

it.scoped("a topic that was made just now, and that not all brokers have heard of, is found", () =>
  Effect.gen(function*() {
    const { transport } = cluster(3)
    const counting = yield* Effect.fork(partitions(transport))
    yield* TestClock.adjust("1 second")
    expect(yield* Fiber.join(counting)).toBe(2)
  }))

it.scoped("one that nobody makes is told as unknown, after a moment", () =>
  Effect.gen(function*() {
    const { asked, transport } = cluster(Infinity)
    const counting = yield* Effect.fork(Effect.flip(partitions(transport)))
    yield* TestClock.adjust("2 seconds")
    expect(yield* Fiber.join(counting)).toMatchObject({ _tag: "UnknownTopicError", topic })
    expect(asked()).toBeGreaterThan(1)
  }))

it.scoped("a partition that was added is counted at once, however lately the topic was looked up", () =>
  Effect.gen(function*() {
    let count = 1
    const growing: Transport = {
      ...cluster(0).transport,
      leaders: () => Effect.sync(() => new Map([[topic, new Map(Array.from({ length: count }, (_, i) => [i, 1]))]]))
    }
    const session = yield* open(growing)
    expect(yield* session.partitionCount(topic)).toBe(1)
    count = 2
    expect(yield* session.partitionCount(topic)).toBe(2)
  }))
