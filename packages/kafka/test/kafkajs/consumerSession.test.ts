import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { consumer } from "../sessions/consumer.ts"
import { consumerFaults } from "../sessions/consumerFaults.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { groupName, join, kafkajs, open } from "./consumerSupport.ts"
import { makeTopic, plain } from "./support.ts"

consumer(kafkajs)

consumerFaults(kafkajs)

RealKafka.suite("kafkajs's own ways in a consumer session", ({ bootstrapServers: brokers }) => {
  it.scopedLive("what kafkajs can not do is refused when it is asked for", () =>
    Effect.gen(function*() {
      expect(yield* Effect.flip(open(brokers, groupName(), { options: { groupInstanceId: "one" } })))
        .toMatchObject({ _tag: "UnsupportedFeatureError", feature: "static membership" })
      expect(yield* Effect.flip(open(brokers, groupName(), { options: { assignment: "cooperative" } })))
        .toMatchObject({ _tag: "UnsupportedFeatureError", feature: "cooperative rebalancing" })
    }))

  it.scopedLive("a plain kafkajs consumer may be a member of the same group", () =>
    Effect.gen(function*() {
      const topic = yield* makeTopic(brokers, { partitions: 4 })
      const group = groupName()
      const reader = yield* join(brokers, group, [topic])
      yield* reader.holding("0 1 2 3")
      const theirs = yield* Deferred.make<ReadonlyArray<number>>()
      yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const consumer = plain(brokers).consumer({ groupId: group, heartbeatInterval: 500, maxWaitTimeInMs: 100 })
          consumer.on(consumer.events.GROUP_JOIN, ({ payload }) =>
            Effect.runFork(Deferred.succeed(theirs, payload.memberAssignment[topic] ?? [])))
          await consumer.connect()
          await consumer.subscribe({ topics: [topic] })
          void consumer.run({
            eachBatch: () =>
              Promise.resolve()
          })
          return consumer
        }),
        (consumer) => Effect.promise(() => consumer.disconnect())
      )
      const others = yield* Deferred.await(theirs)
      const rest = [0, 1, 2, 3].filter((partition) => !others.includes(partition))
      expect(others.length).toBe(2)
      yield* reader.holding(rest.join(" "))
    }))
})
