import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import { Cluster } from "../../src/drivers/inmemory/Cluster.ts"
import { nobody } from "../../src/drivers/inmemory/Group.ts"
import type { Reply } from "../../src/drivers/inmemory/Protocol.ts"
import { record, text } from "./fixtures.ts"

const timeout = 1000

type Step =
  | { readonly op: "restart"; readonly seat: number }
  | { readonly op: "produce"; readonly seat: number; readonly partition: number; readonly again: boolean }
  | { readonly op: "offsets"; readonly seat: number }
  | { readonly op: "end"; readonly seat: number; readonly outcome: "commit" | "abort" }
  | { readonly op: "pass"; readonly millis: number }

const seat = FastCheck.integer({ min: 0, max: 2 })
const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  { weight: 1, arbitrary: FastCheck.record({ op: FastCheck.constant("restart" as const), seat }) },
  {
    weight: 5,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("produce" as const),
      seat,
      partition: FastCheck.integer({ min: 0, max: 1 }),
      again: FastCheck.boolean()
    })
  },
  { weight: 2, arbitrary: FastCheck.record({ op: FastCheck.constant("offsets" as const), seat }) },
  {
    weight: 2,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("end" as const),
      seat,
      outcome: FastCheck.constantFrom("commit" as const, "abort" as const)
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      op: FastCheck.constant("pass" as const),
      millis: FastCheck.integer({ min: 1, max: 1200 })
    })
  }
)

/** A producer of one transactional id; a former one of the same id may still think that it is the producer. */
interface Producer {
  readonly seat: number
  readonly who: { readonly producerId: number; readonly epoch: number }
  readonly sequences: [number, number]
  fenced: boolean
  since: number | undefined
  /** What it sent in its transaction. */
  records: Array<readonly [partition: number, value: string]>
  offset: bigint | undefined
}

const right = <A>(reply: Reply<A>): A => Either.getOrThrow(reply)

describe("transactions", () => {
  it("what is read is what was committed, each record once, and offsets with it", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
        let time = 0
        let count = 0
        const cluster = new Cluster({
          brokers: 1,
          autoCreateTopics: false,
          defaultPartitions: 1,
          initialRebalanceDelay: 0,
          minSessionTimeout: 6000,
          maxSessionTimeout: 1_800_000,
          offsetsRetention: Number.POSITIVE_INFINITY,
          maxTransactionTimeout: 900_000
        }, () => time)
        right(cluster.createTopic({ topic: "t", partitions: 2, replicationFactor: 1, config: {} }))
        const producers = new Map<number, Producer>()
        const former: Array<Producer> = []
        const committed: [Array<string>, Array<string>] = [[], []]
        const offsets = new Map<number, bigint>()

        const abandon = (producer: Producer) => {
          producer.fenced = true
          producer.since = undefined
        }
        const start = (seat: number): Producer => {
          const before = producers.get(seat)
          if (before !== undefined) {
            abandon(before)
            former.push(before)
          }
          const producer: Producer = {
            seat,
            who: right(cluster.transactions.initProducerId(`tx-${seat}`, timeout)),
            sequences: [0, 0],
            fenced: false,
            since: undefined,
            records: [],
            offset: undefined
          }
          producers.set(seat, producer)
          return producer
        }
        const use = (producer: Producer) => {
          if (producer.since !== undefined) return
          producer.since = time
          producer.records = []
          producer.offset = undefined
        }
        const refused = (producer: Producer, reply: Reply<unknown>) => {
          if (!producer.fenced) return false
          assert.strictEqual(Either.isLeft(reply) && reply.left.code, "PRODUCER_FENCED")
          return true
        }

        for (const one of steps) {
          if (one.op === "pass") {
            time += one.millis
            cluster.timers.runDue()
            for (const producer of producers.values()) {
              if (producer.since !== undefined && time - producer.since >= timeout) abandon(producer)
            }
            continue
          }
          if (one.op === "restart") {
            start(one.seat)
            continue
          }
          const current = producers.get(one.seat) ?? start(one.seat)
          // now and then somebody who has been replaced still tries
          const ghost = former.find(({ seat }) => seat === one.seat)
          const producer = count++ % 5 === 0 && ghost !== undefined ? ghost : current
          const id = `tx-${one.seat}`
          switch (one.op) {
            case "produce": {
              const { partition } = one
              const at = { topic: "t", partition }
              const added = cluster.transactions.addPartition(id, producer.who, at)
              if (refused(producer, added)) break
              right(added)
              use(producer)
              const value = `v${count}`
              const by = { ...producer.who, firstSequence: producer.sequences[partition]!, transactional: true }
              const stored = right(cluster.append(at, [record(value)], "all", by))
              // its answer was lost
              if (one.again) assert.deepStrictEqual(right(cluster.append(at, [record(value)], "all", by)), stored)
              producer.sequences[partition]!++
              producer.records.push([partition, value])
              break
            }
            case "offsets": {
              const offset = BigInt(count)
              const group = right(cluster.group(`g-${one.seat}`))
              const sent = cluster.transactions.addOffsets(id, producer.who, group, nobody, [
                { topic: "t", partition: 0, offset }
              ])
              if (refused(producer, sent)) break
              right(sent)
              use(producer)
              producer.offset = offset
              break
            }
            case "end": {
              const ended = cluster.transactions.end(id, producer.who, one.outcome)
              if (refused(producer, ended)) break
              if (producer.since === undefined) break
              right(ended)
              // and once more, because the answer was lost
              right(cluster.transactions.end(id, producer.who, one.outcome))
              producer.since = undefined
              if (one.outcome === "abort") break
              for (const [partition, value] of producer.records) committed[partition]!.push(value)
              if (producer.offset !== undefined) offsets.set(producer.seat, producer.offset)
            }
          }
        }
        // what is still open is aborted by its timeout
        time += timeout
        cluster.timers.runDue()
        for (const partition of [0, 1]) {
          const log = right(cluster.log({ topic: "t", partition }))
          assert.strictEqual(log.lastStableOffset, log.endOffset)
          const slice = log.read(0n, Number.MAX_SAFE_INTEGER, "read_committed")
          if (slice === "OutOfRange") return assert.fail("out of range")
          const read = slice.records.map(({ value }) => text(value))
          assert.strictEqual(new Set(read).size, read.length)
          assert.deepStrictEqual(read.toSorted(), committed[partition]!.toSorted())
        }
        for (const seat of [0, 1, 2]) {
          assert.strictEqual(right(cluster.committed(`g-${seat}`)).get("t:0")?.offset, offsets.get(seat))
        }
      }),
      { numRuns: 300 }
    )
  })
})
