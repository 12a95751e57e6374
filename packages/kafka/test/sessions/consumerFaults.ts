/** What a consumer session of any driver does on a bad line. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { type ConsumerDriver, groupName, readers, values, write } from "../kafkajs/consumerSupport.ts"
import { Faults, makeTopic } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"

const requests = {
  Fetch: 1,
  ListOffsets: 2,
  Metadata: 3,
  OffsetCommit: 8,
  OffsetFetch: 9,
  FindCoordinator: 10,
  JoinGroup: 11,
  Heartbeat: 12,
  SyncGroup: 14
} as const

/** As the engine does it. */
const again = <A, E extends { readonly retriable: boolean }>(commit: Effect.Effect<A, E>) =>
  Effect.retry(commit, { while: ({ retriable }) => retriable, schedule: Schedule.spaced(50) })

export const consumerFaults = (driver: ConsumerDriver): void => {
  const { join } = readers(driver)

  RealKafka.suite(`a consumer session through ${driver.name}, on a bad line`, ({ bootstrapServers: brokers }) => {
    for (const kind of ["cut", "lose"] as const) {
      for (const [name, apiKey] of Object.entries(requests)) {
        it.scopedLive(`a ${name} request whose ${kind === "cut" ? "connection breaks" : "answer is lost"} costs time alone`, () =>
          Effect.gen(function*() {
            const [topic, group] = [yield* makeTopic(brokers, { partitions: 2 }), groupName()]
            const faults = new Faults()
            faults.arm({ kind, times: 1, apiKey })
            yield* write(brokers, topic, ["a", "b"])
            const reader = yield* join(brokers, group, [topic], {
              faults,
              options: { sessionTimeout: 6000, rebalanceTimeout: 5000 }
            })
            expect(values(yield* reader.read(2))).toEqual(["a", "b"])
            yield* again(reader.commit({ 0: 2 }))
            // and once more while all is well
            faults.arm({ kind, times: 1, apiKey })
            const other = yield* join(brokers, group, [topic])
            yield* other.told
            const held = (yield* reader.told.pipe(
              Effect.repeat({ until: (told) => told._tag === "Assigned" && told.partitions.length === 1 })
            )).partitions[0]
            yield* write(brokers, topic, ["c"], Number(held))
            expect(values(yield* reader.read(1))).toEqual(["c"])
            yield* again(reader.commit({ 0: 3, 1: 1 }))
            expect(faults.fired).toBeGreaterThan(0)
          }))
      }
    }
  })
}
