/** What not every driver can do, and what only a cluster of one's own can be made to do. */
import { describe, expect } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import { InMemoryBroker } from "../../../src/InMemoryKafka.ts"
import { KafkaClient } from "../../../src/KafkaClient.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { Suite } from "../Kafka.ts"
import {
  closable,
  event,
  eventsOf,
  makeTextTopic,
  member,
  owning,
  running,
  texts,
  textTopic,
  values,
  write,
  writeEach
} from "../support.ts"

export const features = (kafka: Suite) =>
  describe("features", () => {
    kafka.test(
      "what the driver can't do is refused when it is asked for, and what it can is not",
      Effect.gen(function*() {
        const { capabilities } = yield* KafkaClient
        const outcome = (options: Parameters<typeof member>[0]) =>
          Effect.map(Effect.either(Effect.scoped(member(options))), (result) => result._tag === "Right")
        expect(yield* outcome({ groupInstanceId: "bar-1" })).toBe(capabilities.staticMembership)
        expect(yield* outcome({ rebalanceProtocol: "cooperative" })).toBe(capabilities.cooperative)
        expect(yield* outcome({ rebalanceProtocol: "eager" })).toBe(true)
        expect(yield* outcome({ groupProtocol: "consumer" })).toBe(capabilities.consumerProtocol)
        expect(yield* outcome({ groupProtocol: "consumer", rebalanceProtocol: "eager" })).toBe(false)
      })
    )

    kafka.exceptOn(
      "KafkaJs",
      "a member with an instance id is back with its partitions after a restart, and nobody else notices",
      "it has no instance ids",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(4)
        const a = yield* closable(member({ groupInstanceId: "a" }))
        yield* running(a.stream(topic))
        const b = yield* member({ groupInstanceId: "b" })
        const other = yield* running(b.stream(topic))
        yield* Effect.all([owning(a, 2), owning(b, 2)])
        const [before, rebalances] = [yield* a.assignment, eventsOf(b, "Rebalancing").length]
        yield* a.close
        yield* writeEach(topic, 5)
        const again = yield* member({ groupInstanceId: "a" })
        const stream = yield* running(again.stream(topic))
        yield* Effect.all([stream.count(10), other.count(10)])
        expect(yield* again.assignment).toEqual(before)
        expect(eventsOf(b, "Rebalancing").length).toBe(rebalances)
      })
    )

    kafka.exceptOn(
      "KafkaJs",
      "an instance id that somebody else takes over: the former holder's streams fail as fenced",
      "it has no instance ids",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1)
        const a = yield* member({ groupInstanceId: "only" })
        const stream = yield* running(a.stream(topic))
        yield* owning(a, 1)
        const b = yield* member({ groupInstanceId: "only" })
        yield* running(b.stream(topic))
        const exit = yield* Fiber.await(stream.fiber)
        expect(exit).toMatchObject({ cause: { error: { _tag: "ConsumerError", reason: "fenced" } } })
        yield* owning(b, 1)
      })
    )

    kafka.onlyInMemory(
      "partitions that are added are read, and so are new topics that match a pattern",
      "on kafkajs they are noticed within half a minute, which is longer than a test",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1)
        const consumer = yield* member()
        const stream = yield* running(consumer.stream(topic))
        yield* owning(consumer, 1)
        yield* Admin.createPartitions(topic, 3)
        yield* owning(consumer, 3)
        yield* write(topic, texts(3), 2)
        expect(values(yield* stream.count(3))).toEqual(texts(3))

        const prefix = (yield* TopicRegistry.TopicRegistry).prefix!
        const matching = Topic.pattern(new RegExp(`^${prefix}\\.new`), {
          key: Serde.nullable(Serde.string),
          value: Serde.string
        })
        const other = yield* member({ groupId: "pattern" })
        const found = yield* running(other.stream(matching))
        yield* event(other, "Assigned")
        const fresh = textTopic("new-one")
        yield* TopicRegistry.ensure([fresh])
        yield* write(fresh, texts(3))
        expect(values(yield* found.count(3))).toEqual(texts(3))
      })
    )

    kafka.onlyInMemory(
      "a topic that it may not read any more fails its own stream, and no other of the consumer",
      "the shared broker has no permissions to take away",
      Effect.gen(function*() {
        const [one, two] = [textTopic("one"), textTopic("two")]
        yield* TopicRegistry.ensure([one, two])
        yield* write(one, texts(1))
        yield* write(two, texts(1))
        const consumer = yield* member()
        const [first, second] = [yield* running(consumer.stream(one)), yield* running(consumer.stream(two))]
        yield* Effect.all([first.count(1), second.count(1)])
        const name = yield* TopicRegistry.resolve(one)
        yield* (yield* InMemoryBroker).deny("topic", name)
        const exit = yield* Fiber.await(first.fiber)
        expect(Exit.isFailure(exit) && Cause.failureOption(exit.cause)).toMatchObject({
          value: { _tag: "KafkaAuthorizationError", resource: "topic", resourceName: name }
        })
        yield* write(two, texts(2, 1))
        expect(values(yield* second.count(3))).toEqual(texts(3))
        expect(yield* Effect.flip(Stream.runDrain(consumer.stream(one)))).toMatchObject({
          _tag: "KafkaAuthorizationError"
        })
      })
    )

    kafka.test(
      "a topic that is deleted fails its own stream, and no other of the consumer",
      Effect.gen(function*() {
        const [one, two] = [textTopic("one"), textTopic("two")]
        yield* TopicRegistry.ensure([one, two])
        yield* write(one, texts(1))
        yield* write(two, texts(1))
        const consumer = yield* member()
        const [first, second] = [yield* running(consumer.stream(one)), yield* running(consumer.stream(two))]
        yield* Effect.all([first.count(1), second.count(1)])
        yield* Admin.deleteTopics([one])
        const exit = yield* Fiber.await(first.fiber)
        expect(exit).toMatchObject({
          cause: { error: { _tag: "UnknownTopicError", topic: yield* TopicRegistry.resolve(one) } }
        })
        yield* write(two, texts(2, 1))
        expect(values(yield* second.count(3))).toEqual(texts(3))
      })
    )
  })
