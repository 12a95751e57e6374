/**
 * The requests of a consumer that are not about membership: metadata, fetches, offsets, commits. Each is ours, to the
 * broker it concerns, so that a partition is read from where we say, an error is that of its own partition, and no
 * rebalance comes of a leader that moved.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { tryPromiseOnce } from "../../engine/asyncOnce.ts"
import { isRetriable } from "../../engine/consumer/Retry.ts"
import type { ConsumerSessionOptions, GroupMetadata, OffsetAndMetadata, OffsetSpec } from "../../KafkaClient.ts"
import { type ClientError, CommitError, KafkaTimeoutError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { CommitFailure } from "../consumerSession.ts"
import type { Answer } from "../fetcher.ts"
import type { Plan } from "../lanes.ts"
import * as Lookups from "../lookups.ts"
import { groupByTopic, newTopic } from "../lookups.ts"
import { Portions } from "../portions.ts"
import * as SessionTimeout from "../sessionTimeout.ts"
import { ClusterRequests, isMetadata, type LookupError } from "./cluster.ts"
import * as Connection from "./connection.ts"
import { answers } from "./consumerFetch.ts"
import { type Attempt, clientError, DriverError, protocolCode, withoutFencing, withoutTopic } from "./errors.ts"
import type { Broker } from "./internals.ts"

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>
type About = Parameters<typeof Connection.attempt>[2]

export interface Environment {
  readonly environment: Connection.Environment
  readonly options: ConsumerSessionOptions
  /** Called with each answer of the cluster. */
  readonly alive: () => void
}

/** To ask about no topic at all would be to ask about every one. */
const anyTopic = "__consumer_offsets"

/** The kind of resource that describes its configuration. */
const brokerResource = 4

const isolationLevels = { read_uncommitted: 0, read_committed: 1 } as const

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

/**
 * Connects, or fails within the connection timeout. Closes with the scope.
 */
export const open = (self: Environment): Effect.Effect<ConsumerRequests, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const connection = Connection.make(self.environment, { clientId: self.options.clientId })
    const cluster = new ClusterRequests(self.environment, connection)
    // nothing has to be said at the end: sockets are closed at once, and what still waits for an answer fails
    yield* Effect.addFinalizer(() => Effect.zipRight(Effect.sync(connection.kill), cluster.close))
    yield* cluster.connect
    return new ConsumerRequests(self, cluster)
  })

export class ConsumerRequests {
  private readonly self: Environment
  private readonly cluster: ClusterRequests
  /** Who leads each partition of the topics that were asked for, and what stands in the way of the others. */
  private readonly topics = new Map<string, ReadonlyMap<number, number> | LookupError>()
  private readonly portions = new Portions()

  constructor(self: Environment, cluster: ClusterRequests) {
    this.self = self
    this.cluster = cluster
  }

  /** One request, bounded in time. */
  private ask<A>(operation: string, run: () => Promise<A>, about?: About): Effect.Effect<A, LookupError> {
    const { environment, options } = this.self
    const attempt = Connection.attempt(environment, operation, { group: options.groupId, ...about })
    return Effect.tryPromise({ try: run, catch: (error) => withoutFencing(clientError(error, attempt)) }).pipe(
      Effect.timeoutFail({
        duration: attempt.millis,
        onTimeout: () => new KafkaTimeoutError({ operation, millis: attempt.millis })
      }),
      this.heard
    )
  }

  private readonly heard = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.tap(effect, () => Effect.sync(this.self.alive))

  /** Tries again what may succeed later, for as long as a request may take. */
  readonly patiently = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Lookups.patiently(Connection.attempt(this.self.environment, "").millis)(effect)

  // -------------------------------------------------------------------------------------------------------------------
  // metadata
  // -------------------------------------------------------------------------------------------------------------------

  /** Asks who leads what in these topics; what stands in the way of one is no matter of the others. */
  private look(topics: ReadonlyArray<string>, operation: string): Effect.Effect<void, ClientError> {
    return this.cluster.topics(operation, topics).pipe(
      Effect.map((found) => {
        for (const [topic, one] of found) {
          this.topics.set(
            topic,
            isMetadata(one)
              ? new Map(one.partitionMetadata.map(({ leader, partitionId }) => [partitionId, leader]))
              : one
          )
        }
      }),
      this.heard
    )
  }

  /** The same, and fails where one of them can't be had. */
  private reload(topics: ReadonlyArray<string>, operation: string): Effect.Effect<void, LookupError> {
    return this.look(topics, operation).pipe(
      Effect.zipRight(Effect.suspend(() => {
        const problem = topics.map((topic) => this.problem(topic)).find((one) => one !== undefined)
        return problem === undefined ? Effect.void : Effect.fail(problem)
      })),
      this.patiently,
      Effect.retry({ while: (error) => error._tag === "UnknownTopicError", schedule: newTopic }),
      // what is not there is nothing to look after
      Effect.tapError(() => Effect.sync(() => this.forget(topics)))
    )
  }

  /** Loads the metadata of topics, and fails where one of them can't be had. */
  load(topics: Iterable<string>, operation: string): Effect.Effect<void, LookupError> {
    return Effect.suspend(() => {
      const missing = [...topics].filter((topic) => this.problem(topic) !== undefined || !this.topics.has(topic))
      return missing.length === 0 ? Effect.void : this.reload(missing, operation)
    })
  }

  private forget(topics: ReadonlyArray<string>): void {
    for (const topic of topics) if (this.problem(topic) !== undefined) this.topics.delete(topic)
  }

  /** Asks the cluster anew about all topics that were ever asked for. */
  get refresh(): Effect.Effect<void, ClientError> {
    return Effect.suspend(() => {
      const topics = [...this.topics.keys()]
      return topics.length === 0
        ? this.heard(Effect.asVoid(this.cluster.metadata("fetch metadata", [anyTopic])))
        : this.look(topics, "fetch metadata")
    })
  }

  /** What stands in the way of a topic. */
  problem(topic: string): LookupError | undefined {
    const found = this.topics.get(topic)
    return found !== undefined && "_tag" in found ? found : undefined
  }

  private leaders(topic: string): ReadonlyMap<number, number> {
    const found = this.topics.get(topic)
    return found === undefined || "_tag" in found ? new Map() : found
  }

  /** The broker that leads a partition, as far as is known. */
  leaderOf({ partition, topic }: TopicPartition.TopicPartition): number | undefined {
    const leader = this.leaders(topic).get(partition)
    return leader === undefined || leader < 0 ? undefined : leader
  }

  /** The partitions of a topic whose metadata was loaded. */
  partitionsOf(topic: string): ReadonlyArray<number> {
    return [...this.leaders(topic).keys()].sort((a, b) => a - b)
  }

  partitionsFor(topic: string): Effect.Effect<ReadonlyArray<number>, LookupError> {
    return Effect.map(this.reload([topic], "fetch metadata"), () => this.partitionsOf(topic))
  }

  /** All topics there are that match, but for those that Kafka keeps for itself. */
  matching(pattern: RegExp): Effect.Effect<ReadonlySet<string>, ClientError> {
    return this.cluster.metadata("list topics", []).pipe(
      this.heard,
      this.patiently,
      Effect.map(({ topicMetadata }) =>
        new Set(
          topicMetadata.filter(({ isInternal, topic }) => !isInternal && new RegExp(pattern).test(topic))
            .map(({ topic }) => topic)
        )
      )
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // fetching
  // -------------------------------------------------------------------------------------------------------------------

  /** One fetch from one broker. */
  fetch(leader: number, plan: Plan): Effect.Effect<ReadonlyArray<Answer>, ClientError> {
    const { environment, options } = this.self
    return tryPromiseOnce({
      try: async () => {
        const { fetchMaxBytes, fetchMinBytes, isolationLevel } = options
        const broker = await this.cluster.broker(leader)
        const response = await broker.fetch({
          maxWaitTime: plan.maxWait,
          minBytes: fetchMinBytes,
          maxBytes: this.portions.limit(fetchMaxBytes),
          isolationLevel: isolationLevels[isolationLevel],
          topics: groupByTopic(this.portions.inTurn(plan.wanted), ({ maxBytes, partition, position }) => ({
            partition,
            fetchOffset: String(position),
            maxBytes
          }))
        })
        const found = answers(environment, options, plan, response)
        this.portions.learn(found)
        return found
      },
      catch: (error) => withoutTopic(clientError(error, Connection.attempt(environment, "fetch")))
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // offsets of the log
  // -------------------------------------------------------------------------------------------------------------------

  offsets(
    partitions: Partitions,
    spec: OffsetSpec
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, LookupError> {
    return Lookups.offsets(this, partitions, spec)
  }

  offsetsOf(
    leader: number,
    partitions: Partitions,
    timestamp: bigint,
    operation: string
  ): Effect.Effect<ReadonlyArray<readonly [TopicPartition.Key, bigint]>, LookupError> {
    const { isolationLevel } = this.self.options
    return this.ask(operation, async () => {
      const broker = await this.cluster.broker(leader)
      const { responses } = await broker.listOffsets({
        isolationLevel: isolationLevels[isolationLevel],
        topics: groupByTopic(partitions, ({ partition }) => ({ partition, timestamp }))
      })
      return responses.flatMap(({ partitions, topic }) =>
        partitions.map(({ error, offset, partition }) => {
          if (error !== undefined) throw error
          return [TopicPartition.key({ topic, partition }), BigInt(offset)] as const
        })
      )
    }, { topic: partitions[0]!.topic })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // offsets of the group
  // -------------------------------------------------------------------------------------------------------------------

  private async viaCoordinator<A>(run: (coordinator: Broker) => Promise<A>): Promise<A> {
    const { groupId } = this.self.options
    try {
      return await run(await this.cluster.coordinator("group", groupId))
    } catch (error) {
      this.cluster.forgetCoordinator("group", groupId)
      throw error
    }
  }

  /** What the group's coordinator allows, where it tells us. */
  get allowedSessionTimeouts(): Effect.Effect<SessionTimeout.Allowed | undefined> {
    const { longest, shortest } = SessionTimeout.limits
    return this.ask("describe configs", () =>
      this.viaCoordinator(async (coordinator) => {
        const { resources } = await coordinator.describeConfigs({
          includeSynonyms: false,
          resources: [{ type: brokerResource, name: String(coordinator.nodeId), configNames: [shortest, longest] }]
        })
        const values = new Map(
          resources.flatMap(({ configEntries }) => configEntries).map((one) => [one.configName, one.configValue])
        )
        const allowed = { shortest: Number(values.get(shortest)), longest: Number(values.get(longest)) }
        return allowed.shortest > 0 && allowed.longest > 0 ? allowed : undefined
      }), { millis: 2000 }).pipe(
        // to say so takes a permission
        Effect.orElseSucceed(() => undefined)
      )
  }

  committed(
    partitions: Partitions
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, OffsetAndMetadata>, ClientError> {
    const { groupId } = this.self.options
    // of no topic at all would be of all there are
    if (partitions.length === 0) return Effect.succeed(new Map())
    return this.ask(
      "fetch committed offsets",
      () =>
        this.viaCoordinator((coordinator) =>
          coordinator.offsetFetch({ groupId, topics: groupByTopic(partitions, ({ partition }) => ({ partition })) })
        )
    ).pipe(
      this.patiently,
      Effect.mapError(withoutTopic),
      Effect.map(({ responses }) => {
        const out = new Map<TopicPartition.Key, OffsetAndMetadata>()
        for (const { partitions, topic } of responses) {
          for (const { metadata, offset, partition } of partitions) {
            if (BigInt(offset) < 0n) continue
            out.set(TopicPartition.key({ topic, partition }), {
              topic,
              partition,
              offset: BigInt(offset),
              metadata: metadata === "" || metadata === null ? undefined : metadata
            })
          }
        }
        return out
      })
    )
  }

  /** Says that a member is gone, so that others need not wait for it. */
  leave(memberId: string): Effect.Effect<void, LookupError> {
    const { groupId } = this.self.options
    return Effect.asVoid(
      this.ask("leave group", () => this.viaCoordinator((coordinator) => coordinator.leaveGroup({ groupId, memberId })))
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
  return { error: mapped, retriable: isRetriable(mapped) }
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
