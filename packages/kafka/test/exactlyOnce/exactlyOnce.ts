/** Processes that die while they pass records on, on one driver. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Admin from "../../src/Admin.ts"
import * as Consumer from "../../src/Consumer.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as Producer from "../../src/Producer.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { type DriverName, drivers } from "../support/drivers.ts"
import * as RealKafka from "../support/RealKafka.ts"

const RECORDS = 600
const DEATHS = 4

const start = (work: string): ChildProcess =>
  fork(fileURLToPath(new URL("worker.ts", import.meta.url)), [work], {
    execArgv: ["--conditions=@coffeebuddy/source", "--import", "tsx"],
    stdio: ["ignore", "inherit", "inherit", "ipc"]
  })

/** Runs a worker until it has begun on so many records, and kills it in the middle of what it does. */
const killedAfter = (work: string, records: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = start(work)
    let seen = 0
    child.on("message", () => {
      if (++seen === records) child.kill("SIGKILL")
    })
    child.on("error", reject)
    child.on("exit", (_, signal) => signal === "SIGKILL" ? resolve() : reject(new Error("the worker ended by itself")))
  })

export const exactlyOnce = (driver: DriverName): void =>
  RealKafka.suite(`exactly once from topic to topic, through ${driver}`, (kafka) => {
    it.live(
      `each record is counted once by a read-committed reader, though the process is killed ${DEATHS} times`,
      () =>
        Effect.gen(function*() {
          const id = `eos-${Date.now()}`
          const serdes = { key: Serde.string, value: Serde.string }
          const input = Topic.make(`${id}-in`, serdes)
          const output = Topic.make(`${id}-out`, serdes)
          const work = JSON.stringify({
            brokers: kafka.bootstrapServers,
            driver,
            input: input.slug,
            output: output.slug
          })
          const group = { groupId: `${output.slug}-reader` }

          yield* Admin.createTopics(
            [input, output].map((topic) => ({ topic: topic.slug, partitions: 2, replicationFactor: 1 }))
          )
          yield* Producer.sendAll(
            input,
            Array.from({ length: RECORDS }, (_, index) => ({ key: `key-${index % 20}`, value: String(index) }))
          )
          for (let death = 0; death < DEATHS; death++) yield* Effect.promise(() => killedAfter(work, 40 + 30 * death))

          // the last one may live until all is done
          const survivor = start(work)
          yield* Effect.addFinalizer(() => Effect.sync(() => survivor.kill("SIGKILL")))

          const read = yield* Consumer.stream(output).pipe(
            Stream.map((record) => Number(record.value)),
            Stream.take(RECORDS),
            Stream.runCollect,
            Effect.provide(Consumer.layer(group))
          )
          survivor.kill("SIGKILL")
          expect([...read].sort((a, b) => a - b)).toEqual(Array.from({ length: RECORDS }, (_, index) => 2 * index))
        }).pipe(
          Effect.scoped,
          Effect.provide(
            Layer.merge(Producer.layer(), Admin.layer).pipe(
              Layer.provideMerge(drivers[driver]),
              Layer.provideMerge(TopicRegistry.layerWith({})),
              Layer.provide(KafkaConfig.layer({ brokers: kafka.bootstrapServers }))
            )
          )
        ),
      180_000
    )
  })
