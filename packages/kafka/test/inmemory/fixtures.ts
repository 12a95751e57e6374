import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import * as KafkaClient from "../../src/KafkaClient.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

const encoder = new TextEncoder()
const decoder = new TextDecoder()

export const bytes = (text: string): Uint8Array => encoder.encode(text)
export const text = (bytes: Uint8Array | null): string | null => bytes === null ? null : decoder.decode(bytes)

export const record = (
  value: string | null,
  options: { readonly key?: string; readonly timestamp?: bigint } = {}
): KafkaClient.RawProducerRecord => ({
  key: options.key === undefined ? null : bytes(options.key),
  value: value === null ? null : bytes(value),
  headers: [],
  timestamp: options.timestamp ?? 0n
})

export const producerOptions: KafkaClient.ProducerSessionOptions = {
  acks: "all",
  idempotent: true,
  compression: "none",
  transactionTimeout: 60_000,
  requestTimeout: 30_000,
  deliveryTimeout: 120_000
}

export const consumerOptions: Omit<KafkaClient.ConsumerSessionOptions, "callbacks"> = {
  groupId: "group",
  isolationLevel: "read_committed",
  assignment: "eager",
  sessionTimeout: 45_000,
  heartbeatInterval: 3_000,
  rebalanceTimeout: 60_000,
  fetchMaxBytesPerPartition: 1_048_576,
  fetchMaxBytes: 52_428_800,
  fetchMinBytes: 1,
  fetchMaxWait: 500,
  unavailableAfter: 60_000
}

/** What happened to a session, in order. */
export interface Watched {
  readonly session: KafkaClient.ConsumerSession
  readonly log: Array<string>
  readonly owned: Set<TopicPartition.Key>
  readonly notices: Array<KafkaClient.ConsumerNotice>
  /** Polls everything owned, once, and answers the values. */
  readonly poll: (maxWait?: number) => Effect.Effect<Array<string | null>, unknown>
}

export interface WatchedOptions extends Partial<KafkaClient.ConsumerSessionOptions> {
  readonly onRevoked?: (partitions: ReadonlyArray<TopicPartition.TopicPartition>) => Effect.Effect<void>
}

const show = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): string =>
  partitions.map(TopicPartition.key).sort().join(",")

/** A session that starts each partition from what is committed, else from the beginning. */
export const open = (client: KafkaClient.Service, options: WatchedOptions = {}) =>
  Effect.gen(function*() {
    const log: Array<string> = []
    const owned = new Set<TopicPartition.Key>()
    const notices: Array<KafkaClient.ConsumerNotice> = []
    const { onRevoked, ...rest } = options
    const session: KafkaClient.ConsumerSession = yield* client.openConsumer({
      ...consumerOptions,
      ...rest,
      callbacks: {
        onAssigned: (partitions) =>
          Effect.gen(function*() {
            log.push(`assigned ${show(partitions)}`)
            const committed = yield* session.committed(partitions)
            const earliest = yield* session.offsets(partitions, "earliest")
            for (const tp of partitions) owned.add(TopicPartition.key(tp))
            return new Map(partitions.map((tp) => {
              const key = TopicPartition.key(tp)
              return [key, committed.get(key)?.offset ?? earliest.get(key)!] as const
            }))
          }).pipe(Effect.retry(Schedule.spaced(1000)), Effect.orDie),
        onRevoked: (partitions) =>
          Effect.gen(function*() {
            log.push(`revoked ${show(partitions)}`)
            if (onRevoked !== undefined) yield* onRevoked(partitions)
            for (const tp of partitions) owned.delete(TopicPartition.key(tp))
          }),
        onLost: (partitions) =>
          Effect.sync(() => {
            log.push(`lost ${show(partitions)}`)
            for (const tp of partitions) owned.delete(TopicPartition.key(tp))
          }),
        onNotice: (notice) => void notices.push(notice)
      }
    })
    const poll = (maxWait = 0) =>
      Effect.map(
        session.poll(new Map([...owned].map((key) => [key, { maxBytes: 1_000_000 }] as const)), maxWait),
        (fetched) =>
          fetched.flatMap((one) =>
            one._tag === "Chunk" ? one.records.map((record) => text(one.view.value(record))) : []
          )
      )
    const watched: Watched = { session, log, owned, notices, poll }
    return watched
  })

/** A topic "t", and whatever is needed to use it. */
export const setup = (
  partitions = 1,
  options: { readonly replicationFactor?: number; readonly config?: Readonly<Record<string, string>> } = {}
) =>
  Effect.gen(function*() {
    const client = yield* KafkaClient.KafkaClient
    const broker = yield* InMemoryKafka.InMemoryBroker
    const admin = yield* client.openAdmin
    yield* admin.createTopics([{
      topic: "t",
      partitions,
      replicationFactor: options.replicationFactor ?? 1,
      config: options.config ?? {}
    }])
    return { client, broker, admin }
  })

/** One batch of values for one partition. */
export const batch = (partition: number, ...values: ReadonlyArray<string>): KafkaClient.ProducerBatch => ({
  topic: "t",
  partition,
  records: values.map((value) => record(value))
})

/** What is in a partition's log, as text; markers by their kind, in brackets. */
export const values = (broker: InMemoryKafka.Broker, partition = 0) =>
  Effect.map(
    broker.log({ topic: "t", partition }),
    (records) => records.map(({ kind, value }) => kind === "data" ? text(value) : `[${kind}]`)
  )

/** Lets everything that can go on without time passing go on. */
export const settle = Effect.yieldNow().pipe(Effect.repeatN(50))
