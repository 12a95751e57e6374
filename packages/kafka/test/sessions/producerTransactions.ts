/** Transactions of a producer's session. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Crypto from "node:crypto"
import { apiKeys, batch, Faults, makeTopic, plain, readLog, send, summary, values } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import type { Sessions } from "./Sessions.ts"
const group = (groupId: string) => ({ groupId, memberId: "", generation: -1 })

const committed = (brokers: string, groupId: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.promise(async () => {
    const admin = plain(brokers).admin()
    await admin.connect()
    const topics = await admin.fetchOffsets({ groupId })
    await admin.disconnect()
    return topics.flatMap(({ partitions, topic }) =>
      partitions.map(({ metadata, offset, partition }) => `${topic}[${partition}]@${offset} ${metadata ?? ""}`.trim())
    )
  })

const newId = () => `kafkajs-tx-${Crypto.randomUUID()}`

export const transactions = ({ name, open }: Sessions): void => {
  RealKafka.suite(`transactions through ${name}`, ({ bootstrapServers }) => {
    it.scopedLive("what is committed is read, what is aborted is not, and one follows the other", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers, { partitions: 2 })
        const session = yield* open(bootstrapServers, { transactionalId: newId() })
        for (const round of ["a", "b", "c", "d"]) {
          yield* session.begin
          expect(
            (yield* send(session, [batch(topic, 0, `${round}0`), batch(topic, 1, `${round}1`)])).map((r) => r._tag)
          )
            .toEqual(["Stored", "Stored"])
          yield* round === "b" ? session.abort : session.commit
        }
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a0", "c0", "d0", "a1", "c1", "d1"])
      }))

    it.scopedLive("an empty transaction can be ended either way", () =>
      Effect.gen(function*() {
        const session = yield* open(bootstrapServers, { transactionalId: newId() })
        yield* session.begin
        yield* session.commit
        yield* session.begin
        yield* session.abort
      }))

    it.scopedLive("offsets are committed with the transaction, or not at all", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const groupId = newId()
        const session = yield* open(bootstrapServers, { transactionalId: newId() })
        const offsets = (offset: bigint) =>
          session.sendOffsets([{ topic, partition: 0, offset, metadata: "note" }], group(groupId))
        yield* session.begin
        yield* offsets(3n)
        yield* session.commit
        yield* session.begin
        yield* offsets(5n)
        yield* session.abort
        const found = yield* committed(bootstrapServers, groupId).pipe(
          Effect.repeat({ until: (all) => all.length > 0 })
        )
        expect(found).toEqual([`${topic}[0]@3 note`])
      }))

    it.scopedLive("a newer producer with the same id fences the older one, for good", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const transactionalId = newId()
        const older = yield* open(bootstrapServers, { transactionalId })
        yield* older.begin
        yield* send(older, [batch(topic, 0, "older")])
        const newer = yield* open(bootstrapServers, { transactionalId })
        yield* newer.begin
        yield* send(newer, [batch(topic, 0, "newer")])
        yield* newer.commit
        expect(yield* Effect.flip(older.commit)).toMatchObject({ _tag: "ProducerFencedError", transactionalId })
        expect(yield* Effect.flip(older.abort)).toMatchObject({ _tag: "ProducerFencedError" })
        expect(summary(yield* older.send([batch(topic, 0, "late")]))).toEqual(["refuse: ProducerError"])
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["newer"])
      }))

    it.scopedLive("what a producer left open when it went is aborted by the next one", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const transactionalId = newId()
        yield* Effect.scoped(Effect.gen(function*() {
          const gone = yield* open(bootstrapServers, { transactionalId })
          yield* gone.begin
          yield* send(gone, [batch(topic, 0, "left behind")])
        }))
        const next = yield* open(bootstrapServers, { transactionalId })
        yield* next.begin
        yield* send(next, [batch(topic, 0, "next")])
        yield* next.commit
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["next"])
      }))

    it.scopedLive("a commit whose answer is lost is asked for again, and known to be done", () =>
      Effect.gen(function*() {
        const faults = new Faults()
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers, { transactionalId: newId() }, faults)
        for (const kind of ["lose", "cut"] as const) {
          yield* session.begin
          yield* send(session, [batch(topic, 0, kind)])
          faults.arm({ kind, times: 1, apiKey: apiKeys.endTransaction })
          yield* session.commit
        }
        expect(faults.fired).toBe(2)
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["lose", "cut"])
      }))

    it.scopedLive("a commit that is never answered is said to be uncertain, and an abort puts things right", () =>
      Effect.gen(function*() {
        const faults = new Faults()
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers, { transactionalId: newId(), deliveryTimeout: 1000 }, faults)
        yield* session.begin
        yield* send(session, [batch(topic, 0, "a")])
        faults.arm({ kind: "lose", times: 1000, apiKey: apiKeys.endTransaction })
        expect(yield* Effect.flip(session.commit)).toMatchObject({ _tag: "ProducerError", reason: "unknown-outcome" })
        faults.disarm()
        yield* session.abort
        yield* session.begin
        yield* send(session, [batch(topic, 0, "b")])
        yield* session.commit
        // the broker had done it
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a", "b"])
      }))

    it.scopedLive("a transaction with a record in doubt can only be aborted", () =>
      Effect.gen(function*() {
        const faults = new Faults()
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers, { transactionalId: newId(), deliveryTimeout: 1000 }, faults)
        yield* session.begin
        faults.arm({ kind: "lose", times: 1000 })
        expect(summary(yield* send(session, [batch(topic, 0, "in doubt")]))).toEqual(["unknown: ProducerError"])
        faults.disarm()
        expect(summary(yield* session.send([batch(topic, 0, "after")]))).toEqual(["refuse: ProducerError"])
        expect(yield* Effect.flip(session.commit)).toMatchObject({ _tag: "ProducerError", reason: "invalid" })
        yield* session.abort
        yield* session.begin
        yield* send(session, [batch(topic, 0, "good")])
        yield* session.commit
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["good"])
      }))

    it.scopedLive("a request that arrives after the abort is fenced: it is in no transaction", () =>
      Effect.gen(function*() {
        const faults = new Faults()
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers, { transactionalId: newId() }, faults)
        yield* session.begin
        yield* send(session, [batch(topic, 0, "first")])
        faults.arm({ kind: "hold", times: 1 })
        expect(summary(yield* session.send([batch(topic, 0, "late")]))).toEqual(["pending: KafkaTimeoutError"])
        yield* session.abort
        faults.release()
        yield* session.begin
        yield* send(session, [batch(topic, 0, "next")])
        yield* session.commit
        expect(faults.fired).toBe(1)
        // nothing is left open that would keep readers waiting
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["next"])
      }))

    it.scopedLive("a record whose answer is lost is in the transaction once", () =>
      Effect.gen(function*() {
        const faults = new Faults()
        const topic = yield* makeTopic(bootstrapServers)
        const session = yield* open(bootstrapServers, { transactionalId: newId() }, faults)
        yield* session.begin
        faults.arm({ kind: "lose", times: 1 })
        yield* send(session, [batch(topic, 0, "a")])
        yield* session.commit
        expect(faults.fired).toBe(1)
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a"])
      }))

    it.scopedLive("what is done in the wrong order is refused", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const without = yield* open(bootstrapServers)
        expect(yield* Effect.flip(without.begin)).toMatchObject({ _tag: "ProducerError", reason: "invalid" })
        const session = yield* open(bootstrapServers, { transactionalId: newId() })
        expect(yield* Effect.flip(session.commit)).toMatchObject({ _tag: "ProducerError", reason: "invalid" })
        expect(yield* Effect.flip(session.abort)).toMatchObject({ _tag: "ProducerError", reason: "invalid" })
        expect(summary(yield* session.send([batch(topic, 0, "a")]))).toEqual(["refuse: ProducerError"])
        yield* session.begin
        expect(yield* Effect.flip(session.begin)).toMatchObject({ _tag: "ProducerError", reason: "invalid" })
        yield* session.abort
        expect(yield* readLog(bootstrapServers, topic)).toEqual([])
      }))

    it.scopedLive("in a transaction too a batch that can not be stored fails alone", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers, { partitions: 2, config: { "max.message.bytes": "2000" } })
        const session = yield* open(bootstrapServers, { transactionalId: newId() })
        yield* session.begin
        const results = yield* send(session, [
          batch(topic, 0, "small"),
          batch(topic, 1, "x".repeat(3000)),
          batch("does-not-exist", 0, "x")
        ])
        expect(summary(results)).toEqual(["stored@0", "refuse: ProducerError", "refuse: UnknownTopicError"])
        yield* session.commit
        yield* session.begin
        yield* send(session, [batch(topic, 1, "fits")])
        yield* session.commit
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["small", "fits"])
      }))

    it.scopedLive("a transaction of which nothing was stored can be committed, and the next one is as any other", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers, { config: { "max.message.bytes": "2000" } })
        const session = yield* open(bootstrapServers, { transactionalId: newId() })
        for (const value of ["a", "b"]) {
          yield* session.begin
          expect(summary(yield* send(session, [batch(topic, 0, "x".repeat(3000))]))).toEqual(["refuse: ProducerError"])
          yield* session.commit
          yield* session.begin
          yield* send(session, [batch(topic, 0, value)])
          yield* session.commit
        }
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a", "b"])
      }))

    it.scopedLive("a transaction that the broker has ended, since it took too long, is not committed", () =>
      Effect.gen(function*() {
        const topic = yield* makeTopic(bootstrapServers)
        const slow = yield* open(bootstrapServers, { transactionalId: newId(), transactionTimeout: 500 })
        const other = yield* open(bootstrapServers)
        yield* slow.begin
        yield* send(slow, [batch(topic, 0, "slow")])
        yield* send(other, [batch(topic, 0, "other")])
        // nobody reads the second before the first has ended
        const read = Effect.repeat(readLog(bootstrapServers, topic), { until: (all) => all.length > 0 })
        expect(values(yield* read)).toEqual(["other"])
        expect(yield* Effect.flip(slow.commit)).toMatchObject({ _tag: "ProducerFencedError" })
        expect(yield* Effect.flip(slow.abort)).toMatchObject({ _tag: "ProducerFencedError" })
        expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["other"])
      }))

    it.scopedLive("a transaction timeout above the broker's limit is refused at once", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(
          Effect.sandbox(open(bootstrapServers, { transactionalId: newId(), transactionTimeout: 2 ** 30 }))
        )
        expect(String(error)).toContain("INVALID_TRANSACTION_TIMEOUT")
      }))
  })
}
