/**
 * What keeps the order of a key while one of its records is in the retry topic: whoever reads a partition of the topic
 * knows which of its keys have records there, and sends later ones after them.
 *
 * All records of a key come from one partition, and go to the partition of the same number in the retry topic. So who
 * reads the partition is the only one who adds to them, and finds those of its predecessors between what the retries'
 * group has committed and the end. Nothing is remembered anywhere but in Kafka.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Consumer from "../../Consumer.ts"
import type { Assignment } from "../../ConsumerRecord.ts"
import { type AdminSession, KafkaClient } from "../../KafkaClient.ts"
import { KafkaObserver } from "../../KafkaEvent.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { TopicRegistry } from "../../TopicRegistry.ts"
import * as Retry from "../consumer/Retry.ts"
import type { Delivery } from "./Delivery.ts"
import { readRetry } from "./headers.ts"
import { KeyLocks } from "./KeyLocks.ts"
import type { RawTopic } from "./raw.ts"

/** How often it is looked up what has been committed, while a record waits to know, in milliseconds. */
const REFRESH = 1000

/** Records without a key have no order to keep. */
export const keyOf = ({ key }: Delivery): string | undefined =>
  key === null ? undefined : Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1")

interface Known {
  readonly locks: KeyLocks
  readonly mutex: Effect.Semaphore
  loaded: boolean
  refreshedAt: number
}

export interface Ordered {
  /** The locks of a record's partition at once, where they are known. */
  readonly known: (delivery: Delivery) => KeyLocks | undefined
  /** The locks of a record's partition, found out where they are not known. */
  readonly find: (delivery: Delivery) => Effect.Effect<KeyLocks, Consumer.StreamError | Consumer.MakeError>
  /** Forgets the keys that are done by now. */
  readonly refresh: (delivery: Delivery) => Effect.Effect<void, Consumer.StreamError>
}

export interface Options {
  readonly topic: RawTopic
  /** The group of the worker. */
  readonly groupId: string
  /** Whose group has committed what is done. */
  readonly retries: Consumer.Service
  /** How a reader of the retry topic is made. */
  readonly reader: Consumer.Options
  readonly admin: AdminSession
  /** In milliseconds. */
  readonly unavailableAfter: number
  readonly now: () => number
}

export const make = (options: Options): Effect.Effect<Ordered, never, KafkaClient | TopicRegistry> =>
  Effect.gen(function*() {
    const { admin, groupId, now, reader, retries, topic, unavailableAfter } = options
    const client = yield* KafkaClient
    const registry = yield* TopicRegistry
    const all = new WeakMap<Assignment, Known>()

    const place = (delivery: Delivery): TopicPartition.TopicPartition =>
      TopicPartition.make(registry.resolve(topic), delivery.partition)

    const knownOf = (delivery: Delivery): Known => {
      const { assignment } = delivery.raw
      let known = all.get(assignment)
      if (known === undefined) {
        known = { locks: new KeyLocks(), mutex: Effect.unsafeMakeSemaphore(1), loaded: false, refreshedAt: now() }
        all.set(assignment, known)
      }
      return known
    }

    const offset = (at: TopicPartition.TopicPartition, spec: "earliest" | "latest") =>
      Effect.map(
        Retry.until(admin.listOffsets([at], spec), {
          deadline: now() + unavailableAfter,
          retriable: Retry.isRetriable
        }),
        (found) => found.get(TopicPartition.key(at)) ?? 0n
      )

    /** What is not done of a partition of the retry topic. */
    const scan = (at: TopicPartition.TopicPartition, from: bigint, end: bigint, locks: KeyLocks) =>
      Effect.gen(function*() {
        const consumer = yield* Consumer.make(reader)
        const unfinished = consumer.streamUntil(topic, { offsets: new Map([[at.partition, end]]) }, {
          partitions: [{ partition: at.partition, offset: from }]
        })
        yield* Stream.runForEach(unfinished, (record) =>
          Effect.sync(() => {
            if (record.rawKey === null || readRetry(record.headers)?.mark.group !== groupId) return
            locks.lock(Buffer.from(record.rawKey).toString("latin1"), record.offset)
          }))
      }).pipe(
        Effect.scoped,
        // a look behind the scenes, and no member of the group
        Effect.provideService(KafkaObserver, { enabled: false, onEvent: () => {} }),
        Effect.provideService(KafkaClient, client),
        Effect.provideService(TopicRegistry, registry)
      )

    const committedAt = (at: TopicPartition.TopicPartition) =>
      Effect.map(retries.committed([at]), (found) => found.get(TopicPartition.key(at)))

    const find = (delivery: Delivery) =>
      Effect.suspend(() => {
        const known = knownOf(delivery)
        const at = place(delivery)
        const load = Effect.gen(function*() {
          if (known.loaded) return
          const end = yield* offset(at, "latest")
          const from = (yield* committedAt(at)) ?? (yield* offset(at, "earliest"))
          if (from < end) yield* scan(at, from, end, known.locks)
          known.loaded = true
        })
        return Effect.as(known.mutex.withPermits(1)(load), known.locks)
      })

    return {
      known: (delivery) => {
        const known = all.get(delivery.raw.assignment)
        return known?.loaded === true ? known.locks : undefined
      },
      find,
      refresh: (delivery) =>
        Effect.suspend(() => {
          const known = knownOf(delivery)
          if (now() - known.refreshedAt < REFRESH) return Effect.void
          known.refreshedAt = now()
          return Effect.map(committedAt(place(delivery)), (committed) => known.locks.release(committed ?? 0n))
        })
    }
  })
