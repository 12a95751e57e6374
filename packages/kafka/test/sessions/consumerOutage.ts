/** What a consumer session of any driver does when brokers come and go. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { admin, type ConsumerDriver, groupName, readers, values, write } from "../kafkajs/consumerSupport.ts"
import { makeTopic } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"

const own = (id: string, brokers: number) => {
  class Own extends Context.Tag(id)<Own, RealKafka.OwnKafka>() {
    static readonly layer = Layer.scoped(Own, RealKafka.start({ brokers }))
  }
  return Own
}

/** As the engine does it. */
const again = <A, E extends { readonly retriable: boolean }>(commit: Effect.Effect<A, E>) =>
  Effect.retry(commit, { while: ({ retriable }) => retriable, schedule: Schedule.spaced(100) })

/** A program of its own that joined; it is to end by itself after its input has. */
const program = (driver: ConsumerDriver, brokers: string, group: string, topic: string) =>
  Effect.gen(function*() {
    const file = fileURLToPath(new URL("../fixtures/consumerProcess.ts", import.meta.url))
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [
          "--conditions=@coffeebuddy/source",
          "--import",
          "tsx",
          file,
          driver.name,
          brokers,
          group,
          topic
        ], {
          stdio: ["pipe", "pipe", "inherit"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    let output = ""
    const said = (word: string) =>
      Effect.async<void>((resume) => {
        const look = (): void => {
          if (output.includes(word)) resume(Effect.void)
        }
        child.stdout.on("data", look)
        look()
      })
    child.stdout.on("data", (data: Buffer) => {
      output += data.toString()
    })
    const exit = yield* Effect.forkScoped(Effect.async<number | null>((resume) => {
      child.once("exit", (code) => resume(Effect.succeed(code)))
    }))
    yield* said("joined")
    return {
      end: Effect.zipRight(Effect.sync(() => child.stdin.end()), Fiber.join(exit)),
      output: () => output
    }
  })

export const oneBroker = (driver: ConsumerDriver): void => {
  const { join } = readers(driver)

  RealKafka.suiteOfOwn(`a consumer session through ${driver.name}, and a broker that comes and goes`, () => {
    const Own = own("OneBroker", 1)
    layer(Own.layer, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
      // a broker takes its time to start: what is to be seen of one outage is seen in one test

      it.scoped(
        "a broker that is killed and comes back takes nothing away, and nothing is delivered twice; " +
          "a commit that it did not hear may be tried again",
        () =>
          Effect.gen(function*() {
            const kafka = yield* Own
            const { kill, start } = kafka.broker(1)
            const topic = yield* makeTopic(kafka.bootstrapServers, { partitions: 2 })
            yield* write(kafka.bootstrapServers, topic, ["before"])
            const reader = yield* join(kafka.bootstrapServers, groupName(), [topic])
            yield* reader.holding("0 1")
            expect(values(yield* reader.read(1))).toEqual(["before"])
            const reading = yield* Effect.fork(reader.read(1))
            yield* kill
            expect((yield* Effect.flip(reader.commit({ 0: 1 }))).retriable).toBe(true)
            yield* start
            yield* write(kafka.bootstrapServers, topic, ["after"], 1)
            expect(values(yield* Fiber.join(reading))).toEqual(["after"])
            yield* again(reader.commit({ 0: 1, 1: 1 }))
            expect((yield* reader.session.committed([{ topic, partition: 0 }])).get(`${topic}:0`)?.offset).toBe(1n)
            expect(reader.history).toEqual(["Assigned 0 1"])
          })
      )

      it.scoped("a program whose session was closed ends by itself, and has left its group", () =>
        Effect.gen(function*() {
          const { bootstrapServers } = yield* Own
          const [topic, group] = [yield* makeTopic(bootstrapServers), groupName()]
          const reading = yield* program(driver, bootstrapServers, group, topic)
          expect(yield* reading.end).toBe(0)
          expect(reading.output()).toContain("closed")
          const { groups } = yield* admin(bootstrapServers, (admin) => admin.describeGroups([group]))
          expect(groups[0]?.members).toEqual([])
        }))

      for (const [how, begin, end] of [["is gone", "kill", "start"], ["does not answer", "pause", "resume"]] as const) {
        it.scoped(`a cluster that ${how} fails the session, which says so; a program that closes one then ends by itself`, () =>
          Effect.gen(function*() {
            const kafka = yield* Own
            const broker = kafka.broker(1)
            const topic = yield* makeTopic(kafka.bootstrapServers)
            const reader = yield* join(kafka.bootstrapServers, groupName(), [topic], {
              options: { unavailableAfter: 2000 }
            })
            const other = yield* program(driver, kafka.bootstrapServers, groupName(), topic)
            yield* reader.holding("0")
            yield* broker[begin]
            const ending = yield* Effect.fork(other.end)
            expect(yield* Effect.flip(Effect.forever(reader.poll))).toMatchObject({
              _tag: "ConsumerError",
              reason: "unavailable"
            })
            const refused = yield* Effect.flip(reader.commit({ 0: 1 }))
            expect(refused.error).toMatchObject({ _tag: "CommitError", reason: "closed" })
            expect(yield* Fiber.join(ending)).toBe(0)
            expect(other.output()).toContain("closed")
            yield* broker[end]
          }))
      }
    })
  })
}

export const threeBrokers = (driver: ConsumerDriver): void => {
  const { join } = readers(driver)

  RealKafka.suiteOfOwn(`a consumer session through ${driver.name}, and three brokers`, () => {
    const Own = own("ThreeBrokers", 3)
    layer(Own.layer, { excludeTestServices: true, timeout: "90 seconds" })((it) => {
      it.scoped("new partitions on several brokers are one rebalance", () =>
        Effect.gen(function*() {
          const { bootstrapServers: brokers } = yield* Own
          const topic = yield* makeTopic(brokers, { leaders: [1, 2, 3] })
          const reader = yield* join(brokers, groupName(), [topic], { metadataInterval: 100 })
          yield* reader.holding("0 1 2")
          yield* admin(brokers, (admin) => admin.createPartitions({ topicPartitions: [{ topic, count: 6 }] }))
          yield* reader.holding("0 1 2 3 4 5")
          for (const partition of [0, 1, 2, 3, 4, 5]) yield* write(brokers, topic, ["new"], partition)
          yield* reader.read(6)
          expect(reader.history).toEqual(["Assigned 0 1 2", "Revoked 0 1 2", "Assigned 0 1 2 3 4 5"])
        }), 60_000)

      it.scoped(
        "a partition without a leader keeps nobody from the others, and is read when it has one",
        () =>
          Effect.gen(function*() {
            const kafka = yield* Own
            const brokers = kafka.bootstrapServers
            const topic = yield* makeTopic(brokers, { leaders: [1, 2] })
            yield* write(brokers, topic, ["of 1"], 0)
            yield* write(brokers, topic, ["of 2"], 1)
            yield* kafka.broker(2).stop
            const reader = yield* join(brokers, groupName(), [topic], { from: () => 0n })
            yield* reader.holding("0 1")
            expect(values(yield* reader.read(1))).toEqual(["of 1"])
            const reading = yield* Effect.fork(reader.read(1))
            yield* kafka.broker(2).start
            expect(values(yield* Fiber.join(reading))).toEqual(["of 2"])
            expect(reader.history).toEqual(["Assigned 0 1"])
          }),
        60_000
      )

      it.scoped(
        "leaders and coordinators that move take nothing away, and nothing is delivered twice",
        () =>
          Effect.gen(function*() {
            const kafka = yield* Own
            const brokers = kafka.bootstrapServers
            const topic = `three-${groupName()}`
            yield* admin(brokers, (admin) =>
              admin.createTopics({
                waitForLeaders: true,
                topics: [{ topic, numPartitions: 3, replicationFactor: 3 }]
              }))
            const reader = yield* join(brokers, groupName(), [topic])
            yield* reader.holding("0 1 2")
            for (const round of [1, 2, 3]) {
              const reading = yield* Effect.fork(reader.read(3))
              // each of them leads something, and one of them coordinates the group
              yield* kafka.broker(round).stop
              for (const partition of [0, 1, 2]) yield* write(brokers, topic, [`round ${round}`], partition)
              expect((yield* Fiber.join(reading)).map(({ at }) => at).sort()).toEqual(
                [0, 1, 2].map((partition) => `${partition}@${round - 1}`)
              )
              yield* Effect.retry(reader.commit({ 0: round, 1: round, 2: round }), {
                while: ({ retriable }) => retriable
              })
              yield* kafka.broker(round).start
            }
            expect(reader.history.join(", ")).toBe("Assigned 0 1 2")
          }),
        120_000
      )
    })
  })
}
