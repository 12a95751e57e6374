/**
 * The producer's service, over a driver's session: what stands between a caller's record and the accumulator.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as RuntimeFlags from "effect/RuntimeFlags"
import type * as Scope from "effect/Scope"
import { KafkaClient, type RawProducerRecord, type SendError } from "../../KafkaClient.ts"
import { KafkaConfig } from "../../KafkaConfig.ts"
import {
  BufferFullError,
  type ClientError,
  ProducerError,
  type ProducerFencedError,
  type UnknownTopicError,
  type UnsupportedFeatureError
} from "../../KafkaError.ts"
import type { ProduceError, Service } from "../../Producer.ts"
import type { ProducerRecord, RecordMetadata } from "../../ProducerRecord.ts"
import type * as Topic from "../../Topic.ts"
import { TopicRegistry } from "../../TopicRegistry.ts"
import { asyncOnce } from "../asyncOnce.ts"
import * as Observe from "../observe.ts"
import * as Tracing from "../tracing.ts"
import { batchOverhead, type Entry } from "./accumulator.ts"
import { Enqueued } from "./enqueued.ts"
import { Group, GroupEntry, naming, withRecords } from "./group.ts"
import * as partition from "./partition.ts"
import * as senders from "./sender.ts"
import { type SendFrom, withSendFrom } from "./sendFrom.ts"
import { type Inject, serialize, type Serialized, sizeOf } from "./serialize.ts"
import { type Settings, withSettings } from "./settings.ts"
import { Single } from "./single.ts"
import * as topics from "./topics.ts"
import * as transactions from "./transaction.ts"

type OpenError = ClientError | ProducerFencedError | UnsupportedFeatureError
type Transaction = transactions.Transaction | undefined
/** What a fiber goes on with. */
type Resume = (result: Effect.Effect<RecordMetadata, ProduceError>) => void

export const make = (
  settings: Settings
): Effect.Effect<Service, OpenError, KafkaClient | TopicRegistry | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* KafkaClient
    const registry = yield* TopicRegistry
    const emit = yield* Observe.make
    const config = yield* Effect.serviceOption(KafkaConfig)
    const { deliveryTimeout, maxRequestSize, partitioner, transactionalId } = settings
    const clientId = settings.clientId ?? (Option.isSome(config) ? config.value.clientId : client.driver)

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
    if (emit.enabled) emit({ _tag: "Connection", clientId, state: "connected" })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        if (emit.enabled) emit({ _tag: "ProducerClosed", clientId })
      })
    )
    const sender = yield* senders.make({
      session,
      settings,
      clientId,
      emit,
      onFailed: (error) => {
        if (error._tag === "UnknownTopicError") known.forget(error.topic)
        const transaction = current()
        if (transaction !== undefined) transaction.failure ??= error
      }
    })
    const { accumulator, append, flush, now, refusal, timestamp, withdraw } = sender
    const known = yield* topics.make({ session, accumulator, resolve: registry.resolve, now })
    const { current, transact } = yield* transactions.make({
      session,
      sender,
      transactionalId,
      transactionTimeout: settings.transactionTimeout,
      closeTimeout: settings.closeTimeout,
      emit
    })

    // -- what stands in the way -----------------------------------------------------------------------------------

    /** Fails with what was found before anything was sent. */
    const refuse = <E extends ProduceError>(topic: string, records: number, error: E): Effect.Effect<never, E> => {
      if (emit.enabled) {
        const partition = "partition" in error ? error.partition : undefined
        emit({ _tag: "ProduceFailed", clientId, topic, partition, records, error })
      }
      return Effect.fail(error)
    }

    /** Why nothing is taken any more, or not here. */
    const misplaced = (topic: string, within: Transaction): SendError | undefined => {
      const over = refusal(topic)
      if (over !== undefined) return over
      return transactionalId === undefined || (within !== undefined && within === current() && within.open)
        ? undefined
        : partition.invalid(topic, "a transactional producer sends within Producer.transaction, and this is not")
    }

    /** Why nothing is taken any more, or not here, or not now. */
    const obstacle = (topic: string, bytes: number, within: Transaction): SendError | BufferFullError | undefined =>
      misplaced(topic, within) ??
        (settings.onBufferFull === "wait" || accumulator.hasRoom(bytes) ? undefined : new BufferFullError({
          topic,
          bufferedBytes: accumulator.bufferedBytes,
          limitBytes: settings.bufferMemory
        }))

    const tooLarge = (topic: string, size: number): ProducerError | undefined =>
      size + batchOverhead <= maxRequestSize ? undefined : new ProducerError({
        topic,
        reason: "too-large",
        retriable: false,
        description: `${size + batchOverhead} bytes, and maxRequestSize is ${maxRequestSize}`
      })

    // -- what has to be known first -------------------------------------------------------------------------------

    /** The transaction of this producer that a fiber is in. Only a transactional producer has to look. */
    const transactionOf = (fiber: Fiber.RuntimeFiber<unknown, unknown>): Transaction => {
      if (transactionalId === undefined) return undefined
      const one = current()
      const innermost = Context.get(fiber.currentContext, transactions.CurrentTransaction)
      return one !== undefined && transactions.isWithin(innermost, one) ? one : undefined
    }

    /** The topic as the cluster has it: asked for the first time, and where a partition may have been added. */
    const lookUp = (
      slug: string,
      highest: number | undefined,
      within: Transaction
    ): Effect.Effect<topics.KnownTopic, topics.LookupError | SendError | BufferFullError> => {
      const found = known.get(slug, now())
      const name = registry.resolve(slug)
      const error = obstacle(name, 0, within)
      if (error !== undefined) return refuse(name, 1, error)
      if (found === undefined) return Effect.catchAll(known.look(slug), (error) => refuse(name, 1, error))
      return isNew(found, highest) ? Effect.orElseSucceed(known.look(slug), () => found) : Effect.succeed(found)
    }

    /** What is done with a record in bytes, once its topic is known. At once, where both are at hand: mostly they are. */
    const prepare = <Slug extends string, K, V, R, A, E>(
      topic: Topic.Topic<Slug, K, V, R>,
      record: ProducerRecord<K, V>,
      within: Transaction,
      inject: Inject,
      go: (topic: topics.KnownTopic, raw: RawProducerRecord, at: number) => Effect.Effect<A, E>
    ): Effect.Effect<A, E | ProduceError, R> => {
      const inBytes = (known: topics.KnownTopic, at: number): Effect.Effect<A, E | ProduceError, R> => {
        const raw = serialize(known, topic, record, timestamp(at), inject)
        return Effect.isEffect(raw)
          ? Effect.matchEffect(raw, {
            onFailure: (error): Effect.Effect<A, E | ProduceError> => refuse(known.name, 1, error),
            onSuccess: (raw) => go(known, raw, now())
          })
          : go(known, raw, at)
      }
      const at = now()
      const found = known.get(topic.slug, at)
      return found !== undefined && !isNew(found, record.partition)
        ? inBytes(found, at)
        : Effect.flatMap(lookUp(topic.slug, record.partition, within), (found) => inBytes(found, now()))
    }

    // -- one record -----------------------------------------------------------------------------------------------

    const sendFrom: SendFrom = (fiber, flags, topic, record) => {
      const within = transactionOf(fiber)
      const waits = RuntimeFlags.interruptible(flags) ? fiber : undefined
      const tracing = Tracing.of(fiber)
      if (tracing === undefined) return sendOne(topic, record, within, waits, undefined)
      return Tracing.sending(
        tracing,
        { clientId, topic: registry.resolve(topic.slug), records: undefined, record },
        (inject) => sendOne(topic, record, within, waits, inject)
      )
    }

    const send = withSendFrom(
      (topic, record) =>
        Effect.withFiberRuntime((fiber, { runtimeFlags }) => sendFrom(fiber, runtimeFlags, topic, record)),
      sendFrom
    )

    const sendOne = <Slug extends string, K, V, R>(
      topic: Topic.Topic<Slug, K, V, R>,
      record: ProducerRecord<K, V>,
      within: Transaction,
      waits: Fiber.RuntimeFiber<unknown, unknown> | undefined,
      inject: Inject
    ): Effect.Effect<RecordMetadata, ProduceError, R> =>
      prepare(
        topic,
        record,
        within,
        inject,
        (known, raw, at) => asyncOnce((resume) => sendRaw(known, raw, record.partition, at, within, waits, resume))
      )

    const sendRaw = (
      topic: topics.KnownTopic,
      raw: RawProducerRecord,
      explicit: number | undefined,
      at: number,
      within: Transaction,
      waits: Fiber.RuntimeFiber<unknown, unknown> | undefined,
      resume: Resume
    ): void => {
      const size = sizeOf(raw)
      const chosen = tooLarge(topic.name, size) ?? partition.choose(topic, raw.key, explicit, partitioner)
      if (typeof chosen !== "number") return resume(refuse(topic.name, 1, chosen))
      const entry = new Single(topic.queues, chosen, raw, size, at + deliveryTimeout, waits)
      const hand = (resume: Resume): void => {
        const error = obstacle(topic.name, size, within)
        if (error !== undefined) return resume(refuse(topic.name, 1, error))
        entry.resume = resume
        append(entry, at)
      }
      if (accumulator.hasRoom(size)) return hand(resume)
      // who is interrupted in the line before the buffer leaves it at once; in the buffer it is noticed in time
      resume(Effect.onInterrupt(asyncOnce(hand), () => withdrawAll([entry])))
    }

    const withdrawAll = (entries: ReadonlyArray<Entry>) =>
      Effect.sync(() => {
        for (const entry of entries) withdraw(entry)
      })

    // -- many records ---------------------------------------------------------------------------------------------

    const orWithdraw = <A, E>(effect: Effect.Effect<A, E>, { entries }: Group): Effect.Effect<A, E> =>
      Effect.onInterrupt(effect, () => withdrawAll(entries))

    /** What one caller puts into the line for room at a time: others want to come between. */
    const pieceSize = settings.onBufferFull === "wait" ? settings.bufferMemory / 2 : Infinity

    /** Hands over all of them, or none where one of them is not fit to be sent. */
    const hand = (
      topic: topics.KnownTopic,
      raws: ReadonlyArray<RawProducerRecord>,
      records: ReadonlyArray<ProducerRecord<unknown, unknown>>,
      indexed: boolean,
      within: Transaction
    ): Effect.Effect<Group, ProduceError> => {
      const sizes: Array<number> = []
      const partitions: Array<number> = []
      const unfit = new Map<number, ProducerError | UnknownTopicError>()
      let bytes = 0
      for (let i = 0; i < raws.length; i++) {
        const { key } = raws[i]!
        const size = sizeOf(raws[i]!)
        const chosen = tooLarge(topic.name, size) ?? partition.choose(topic, key, records[i]!.partition, partitioner)
        if (typeof chosen !== "number") unfit.set(i, chosen)
        else partitions.push(chosen)
        sizes.push(size)
        bytes += size
      }
      const [first] = unfit.values()
      if (first !== undefined) {
        const named = indexed && first._tag === "ProducerError" ? withRecords(first, [...unfit.keys()]) : first
        return refuse(topic.name, unfit.size, named)
      }
      const error = obstacle(topic.name, bytes, within)
      if (error !== undefined) return refuse(topic.name, raws.length, error)

      const group = new Group(topic.name, raws.length, indexed)
      let handed = 0
      const handPiece = (): Effect.Effect<void> => {
        const at = now()
        for (let room = pieceSize; handed < raws.length && room > 0;) {
          const i = handed++
          const entry = new GroupEntry(
            topic.queues,
            partitions[i]!,
            raws[i]!,
            sizes[i]!,
            at + deliveryTimeout,
            group,
            i
          )
          room -= entry.size
          group.entries.push(entry)
          append(entry, at)
        }
        return handed < raws.length ? group.decided(handed) : Effect.void
      }
      if (bytes <= pieceSize && accumulator.hasRoom(bytes)) return Effect.as(handPiece(), group)
      const all = Effect.whileLoop({
        while: () => {
          if (handed === raws.length) return false
          const error = group.turnedAway ?? misplaced(topic.name, within)
          if (error === undefined) return true
          for (let i = handed; i < raws.length; i++) group.onFailed(i, error)
          return false
        },
        body: handPiece,
        step: () => {}
      })
      return Effect.as(orWithdraw(all, group), group)
    }

    const handAll = <Slug extends string, K, V, R>(
      topic: Topic.Topic<Slug, K, V, R>,
      records: ReadonlyArray<ProducerRecord<K, V>>,
      inject: Inject
    ): Effect.Effect<Group, ProduceError, R> =>
      Effect.withFiberRuntime((fiber) => {
        const within = transactionOf(fiber)
        const highest = records.reduce((most, { partition }) => Math.max(most, partition ?? 0), 0)
        return Effect.flatMap(
          lookUp(topic.slug, highest, within),
          (known): Effect.Effect<Group, ProduceError, R> => {
            const stamp = timestamp(now())
            const raws = records.map((record) => serialize(known, topic, record, stamp, inject))
            const bytesOf = (raw: Serialized<R>, i: number) =>
              Effect.isEffect(raw) ? Effect.mapError(raw, (error) => naming(error, i)) : Effect.succeed(raw)
            return areBytes(raws)
              ? hand(known, raws, records, true, within)
              : Effect.matchEffect(Effect.forEach(raws, bytesOf), {
                onFailure: (error) => refuse(known.name, records.length, error),
                onSuccess: (raws) => hand(known, raws, records, true, within)
              })
          }
        )
      })

    const sendGroup = <Slug extends string, K, V, R>(
      topic: Topic.Topic<Slug, K, V, R>,
      records: ReadonlyArray<ProducerRecord<K, V>>,
      inject: Inject
    ): Effect.Effect<ReadonlyArray<RecordMetadata>, ProduceError, R> =>
      Effect.flatMap(
        handAll(topic, records, inject),
        (group) => orWithdraw(group.settled, group)
      )

    const enqueueGroup = <Slug extends string, K, V, R>(
      topic: Topic.Topic<Slug, K, V, R>,
      records: ReadonlyArray<ProducerRecord<K, V>>,
      inject: Inject
    ): Effect.Effect<Effect.Effect<ReadonlyArray<RecordMetadata>, SendError>, ProduceError, R> =>
      Effect.flatMap(handAll(topic, records, inject), handedOver)

    const handedOver = (
      group: Group
    ): Effect.Effect<Effect.Effect<ReadonlyArray<RecordMetadata>, SendError>, SendError> =>
      Effect.flatMap(
        orWithdraw(group.decided(group.records), group),
        () => group.handedOver
      )

    // -- one record whose caller goes on --------------------------------------------------------------------------

    const enqueueOne = <Slug extends string, K, V, R>(
      topic: Topic.Topic<Slug, K, V, R>,
      record: ProducerRecord<K, V>,
      within: Transaction,
      inject: Inject
    ): Effect.Effect<Effect.Effect<RecordMetadata, SendError>, ProduceError, R> =>
      prepare(topic, record, within, inject, (known, raw, at) => enqueueRaw(known, raw, record, at, within))

    const enqueueRaw = (
      topic: topics.KnownTopic,
      raw: RawProducerRecord,
      record: ProducerRecord<unknown, unknown>,
      at: number,
      within: Transaction
    ): Effect.Effect<Effect.Effect<RecordMetadata, SendError>, ProduceError> => {
      const size = sizeOf(raw)
      // in the line before the buffer it is as one of many
      if (!accumulator.hasRoom(size)) {
        return Effect.map(
          Effect.flatMap(hand(topic, [raw], [record], false, within), handedOver),
          Effect.map((metadata) => metadata[0]!)
        )
      }
      const chosen = tooLarge(topic.name, size) ?? partition.choose(topic, raw.key, record.partition, partitioner)
      if (typeof chosen !== "number") return refuse(topic.name, 1, chosen)
      const error = misplaced(topic.name, within)
      if (error !== undefined) return refuse(topic.name, 1, error)
      const entry = new Enqueued(topic.queues, chosen, raw, size, at + deliveryTimeout)
      append(entry, at)
      return Effect.succeed(entry.acknowledged)
    }

    /** What the span of some records says of them. */
    const traced = (
      topic: Topic.Any,
      records: ReadonlyArray<ProducerRecord<unknown, unknown>>
    ): Tracing.SendingOptions => ({
      clientId,
      topic: registry.resolve(topic.slug),
      records: records.length,
      record: undefined
    })

    const service: Service = {
      send,
      sendAll: (topic, records) =>
        Effect.withFiberRuntime((fiber) => {
          const tracing = Tracing.of(fiber)
          const all = Array.from(records)
          return tracing === undefined
            ? sendGroup(topic, all, undefined)
            : Tracing.sending(tracing, traced(topic, all), (inject) => sendGroup(topic, all, inject))
        }),
      enqueue: (topic, record) =>
        Effect.withFiberRuntime((fiber) => {
          const within = transactionOf(fiber)
          const tracing = Tracing.of(fiber)
          return tracing === undefined
            ? enqueueOne(topic, record, within, undefined)
            : Tracing.enqueueing(
              tracing,
              { ...traced(topic, [record]), records: undefined, record },
              (inject) => enqueueOne(topic, record, within, inject)
            )
        }),
      enqueueAll: (topic, records) =>
        Effect.withFiberRuntime((fiber) => {
          const tracing = Tracing.of(fiber)
          const all = Array.from(records)
          return tracing === undefined
            ? enqueueGroup(topic, all, undefined)
            : Tracing.enqueueing(tracing, traced(topic, all), (inject) => enqueueGroup(topic, all, inject))
        }),
      flush,
      transaction: transact
    }
    return withSettings(service, settings)
  })

/** Whether there may be a partition that was not there when the topic was looked up. */
const isNew = (topic: topics.KnownTopic, highest: number | undefined): boolean =>
  highest !== undefined && highest >= topic.queues.partitionCount

const areBytes = <R>(
  raws: ReadonlyArray<Serialized<R>>
): raws is ReadonlyArray<RawProducerRecord> => !raws.some(Effect.isEffect)
