/**
 * The producer's service, over a driver's session.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { KafkaClient, type RawProducerRecord, type SendError } from "../../KafkaClient.ts"
import { KafkaConfig } from "../../KafkaConfig.ts"
import {
  BufferFullError,
  type ClientError,
  type CommitError,
  ProducerError,
  type ProducerFencedError,
  TransactionError,
  UnknownTopicError,
  type UnsupportedFeatureError
} from "../../KafkaError.ts"
import type { ProduceError, Service } from "../../Producer.ts"
import type { ProducerRecord, RecordMetadata } from "../../ProducerRecord.ts"
import type * as Topic from "../../Topic.ts"
import { TopicRegistry } from "../../TopicRegistry.ts"
import * as Observe from "../observe.ts"
import { anyPartition, batchOverhead, Entry, type Waiter } from "./accumulator.ts"
import { Group, withRecords } from "./group.ts"
import * as sender from "./sender.ts"
import { serialize, sizeOf } from "./serialize.ts"
import type { Settings } from "./settings.ts"
import * as topics from "./topics.ts"
import { CurrentTransaction, type Transaction } from "./transaction.ts"

type OpenError = ClientError | ProducerFencedError | UnsupportedFeatureError

export const make = (
  settings: Settings
): Effect.Effect<Service, OpenError, KafkaClient | TopicRegistry | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* KafkaClient
    const registry = yield* TopicRegistry
    const emit = yield* Observe.make
    const config = yield* Effect.serviceOption(KafkaConfig)
    const { deliveryTimeout, maxRequestSize, partitioner, transactionalId } = settings

    const session = yield* client.openProducer({
      clientId: settings.clientId,
      acks: settings.acks,
      idempotent: settings.idempotent,
      compression: settings.compression,
      transactionalId,
      transactionTimeout: settings.transactionTimeout,
      requestTimeout: settings.requestTimeout,
      deliveryTimeout
    })
    const clientId = settings.clientId ?? (Option.isSome(config) ? config.value.clientId : client.driver)
    let transaction: Transaction | undefined
    const { accumulator, append, die, flush, now, refusal, withdraw } = yield* sender.make({
      session,
      settings,
      clientId,
      emit,
      onFailed: (error) => {
        if (error._tag === "UnknownTopicError") known.forget(error.topic)
        if (transaction !== undefined) transaction.failure ??= error
      }
    })
    const known = yield* topics.make({ session, accumulator, resolve: registry.resolve, now })

    // -- one record -----------------------------------------------------------------------------------------------

    const invalid = (topic: string, description: string, cause?: unknown): ProducerError =>
      new ProducerError({
        topic,
        reason: "invalid",
        retriable: false,
        description,
        ...(cause === undefined ? {} : { cause })
      })

    const choosePartition = (
      topic: topics.KnownTopic,
      key: Uint8Array | null,
      explicit: number | undefined
    ): number | ProducerError | UnknownTopicError => {
      const count = topic.queues.partitionCount
      let partition = explicit
      if (partition === undefined) {
        try {
          partition = partitioner(key, count, topic.name)
        } catch (cause) {
          return invalid(topic.name, "the partitioner threw: see the cause", cause)
        }
        if (partition === undefined) return anyPartition
      }
      if (!Number.isInteger(partition) || partition < 0) {
        return invalid(topic.name, `a partition is a whole number from zero, and this is ${partition}`)
      }
      if (partition < count) return partition
      return new UnknownTopicError({ operation: "produce", topic: topic.name, partition })
    }

    const entryOf = (
      topic: topics.KnownTopic,
      record: RawProducerRecord,
      explicit: number | undefined,
      waiter: Waiter,
      index: number
    ): Entry | ProducerError | UnknownTopicError => {
      const size = sizeOf(record)
      if (size + batchOverhead > maxRequestSize) {
        return new ProducerError({
          topic: topic.name,
          reason: "too-large",
          retriable: false,
          description: `${size + batchOverhead} bytes, and maxRequestSize is ${maxRequestSize}`
        })
      }
      const partition = choosePartition(topic, record.key, explicit)
      return typeof partition === "number"
        ? new Entry(topic.queues, partition, record, size, now() + deliveryTimeout, waiter, index)
        : partition
    }

    /** Fails with what was found before anything was sent. */
    const refuse = <E extends ProduceError>(topic: string, records: number, error: E): Effect.Effect<never, E> => {
      if (emit.enabled) {
        const partition = "partition" in error ? error.partition : undefined
        emit({ _tag: "ProduceFailed", clientId, topic, partition, records, error })
      }
      return Effect.fail(error)
    }

    /** Why nothing more is taken, or not here, or not now. */
    const obstacle = (
      topic: string,
      bytes: number,
      within: Transaction | undefined
    ): ProducerError | BufferFullError | SendError | undefined => {
      const over = refusal(topic)
      if (over !== undefined) return over
      if (transactionalId !== undefined && (within === undefined || within !== transaction || !within.open)) {
        return invalid(topic, "a transactional producer sends within Producer.transaction, and this is outside")
      }
      return settings.onBufferFull === "wait" || accumulator.hasRoom(bytes) ? undefined : new BufferFullError({
        topic,
        bufferedBytes: accumulator.bufferedBytes,
        limitBytes: settings.bufferMemory
      })
    }

    // -- sending --------------------------------------------------------------------------------------------------

    /** With the topic and the transaction this fiber is in. */
    const toTopic = <A, E, R>(
      slug: string,
      highest: number | undefined,
      f: (topic: topics.KnownTopic, within: Transaction | undefined) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | topics.LookupError | SendError | BufferFullError, R> => {
      type Error = E | topics.LookupError | SendError | BufferFullError
      const go = (within: Transaction | undefined): Effect.Effect<A, Error, R> => {
        const found = known.get(slug)
        if (!Effect.isEffect(found) && (highest === undefined || highest < found.queues.partitionCount)) {
          return f(found, within)
        }
        // the first record for this topic, or a partition that may have been added: nothing is asked once it is over
        const name = registry.resolve(slug)
        const over = obstacle(name, 0, within)
        if (over !== undefined) return refuse(name, 1, over)
        return Effect.isEffect(found)
          ? Effect.matchEffect(found, {
            onFailure: (error): Effect.Effect<A, Error, R> => refuse(name, 1, error),
            onSuccess: (topic) => f(topic, within)
          })
          : Effect.matchEffect(known.look(slug), {
            onFailure: () => f(found, within),
            onSuccess: (topic) => f(topic, within)
          })
      }
      return transactionalId === undefined
        ? Effect.suspend(() => go(undefined))
        : Effect.flatMap(CurrentTransaction, go)
    }

    const sendTo = (
      topic: topics.KnownTopic,
      raw: RawProducerRecord,
      partition: number | undefined,
      within: Transaction | undefined
    ): Effect.Effect<RecordMetadata, ProduceError> =>
      Effect.async((resume) => {
        const entry = entryOf(topic, raw, partition, new Single(resume), 0)
        if (!(entry instanceof Entry)) return resume(refuse(topic.name, 1, entry))
        const error = obstacle(topic.name, entry.size, within)
        if (error !== undefined) return resume(refuse(topic.name, 1, error))
        append(entry)
        return Effect.sync(() => withdraw(entry))
      })

    const send: Service["send"] = (topic, record) =>
      toTopic(topic.slug, record.partition, (known, within) => {
        const raw = serialize(known, topic, record, now())
        return Effect.isEffect(raw)
          ? Effect.matchEffect(raw, {
            onFailure: (error) => refuse(known.name, 1, error),
            onSuccess: (raw) => sendTo(known, raw, record.partition, within)
          })
          : sendTo(known, raw, record.partition, within)
      })

    /** Hands over all of them, or none where one of them is not fit to be sent. */
    const hand = (
      topic: topics.KnownTopic,
      raws: ReadonlyArray<RawProducerRecord>,
      records: ReadonlyArray<ProducerRecord<unknown, unknown>>,
      indexed: boolean,
      within: Transaction | undefined
    ): Effect.Effect<Handed, ProduceError> =>
      Effect.suspend(() => {
        const group = new Group(topic.name, raws.length, indexed)
        const entries: Array<Entry> = []
        const unfit = new Map<number, ProducerError | UnknownTopicError>()
        let bytes = 0
        for (let i = 0; i < raws.length; i++) {
          const entry = entryOf(topic, raws[i]!, records[i]!.partition, group, i)
          if (entry instanceof Entry) {
            entries.push(entry)
            bytes += entry.size
          } else {
            unfit.set(i, entry)
          }
        }
        if (unfit.size > 0) {
          const [first] = unfit.values()
          return refuse(
            topic.name,
            unfit.size,
            indexed && first!._tag === "ProducerError" ? withRecords(first!, [...unfit.keys()]) : first!
          )
        }
        const error = obstacle(topic.name, bytes, within)
        if (error !== undefined) return refuse(topic.name, raws.length, error)
        for (const entry of entries) append(entry)
        return Effect.succeed({ group, entries })
      })

    const handAll = <Slug extends string, K, V, R>(
      topic: Topic.Topic<Slug, K, V, R>,
      records: ReadonlyArray<ProducerRecord<K, V>>,
      indexed: boolean
    ): Effect.Effect<Handed, ProduceError, R> => {
      let highest: number | undefined
      for (const { partition } of records) {
        if (partition !== undefined && !(partition <= highest!)) highest = partition
      }
      return toTopic(topic.slug, highest, (known, within) => {
        const at = now()
        const raws = records.map((record) => serialize(known, topic, record, at))
        return raws.some(Effect.isEffect)
          ? Effect.matchEffect(Effect.forEach(raws, (raw) => Effect.isEffect(raw) ? raw : Effect.succeed(raw)), {
            onFailure: (error) => refuse(known.name, records.length, error),
            onSuccess: (raws) => hand(known, raws, records, indexed, within)
          })
          : hand(known, raws as ReadonlyArray<RawProducerRecord>, records, indexed, within)
      })
    }

    const withdrawAll = (entries: ReadonlyArray<Entry>) =>
      Effect.sync(() => {
        for (const entry of entries) withdraw(entry)
      })

    const enqueueGroup = <Slug extends string, K, V, R>(
      topic: Topic.Topic<Slug, K, V, R>,
      records: ReadonlyArray<ProducerRecord<K, V>>,
      indexed: boolean
    ): Effect.Effect<Effect.Effect<ReadonlyArray<RecordMetadata>, SendError>, ProduceError, R> =>
      Effect.flatMap(
        handAll(topic, records, indexed),
        ({ entries, group }) =>
          Effect.as(
            Effect.onInterrupt(group.accepted, () => withdrawAll(entries)),
            group.acknowledged
          )
      )

    // -- transactions ---------------------------------------------------------------------------------------------

    const oneAtATime = yield* Effect.makeSemaphore(1)

    /** What the driver says of a transaction; a producer that is fenced never sends again. */
    const asked = <A, E extends SendError | CommitError>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.tapError(effect, (error) =>
        Effect.sync(() => {
          if (error._tag === "ProducerFencedError") die(error)
        }))

    const begin: Effect.Effect<Transaction, SendError> = Effect.suspend(() => {
      const over = refusal("a transaction")
      if (over !== undefined) return Effect.fail(over)
      const current: Transaction = {
        open: true,
        failure: undefined,
        sendOffsets: (offsets, group) =>
          Effect.suspend(() =>
            current.open
              ? asked(session.sendOffsets(offsets, group))
              : Effect.fail(invalid("a transaction", "it has ended"))
          ).pipe(
            Effect.tapError((error) => Effect.sync(() => void (current.failure ??= error)))
          )
      }
      return Effect.map(asked(session.begin), () => transaction = current)
    })

    /** Takes back what was not sent, waits for what was, and aborts. */
    const abort = Effect.suspend(() => {
      accumulator.failQueued((_, topic, partition) =>
        new ProducerError({
          topic,
          ...(partition === undefined ? {} : { partition }),
          reason: "closed",
          retriable: true,
          description: "the transaction was aborted before the record was sent"
        })
      )
      return Effect.zipRight(flush, asked(session.abort))
    })

    /** Commits if all went well, and makes sure that it is aborted otherwise. */
    const end = <A, E>(
      current: Transaction,
      exit: Exit.Exit<A, E>,
      restore: <B, F, S>(effect: Effect.Effect<B, F, S>) => Effect.Effect<B, F, S>
    ): Effect.Effect<A, E | SendError | CommitError> => {
      const commit = Effect.suspend(() =>
        current.failure === undefined ? asked(session.commit) : Effect.fail(current.failure)
      )
      const committed = Effect.tap(exit, () => Effect.zipRight(restore(flush), commit))
      return Effect.catchAllCause(committed, (cause) =>
        Effect.matchCauseEffect(abort, {
          onFailure: (andToo) => Effect.failCause(Cause.sequential(cause, andToo)),
          onSuccess: () => Effect.failCause(cause)
        }))
    }

    const transact = <A, E, R>(
      effect: Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | SendError | CommitError | TransactionError, R> => {
      if (transactionalId === undefined) return Effect.fail(new TransactionError({ reason: "not-transactional" }))
      type Error = E | SendError | CommitError | TransactionError
      const one: Effect.Effect<A, Error, R> = Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(begin, (current) => {
          const startedAt = now()
          return restore(within(effect, current)).pipe(
            Effect.exit,
            Effect.flatMap((exit) => {
              current.open = false
              return end(current, exit, restore)
            }),
            Effect.onExit((exit) =>
              Effect.sync(() => {
                transaction = undefined
                if (!emit.enabled) return
                const outcome = Exit.isSuccess(exit) ? "committed" : "aborted"
                emit({ _tag: "TransactionEnded", transactionalId, outcome, millis: now() - startedAt })
              })
            )
          )
        })
      )
      return Effect.flatMap(CurrentTransaction, (outer): Effect.Effect<A, Error, R> =>
        outer !== undefined && outer === transaction
          ? Effect.fail(new TransactionError({ reason: "nested" }))
          : oneAtATime.withPermits(1)(one))
    }

    return {
      send,
      sendAll: (topic, records) =>
        Effect.flatMap(
          Effect.suspend(() =>
            handAll(topic, Array.from(records), true)
          ),
          ({ entries, group }) => Effect.onInterrupt(group.acknowledged, () => withdrawAll(entries))
        ),
      enqueue: (topic, record) =>
        Effect.map(
          enqueueGroup(topic, [record], false),
          Effect.map((metadata) => metadata[0]!)
        ),
      enqueueAll: (topic, records) => Effect.suspend(() => enqueueGroup(topic, Array.from(records), true)),
      flush,
      transaction: transact
    }
  })

/** The reference is nobody's requirement, so it is none that is taken away. */
const within = <A, E, R>(effect: Effect.Effect<A, E, R>, transaction: Transaction): Effect.Effect<A, E, R> =>
  Effect.mapInputContext(effect, (context: Context.Context<R>) => Context.add(context, CurrentTransaction, transaction))

interface Handed {
  readonly group: Group
  readonly entries: ReadonlyArray<Entry>
}

/** The one who waits for a single record. */
class Single implements Waiter {
  private readonly resume: (result: Effect.Effect<RecordMetadata, SendError>) => void
  constructor(resume: (result: Effect.Effect<RecordMetadata, SendError>) => void) {
    this.resume = resume
  }
  onAccepted(): void {}
  onStored(_: number, metadata: RecordMetadata): void {
    this.resume(Exit.succeed(metadata))
  }
  onFailed(_: number, error: SendError): void {
    this.resume(Exit.fail(error))
  }
}
