/**
 * Ten failures that other streaming consumers had, by name; see docs/guarantees.md for what is promised. Those that need
 * a cluster which goes down are in `outages.ts`.
 */
import { describe, expect } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Admin from "../../../src/Admin.ts"
import type { ConsumerRecord } from "../../../src/ConsumerRecord.ts"
import { InMemoryBroker } from "../../../src/InMemoryKafka.ts"
import * as Producer from "../../../src/Producer.ts"
import * as Serde from "../../../src/Serde.ts"
import * as Topic from "../../../src/Topic.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import { Broker, type Suite, type World } from "../Kafka.ts"
import {
  closable,
  event,
  eventsOf,
  eventually,
  makeTextTopic,
  type Member,
  member,
  owning,
  partitionOf,
  partitionsOf,
  running,
  Seen,
  type TextRecord,
  texts,
  type TextTopic,
  textTopic,
  values,
  write,
  writeEach
} from "../support.ts"

/** A rebalance that waits for this has failed its test. */
const patientGate = { revokeTimeout: "10 minutes", rebalanceTimeout: "20 minutes" } as const

const placeOf = (record: ConsumerRecord<unknown, unknown>): string => `${record.partition}:${record.offset}`

/** Each of `0:0`, `0:1`, … `1:0`, … exactly once. */
const expectEachOnce = (
  records: ReadonlyArray<ConsumerRecord<unknown, unknown>>,
  partitions: number,
  count: number
) => {
  const times = new Map<string, number>()
  for (const record of records) times.set(placeOf(record), (times.get(placeOf(record)) ?? 0) + 1)
  const expected = Array.from({ length: partitions * count }, (_, i) => `${Math.floor(i / count)}:${i % count}`)
  expect([...times].filter(([, many]) => many > 1)).toEqual([])
  expect(expected.filter((place) => !times.has(place))).toEqual([])
}

/** The one member of a group. */
const memberIdOf = (consumer: Member) =>
  Effect.map(Admin.describeGroups([consumer.groupId]), ([group]) => group!.members[0]!.memberId)

export const failures = (kafka: Suite) => {
  describe("failure 1: two live streams for one partition after revoke and reassign", () => {
    kafka.test(
      "a partition has one stream at a time, however often it comes and goes",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const a = yield* member()
        const seen = new Seen<TextRecord>()
        const live = new Map<number, number>()
        let most = 0
        yield* running(
          a.partitionedStream(topic).pipe(
            Stream.flatMap(([{ partition }, records]) =>
              Stream.unwrapScoped(Effect.as(
                Effect.acquireRelease(
                  Effect.sync(() => {
                    live.set(partition, (live.get(partition) ?? 0) + 1)
                    most = Math.max(most, live.get(partition)!)
                  }),
                  () => Effect.sync(() => live.set(partition, live.get(partition)! - 1))
                ),
                records.pipe(Stream.tap((record) => Effect.sync(() => seen.push(record))), a.commitWithin(1, "1 hour"))
              )), { concurrency: "unbounded" })
          )
        )
        yield* owning(a, 2)
        for (const round of [0, 1, 2]) {
          const b = yield* closable(member())
          yield* running(b.stream(topic))
          yield* Effect.all([owning(a, 1), owning(b, 1)])
          yield* b.close
          yield* owning(a, 2)
          yield* writeEach(topic, 10, round * 10)
          yield* seen.count((round + 1) * 20)
        }
        expectEachOnce(seen.all, 2, 30)
        expect(most).toBe(1)
      })
    )

    kafka.test(
      "a stream that is stuck when its time is over gets nothing more, and the new one gets all",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1)
        yield* write(topic, texts(20))
        const eager = {
          groupProtocol: "classic",
          rebalanceProtocol: "eager",
          revokeTimeout: "300 millis",
          maxPollRecords: 5
        } as const
        const a = yield* member(eager)
        const stuck = yield* Deferred.make<void>()
        const log = new Seen<readonly [stream: number, value: string]>()
        let streams = 0
        yield* running(
          a.partitionedStream(topic).pipe(
            Stream.flatMap(([, records]) => {
              const stream = ++streams
              return records.pipe(
                Stream.tap((record) => Effect.sync(() => log.push([stream, record.value]))),
                Stream.tap((record) => stream === 1 && record.offset === 2n ? Deferred.await(stuck) : Effect.void),
                Stream.tap((record) => Effect.ignore(a.commit(record)))
              )
            }, { concurrency: "unbounded" })
          )
        )
        yield* log.count(3)
        const b = yield* closable(member(eager))
        yield* running(b.partitionedStream(topic))
        const waited = yield* event(a, "GateWaited")
        expect(waited.unsettled).toEqual([yield* partitionOf(topic)])
        yield* b.close
        yield* log.until(
          "the end by another stream",
          (all) => all.some(([stream, value]) => stream > 1 && value === "value-19")
        )
        yield* Deferred.succeed(stuck, undefined)
        yield* write(topic, texts(5, 20))
        yield* log.until("the last record", (all) => all.some(([, value]) => value === "value-24"))
        // the rest of the slice that was in its hands may follow, no more
        const first = log.all.filter(([stream]) => stream === 1).map(([, value]) => value)
        const others = log.all.filter(([stream]) => stream > 1).map(([, value]) => value)
        expect(first).toEqual(texts(5).slice(0, first.length))
        expect(others).toEqual(texts(23, 2))
      })
    )
  })

  describe("failure 2: old and new owner process the same records around a rebalance", () => {
    const work: Readonly<
      Record<string, (consumer: Member, topic: TextTopic, seen: Seen<TextRecord>) => Effect.Effect<void, unknown>>
    > = {
      "forEach": (consumer, topic, seen) =>
        consumer.forEach(topic, (record) => Effect.zipRight(Effect.sleep(4), Effect.sync(() => seen.push(record))), {
          concurrency: 4,
          ordering: "key"
        }),
      "a stream with commitWithin": (consumer, topic, seen) =>
        consumer.stream(topic).pipe(
          Stream.tap((record) => Effect.zipRight(Effect.sleep(1), Effect.sync(() => seen.push(record)))),
          consumer.commitWithin(100, "100 millis"),
          Stream.runDrain
        ),
      "a stream that works ahead of commitWithin": (consumer, topic, seen) =>
        consumer.stream(topic).pipe(
          Stream.mapEffect(
            (record) => Effect.as(Effect.zipRight(Effect.sleep(4), Effect.sync(() => seen.push(record))), record),
            {
              concurrency: 4
            }
          ),
          consumer.commitWithin(100, "100 millis"),
          Stream.runDrain
        ),
      "a stream that commits chunks": (consumer, topic, seen) =>
        consumer.stream(topic).pipe(
          Stream.chunks,
          Stream.tap((chunk) => Effect.sleep(chunk.length)),
          Stream.tap((chunk) => Effect.sync(() => Chunk.forEach(chunk, (record) => seen.push(record)))),
          Stream.runForEach((chunk) => consumer.commit(chunk))
        ),
      "streams of partitions": (consumer, topic, seen) =>
        consumer.partitionedStream(topic).pipe(
          Stream.flatMap(([, records]) =>
            records.pipe(
              Stream.tap((record) => Effect.zipRight(Effect.sleep(1), Effect.sync(() => seen.push(record)))),
              consumer.commitWithin(100, "100 millis")
            ), { concurrency: "unbounded" }),
          Stream.runDrain
        )
    }
    for (const how of Object.keys(work)) {
      kafka.test(
        `${how}: members come and go in order, and nothing is processed twice`,
        Effect.gen(function*() {
          const count = 400
          const topic = yield* makeTextTopic(6)
          yield* writeEach(topic, count)
          const seen = new Seen<TextRecord>()
          const join = Effect.gen(function*() {
            const one = yield* closable(member({ maxPollRecords: 20 }))
            const fiber = yield* Effect.forkScoped(work[how]!(one, topic, seen))
            return { ...one, leave: Effect.zipRight(one.close, Fiber.join(fiber)) }
          })
          // all the while there is work to be done
          const a = yield* join
          yield* seen.count(100)
          const b = yield* join
          yield* owning(b, 3)
          const c = yield* join
          yield* owning(c, 2)
          yield* a.leave
          yield* owning(c, 3)
          const d = yield* join
          yield* owning(d, 2)
          yield* b.leave
          yield* seen.count(6 * count)
          expectEachOnce(seen.all, 6, count)
          yield* Effect.all([c.leave, d.leave])
          for (const one of [a, b, c, d]) {
            for (const waited of eventsOf(one, "GateWaited")) expect(waited.unsettled).toEqual([])
          }
        })
      )
    }
  })

  describe("failure 3: records lost because the position had advanced past what was buffered", () => {
    kafka.test(
      "what was fetched ahead and not handed out is read by the next owner, and by oneself when it comes back",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 500)
        const seen = new Seen<TextRecord>()
        const goOn = yield* Deferred.make<void>()
        const work = (consumer: Member, pause: Effect.Effect<void>) =>
          consumer.stream(topic).pipe(
            Stream.chunks,
            Stream.tap((chunk) => Effect.sync(() => Chunk.forEach(chunk, (record) => seen.push(record)))),
            Stream.tap((chunk) => consumer.commit(chunk)),
            // nothing is in hand here, and all the rest is buffered
            Stream.runForEach(() => seen.all.length >= 20 ? pause : Effect.void)
          )
        const a = yield* member({ maxPollRecords: 5 })
        yield* Effect.forkScoped(work(a, Deferred.await(goOn)))
        yield* seen.count(20)
        for (const partition of [0, 1]) {
          yield* event(a, "Polled", (one) => one.topicPartition.partition === partition && one.position === 500n)
        }
        const b = yield* closable(member({ maxPollRecords: 5 }))
        const other = yield* Effect.forkScoped(work(b, Effect.void))
        yield* owning(b, 1)
        yield* seen.count(100)
        yield* b.close
        yield* Fiber.join(other)
        yield* owning(a, 2)
        yield* Deferred.succeed(goOn, undefined)
        yield* seen.count(1000)
        expectEachOnce(seen.all, 2, 500)
      })
    )
  })

  describe("failure 3, in a program that never commits", () => {
    kafka.test(
      "a rebalance that leaves it its partition leaves out nothing that was fetched ahead",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 300)
        const a = yield* member({ maxPollRecords: 5 })
        const stream = yield* running(Stream.tap(a.stream(topic), () => Effect.sleep(2)))
        yield* stream.count(20)
        yield* event(a, "Polled", (one) => one.bufferedRecords > 100)
        const b = yield* member()
        yield* running(b.stream(topic))
        yield* Effect.all([owning(a, 1), owning(b, 1)])
        const [kept] = yield* a.assignment
        const all = yield* stream.until(
          "the last of what it kept",
          (all) => all.some((record) => record.partition === kept!.partition && record.offset === 299n)
        )
        const own = all.filter((record) => record.partition === kept!.partition)
        expect(own.map((record) => Number(record.offset))).toEqual(Array.from({ length: 300 }, (_, offset) => offset))
      })
    )
  })

  describe("failure 4: a partition assigned and revoked again before it was ever polled", () => {
    kafka.test(
      "members that leave as soon as they have joined take nothing with them",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(4)
        const a = yield* member()
        const stream = yield* running(a.stream(topic).pipe(a.commitWithin(1, "1 hour")))
        yield* owning(a, 4)
        const writing = yield* Effect.fork(writeEach(topic, 300))
        for (const wait of ["until it is assigned", "not at all", "until it is assigned", "not at all"]) {
          const b = yield* closable(member())
          // its records are never pulled
          yield* running(Stream.take(b.partitionedStream(topic), 1))
          if (wait === "until it is assigned") yield* event(b, "Assigned", (one) => one.partitions.length > 0)
          yield* b.close
        }
        yield* Fiber.join(writing)
        expectEachOnce(yield* stream.count(1200), 4, 300)
      })
    )

    kafka.onlyInMemory(
      "a rebalance comes while it is still being found out where to start",
      "nothing slows down single requests to a real broker",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 50)
        const broker = yield* InMemoryBroker
        const name = yield* TopicRegistry.resolve(topic)
        const slow = yield* broker.delay("fetch-offsets", "300 millis")
        const a = yield* member({ groupProtocol: "classic", rebalanceProtocol: "eager" })
        const stream = yield* running(a.stream(topic))
        yield* eventually("the first look-up", slow.fired, (fired) => fired > 0)
        const foreigner = yield* broker.join(a.groupId, [name])
        yield* eventually("a member", foreigner.assignment, (owned) => owned.length === 1)
        yield* foreigner.leave
        yield* slow.disarm
        expectEachOnce(yield* stream.count(100), 2, 50)
        yield* owning(a, 2)
      })
    )
  })

  describe("failure 5: lost partitions that stop the loop for ever", () => {
    kafka.test(
      "a member that was given up is told so, joins again, and goes on from what is committed",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const a = yield* member()
        yield* writeEach(topic, 10)
        const stream = yield* running(a.stream(topic).pipe(a.commitWithin(20, "1 hour")))
        const before = yield* stream.count(20)
        yield* event(a, "Committed", () => eventsOf(a, "Committed").flatMap((one) => one.offsets).length >= 2)
        yield* (yield* Broker).evict(a.groupId, yield* memberIdOf(a))
        const lost = yield* event(a, "Lost")
        expect(lost.partitions.length).toBe(2)
        yield* owning(a, 2)
        yield* writeEach(topic, 10, 10)
        yield* stream.count(40)
        expectEachOnce(stream.seen.all, 2, 20)
        expect(yield* Effect.flip(a.commit(before))).toMatchObject({ _tag: "CommitError", reason: "stale" })
      })
    )

    kafka.test(
      "nothing more is handed out of what was lost, until it is assigned again",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 2000)
        const a = yield* member({ maxPollRecords: 1 })
        const stream = yield* running(Stream.tap(a.stream(topic), () => Effect.sleep(1)))
        yield* stream.count(50)
        yield* (yield* Broker).slowJoins
        yield* (yield* Broker).evict(a.groupId, yield* memberIdOf(a))
        yield* event(a, "Lost")
        yield* a.events.until(
          "that it goes on",
          (all) => all.findLastIndex((one) => one._tag === "HandedOut") > all.findIndex((one) => one._tag === "Lost")
        )
        const all = a.events.all
        const lost = all.findIndex((one) => one._tag === "Lost")
        const next = all.findIndex((one, index) => index > lost && one._tag === "Assigned")
        expect(next).toBeGreaterThan(lost)
        expect(all.slice(lost, next).filter((one) => one._tag === "HandedOut")).toEqual([])
      })
    )

    kafka.test(
      "what was in hand when it was lost is read again, and its late end counts for nothing",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1)
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(10))
        const a = yield* member()
        const [late, now] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const log = new Seen<string>()
        let attempts = 0
        yield* Effect.forkScoped(a.forEach(topic, (record) =>
          Effect.gen(function*() {
            if (record.offset === 3n) {
              const attempt = ++attempts
              log.push(`attempt ${attempt}`)
              yield* Deferred.await(attempt === 1 ? late : now)
            }
            log.push(record.value)
          }), { commitCount: 1, ordering: "unordered", concurrency: 2 }))
        yield* log.until("the first attempt", (all) => all.includes("attempt 1"))
        yield* (yield* Broker).evict(a.groupId, yield* memberIdOf(a))
        yield* event(a, "Lost")
        yield* log.until("the second attempt", (all) => all.includes("attempt 2"))
        // the same offset, of an assignment that has ended
        yield* Deferred.succeed(late, undefined)
        yield* log.until(
          "all the others, twice or once",
          (all) => all.lastIndexOf("value-9") > all.indexOf("attempt 2")
        )
        yield* log.until("the end of the first attempt", (all) => all.includes("value-3"))
        const [mark] = [...(yield* a.committed([tp])).values()]
        expect(mark).toBe(3n)
        yield* Deferred.succeed(now, undefined)
        yield* event(a, "Committed", (one) => one.offsets[0]!.offset === 10n)
      })
    )

    kafka.test(
      "streams of single partitions end when these are lost, and new ones begin",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const a = yield* member()
        const log = new Seen<string>()
        yield* running(
          a.partitionedStream(topic).pipe(
            Stream.flatMap(([{ partition }, records]) => {
              log.push(`begin ${partition}`)
              return Stream.ensuring(records, Effect.sync(() => log.push(`end ${partition}`)))
            }, { concurrency: "unbounded" })
          )
        )
        yield* log.count(2)
        yield* (yield* Broker).evict(a.groupId, yield* memberIdOf(a))
        const all = yield* log.count(6)
        for (const partition of [0, 1]) {
          // the old one's end and the new one's beginning have no order: nobody can wait for what is lost
          expect(all.filter((one) => one.endsWith(String(partition))).sort()).toEqual([
            `begin ${partition}`,
            `begin ${partition}`,
            `end ${partition}`
          ])
        }
      })
    )
  })

  describe("failure 6: the loop dies and the streams hang without a word", () => {
    kafka.onlyInMemory(
      "a group that it may not use any more: every stream, every commit and every later call fails with the reason",
      "the shared broker has no permissions to take away; outages do the same to a real one",
      Effect.gen(function*() {
        const [one, two, three] = [textTopic("one"), textTopic("two"), textTopic("three")]
        yield* TopicRegistry.ensure([one, two, three])
        yield* Effect.forEach([one, two, three], (topic) => write(topic, texts(1)))
        const a = yield* member()
        const plain = yield* running(a.stream(one))
        const each = yield* running(a.partitionedStream(two).pipe(Stream.flatMap(([, records]) => records)))
        const handled = new Seen<TextRecord>()
        const handling = yield* Effect.forkScoped(a.forEach(three, (record) => Effect.sync(() => handled.push(record))))
        yield* Effect.all([plain.count(1), each.count(1), handled.count(1)])
        yield* (yield* InMemoryBroker).deny("group", a.groupId)
        const exits = yield* Effect.all([Fiber.await(plain.fiber), Fiber.await(each.fiber), Fiber.await(handling)])
        const died = yield* event(a, "Died")
        for (const exit of exits) expect(exit).toEqual(Exit.fail(died.error))
        expect(died.error).toMatchObject({
          _tag: "KafkaAuthorizationError",
          resource: "group",
          resourceName: a.groupId
        })
        expect(yield* Effect.flip(Stream.runDrain(a.stream(one)))).toEqual(died.error)
        expect(yield* Effect.flip(a.commit(plain.seen.all))).toMatchObject({ _tag: "CommitError", reason: "closed" })
        yield* a.stop
      })
    )
  })

  describe("failure 7: a rebalance that waits its whole deadline for what holds nothing", () => {
    const handsOver = (
      name: string,
      prepare: (a: Member, topic: TextTopic) => Effect.Effect<void, unknown, World>
    ) =>
      kafka.test(
        name,
        Effect.gen(function*() {
          const topic = yield* makeTextTopic(2)
          const other = textTopic("healthy")
          yield* TopicRegistry.ensure([other])
          yield* writeEach(topic, 200)
          const a = yield* member({ ...patientGate, maxPollRecords: 5 })
          // keeps it in the group, whatever becomes of the stream in question
          yield* running(a.stream(other))
          yield* prepare(a, topic)
          const b = yield* member(patientGate)
          const stream = yield* running(b.stream(topic))
          yield* event(b, "Assigned", (one) => one.partitions.length > 0)
          yield* writeEach(topic, 1, 200)
          yield* stream.count(1)
          for (const waited of eventsOf(a, "GateWaited")) expect(waited.unsettled).toEqual([])
        })
      )

    handsOver("a stream that failed with records in hand", (a, topic) =>
      Effect.gen(function*() {
        yield* Effect.flip(Stream.runForEach(
          Stream.take(a.stream(topic), 3),
          (record) => record.offset > 0n ? Effect.fail("no milk") : Effect.void
        ))
      }))

    handsOver("a stream that was interrupted in the middle", (a, topic) =>
      Effect.gen(function*() {
        const begun = yield* Deferred.make<void>()
        const fiber = yield* Effect.fork(
          a.stream(topic).pipe(
            Stream.tap(() => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)),
            a.commitWithin(1, "1 hour"),
            Stream.runDrain
          )
        )
        yield* Deferred.await(begun)
        yield* Fiber.interrupt(fiber)
      }))

    handsOver("streams of partitions that were never started", (a, topic) =>
      Effect.gen(function*() {
        const never = yield* running(a.partitionedStream(topic))
        yield* never.count(2)
      }))

    handsOver(
      "a stream that has committed what it took, and leaves the rest unpulled",
      (a, topic) =>
        Effect.gen(function*() {
          const taken = yield* Deferred.make<void>()
          yield* Effect.forkScoped(
            a.stream(topic).pipe(
              Stream.chunks,
              Stream.tap((chunk) => a.commit(chunk)),
              Stream.runForEach(() => Effect.zipRight(Deferred.succeed(taken, undefined), Effect.never))
            )
          )
          yield* Deferred.await(taken)
          yield* event(a, "Polled", (one) => one.bufferedRecords > 100)
        })
    )

    handsOver("a stream that took everything, in a program that never commits", (a, topic) =>
      Effect.gen(function*() {
        const stream = yield* running(a.stream(topic))
        yield* stream.count(400)
      }))

    handsOver(
      "a stream that is busy all the time, in a program that never commits",
      (a, topic) =>
        Effect.gen(function*() {
          // each pull finds something, of one partition or of the other
          const stream = yield* running(Stream.tap(a.stream(topic), () => Effect.sleep(150)))
          yield* stream.until("records of both", (all) => new Set(all.map((record) => record.partition)).size === 2)
        })
    )

    handsOver("a stream with a long backlog, which commits as it goes", (a, topic) =>
      Effect.gen(function*() {
        const stream = yield* running(
          a.stream(topic).pipe(
            Stream.tap(() => Effect.sleep(150)),
            a.commitWithin(1, "1 hour")
          )
        )
        yield* stream.count(1)
        yield* event(a, "Polled", (one) => one.bufferedRecords > 300)
      }))

    handsOver("a stream that never commits, beside one that does", (a, topic) =>
      Effect.gen(function*() {
        const other = textTopic("committed")
        yield* TopicRegistry.ensure([other])
        yield* write(other, texts(10))
        const committing = yield* running(a.stream(other).pipe(a.commitWithin(1, "1 hour")))
        yield* committing.count(10)
        const stream = yield* running(a.stream(topic))
        yield* stream.count(400)
      }))

    handsOver("a forEach between two records", (a, topic) =>
      Effect.gen(function*() {
        const seen = new Seen<TextRecord>()
        yield* Effect.forkScoped(a.forEach(topic, (record) => Effect.sync(() => seen.push(record)), {
          commitCount: 1_000_000,
          commitWithin: "1 hour"
        }))
        yield* seen.count(400)
      }))

    kafka.test(
      "what is in hand is waited for, and committed before it goes",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(1)
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(10))
        const eager = { ...patientGate, groupProtocol: "classic", rebalanceProtocol: "eager" } as const
        const a = yield* closable(member(eager))
        const begun = yield* Deferred.make<void>()
        const finish = yield* Deferred.make<void>()
        const seen = new Seen<TextRecord>()
        const work = (record: TextRecord) => Effect.sync(() => seen.push(record))
        yield* Effect.forkScoped(a.forEach(topic, (record) =>
          record.offset === 4n && seen.all.length < 5
            ? Deferred.succeed(begun, undefined).pipe(
              Effect.zipRight(Deferred.await(finish)),
              Effect.zipRight(work(record))
            )
            : work(record)))
        yield* Deferred.await(begun)
        const b = yield* member(eager)
        yield* Effect.forkScoped(b.forEach(topic, work))
        yield* event(a, "Rebalancing")
        yield* Deferred.succeed(finish, undefined)
        yield* event(a, "Revoked")
        expect([...(yield* b.committed([tp])).values()][0]).toBeGreaterThanOrEqual(5n)
        yield* a.close
        yield* seen.count(10)
        yield* owning(b, 1)
        expectEachOnce(seen.all, 1, 10)
      })
    )
  })

  describe("failure 8: one stalled stream masked by healthy ones", () => {
    kafka.test(
      "a stream that stands still is told by name, and delays no other",
      Effect.gen(function*() {
        const [slow, fast] = [textTopic("slow"), textTopic("fast")]
        yield* TopicRegistry.ensure([slow, fast])
        yield* write(slow, texts(1000))
        yield* write(fast, texts(100))
        const a = yield* member({ stalledAfter: "200 millis", maxPollRecords: 10 })
        yield* running(Stream.tap(a.stream(slow), () => Effect.never))
        const healthy = yield* running(a.stream(fast))
        yield* healthy.count(100)
        const stalled = yield* event(a, "Stalled")
        expect(stalled.partitions).toEqual([yield* partitionOf(slow)])
        yield* write(fast, texts(500, 100))
        expect(values(yield* healthy.count(600))).toEqual(texts(600))
        for (const one of eventsOf(a, "Stalled")) expect(one.partitions).toEqual([yield* partitionOf(slow)])
      })
    )
  })

  describe("failure 9: memory that grows with a stalled consumer", () => {
    kafka.test(
      "a stalled consumer stays in its group, holds no more than it may, and misses nothing",
      Effect.gen(function*() {
        const topic = Topic.make("runs", { key: Serde.nullable(Serde.string), value: Serde.bytes, partitions: 2 })
        yield* TopicRegistry.ensure([topic])
        const value = new Uint8Array(1000).fill(7)
        const count = 5000
        // a broker never answers with less than a whole batch
        const producer = yield* Producer.make({ batchSize: 16_000 })
        yield* producer.sendAll(
          topic,
          Array.from({ length: 2 * count }, (_, index) => ({ key: null, value, partition: index % 2 }))
        )
        const kilobyte = 1024
        const a = yield* member({
          sessionTimeout: "1500 millis",
          heartbeatInterval: "300 millis",
          maxPollRecords: 100,
          fetch: { maxBytesPerPartition: 128 * kilobyte, maxBytes: 256 * kilobyte, maxWait: "100 millis" },
          prefetch: { partitionBytes: 256 * kilobyte, totalBytes: 512 * kilobyte }
        })
        const goOn = yield* Deferred.make<void>()
        const stream = yield* running(Stream.tap(a.stream(topic), () => Deferred.await(goOn)))
        yield* event(a, "Polled")
        const from = Date.now()
        yield* a.events.until("heartbeats for longer than a session", () => Date.now() - from > 3500)
        yield* owning(a, 2)
        // bounded by what was allowed, and by one response that was under way
        const most = Math.max(...eventsOf(a, "Polled").map((one) => one.bufferedBytes))
        expect(most).toBeLessThanOrEqual(768 * kilobyte)
        expect(most).toBeGreaterThan(128 * kilobyte)
        yield* Deferred.succeed(goOn, undefined)
        expectEachOnce(yield* stream.count(2 * count), 2, count)
        const everMost = Math.max(...eventsOf(a, "Polled").map((one) => one.bufferedBytes))
        expect(everMost).toBeLessThanOrEqual(768 * kilobyte)
        expect(eventsOf(a, "Lost")).toEqual([])
        expect(eventsOf(a, "Revoked")).toEqual([])
      })
    )
  })

  describe("failure 10: shutdown", () => {
    const membersOf = (groupId: string) =>
      Effect.map(Admin.describeGroups([groupId]), ([group]) => group?.members.length ?? 0)

    kafka.test(
      "stop ends streams behind the record in hand, commits what was processed, and empties the group",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(100))
        const a = yield* member({ sessionTimeout: "10 minutes", maxPollRecords: 1 })
        const begun = yield* Deferred.make<void>()
        const finish = yield* Deferred.make<void>()
        const stream = yield* running(
          a.stream(topic).pipe(
            Stream.tap((record) =>
              record.offset === 5n
                ? Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(finish))
                : Effect.void
            ),
            a.commitWithin(1_000_000, "1 hour")
          )
        )
        yield* Deferred.await(begun)
        expect(yield* membersOf(a.groupId)).toBe(1)
        const stopping = yield* Effect.fork(a.stop)
        yield* eventually("the refusal of what is new", Effect.either(a.committed([tp])), Either.isLeft)
        yield* Deferred.succeed(finish, undefined)
        yield* Fiber.join(stream.fiber)
        yield* Fiber.join(stopping)
        expect(values(stream.seen.all)).toEqual(texts(6))
        expect(yield* membersOf(a.groupId)).toBe(0)
        const next = yield* member()
        expect([...(yield* next.committed([tp])).values()]).toEqual([6n])
        // again, and at once
        yield* a.stop
      })
    )

    kafka.test(
      "a commit after the stop is refused, typed, and does not hang",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(5))
        const a = yield* member()
        const records = yield* a.stream(topic).pipe(Stream.take(5), Stream.runCollect)
        yield* a.stop
        const error = yield* Effect.flip(a.commit(records))
        expect(error._tag).toBe("CommitError")
        expect(["closed", "stale"]).toContain(error.reason)
      })
    )

    kafka.test(
      "closing the scope: what flowed through is committed before the group is left, in whatever order things end",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        const tp = yield* partitionOf(topic)
        yield* write(topic, texts(10))
        // the stream's fiber ends first, then the consumer
        yield* Effect.scoped(Effect.gen(function*() {
          const a = yield* member({ maxPollRecords: 1 })
          const stream = yield* running(a.stream(topic).pipe(a.commitWithin(1_000_000, "1 hour")))
          yield* stream.until("the fifth", (all) => all.length >= 5)
        }))
        const next = yield* member()
        const first = [...(yield* next.committed([tp])).values()][0]!
        expect(first).toBeGreaterThanOrEqual(5n)
        // the consumer is closed under a stream that lives on, and ends it
        yield* write(topic, texts(10, 10))
        const a = yield* closable(member())
        const stream = yield* running(a.stream(topic).pipe(a.commitWithin(1_000_000, "1 hour")))
        yield* stream.until("the last", (all) => all.some((record) => record.offset === 19n))
        yield* a.close
        yield* Fiber.join(stream.fiber)
        expect([...(yield* next.committed([tp])).values()]).toEqual([20n])
        expect(yield* membersOf(a.groupId)).toBe(0)
      })
    )

    kafka.test(
      "a handler that never ends delays it by no more than stopTimeout",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic()
        yield* write(topic, texts(5))
        const a = yield* member({ stopTimeout: "300 millis" })
        const stream = yield* running(Stream.tap(a.stream(topic), () => Effect.never))
        yield* event(a, "HandedOut")
        yield* a.stop
        yield* event(a, "Stopped")
        expect(yield* membersOf(a.groupId)).toBe(0)
        yield* stream.interrupt
      })
    )

    kafka.test(
      "at any moment: before there is a stream, while it joins, while nobody pulls",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        yield* writeEach(topic, 50)
        const idle = yield* member({ groupId: "idle" })
        yield* idle.stop
        const joining = yield* member({ groupId: "joining" })
        const stream = yield* running(joining.stream(topic))
        yield* joining.stop
        yield* Fiber.await(stream.fiber)
        expect(yield* membersOf(joining.groupId)).toBe(0)
        const unpulled = yield* member({ groupId: "unpulled" })
        const outer = yield* running(unpulled.partitionedStream(topic))
        yield* outer.count(2)
        yield* unpulled.stop
        yield* Fiber.join(outer.fiber)
        expect(yield* membersOf(unpulled.groupId)).toBe(0)
      })
    )
  })

  describe("and also", () => {
    kafka.test(
      "what is committed is what was processed, and not what was fetched or handed out",
      Effect.gen(function*() {
        const topic = yield* makeTextTopic(2)
        const partitions = yield* partitionsOf(topic)
        yield* writeEach(topic, 500)
        const seen = yield* Effect.scoped(Effect.gen(function*() {
          const a = yield* member({ maxPollRecords: 7 })
          const stream = yield* running(
            a.stream(topic).pipe(
              Stream.tap((record) => record.offset === 50n ? Effect.never : Effect.void),
              a.commitWithin(10, "50 millis")
            )
          )
          yield* event(a, "Polled", (one) => one.position === 500n)
          yield* event(a, "Committed")
          return stream.seen
        }))
        const next = yield* member()
        const committed = yield* next.committed(partitions)
        for (const { partition, topic } of partitions) {
          const last = seen.all.findLast((record) => record.partition === partition)?.offset ?? -1n
          expect(committed.get(`${topic}:${partition}`) ?? 0n).toBeLessThanOrEqual(last + 1n)
        }
      })
    )
  })
}
