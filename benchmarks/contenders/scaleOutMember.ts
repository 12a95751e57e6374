import { Consumer } from "@coffeebuddy/kafka"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Work } from "../harness/model.ts"
import { cluster, keyed } from "./library.ts"
import type { Said } from "./scaleOut.ts"

const work = JSON.parse(process.argv[2]!) as Work
const say = (said: Said): void => {
  process.send?.(said)
}
const go = new Promise<void>((resolve) => process.once("message", () => resolve()))
process.on("disconnect", () => process.exit(0))

let records = 0
let size = 0
let cpu = process.cpuUsage()
const report = Effect.sync(() => {
  const { system, user } = process.cpuUsage(cpu)
  if (records > 0) say({ _tag: "Read", records, cpuSeconds: (system + user) / 1e6 })
})

await Effect.runPromise(
  Effect.gen(function*() {
    yield* Effect.flatMap(
      Consumer.assignment,
      (partitions) => Effect.sync(() => say({ _tag: "Holds", partitions: partitions.length }))
    ).pipe(Effect.repeat(Schedule.spaced("20 millis")), Effect.forkScoped)
    yield* report.pipe(Effect.repeat(Schedule.spaced("10 millis")), Effect.forkScoped)
    yield* Consumer.partitionedStream(keyed(work.topic)).pipe(
      Stream.flatMap(([, records]) =>
        Stream.unwrap(Effect.as(
          Effect.promise(async () => {
            await go
            cpu = process.cpuUsage()
          }),
          records
        )), { concurrency: "unbounded" }),
      Stream.chunks,
      Stream.runForEach((chunk) =>
        Effect.sync(() => {
          for (const record of chunk) size += record.value.length
          records += chunk.length
        })
      )
    )
  }).pipe(Effect.scoped, Effect.provide(Consumer.layer({ groupId: work.groupId })), Effect.provide(cluster(work)))
)
