/** A producer's session while brokers die and come back. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type { BatchResult, ProducerBatch, ProducerSession, SendError } from "../../src/KafkaClient.ts"
import { batch, makeTopic, readLog, send } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import type { Sessions } from "./Sessions.ts"
/** What became of the records of one partition, in the order in which they were sent. */
interface Fate {
  readonly value: string
  readonly outcome: "stored" | "unknown" | "refused"
}

const partitions = [0, 1, 2, 3, 4, 5]

/**
 * Sends batch after batch to every partition, as the engine does: what is to be sent again goes first, and nothing
 * overtakes it.
 */
class Load {
  readonly fates = partitions.map((): Array<Fate> => [])
  private readonly next = partitions.map(() => 0)
  private readonly again = partitions.map((): ProducerBatch | undefined => undefined)
  private settled = 0
  private stopped = false
  private readonly session: ProducerSession
  private readonly topic: string

  constructor(session: ProducerSession, topic: string) {
    this.session = session
    this.topic = topic
  }

  stop(): void {
    this.stopped = true
  }

  /** Until so many more batches have been settled. */
  progress(batches: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const enough = this.settled + batches
      return Effect.async<void>((resume) => {
        const look = () => this.settled >= enough ? resume(Effect.void) : setTimeout(look, 10)
        look()
      })
    })
  }

  get run(): Effect.Effect<void> {
    return Effect.suspend(() => this.round()).pipe(
      Effect.repeat({ while: () => !this.stopped || this.again.some((one) => one !== undefined) }),
      Effect.asVoid
    )
  }

  private fresh(p: number): ProducerBatch {
    return batch(this.topic, p, ...this.stopped ? [] : Array.from({ length: 20 }, () => `${p}-${this.next[p]!++}`))
  }

  private round(): Effect.Effect<void> {
    const wanted = partitions.map((p) => this.again[p] ?? this.fresh(p)).filter((one) => one.records.length > 0)
    return this.session.send(wanted).pipe(
      Effect.map((results) => wanted.filter((one, i) => this.settle(one, results[i]!) === "settled").length > 0),
      Effect.flatMap((some) => some ? Effect.void : Effect.sleep(100))
    )
  }

  private settle(one: ProducerBatch, result: BatchResult): "settled" | "again" {
    const { partition, records } = one
    this.again[partition] = undefined
    if (result._tag === "Failed" && (result.outcome === "retry" || result.outcome === "pending")) {
      this.again[partition] = one
      return "again"
    }
    const outcome = result._tag === "Stored" ? "stored" : result.outcome === "unknown" ? "unknown" : "refused"
    this.fates[partition]!.push(
      ...records.map((record): Fate => ({ value: new TextDecoder().decode(record.value!), outcome }))
    )
    this.settled++
    return "settled"
  }
}

/** Each broker that is killed takes its time to be back. */
export const surviving = ({ name, open }: Sessions, killed: ReadonlyArray<number>): void => {
  RealKafka.suiteOfOwn(`producing through ${name} while brokers are killed`, () => {
    it.scopedLive("what is acknowledged is stored once and in order, whatever dies", () =>
      Effect.gen(function*() {
        const kafka = yield* RealKafka.start({ brokers: 3 })
        const topic = yield* makeTopic(kafka.bootstrapServers, { partitions: 6, replicas: 3 })
        const session = yield* open(kafka.bootstrapServers, { requestTimeout: 5000, deliveryTimeout: 30_000 })
        const load = new Load(session, topic)
        const loading = yield* Effect.fork(load.run)
        for (const nodeId of killed) {
          yield* load.progress(400)
          yield* kafka.broker(nodeId).kill
          yield* load.progress(400)
          yield* kafka.broker(nodeId).start
        }
        yield* load.progress(400)
        yield* kafka.broker(2).pause
        yield* load.progress(100)
        yield* kafka.broker(2).resume
        yield* load.progress(400)
        load.stop()
        yield* Fiber.join(loading)

        const log = yield* readLog(kafka.bootstrapServers, topic)
        for (const p of partitions) {
          const stored = log.filter((one) => one.partition === p).map((one) => one.value!)
          const fate = new Map(load.fates[p]!.map(({ outcome, value }) => [value, outcome]))
          // every record that was acknowledged, once and in order; those in doubt may be between them, once
          expect(new Set(stored).size).toBe(stored.length)
          expect(stored.filter((value) => fate.get(value) === "stored")).toEqual(
            load.fates[p]!.filter((one) => one.outcome === "stored").map((one) => one.value)
          )
          expect(stored.filter((value) => fate.get(value) === "refused")).toEqual([])
          expect(stored.length).toBeGreaterThan(0)
        }
      }), 180_000)
  })
}

/** What became of the transactions of a session, which writes the same value to each of three partitions in each. */
class Transacting {
  readonly committed: Array<string> = []
  readonly uncertain = new Set<string>()
  private settled = 0
  private stopped = false
  private readonly session: ProducerSession
  private readonly topic: string

  constructor(session: ProducerSession, topic: string) {
    this.session = session
    this.topic = topic
  }

  stop(): void {
    this.stopped = true
  }

  /** Until so many more have been committed. */
  progress(transactions: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const enough = this.committed.length + transactions
      return Effect.async<void>((resume) => {
        const look = () => this.committed.length >= enough ? resume(Effect.void) : setTimeout(look, 10)
        look()
      })
    })
  }

  get run(): Effect.Effect<void, SendError> {
    return Effect.repeat(Effect.suspend(() => this.one(this.settled++)), { while: () => !this.stopped }).pipe(
      Effect.asVoid
    )
  }

  /** Every fourth is aborted, and so is each that did not come so far as to be committed. */
  private one(n: number): Effect.Effect<void, SendError> {
    return Effect.gen(this, function*() {
      const { session, topic } = this
      yield* session.begin
      const results = yield* send(session, [0, 1, 2].map((partition) => batch(topic, partition, String(n))))
      const stored = results.every(({ _tag }) => _tag === "Stored")
      const ended = stored && n % 4 !== 3 ? yield* Effect.either(session.commit) : undefined
      if (ended !== undefined && Either.isRight(ended)) return void this.committed.push(String(n))
      if (ended !== undefined && ended.left._tag === "ProducerError" && ended.left.reason === "unknown-outcome") {
        this.uncertain.add(String(n))
      }
      yield* session.abort
    })
  }
}

/** Transactions, while brokers are killed that coordinate them or lead their partitions. */
export const survivingTransactions = ({ name, open }: Sessions, killed: ReadonlyArray<number>): void => {
  RealKafka.suiteOfOwn(`transactions through ${name} while brokers are killed`, () => {
    it.scopedLive(
      "what is committed is read once and in order from all partitions, and nothing else",
      () =>
        Effect.gen(function*() {
          const kafka = yield* RealKafka.start({ brokers: 3 })
          const topic = yield* makeTopic(kafka.bootstrapServers, { partitions: 3, replicas: 3 })
          const session = yield* open(kafka.bootstrapServers, {
            transactionalId: topic,
            requestTimeout: 5000,
            deliveryTimeout: 30_000
          })
          const load = new Transacting(session, topic)
          const loading = yield* Effect.fork(load.run)
          for (const nodeId of killed) {
            yield* load.progress(30)
            yield* kafka.broker(nodeId).kill
            yield* load.progress(30)
            yield* kafka.broker(nodeId).start
          }
          yield* load.progress(30)
          load.stop()
          yield* Fiber.join(loading)

          const log = yield* readLog(kafka.bootstrapServers, topic)
          const read = [0, 1, 2].map((p) => log.filter((one) => one.partition === p).map((one) => one.value!))
          for (const values of read) {
            expect(values.filter((value) => !load.uncertain.has(value))).toEqual(load.committed)
            // one in doubt is in all partitions or in none
            expect(values).toEqual(read[0])
          }
        }),
      180_000
    )
  })
}
