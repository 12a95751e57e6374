/** Several members of one group. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Suite } from "../Kafka.ts"
import {
  closable,
  event,
  eventsOf,
  makeTextTopic,
  member,
  owning,
  partitionOf,
  running,
  Seen,
  texts,
  values,
  write,
  writeEach
} from "../support.ts"

/** A session that would keep its partitions for longer than any test: handing over has to be done, not waited for. */
const patientSession = { sessionTimeout: "10 minutes" } as const

export const groups = (kafka: Suite) =>
  describe("groups", () => {
    kafka.test(
      "two members share the partitions, and each record goes to one of them",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(4)
        const [a, b] = [yield* member(), yield* member()]
        const first = yield* running(a.stream(topic))
        const second = yield* running(b.stream(topic))
        yield* Effect.all([owning(a, 2), owning(b, 2)])
        const owned = [...yield* a.assignment, ...yield* b.assignment].map((one) => one.partition).sort()
        expect(owned).toEqual([0, 1, 2, 3])
        const written = yield* writeEach(topic, 50)
        yield* Effect.all([first.count(100), second.count(100)])
        expect([...values(first.seen.all), ...values(second.seen.all)].sort()).toEqual(written.sort())
      })
    )

    kafka.test(
      "a member that leaves hands over at once, and the other goes on exactly behind its commits",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(4)
        const a = yield* member(patientSession)
        const b = yield* closable(member(patientSession))
        const first = yield* running(a.stream(topic).pipe(a.commitWithin(1, "1 hour")))
        const second = yield* running(b.stream(topic).pipe(b.commitWithin(1, "1 hour")))
        yield* Effect.all([owning(a, 2), owning(b, 2)])
        yield* writeEach(topic, 50)
        yield* Effect.all([first.count(100), second.count(100)])
        yield* b.close
        yield* owning(a, 4)
        yield* writeEach(topic, 50, 50)
        const all = yield* first.count(300)
        for (const partition of [0, 1, 2, 3]) {
          const offsets = all.filter((record) => record.partition === partition).map((record) => Number(record.offset))
          expect(offsets).toEqual(offsets.map((_, index) => index + offsets[0]!))
          expect([0, 50]).toContain(offsets[0])
        }
      })
    )

    kafka.test(
      "a member too many waits, fails at nothing, and takes over when there is something to do",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1)
        const a = yield* closable(member(patientSession))
        const first = yield* running(a.stream(topic).pipe(a.commitWithin(1, "1 hour")))
        yield* owning(a, 1)
        const b = yield* member(patientSession)
        const second = yield* running(b.stream(topic))
        yield* event(b, "Assigned", (one) => one.partitions.length === 0)
        yield* owning(a, 1)
        yield* write(topic, texts(5))
        yield* first.count(5)
        expect(second.seen.all).toEqual([])
        yield* a.close
        yield* owning(b, 1)
        yield* write(topic, texts(5, 5))
        expect(values(yield* second.count(5))).toEqual(texts(5, 5))
      })
    )

    kafka.test(
      "streams that asked for a partition each end when it is revoked, and begin anew when it is back",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 10)
        const a = yield* member()
        const log = new Seen<string>()
        yield* running(
          a.partitionedStream(topic).pipe(
            Stream.flatMap(([{ partition }, records]) => {
              log.push(`begin ${partition}`)
              return records.pipe(
                a.commitWithin(1, "1 hour"),
                Stream.ensuring(Effect.sync(() => log.push(`end ${partition}`)))
              )
            }, { concurrency: "unbounded" })
          )
        )
        yield* owning(a, 2)
        const b = yield* closable(member())
        yield* running(b.stream(topic))
        yield* Effect.all([owning(a, 1), owning(b, 1)])
        const [moved] = yield* b.assignment
        yield* log.until("the end of what moved", (all) => all.includes(`end ${moved!.partition}`))
        yield* b.close
        yield* owning(a, 2)
        yield* log.until(
          "the second beginning",
          (all) => all.filter((one) => one === `begin ${moved!.partition}`).length === 2
        )
        for (const partition of [0, 1]) {
          const own = log.all.filter((one) => one.endsWith(String(partition)))
          expect(own).toEqual(own.map((_, index) => `${index % 2 === 0 ? "begin" : "end"} ${partition}`))
        }
      })
    )

    kafka.test(
      "a commit of a partition that has moved on is refused as stale, and moves nothing",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 10)
        const a = yield* member()
        const first = yield* running(a.stream(topic))
        const records = yield* first.count(20)
        const b = yield* member()
        const second = yield* running(b.stream(topic).pipe(b.commitWithin(1, "1 hour")))
        yield* owning(b, 1)
        const [moved] = yield* b.assignment
        yield* second.count(10)
        yield* event(b, "Committed", (one) => one.offsets[0]!.offset === 10n)
        const old = records.find((record) => record.partition === moved!.partition && record.offset === 3n)!
        expect(yield* Effect.flip(a.commit(old))).toMatchObject({
          _tag: "CommitError",
          reason: "stale",
          partitions: [moved]
        })
        expect([...(yield* b.committed([moved!])).values()]).toEqual([10n])
        // records of the other partition: of this assignment, or of the one before where a rebalance revokes everything
        const kept = (yield* a.assignment)[0]!
        yield* write(topic, ["after"], kept.partition)
        const all = yield* first.until("the record after", (all) => values(all).includes("after"))
        yield* a.commit(all.find((record) => record.value === "after")!)
        expect([...(yield* a.committed([kept])).values()]).toEqual([11n])
      })
    )

    kafka.test(
      "a new owner starts where the old one committed, and reads what was handed out and not committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1)
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(20))
        const a = yield* closable(member())
        const first = yield* running(a.stream(topic))
        const records = yield* first.count(20)
        yield* a.commit(records[11]!)
        yield* a.close
        const b = yield* member()
        const second = yield* running(b.stream(topic))
        expect((yield* event(b, "Assigned")).positions).toEqual([12n])
        expect(values(yield* second.count(8))).toEqual(texts(8, 12))
        expect([...(yield* b.committed([tp])).values()]).toEqual([12n])
      })
    )

    kafka.test(
      "who never commits does not read again what it read, where a rebalance leaves it its partition",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 10)
        const a = yield* member()
        const stream = yield* running(a.stream(topic))
        yield* stream.count(20)
        const b = yield* member()
        yield* running(b.stream(topic))
        yield* Effect.all([owning(a, 1), owning(b, 1)])
        const [kept] = yield* a.assignment
        yield* writeEach(topic, 10, 10)
        const all = yield* stream.until(
          "the last of what it kept",
          (all) => all.some((record) => record.partition === kept!.partition && record.offset === 19n)
        )
        const own = all.filter((record) => record.partition === kept!.partition)
        expect(own.map((record) => Number(record.offset))).toEqual(Array.from({ length: 20 }, (_, offset) => offset))
      })
    )

    kafka.test(
      "what others committed meanwhile wins over where a reader was that never commits",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 10)
        const a = yield* member()
        const stream = yield* running(a.stream(topic))
        yield* stream.count(20)
        const b = yield* closable(member())
        const other = yield* running(b.stream(topic).pipe(b.commitWithin(1, "1 hour")))
        yield* Effect.all([owning(a, 1), owning(b, 1)])
        const [moved] = yield* b.assignment
        yield* writeEach(topic, 10, 10)
        yield* other.until("the last of its own", (all) => all.some((record) => record.offset === 19n))
        yield* b.close
        yield* owning(a, 2)
        yield* writeEach(topic, 5, 20)
        const all = yield* stream.until(
          "the last of what came back",
          (all) => all.some((record) => record.partition === moved!.partition && record.offset === 24n)
        )
        const own = all.filter((record) => record.partition === moved!.partition)
        expect(own.map((record) => Number(record.offset))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22, 23, 24])
      })
    )

    kafka.test(
      "a rebalance is told step by step: it began, what was revoked, what came",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const a = yield* member()
        yield* running(a.stream(topic))
        yield* owning(a, 2)
        const b = yield* closable(member())
        yield* running(b.stream(topic))
        yield* owning(b, 1)
        yield* owning(a, 1)
        yield* event(a, "Rebalancing")
        const revoked = yield* event(a, "Revoked")
        const [moved] = yield* b.assignment
        expect(revoked.partitions).toContainEqual(moved)
        yield* b.close
        yield* owning(a, 2)
        expect(eventsOf(a, "Lost")).toEqual([])
        yield* event(b, "Stopped")
      })
    )
  })
