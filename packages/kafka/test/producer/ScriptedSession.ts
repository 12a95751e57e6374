/**
 * A driver whose every answer is given by the test.
 */
import * as KafkaClient from "@coffeebuddy/kafka/KafkaClient"
import * as KafkaError from "@coffeebuddy/kafka/KafkaError"
import * as Producer from "@coffeebuddy/kafka/Producer"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import * as TopicRegistry from "@coffeebuddy/kafka/TopicRegistry"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"

export interface Request {
  readonly batches: ReadonlyArray<KafkaClient.ProducerBatch>
  /** Values as text, for each batch. */
  readonly values: ReadonlyArray<ReadonlyArray<string>>
  readonly answer: (results: ReadonlyArray<KafkaClient.BatchResult>) => Effect.Effect<void>
  /** Stores all batches, each from offset nought. */
  readonly store: Effect.Effect<void>
  /** The same failure for all batches. */
  readonly fail: (outcome: "retry" | "unknown" | "refuse", error?: KafkaClient.SendError) => Effect.Effect<void>
  /** The driver breaks. */
  readonly die: (defect: unknown) => Effect.Effect<void>
}

export interface Service {
  /** The next request, once there is one. */
  readonly request: Effect.Effect<Request>
  /** How many requests wait to be looked at. */
  readonly waiting: Effect.Effect<number>
  readonly options: () => KafkaClient.ProducerSessionOptions | undefined
  /** What a topic has from now on: a number of partitions, or why it can't be said. */
  readonly partitions: (answer: number | KafkaError.UnknownTopicError | KafkaError.ClientError) => void
  readonly lookups: () => number
  /** `begin`, `commit`, `abort` and `sendOffsets`, as they were called. */
  readonly calls: ReadonlyArray<string>
  /** Lets a call fail from now on. */
  readonly failCall: (name: "begin" | "commit" | "abort" | "sendOffsets", error: KafkaClient.SendError) => void
}

export class Script extends Context.Tag("test/Script")<Script, Service>() {}

const nothing: KafkaClient.Capabilities = {
  awaitedRevoke: false,
  cooperative: false,
  perPartitionDemand: false,
  transactionalGroupMetadata: false,
  staticMembership: false,
  consumerProtocol: false
}

const text = (bytes: Uint8Array | null) => bytes === null ? "null" : Buffer.from(bytes).toString()

const make = (maxInFlight: number) =>
  Effect.gen(function*() {
    const requests = yield* Queue.unbounded<Request>()
    const calls: Array<string> = []
    const failures = new Map<string, KafkaClient.SendError>()
    let options: KafkaClient.ProducerSessionOptions | undefined
    let partitions: number | KafkaError.UnknownTopicError | KafkaError.ClientError = 1
    let lookups = 0

    const call = (name: string) =>
      Effect.suspend(() => {
        calls.push(name)
        const error = failures.get(name)
        return error === undefined ? Effect.void : Effect.fail(error)
      })
    const session: KafkaClient.ProducerSession = {
      capabilities: nothing,
      maxInFlight,
      send: (batches) =>
        Effect.flatMap(Deferred.make<ReadonlyArray<KafkaClient.BatchResult>>(), (answer) => {
          const give = (results: ReadonlyArray<KafkaClient.BatchResult>) =>
            Effect.asVoid(Deferred.succeed(answer, results))
          const request: Request = {
            batches: batches.map(({ partition, records, topic }) => ({ topic, partition, records: [...records] })),
            values: batches.map((batch) => batch.records.map(({ value }) => text(value))),
            answer: give,
            store: give(batches.map(() => ({ _tag: "Stored", baseOffset: 0n }))),
            fail: (outcome, error = timeout) => give(batches.map(() => ({ _tag: "Failed", outcome, error }))),
            die: (defect) => Effect.asVoid(Deferred.die(answer, defect))
          }
          return Effect.zipRight(Queue.offer(requests, request), Deferred.await(answer))
        }),
      partitionCount: () =>
        Effect.suspend(() => {
          lookups++
          return typeof partitions === "number" ? Effect.succeed(partitions) : Effect.fail(partitions)
        }),
      begin: call("begin"),
      commit: call("commit"),
      abort: call("abort"),
      sendOffsets: (offsets, group) =>
        call("sendOffsets").pipe(
          Effect.tap(() => calls.push(`${group.groupId}: ${offsets.map(({ offset }) => offset).join()}`))
        )
    }
    const client: KafkaClient.Service = {
      driver: "scripted",
      capabilities: nothing,
      openProducer: (given) =>
        Effect.sync(() => {
          options = given
          return session
        }),
      openConsumer: () => Effect.dieMessage("no consumers here"),
      openAdmin: Effect.dieMessage("no admins here")
    }
    const script: Service = {
      request: Queue.take(requests),
      waiting: Queue.size(requests),
      options: () => options,
      partitions: (answer) => void (partitions = answer),
      lookups: () => lookups,
      calls,
      failCall: (name, error) => void failures.set(name, error)
    }
    return Context.make(KafkaClient.KafkaClient, client).pipe(Context.add(Script, script))
  })

export const timeout = new KafkaError.KafkaTimeoutError({ operation: "produce", millis: 30_000 })

/** A topic of plain text. */
export const Orders = Topic.make("orders", { key: Serde.nullable(Serde.string), value: Serde.string })

/** The driver alone. */
export const layer = (options: { readonly maxInFlight?: number } = {}): Layer.Layer<
  KafkaClient.KafkaClient | Script | TopicRegistry.TopicRegistry
> => Layer.merge(Layer.effectContext(make(options.maxInFlight ?? 1)), Layer.orDie(TopicRegistry.layerWith({})))

/** A producer on the scripted driver. */
export const producer = (
  options: Producer.Options = {},
  session: { readonly maxInFlight?: number } = {}
): Layer.Layer<Producer.Producer | Script | KafkaClient.KafkaClient | TopicRegistry.TopicRegistry> =>
  Layer.orDie(Producer.layer({ closeTimeout: 0, ...options })).pipe(Layer.provideMerge(layer(session)))
