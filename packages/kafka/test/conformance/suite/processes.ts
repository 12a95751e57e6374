/** A consumer that is a process of its own, and signals. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Admin from "../../../src/Admin.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import type { DriverName } from "../../support/drivers.ts"
import type { Test, World } from "../Kafka.ts"
import { spawn, type Task } from "../process/spawn.ts"
import {
  event,
  eventually,
  groupName,
  makeTextTopic,
  member,
  MemberDefaults,
  partitionOf,
  running,
  texts,
  values,
  write
} from "../support.ts"

export interface Where {
  readonly brokers: string
  readonly driver: DriverName
  /** `"classic"` if absent. */
  readonly groupProtocol?: "classic" | "consumer"
  /** Tells the brokers how long a session of the group lasts, in milliseconds, where its members can't. */
  readonly allow?: (groupId: string, sessionTimeout: number) => Effect.Effect<void, unknown>
}

/** Longer than a test takes. */
const long = 60_000

export const processes = (
  onCluster: Test<World>,
  { allow = () => Effect.void, brokers, driver, groupProtocol = "classic" }: Where
) =>
  describe("processes", () => {
    const test: Test<World> = (name, body) =>
      onCluster(name, Effect.provideService(body, MemberDefaults, { groupProtocol }))

    const prepare = (
      sessionTimeout: number,
      work: Pick<Task, "stuckAt" | "pace"> = { stuckAt: 25 },
      many = 50,
      program?: "worker.ts"
    ) =>
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1)
        const { prefix } = yield* TopicRegistry.TopicRegistry
        yield* write(topic, texts(many))
        const groupId = yield* groupName()
        yield* allow(groupId, sessionTimeout)
        const task: Task = {
          driver,
          groupProtocol,
          brokers,
          prefix: prefix!,
          slug: topic.slug,
          groupId,
          sessionTimeout,
          ...work
        }
        const child = yield* spawn(task, program)
        yield* child.lines.until("record 25", (all) => all.includes("record 0:25"))
        return { topic, child, tp: yield* partitionOf(topic), groupId }
      })

    test(
      "failure 10: SIGTERM: the process commits what it did, leaves its group at once, and ends well",
      Effect.gen(function*() {
        const { child, groupId, topic, tp } = yield* prepare(long)
        yield* child.signal("SIGTERM")
        expect(yield* child.exit).toBe(0)
        expect(child.lines.all.slice(-2)).toEqual(["closing", "closed"])
        const [group] = yield* Admin.describeGroups([groupId])
        expect(group!.members).toEqual([])
        const next = yield* member()
        const stream = yield* running(next.stream(topic))
        expect((yield* event(next, "Assigned")).positions).toEqual([25n])
        expect(values(yield* stream.count(25))).toEqual(texts(25, 25))
        expect([...(yield* next.committed([tp])).values()]).toEqual([25n])
      })
    )

    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      test(
        `${signal}: a worker finishes the record it has in hand, commits all it did, leaves its group, and ends well`,
        Effect.gen(function*() {
          const { child, groupId, tp } = yield* prepare(long, { stuckAt: 25 }, 50, "worker.ts")
          yield* child.signal(signal)
          expect(yield* child.exit).toBe(0)
          expect(child.lines.all.slice(-3)).toEqual(["record 0:25", "done 0:25", "closed"])
          const [group] = yield* Admin.describeGroups([groupId])
          expect(group!.members).toEqual([])
          const next = yield* member()
          expect([...(yield* next.committed([tp])).values()]).toEqual([26n])
        })
      )
    }

    test(
      "failure 5: a process that is frozen until its session is over: others take over, and it changes nothing of theirs",
      Effect.gen(function*() {
        const { child, groupId, topic, tp } = yield* prepare(1500)
        // it commits behind what it handles: frozen at once, it might have committed nothing
        yield* eventually(
          "most of what it did is committed",
          Admin.groupOffsets(groupId),
          ([committed]) => committed !== undefined && committed.offset >= 20n
        )
        yield* child.signal("SIGSTOP")
        const next = yield* member()
        const stream = yield* running(next.stream(topic).pipe(next.commitWithin(1, "1 hour")))
        const [position] = (yield* event(next, "Assigned", (one) => one.partitions.length === 1)).positions
        // what it did last it could not commit any more
        expect(position).toBeLessThanOrEqual(25n)
        expect(position).toBeGreaterThanOrEqual(20n)
        yield* stream.count(50 - Number(position))
        yield* event(next, "Committed", (one) => one.offsets[0]!.offset === 50n)
        yield* child.signal("SIGCONT")
        yield* child.lines.until("that it lost its partition", (all) => all.includes("lost"))
        yield* write(topic, texts(10, 50))
        const committed = Effect.map(next.committed([tp]), (found) => [...found.values()][0])
        expect(yield* committed).toBeGreaterThanOrEqual(50n)
        // whoever of the two owns the partition now
        yield* child.signal("SIGTERM")
        yield* child.exit
        yield* write(topic, ["the end"])
        const all = yield* stream.until("the end", (all) => all.at(-1)?.value === "the end")
        const once = new Set([
          ...values(all),
          ...child.lines.all.map((line) => /^record 0:(\d+)$/.exec(line)?.[1]).map((offset) => `value-${offset}`)
        ])
        for (const value of texts(60)) expect(once.has(value)).toBe(true)
      })
    )

    test(
      "a process that wakes after its session is over begins nothing before it has asked whether it is still a member",
      Effect.gen(function*() {
        const { child, topic } = yield* prepare(1000, { pace: 5 }, 5000)
        yield* child.signal("SIGSTOP")
        const next = yield* member()
        const stream = yield* running(next.stream(topic).pipe(next.commitWithin(100, "100 millis")))
        // its session is over, and what it printed before has been read
        yield* stream.count(1000)
        const before = child.lines.all.length
        yield* child.signal("SIGCONT")
        yield* child.lines.until("that it lost its partition", (all) => all.includes("lost"))
        expect(child.lines.all.slice(before, child.lines.all.indexOf("lost"))).toEqual([])
      })
    )
  })
