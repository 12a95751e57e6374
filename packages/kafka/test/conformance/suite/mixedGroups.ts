/** Groups whose members are Java consumers and ours, whoever of them leads. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { javaMember, type JavaMemberEvent, type JavaTarget } from "../../../../../scripts/kafka/index.ts"
import type * as Consumer from "../../../src/Consumer.ts"
import type { Test, World } from "../Kafka.ts"
import {
  eventually,
  groupName,
  makeTextTopic,
  member,
  owning,
  partitionOf,
  running,
  Seen,
  writeEach
} from "../support.ts"

interface Case {
  readonly name: string
  readonly first: "ours" | "Java's"
  readonly java: Readonly<Record<string, string>>
  readonly ours: Partial<Consumer.Options>
}

const defaults = { "heartbeat.interval.ms": "250" }
const cooperative = {
  ...defaults,
  "partition.assignment.strategy": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
}

const cases: ReadonlyArray<Case> = [
  {
    name: "cooperative-sticky",
    first: "ours",
    java: cooperative,
    ours: { rebalanceProtocol: "cooperative" }
  },
  {
    name: "cooperative-sticky",
    first: "Java's",
    java: cooperative,
    ours: { rebalanceProtocol: "cooperative" }
  },
  { name: "eager, with Java's defaults", first: "Java's", java: defaults, ours: { rebalanceProtocol: "eager" } },
  { name: "KIP-848", first: "ours", java: { "group.protocol": "consumer" }, ours: { groupProtocol: "consumer" } }
]

/** What a Java consumer holds, by what it told. */
const held = (events: ReadonlyArray<JavaMemberEvent>): ReadonlyArray<number> => {
  const now = new Set<number>()
  for (const one of events) {
    if (one.event === "record" || one.event === "committed") continue
    for (const { partition } of one.partitions) {
      if (one.event === "assigned") now.add(partition)
      else now.delete(partition)
    }
  }
  return [...now]
}

export const mixedGroups = (test: Test<World>, target: JavaTarget) =>
  describe("groups of Java consumers and ours", () => {
    for (const { first, java: properties, name, ours } of cases) {
      test(
        `${name}, ${first} first: they share partitions and hand over at commits, and each record is read once`,
        Effect.gen(function*() {
          const topic = yield* makeTextTopic(4)
          const { topic: physical } = yield* partitionOf(topic)
          const before = yield* writeEach(topic, 5)
          const groupId = yield* groupName()
          const told = new Seen<JavaMemberEvent>()

          const joinJava = Effect.acquireRelease(
            Effect.tryPromise({
              try: () =>
                javaMember(target, {
                  topics: [physical],
                  groupId,
                  properties,
                  onEvent: (event) => told.push(event)
                }),
              catch: (error) => error as Error
            }),
            (java) => Effect.promise(() => java.kill())
          )
          const javaHolds = (many: number) =>
            eventually(`Java holds ${many}`, Effect.sync(() => held(told.all)), (all) => all.length === many)
          const javaRead = () => told.all.flatMap((one) => one.event === "record" ? [one.record] : [])
          const joinOurs = Effect.gen(function*() {
            const consumer = yield* member(ours)
            const stream = yield* running(consumer.stream(topic).pipe(consumer.commitWithin(1, "10 millis")))
            return { consumer, stream }
          })

          const both = first === "ours"
            ? yield* Effect.gen(function*() {
              const ours = yield* joinOurs
              yield* ours.stream.count(before.length)
              return { ...ours, java: yield* joinJava }
            })
            : yield* Effect.gen(function*() {
              const java = yield* joinJava
              yield* eventually("all of it", Effect.sync(javaRead), (all) => all.length === before.length)
              java.commit()
              yield* told.until("its commit", (all) => all.some((one) => one.event === "committed"))
              return { java, ...(yield* joinOurs) }
            })
          const { consumer, java, stream } = both

          yield* Effect.all([owning(consumer, 2), javaHolds(2)])
          const shared = [...(yield* consumer.assignment).map(({ partition }) => partition), ...held(told.all)]
          expect(shared.sort()).toEqual([0, 1, 2, 3])

          const between = yield* writeEach(topic, 5, 5)
          const read = () => [...stream.seen.all, ...javaRead()]
          yield* eventually("both", Effect.sync(read), (all) => all.length >= before.length + between.length)
          const commits = told.all.filter((one) => one.event === "committed").length
          java.commit()
          yield* told.until(
            "its last commit",
            (all) => all.filter((one) => one.event === "committed").length > commits
          )
          yield* Effect.promise(() => java.stop())
          yield* owning(consumer, 4)
          const after = yield* writeEach(topic, 5, 10)
          const all = [...before, ...between, ...after]
          yield* eventually("the rest", Effect.sync(read), (seen) => seen.length >= all.length)
          expect(read().map(({ offset, partition }) => `${partition}:${offset}`).sort()).toEqual(all.sort())
        })
      )
    }
  })
