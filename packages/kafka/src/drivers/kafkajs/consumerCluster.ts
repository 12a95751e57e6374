/**
 * The requests of a consumer that are not about membership: fetches, offsets, commits, metadata.
 *
 * kafkajs hands its cluster and its brokers to partition assigners; they are part of its public types. A consumer is
 * made for that alone, and is never run. So fetching is ours: each partition from where we say, errors as they are,
 * and no rebalance because a leader moved.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type Broker, type Cluster, PartitionAssigners } from "kafkajs"
import type { ConsumerSessionOptions, GroupMetadata, OffsetAndMetadata, OffsetSpec } from "../../KafkaClient.ts"
import { type ClientError, CommitError, KafkaTimeoutError, UnknownTopicError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import * as Connection from "./connection.ts"
import type { Plan } from "./consumerLanes.ts"
import type { RawResponse } from "./consumerRecords.ts"
import { type Attempt, clientError, DriverError, protocolCode, withoutFencing, withoutTopic } from "./errors.ts"

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>
type About = Parameters<typeof Connection.attempt>[2]

export interface Environment {
  readonly environment: Connection.Environment
  readonly options: Pick<
    ConsumerSessionOptions,
    "clientId" | "groupId" | "isolationLevel" | "fetchMaxBytes" | "fetchMinBytes"
  >
  /** Called with each answer of the cluster. */
  readonly alive: () => void
}

/** A commit that failed. */
export interface CommitFailure {
  readonly error: CommitError | ClientError
  readonly retriable: boolean
}

/** Between two tries of a request that failed and may be tried again, in milliseconds. */
const pauses = [50, 100, 200, 400, 800, 1000]

/** A topic or a partition that was made just now is not known everywhere at once: tries for so many milliseconds. */
const newTopic = Schedule.spaced(100).pipe(Schedule.upTo(1000))

/**
 * Whether the same request may succeed later.
 */
export const isTransient = (error: { readonly _tag: string; readonly retriable?: boolean }): boolean =>
  error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError"
  || (error._tag === "KafkaRequestError" && error.retriable === true)

/**
 * Waits for a promise, whatever comes of it, but not for longer than so many milliseconds, interrupted or not.
 */
export const within = (millis: number, run: () => Promise<unknown>): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const done = (): void => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    const timer = setTimeout(done, millis)
    run().catch(() => undefined).finally(done)
  })

/** A connected cluster, and the end of it. */
interface Link {
  readonly cluster: Cluster
  readonly close: Effect.Effect<void>
}

/**
 * Connects, or fails within the connection timeout.
 */
const connect = ({ environment, options }: Environment): Effect.Effect<Link, ClientError> =>
  Effect.suspend(() => {
    const connection = Connection.make(environment, { clientId: options.clientId })
    const captured: Array<Cluster> = []
    const consumer = connection.kafka.consumer({
      groupId: options.groupId,
      readUncommitted: options.isolationLevel === "read_uncommitted",
      allowAutoTopicCreation: false,
      metadataMaxAge: 2 ** 31 - 1,
      partitionAssigners: [(config) => {
        captured.push(config.cluster)
        return PartitionAssigners.roundRobin(config)
      }]
    })
    // nothing has to be said at the end: sockets are closed at once, and what still waits for an answer fails
    const close = Effect.zipRight(Effect.sync(connection.kill), within(1000, () => consumer.disconnect()))
    return Connection.establish(environment, connection, consumer, "connect").pipe(
      Effect.onError(() => close),
      Effect.as({ cluster: captured[0]!, close })
    )
  })

/**
 * Connects, and closes the connections with the scope.
 */
export const open = (self: Environment): Effect.Effect<ClusterRequests, ClientError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(restore(connect(self)), (link) => {
      const requests = new ClusterRequests(self, link)
      return Effect.as(Effect.addFinalizer(() => requests.close), requests)
    })
  )

export class ClusterRequests {
  private readonly self: Environment
  private link: Link
  /** Topics that kafkajs refreshes the metadata of. */
  private known = new Set<string>()
  private coordinator: Broker | undefined = undefined

  constructor(self: Environment, link: Link) {
    this.self = self
    this.link = link
  }

  private get cluster(): Cluster {
    return this.link.cluster
  }

  get close(): Effect.Effect<void> {
    return Effect.suspend(() => this.link.close)
  }

  /** One request, bounded in time. */
  private ask<A>(
    operation: string,
    run: () => Promise<A>,
    about?: About
  ): Effect.Effect<A, ClientError | UnknownTopicError> {
    const { alive, environment } = this.self
    const attempt = Connection.attempt(environment, operation, { group: this.self.options.groupId, ...about })
    return Effect.tryPromise({ try: run, catch: (error) => withoutFencing(clientError(error, attempt)) }).pipe(
      Effect.timeoutFail({
        duration: attempt.millis,
        onTimeout: () => new KafkaTimeoutError({ operation, millis: attempt.millis })
      }),
      Effect.tap(() => Effect.sync(alive))
    )
  }

  /** Tries again what may succeed later, for as long as a request may take. */
  private patiently<A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const { millis } = Connection.attempt(this.self.environment, "")
    return Effect.flatMap(Effect.clock, (clock) => {
      const deadline = clock.unsafeCurrentTimeMillis() + millis
      const attempt = (n: number): Effect.Effect<A, E> =>
        Effect.catchIf(
          effect,
          (error) => isTransient(error) && clock.unsafeCurrentTimeMillis() < deadline,
          () =>
            Effect.zipRight(
              Effect.sleep(pauses[Math.min(n, pauses.length - 1)]!),
              Effect.suspend(() => attempt(n + 1))
            )
        )
      return attempt(0)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // metadata
  // -------------------------------------------------------------------------------------------------------------------

  /** Loads the metadata of topics, and fails where one of them does not exist. */
  topics(topics: Iterable<string>, operation: string): Effect.Effect<void, ClientError | UnknownTopicError> {
    return Effect.forEach(
      [...topics].filter((topic) => !this.known.has(topic)),
      (topic) =>
        this.ask(operation, () => this.cluster.addTargetTopic(topic), { topic }).pipe(
          Effect.tap(() => Effect.sync(() => this.known.add(topic))),
          (effect) => this.patiently(effect),
          Effect.retry({
            while: (error) => error._tag === "UnknownTopicError",
            schedule: newTopic
          })
        ),
      { discard: true }
    )
  }

  /** Asks the cluster anew who leads what. */
  get refresh(): Effect.Effect<void, ClientError> {
    const about = { topic: [...this.known].join(", ") }
    return this.ask("fetch metadata", () => this.cluster.refreshMetadata(), about).pipe(
      // one topic that is gone, or withdrawn from us, makes it fail for all
      Effect.catchTag("UnknownTopicError", "KafkaAuthorizationError", () => this.forgetLost)
    )
  }

  /** Goes on without the topics that can't be had any more: kafkajs can only be made to forget them by a new client. */
  private get forgetLost(): Effect.Effect<void, ClientError> {
    return Effect.gen(this, function*() {
      const remaining = yield* Effect.filter(
        this.known,
        (topic) => Effect.catchTag(this.exists(topic), "KafkaAuthorizationError", () => Effect.succeed(false))
      )
      if (remaining.length === this.known.size) return
      const link = yield* connect(this.self)
      const before = this.link
      this.link = link
      this.known = new Set()
      this.coordinator = undefined
      yield* before.close
      yield* Effect.ignore(this.topics(remaining, "fetch metadata"))
    })
  }

  /** The broker that leads a partition, as far as is known. */
  leaderOf({ partition, topic }: TopicPartition.TopicPartition): string | undefined {
    if (!this.known.has(topic)) return undefined
    const found = this.cluster.findTopicPartitionMetadata(topic).find((one) => one.partitionId === partition)
    return found === undefined || found.leader < 0 ? undefined : String(found.leader)
  }

  /** The partitions of a topic whose metadata was loaded. */
  partitionsOf(topic: string): ReadonlyArray<number> {
    if (!this.known.has(topic)) return []
    return this.cluster.findTopicPartitionMetadata(topic).map((one) => one.partitionId).sort((a, b) => a - b)
  }

  partitionsFor(topic: string): Effect.Effect<ReadonlyArray<number>, ClientError | UnknownTopicError> {
    const operation = "fetch metadata"
    return this.topics([topic], operation).pipe(
      Effect.zipRight(this.patiently(this.refresh)),
      Effect.zipRight(Effect.sync(() => this.partitionsOf(topic))),
      Effect.filterOrFail(
        (partitions) => partitions.length > 0,
        () => new UnknownTopicError({ operation, topic })
      )
    )
  }

  /** Whether there is such a topic, asked of the cluster. */
  exists(topic: string): Effect.Effect<boolean, ClientError> {
    return this.ask("fetch metadata", async () => {
      const nodeIds = this.cluster.getNodeIds()
      const nodeId = nodeIds[Math.floor(Math.random() * nodeIds.length)]
      const broker = await this.cluster.findBroker({ nodeId: String(nodeId) })
      return await broker.metadata([topic])
    }, { topic }).pipe(
      Effect.as(true),
      Effect.catchTag("UnknownTopicError", () => Effect.succeed(false))
    )
  }

  /** All topics there are that match, but for those that Kafka keeps for itself. */
  matching(pattern: RegExp): Effect.Effect<ReadonlySet<string>, ClientError> {
    return this.ask("list topics", () => this.cluster.metadata()).pipe(
      (effect) => this.patiently(effect),
      Effect.mapError(withoutTopic),
      Effect.map(({ topicMetadata }) =>
        new Set(
          topicMetadata.filter((found) => !isInternal(found) && new RegExp(pattern).test(found.topic))
            .map(({ topic }) => topic)
        )
      )
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // fetching
  // -------------------------------------------------------------------------------------------------------------------

  /** One fetch from one broker. The error is kafkajs's own. */
  fetch(nodeId: string, plan: Plan): Promise<RawResponse> {
    const { fetchMaxBytes, fetchMinBytes, isolationLevel } = this.self.options
    return this.cluster.findBroker({ nodeId }).then((broker): Promise<RawResponse> =>
      broker.fetch({
        maxWaitTime: plan.maxWait,
        minBytes: fetchMinBytes,
        maxBytes: fetchMaxBytes,
        isolationLevel: isolationLevel === "read_committed" ? 1 : 0,
        topics: groupByTopic(plan.wanted, ({ maxBytes, partition, position }) => ({
          partition,
          fetchOffset: String(position),
          maxBytes
        }))
      })
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // offsets of the log
  // -------------------------------------------------------------------------------------------------------------------

  offsets(
    partitions: Partitions,
    spec: OffsetSpec
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, ClientError | UnknownTopicError> {
    const operation = "list offsets"
    const list = (
      wanted: Partitions,
      at: { readonly fromBeginning: boolean } | { readonly fromTimestamp: number }
    ): Effect.Effect<Map<TopicPartition.Key, bigint>, ClientError | UnknownTopicError> =>
      Effect.map(
        this.ask(operation, () =>
          this.cluster.fetchTopicsOffset(
            groupByTopic(wanted, ({ partition }) => ({ partition })).map((one) => ({ ...one, ...at }))
          ), { topic: wanted[0]?.topic }),
        (topics) =>
          new Map(topics.flatMap(({ partitions, topic }) =>
            partitions.map(({ offset, partition }) => [`${topic}:${partition}` as const, BigInt(offset)] as const)
          ))
      )
    const found = typeof spec === "string"
      ? list(partitions, { fromBeginning: spec === "earliest" })
      : Effect.flatMap(list(partitions, { fromTimestamp: Number(spec.timestamp) }), (offsets) => {
        // none that late: the end
        const beyond = partitions.filter((tp) => (offsets.get(TopicPartition.key(tp)) ?? 0n) < 0n)
        return beyond.length === 0
          ? Effect.succeed(offsets)
          : Effect.map(list(beyond, { fromBeginning: false }), (ends) => new Map([...offsets, ...ends]))
      })
    if (partitions.length === 0) return Effect.succeed(new Map())
    // a partition may be newer than what we know
    const unheardOf = Effect.suspend(() =>
      partitions.every(({ partition, topic }) => this.partitionsOf(topic).includes(partition))
        ? Effect.void
        : this.refresh
    )
    return this.topics(new Set(partitions.map(({ topic }) => topic)), operation).pipe(
      Effect.zipRight(this.patiently(
        Effect.zipRight(unheardOf, Effect.tapError(found, () => Effect.ignore(this.refresh)))
      )),
      Effect.tap((offsets) => {
        const missing = partitions.find((tp) => !offsets.has(TopicPartition.key(tp)))
        return missing === undefined ? Effect.void : new UnknownTopicError({ operation, ...missing })
      }),
      Effect.retry({
        while: (error) => error._tag === "UnknownTopicError" && error.partition !== undefined,
        schedule: newTopic
      })
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // offsets of the group
  // -------------------------------------------------------------------------------------------------------------------

  private async viaCoordinator<A>(run: (coordinator: Broker) => Promise<A>): Promise<A> {
    const { groupId } = this.self.options
    try {
      if (this.coordinator?.isConnected() !== true) {
        this.coordinator = await this.cluster.findGroupCoordinator({ groupId })
      }
      return await run(this.coordinator)
    } catch (error) {
      // it may be another one by now
      this.coordinator = undefined
      throw error
    }
  }

  committed(
    partitions: Partitions
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, OffsetAndMetadata>, ClientError> {
    const operation = "fetch committed offsets"
    const { groupId } = this.self.options
    if (partitions.length === 0) return Effect.succeed(new Map())
    return Effect.zipRight(
      this.topics(new Set(partitions.map(({ topic }) => topic)), operation),
      this.patiently(this.ask(operation, () =>
        this.viaCoordinator((coordinator) =>
          coordinator.offsetFetch({
            groupId,
            topics: groupByTopic(partitions, ({ partition }) => ({ partition, offset: "-1" }))
          })
        )))
    ).pipe(
      Effect.mapError(withoutTopic),
      Effect.map(({ responses }) => {
        const out = new Map<TopicPartition.Key, OffsetAndMetadata>()
        for (const { partitions, topic } of responses) {
          for (const found of partitions) {
            const offset = BigInt(found.offset)
            if (offset < 0n) continue
            const metadata = "metadata" in found && typeof found.metadata === "string" && found.metadata !== ""
              ? found.metadata
              : undefined
            out.set(`${topic}:${found.partition}`, { topic, partition: found.partition, offset, metadata })
          }
        }
        return out
      })
    )
  }

  /** One request, once. `member` is absent for a reader without a group. */
  commit(
    offsets: ReadonlyArray<OffsetAndMetadata>,
    member: Pick<GroupMetadata, "memberId" | "generation"> | undefined
  ): Effect.Effect<void, CommitFailure> {
    const { groupId } = this.self.options
    if (offsets.length === 0) return Effect.void
    const attempt = Connection.attempt(this.self.environment, "commit", { group: groupId, topic: offsets[0]!.topic })
    return Effect.tryPromise({
      try: () =>
        this.viaCoordinator((coordinator) =>
          coordinator.offsetCommit({
            groupId,
            memberId: member?.memberId ?? "",
            groupGenerationId: member?.generation ?? -1,
            topics: groupByTopic(offsets, ({ metadata, offset, partition }) => ({
              partition,
              offset: String(offset),
              ...(metadata === undefined ? {} : { metadata })
            }))
          })
        ),
      catch: (error) => commitFailure(error, offsets, attempt)
    }).pipe(
      Effect.timeoutFail({
        duration: attempt.millis,
        onTimeout: (): CommitFailure => ({
          error: new KafkaTimeoutError({ operation: "commit", millis: attempt.millis }),
          retriable: true
        })
      }),
      Effect.zipRight(Effect.sync(this.self.alive))
    )
  }
}

/**
 * What became of a commit, by what the coordinator answered.
 */
export const commitFailure = (
  error: unknown,
  offsets: ReadonlyArray<TopicPartition.TopicPartition>,
  attempt: Attempt
): CommitFailure => {
  const answered = protocolCode(error)
  const refusal = answered === undefined ? undefined : refusals[answered.code]
  if (answered !== undefined && refusal !== undefined) {
    const { reason } = refusal
    return {
      error: new CommitError({
        reason,
        partitions: offsets.map(({ partition, topic }) => ({ topic, partition })),
        code: answered.code,
        description: answered.reason,
        cause: new DriverError(error, attempt.secrets)
      }),
      retriable: reason === "rebalancing"
    }
  }
  const mapped = withoutTopic(clientError(error, attempt))
  return { error: mapped, retriable: isTransient(mapped) }
}

const refusals: Readonly<Record<string, { readonly reason: "stale" | "fenced" | "rebalancing" | "refused" }>> = {
  ILLEGAL_GENERATION: { reason: "stale" },
  UNKNOWN_MEMBER_ID: { reason: "fenced" },
  FENCED_INSTANCE_ID: { reason: "fenced" },
  REBALANCE_IN_PROGRESS: { reason: "rebalancing" },
  OFFSET_METADATA_TOO_LARGE: { reason: "refused" },
  INVALID_COMMIT_OFFSET_SIZE: { reason: "refused" },
  UNKNOWN_TOPIC_OR_PARTITION: { reason: "refused" }
}

const isInternal = (topic: object): boolean => "isInternal" in topic && topic.isInternal === true

const groupByTopic = <A extends { readonly topic: string }, B>(
  all: Iterable<A>,
  f: (one: A) => B
): Array<{ readonly topic: string; readonly partitions: Array<B> }> => {
  const out = new Map<string, Array<B>>()
  for (const one of all) {
    const of = out.get(one.topic)
    if (of === undefined) out.set(one.topic, [f(one)])
    else of.push(f(one))
  }
  return Array.from(out, ([topic, partitions]) => ({ topic, partitions }))
}
