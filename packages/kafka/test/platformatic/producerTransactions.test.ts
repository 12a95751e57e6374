import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Crypto from "node:crypto"
import { apiKeys, batch, Faults, makeTopic, readLog, send, summary, values } from "../kafkajs/support.ts"
import { transactions } from "../sessions/producerTransactions.ts"
import type { Sessions } from "../sessions/Sessions.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { beforeKip890, platformatic } from "./sessions.ts"

transactions(platformatic)

transactions(beforeKip890)

RealKafka.suite("the second part of KIP-890", ({ bootstrapServers }) => {
  /** Which requests two transactions take, of those that are of transactions alone. */
  const requests = ({ open }: Sessions) =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers, { partitions: 2 })
      const group = { groupId: Crypto.randomUUID(), memberId: "", generation: -1 }
      const session = yield* open(bootstrapServers, { transactionalId: Crypto.randomUUID() }, faults)
      for (const value of ["a", "b"]) {
        yield* session.begin
        yield* send(session, [batch(topic, 0, value), batch(topic, 1, value)])
        yield* session.sendOffsets([{ topic, partition: 0, offset: 1n, metadata: undefined }], group)
        yield* session.commit
      }
      expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a", "b", "a", "b"])
      const { addOffsets, addPartitions, initProducerId } = apiKeys
      return [initProducerId, addPartitions, addOffsets].map((key) => faults.requests(key) > 0)
    })

  it.scopedLive("is used where the cluster has it: nothing is added to a transaction before it is written", () =>
    Effect.gen(function*() {
      expect(yield* requests(platformatic)).toEqual([true, false, false])
      expect(yield* requests(beforeKip890)).toEqual([true, true, true])
    }))

  it.scopedLive("who was followed by another, and does not know it yet, takes nothing from it", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers)
      const transactionalId = Crypto.randomUUID()
      const older = yield* platformatic.open(bootstrapServers, { transactionalId, deliveryTimeout: 500 }, faults)
      yield* older.begin
      faults.arm({ kind: "lose", times: 1000 })
      expect(summary(yield* send(older, [batch(topic, 0, "older")]))).toEqual(["unknown: ProducerError"])
      const newer = yield* platformatic.open(bootstrapServers, { transactionalId })
      yield* newer.begin
      yield* send(newer, [batch(topic, 0, "newer")])
      expect(yield* Effect.flip(older.abort)).toMatchObject({ _tag: "ProducerFencedError" })
      yield* newer.commit
      expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["newer"])
    }))

  it.scopedLive("an abort with a record in doubt raises the epoch at once, and takes no id over", () =>
    Effect.gen(function*() {
      const faults = new Faults()
      const topic = yield* makeTopic(bootstrapServers)
      const options = { transactionalId: Crypto.randomUUID(), deliveryTimeout: 500 }
      const session = yield* platformatic.open(bootstrapServers, options, faults)
      const before = faults.requests(apiKeys.initProducerId)
      for (const value of ["a", "b"]) {
        yield* session.begin
        faults.arm({ kind: "lose", times: 1000 })
        yield* send(session, [batch(topic, 0, "in doubt")])
        faults.disarm()
        yield* session.abort
        yield* session.begin
        yield* send(session, [batch(topic, 0, value)])
        yield* session.commit
      }
      expect(faults.requests(apiKeys.initProducerId)).toBe(before)
      expect(values(yield* readLog(bootstrapServers, topic))).toEqual(["a", "b"])
    }))
})
