/**
 * A consumer session of kafkajs with the least of an engine: it starts where the group has committed, or at the
 * beginning, and says what it is told.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { type Cluster, PartitionAssigners } from "kafkajs"
import * as Crypto from "node:crypto"
import * as Consumer from "../../src/drivers/kafkajs/consumer.ts"
import type * as KafkaClient from "../../src/KafkaClient.ts"
import type * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import type { DriverName } from "../support/drivers.ts"
import { environment, type Faults, plain } from "./support.ts"

export const groupName = (): string => `group-${Crypto.randomUUID()}`

export type Told =
  | { readonly _tag: "Assigned"; readonly partitions: ReadonlyArray<string> }
  | { readonly _tag: "Revoked"; readonly partitions: ReadonlyArray<string> }
  | { readonly _tag: "Lost"; readonly partitions: ReadonlyArray<string> }

export interface Read {
  readonly at: string
  readonly value: string | undefined
}

export interface Reader {
  readonly session: KafkaClient.ConsumerSession
  /** All it was told since it was opened. */
  readonly history: ReadonlyArray<string>
  /** The next thing it is told. */
  readonly told: Effect.Effect<Told>
  /** Waits until it holds exactly these, as `"0 1 2"`; what was told before is skipped. */
  readonly holding: (partitions: string) => Effect.Effect<void>
  /** Polls for all it holds. */
  readonly poll: Effect.Effect<ReadonlyArray<KafkaClient.Fetched>, Failure>
  /** Polls until so many records have come. */
  readonly read: (count: number) => Effect.Effect<ReadonlyArray<Read>, Failure>
  readonly commit: (
    offsets: Readonly<Record<string, number>>
  ) => ReturnType<KafkaClient.ConsumerSession["commit"]>
}

type Failure = Effect.Effect.Error<ReturnType<KafkaClient.ConsumerSession["poll"]>>

export interface Script {
  readonly options?: Partial<KafkaClient.ConsumerSessionOptions>
  readonly config?: Partial<KafkaConfig.Options>
  readonly faults?: Faults
  readonly metadataInterval?: number
  readonly onRevoked?: (self: Reader) => Effect.Effect<void>
  /** Where to start, whatever the group has committed; nowhere yet if `undefined`. */
  readonly from?: (tp: TopicPartition.TopicPartition) => bigint | undefined
}

export const defaults: Omit<KafkaClient.ConsumerSessionOptions, "callbacks"> = {
  groupId: "",
  isolationLevel: "read_committed",
  assignment: "eager",
  sessionTimeout: 10_000,
  heartbeatInterval: 3000,
  rebalanceTimeout: 30_000,
  fetchMaxBytesPerPartition: 1 << 20,
  fetchMaxBytes: 16 << 20,
  fetchMinBytes: 1,
  fetchMaxWait: 200,
  unavailableAfter: 60_000
}

/** How a driver opens a session, with faults on its connections. */
export interface ConsumerDriver {
  readonly name: DriverName
  readonly openConsumer: (
    brokers: string,
    options: KafkaClient.ConsumerSessionOptions,
    script: Pick<Script, "faults" | "config" | "metadataInterval">
  ) => Effect.Effect<
    KafkaClient.ConsumerSession,
    Effect.Effect.Error<ReturnType<KafkaClient.Service["openConsumer"]>>,
    Scope.Scope
  >
}

export const kafkajs: ConsumerDriver = {
  name: "kafkajs",
  openConsumer: (brokers, options, { config, faults, metadataInterval = 30_000 }) =>
    Effect.flatMap(
      environment(brokers, faults, config),
      (env) => Consumer.open(env, KafkaJs.capabilities, options, { metadataInterval })
    )
}

/** A partition by its number, with its topic where a test has several. */
export const short = ({ partition, topic }: TopicPartition.TopicPartition): string =>
  topic.includes("/") ? `${topic}/${partition}` : String(partition)

const sorted = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): ReadonlyArray<string> =>
  partitions.map(short).sort()

type OpenError = Effect.Effect.Error<ReturnType<ConsumerDriver["openConsumer"]>>

const openOn =
  (driver: ConsumerDriver) =>
  (brokers: string, groupId: string, script: Script = {}): Effect.Effect<Reader, OpenError, Scope.Scope> =>
    Effect.gen(function*() {
      const news = yield* Queue.unbounded<Told>()
      const held = new Map<TopicPartition.Key, TopicPartition.TopicPartition>()
      const history: Array<string> = []
      const tell = (told: Told): void => {
        history.push(`${told._tag} ${told.partitions.join(" ")}`.trim())
        news.unsafeOffer(told)
      }
      const release = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): void => {
        for (const tp of partitions) held.delete(TopicPartition.key(tp))
      }
      const demand = (): Map<TopicPartition.Key, KafkaClient.Demand> =>
        new Map(Array.from(held.keys(), (key) => [key, { maxBytes: 1 << 20 }]))

      const session: KafkaClient.ConsumerSession = yield* driver.openConsumer(
        brokers,
        {
          ...defaults,
          ...script.options,
          groupId,
          callbacks: {
            onAssigned: (partitions) =>
              Effect.gen(function*() {
                const { from } = script
                const committed = from === undefined ? yield* session.committed(partitions) : undefined
                const earliest = from === undefined ? yield* session.offsets(partitions, "earliest") : undefined
                for (const tp of partitions) held.set(TopicPartition.key(tp), tp)
                tell({ _tag: "Assigned", partitions: sorted(partitions) })
                const positions = new Map<TopicPartition.Key, bigint>()
                for (const tp of partitions) {
                  const key = TopicPartition.key(tp)
                  const position = from === undefined ? committed?.get(key)?.offset ?? earliest?.get(key) : from(tp)
                  if (position !== undefined) positions.set(key, position)
                }
                return positions
              }).pipe(Effect.orDie),
            onRevoked: (partitions) =>
              Effect.zipRight(
                Effect.sync(() => tell({ _tag: "Revoked", partitions: sorted(partitions) })),
                script.onRevoked?.(reader) ?? Effect.void
              ).pipe(Effect.ensuring(Effect.sync(() => release(partitions)))),
            onLost: (partitions) =>
              Effect.sync(() => {
                release(partitions)
                tell({ _tag: "Lost", partitions: sorted(partitions) })
              }),
            onNotice: () => {}
          }
        },
        script
      )

      const poll = Effect.suspend(() => session.poll(demand(), 500))
      const reader: Reader = {
        session,
        history,
        told: Queue.take(news),
        holding: (partitions) =>
          Queue.take(news).pipe(
            Effect.repeat({ until: (told) => told._tag === "Assigned" && told.partitions.join(" ") === partitions }),
            Effect.asVoid
          ),
        poll,
        read: (count) =>
          Effect.gen(function*() {
            const out: Array<Read> = []
            while (out.length < count) {
              for (const fetched of yield* poll) {
                if (fetched._tag !== "Chunk") continue
                for (const raw of fetched.records) {
                  const value = fetched.view.value(raw)
                  out.push({
                    at: `${short(fetched.topicPartition)}@${fetched.view.offset(raw)}`,
                    value: value === null ? undefined : Buffer.from(value).toString()
                  })
                }
              }
            }
            return out
          }),
        commit: (offsets) =>
          session.commit(
            [...held.values()].filter((tp) => offsets[short(tp)] !== undefined)
              .map((tp) => ({ ...tp, offset: BigInt(offsets[short(tp)]!) }))
          )
      }
      return reader
    })

/** Sessions of a driver. */
export const readers = (driver: ConsumerDriver) => {
  const open = openOn(driver)
  /** Opens a session and subscribes it to topics. */
  const join = (brokers: string, groupId: string, topics: ReadonlyArray<string>, script: Script = {}) =>
    Effect.tap(
      open(brokers, groupId, script),
      ({ session }) => session.subscribe({ _tag: "Topics", topics: new Set(topics) })
    ).pipe(Effect.orDie)
  return { open, join }
}

export const { join, open } = readers(kafkajs)

/** Writes records through plain kafkajs. */
export const write = (
  brokers: string,
  topic: string,
  values: ReadonlyArray<string>,
  partition = 0
): Effect.Effect<void> =>
  Effect.promise(async () => {
    const producer = plain(brokers).producer({ allowAutoTopicCreation: false })
    await producer.connect()
    await producer.send({ topic, messages: values.map((value) => ({ value, partition })) })
    await producer.disconnect()
  })

export const admin = <A>(brokers: string, use: (admin: ReturnType<ReturnType<typeof plain>["admin"]>) => Promise<A>) =>
  Effect.promise(async () => {
    const admin = plain(brokers).admin()
    await admin.connect()
    const result = await use(admin)
    await admin.disconnect()
    return result
  })

export const values = (records: ReadonlyArray<Read>): ReadonlyArray<string | undefined> =>
  records.map(({ value }) => value)

/** kafkajs's brokers have it, and its types do not show it. */
interface Leaver {
  readonly leaveGroup: (member: { readonly groupId: string; readonly memberId: string }) => Promise<unknown>
}

const isLeaver = (broker: object): broker is Leaver => "leaveGroup" in broker

/** Leaves the group in a member's name, which finds itself given up. */
export const evict = (brokers: string, groupId: string, memberId: string): Effect.Effect<void> =>
  Effect.promise(async () => {
    const clusters: Array<Cluster> = []
    const consumer = plain(brokers).consumer({
      groupId: "nobody",
      partitionAssigners: [(config) => {
        clusters.push(config.cluster)
        return PartitionAssigners.roundRobin(config)
      }]
    })
    await consumer.connect()
    await clusters[0]!.refreshMetadata()
    const coordinator = await clusters[0]!.findGroupCoordinator({ groupId })
    if (isLeaver(coordinator)) await coordinator.leaveGroup({ groupId, memberId })
    await consumer.disconnect()
  })
