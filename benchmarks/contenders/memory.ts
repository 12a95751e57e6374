/**
 * The library on `InMemoryKafka`: a topic is filled first, in the same process, and only what comes after is measured.
 */
import { Consumer, Producer } from "@coffeebuddy/kafka"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { Run, Work } from "../harness/model.ts"
import { Meter } from "../work.ts"
import { batches, cluster, keyed } from "./library.ts"

export { sendAll, sendLone, sendSingles } from "./library.ts"

const filled = <E>(work: Work, read: Effect.Effect<unknown, E, Consumer.Consumer>) =>
  Effect.forEach(
    batches(work, Buffer.alloc(work.bytes, "x")),
    (records) => Producer.sendAll(keyed(work.topic), records),
    { discard: true }
  ).pipe(
    Effect.zipRight(read),
    Effect.provide(Layer.merge(Producer.layer(), Consumer.layer({ groupId: work.groupId }))),
    Effect.provide(cluster(work)),
    Effect.runPromise
  )

/** `Consumer.stream`, looking at each value's length. */
export const bytes: Run = async (work) => {
  const meter = new Meter(work.records)
  let size = 0
  await filled(
    work,
    Consumer.stream(keyed(work.topic)).pipe(
      Stream.chunks,
      Stream.takeWhile((chunk) => {
        meter.begin()
        for (const record of chunk) size += record.value.length
        return !meter.add(chunk.length)
      }),
      Stream.runDrain
    )
  )
  return { ...await meter.result, size }
}

/** `Consumer.forEach` by key, 16 at once. */
export const forEach: Run = async (work) => {
  const meter = new Meter(work.records)
  const enough = Effect.fail("enough" as const)
  await filled(
    work,
    Consumer.forEach(keyed(work.topic), () => {
      meter.begin()
      return meter.add(1) ? enough : Effect.void
    }, { concurrency: 16, ordering: "key" }).pipe(Effect.catchIf((error) => error === "enough", () => Effect.void))
  )
  return meter.result
}
