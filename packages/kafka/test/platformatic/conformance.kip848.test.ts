import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Consumer from "../../src/Consumer.ts"
import * as Producer from "../../src/Producer.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { testOn } from "../conformance/Kafka.ts"
import { driver } from "../conformance/platformatic.ts"
import {
  closable,
  groupName,
  makeTextTopic,
  member,
  owning,
  partitionOf,
  running,
  texts,
  values,
  write,
  writeEach
} from "../conformance/support.ts"
import * as RealKafka from "../support/RealKafka.ts"

const groupProtocol = "consumer"

RealKafka.suite("what is particular to groups of KIP-848, through Platformatic", ({ bootstrapServers }) => {
  const test = testOn(driver(bootstrapServers).cluster)

  test(
    "a member with an instance id is back with its partitions after a restart",
    Effect.gen(function*() {
      const topic = yield* makeTextTopic(4)
      const a = yield* closable(member({ groupProtocol, groupInstanceId: "a" }))
      yield* running(a.stream(topic))
      const b = yield* member({ groupProtocol, groupInstanceId: "b" })
      const other = yield* running(b.stream(topic))
      yield* Effect.all([owning(a, 2), owning(b, 2)])
      const before = yield* a.assignment
      yield* a.close
      yield* writeEach(topic, 5)
      const again = yield* member({ groupProtocol, groupInstanceId: "a" })
      const stream = yield* running(again.stream(topic))
      yield* Effect.all([stream.count(10), other.count(10)])
      expect(yield* again.assignment).toEqual(before)
    })
  )

  test(
    "an instance id that somebody holds is refused to others, who are told, and left to its holder",
    Effect.gen(function*() {
      const topic = yield* makeTextTopic(1)
      const a = yield* member({ groupProtocol, groupInstanceId: "only" })
      const stream = yield* running(a.stream(topic))
      yield* owning(a, 1)
      const b = yield* member({ groupProtocol, groupInstanceId: "only" })
      const exit = yield* Fiber.await((yield* running(b.stream(topic))).fiber)
      expect(exit).toMatchObject({ cause: { error: { _tag: "ConsumerError", reason: "fenced" } } })
      yield* write(topic, texts(3))
      expect(values(yield* stream.count(3))).toEqual(texts(3))
    })
  )

  test(
    "offsets are committed within a transaction",
    Effect.gen(function*() {
      const topic = yield* makeTextTopic(1)
      const serdes = { key: Serde.nullable(Serde.string), value: Serde.string }
      const copy = Topic.make("copies", { ...serdes, partitions: 1 })
      yield* TopicRegistry.ensure([copy])
      yield* write(topic, texts(10))
      const consumer = yield* member({ groupProtocol })
      const producer = yield* Producer.make({ transactionalId: yield* groupName("transform") })
      yield* Effect.forkScoped(
        Consumer.transform(topic, ({ key, value }) => Effect.succeed({ key, value }), copy).pipe(
          Effect.provideService(Consumer.Consumer, consumer),
          Effect.provideService(Producer.Producer, producer)
        )
      )
      const reader = yield* member({ groupId: "reader" })
      expect(values(yield* (yield* running(reader.stream(copy))).count(10))).toEqual(texts(10))
      const tp = yield* partitionOf(topic)
      expect(yield* consumer.committed([tp])).toEqual(new Map([[TopicPartition.key(tp), 10n]]))
    })
  )
})
