/**
 * The requests of a consumer that are not about membership: metadata, fetches, offsets, commits.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { isRetriable } from "../../engine/consumer/Retry.ts"
import type { ConsumerSessionOptions, GroupMetadata, OffsetAndMetadata, OffsetSpec } from "../../KafkaClient.ts"
import { type ClientError, CommitError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { CommitFailure, LookupError, Requests } from "../consumerSession.ts"
import type { Answer } from "../fetcher.ts"
import type { Plan } from "../lanes.ts"
import * as Lookups from "../lookups.ts"
import { groupByTopic, newTopic } from "../lookups.ts"
import { Portions } from "../portions.ts"
import * as SessionTimeout from "../sessionTimeout.ts"
import { Cluster, type Dedicated, isMetadata } from "./cluster.ts"
import * as Connection from "./connection.ts"
import { answers } from "./consumerFetch.ts"
import { type AnsweredError, DriverError } from "./errors.ts"

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>
type About = Parameters<typeof Connection.attempt>[2]

export interface Environment {
  readonly environment: Connection.Environment
  readonly options: ConsumerSessionOptions
  /** Called with each answer of the cluster. */
  readonly alive: () => void
}

const isolationLevels = { read_uncommitted: 0, read_committed: 1 } as const

/** Of a client that follows no leader. */
const noReplica = -1
const anyEpoch = -1
/** A fetch for itself, of no session. */
const noSession = { id: 0, epoch: -1 } as const
/** As JoinGroup has it for whoever is in no group. */
const nobody = { memberId: "", generation: -1 } as const

/**
 * Connects, or fails within the connection timeout. Closes with the scope.
 */
export const open = (self: Environment): Effect.Effect<ConsumerRequests, ClientError, Scope.Scope> =>
  Effect.gen(function*() {
    const cluster = new Cluster(self.environment, { clientId: self.options.clientId })
    yield* Effect.addFinalizer(() => cluster.close)
    yield* cluster.connect
    return new ConsumerRequests(self, cluster)
  })

export class ConsumerRequests implements Requests {
  readonly cluster: Cluster
  private readonly self: Environment
  /** A broker answers the requests of a connection one after the other, and it holds fetches. */
  private readonly fetching: Dedicated
  /** Topics that were asked for. */
  private readonly topics = new Set<string>()
  /** What stands in the way of some of them. */
  private readonly problems = new Map<string, LookupError>()
  private readonly portions = new Portions()

  constructor(self: Environment, cluster: Cluster) {
    this.self = self
    this.cluster = cluster
    this.fetching = {
      purpose: "fetch",
      requestTimeout: cluster.attempt("fetch").millis + self.options.fetchMaxWait
    }
  }

  /** Whatever the cluster answers is a sign of life. */
  private readonly heard = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.tapBoth(effect, {
      onSuccess: () => Effect.sync(this.self.alive),
      onFailure: ({ _tag }) =>
        Effect.sync(() => {
          if (_tag !== "KafkaConnectionError" && _tag !== "KafkaTimeoutError") this.self.alive()
        })
    })

  /** Tries again what may succeed later, for as long as a request may take. */
  readonly patiently = <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Lookups.patiently(this.cluster.attempt("").millis)(effect)

  private answered(errorCode: number): AnsweredError | undefined {
    return Connection.answeredError(this.self.environment, errorCode)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // metadata
  // -------------------------------------------------------------------------------------------------------------------

  /** Asks who leads what in these topics; what stands in the way of one is no matter of the others. */
  private look(topics: ReadonlyArray<string>, operation: string): Effect.Effect<void, ClientError> {
    return this.heard(Effect.map(this.cluster.lookUp(operation, topics), (found) => {
      for (const [topic, one] of found) {
        this.topics.add(topic)
        if (isMetadata(one)) this.problems.delete(topic)
        else this.problems.set(topic, one)
      }
    }))
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

  readonly load = (topics: Iterable<string>, operation: string): Effect.Effect<void, LookupError> =>
    Effect.suspend(() => {
      const missing = [...topics].filter((topic) => this.problems.has(topic) || !this.topics.has(topic))
      return missing.length === 0 ? Effect.void : this.reload(missing, operation)
    })

  private forget(topics: ReadonlyArray<string>): void {
    for (const topic of topics) {
      if (!this.problems.delete(topic)) continue
      this.topics.delete(topic)
    }
  }

  get refresh(): Effect.Effect<void, ClientError> {
    return Effect.suspend(() =>
      this.topics.size > 0
        ? this.look([...this.topics], "fetch metadata")
        : Effect.asVoid(this.heard(this.cluster.metadata("fetch metadata", [])))
    )
  }

  readonly problem = (topic: string): LookupError | undefined => this.problems.get(topic)

  readonly leaderOf = ({ partition, topic }: TopicPartition.TopicPartition): number | undefined =>
    this.problems.has(topic) ? undefined : this.cluster.leader(topic, partition)

  readonly partitionsOf = (topic: string): ReadonlyArray<number> =>
    [...this.cluster.known(topic)?.partitions.keys() ?? []].sort((a, b) => a - b)

  readonly partitionsFor = (topic: string): Effect.Effect<ReadonlyArray<number>, LookupError> =>
    Effect.map(this.reload([topic], "fetch metadata"), () => this.partitionsOf(topic))

  readonly matching = (pattern: RegExp): Effect.Effect<ReadonlySet<string>, ClientError> =>
    this.cluster.metadata("list topics", "all").pipe(
      this.heard,
      this.patiently,
      Effect.map(({ topics }) => {
        const found = new Set<string>()
        for (const [topic, one] of topics) {
          if (isMetadata(one) && !one.isInternal && new RegExp(pattern).test(topic)) found.add(topic)
        }
        return found
      })
    )

  // -------------------------------------------------------------------------------------------------------------------
  // fetching
  // -------------------------------------------------------------------------------------------------------------------

  readonly fetch = (leader: number, plan: Plan): Effect.Effect<ReadonlyArray<Answer>, ClientError> => {
    const { environment, options } = this.self
    const { fetchMaxBytes, fetchMinBytes, isolationLevel } = options
    return Effect.flatMap(this.cluster.broker("fetch", leader, this.fetching), (connection) =>
      Effect.mapError(
        connection.request(
          environment.apis.fetch,
          plan.maxWait,
          fetchMinBytes,
          this.portions.limit(fetchMaxBytes),
          isolationLevels[isolationLevel],
          noSession.id,
          noSession.epoch,
          groupByTopic(this.portions.inTurn(plan.wanted), ({ maxBytes, partition, position }) => ({
            partition,
            currentLeaderEpoch: anyEpoch,
            fetchOffset: position,
            lastFetchedEpoch: anyEpoch,
            partitionMaxBytes: maxBytes
          })).map(({ partitions, topic }) => ({ topicId: topic, partitions })),
          [],
          ""
        ),
        (failure) => this.cluster.clientError("fetch", failure)
      )).pipe(
        Effect.flatMap((response) => {
          const problem = this.answered(response.errorCode)
          if (problem !== undefined) return Effect.fail(this.cluster.clientError("fetch", problem))
          const found = answers(this.cluster, isolationLevel, plan, response)
          this.portions.learn(found)
          return Effect.succeed(found)
        })
      )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // offsets of the log
  // -------------------------------------------------------------------------------------------------------------------

  readonly offsets = (
    partitions: Partitions,
    spec: OffsetSpec
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, LookupError> => Lookups.offsets(this, partitions, spec)

  offsetsOf(
    leader: number,
    partitions: Partitions,
    timestamp: bigint,
    operation: string
  ): Effect.Effect<ReadonlyArray<readonly [TopicPartition.Key, bigint]>, LookupError> {
    const { environment, options } = this.self
    return Effect.flatMap(this.cluster.broker(operation, leader), (connection) =>
      Effect.mapError(
        connection.ask(
          environment.apis.listOffsets,
          noReplica,
          isolationLevels[options.isolationLevel],
          groupByTopic(partitions, ({ partition }) => ({
            partitionIndex: partition,
            currentLeaderEpoch: anyEpoch,
            timestamp
          })).map(({ partitions, topic }) => ({ name: topic, partitions }))
        ),
        (failure) => this.cluster.clientError(operation, failure)
      )).pipe(
        this.heard,
        Effect.flatMap(({ topics }) => {
          const out: Array<readonly [TopicPartition.Key, bigint]> = []
          for (const { name: topic, partitions } of topics) {
            for (const { errorCode, offset, partitionIndex: partition } of partitions) {
              const problem = this.answered(errorCode)
              if (problem !== undefined) {
                return Effect.fail(this.cluster.lookupError(operation, problem, { topic, partition }))
              }
              out.push([TopicPartition.key({ topic, partition }), offset])
            }
          }
          return Effect.succeed(out)
        })
      )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // offsets of the group
  // -------------------------------------------------------------------------------------------------------------------

  /** The coordinator may have moved, whatever it was that failed. */
  private readonly suspecting = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.tapError(
      effect,
      () => Effect.sync(() => this.cluster.forgetCoordinator("group", this.self.options.groupId))
    )

  readonly committed = (
    partitions: Partitions
  ): Effect.Effect<ReadonlyMap<TopicPartition.Key, OffsetAndMetadata>, ClientError> => {
    const { environment, options } = this.self
    const { groupId } = options
    const operation = "fetch committed offsets"
    // of no topic at all would be of all there are
    if (partitions.length === 0) return Effect.succeed(new Map())
    const about = { group: groupId }
    return Effect.flatMap(this.cluster.coordinator(operation, "group", groupId), (connection) =>
      Effect.mapError(
        connection.ask(
          environment.apis.offsetFetch,
          [{
            groupId,
            memberId: null,
            memberEpoch: anyEpoch,
            topics: groupByTopic(partitions, ({ partition }) => partition)
              .map(({ partitions, topic }) => ({ name: topic, partitionIndexes: partitions }))
          }],
          // not while a transaction is about to change them
          true
        ),
        (failure) => this.cluster.clientError(operation, failure, about)
      )).pipe(
        Effect.flatMap(({ groups: [group] }) => {
          const out = new Map<TopicPartition.Key, OffsetAndMetadata>()
          const refusal = group === undefined ? undefined : this.answered(group.errorCode)
          if (refusal !== undefined) return Effect.fail(this.cluster.clientError(operation, refusal, about))
          for (const { name: topic, partitions } of group?.topics ?? []) {
            for (const { committedOffset: offset, errorCode, metadata, partitionIndex: partition } of partitions) {
              const problem = this.answered(errorCode)
              if (problem !== undefined) {
                return Effect.fail(this.cluster.clientError(operation, problem, { ...about, topic, partition }))
              }
              if (offset < 0n) continue
              out.set(TopicPartition.key({ topic, partition }), {
                topic,
                partition,
                offset,
                metadata: metadata === "" || metadata === null ? undefined : metadata
              })
            }
          }
          return Effect.succeed(out)
        }),
        this.suspecting,
        this.heard,
        this.patiently
      )
  }

  readonly commit = (
    offsets: ReadonlyArray<OffsetAndMetadata>,
    member: GroupMetadata | undefined
  ): Effect.Effect<void, CommitFailure> => {
    const { environment, options } = this.self
    const { groupId } = options
    if (offsets.length === 0) return Effect.void
    const about: About = { group: groupId, topic: offsets[0]!.topic }
    const failed = (error: ClientError): CommitFailure => ({ error, retriable: isRetriable(error) })
    return Effect.flatMap(
      Effect.mapError(this.heard(this.cluster.coordinator("commit", "group", groupId)), failed),
      (connection) =>
        Effect.mapError(
          connection.ask(
            environment.apis.offsetCommit,
            groupId,
            member?.generation ?? nobody.generation,
            member?.memberId ?? nobody.memberId,
            member?.groupInstanceId ?? null,
            groupByTopic(offsets, ({ metadata, offset, partition }) => ({
              partitionIndex: partition,
              committedOffset: offset,
              committedLeaderEpoch: anyEpoch,
              committedMetadata: metadata ?? null
            })).map(({ partitions, topic }) => ({ name: topic, partitions }))
          ),
          (failure) => failed(this.cluster.clientError("commit", failure, about))
        )
    ).pipe(
      Effect.tap(() => Effect.sync(this.self.alive)),
      Effect.flatMap(({ topics }) => {
        for (const { errorCode } of topics.flatMap(({ partitions }) => partitions)) {
          const problem = this.answered(errorCode)
          if (problem !== undefined) return Effect.fail(this.commitRefused(problem, offsets, about))
        }
        return Effect.void
      }),
      this.suspecting
    )
  }

  private commitRefused(
    problem: AnsweredError,
    offsets: ReadonlyArray<TopicPartition.TopicPartition>,
    about: About
  ): CommitFailure {
    const reason = refusals[problem.code]
    if (reason === undefined) {
      const error = this.cluster.clientError("commit", problem, about)
      return { error, retriable: isRetriable(error) }
    }
    return {
      error: new CommitError({
        reason,
        partitions: offsets.map(({ partition, topic }) => ({ topic, partition })),
        code: problem.code,
        description: problem.reason,
        cause: new DriverError(problem, this.self.environment.secrets)
      }),
      retriable: reason === "rebalancing"
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // session timeouts
  // -------------------------------------------------------------------------------------------------------------------

  /** What the brokers allow, where they tell. */
  get allowedSessionTimeouts(): Effect.Effect<SessionTimeout.Allowed | undefined> {
    const { longest, shortest } = SessionTimeout.limits
    const { environment } = this.self
    return this.cluster.metadata("describe configs", []).pipe(
      Effect.flatMap(({ brokers: [broker] }) =>
        broker === undefined
          ? Effect.succeed(undefined)
          : Effect.flatMap(this.cluster.broker("describe configs", broker.nodeId), (connection) =>
            connection.request(environment.apis.describeConfigs, [{
              resourceType: environment.library.ConfigResourceTypes.BROKER,
              resourceName: String(broker.nodeId),
              configurationKeys: [shortest, longest]
            }]))
      ),
      Effect.map((found) => {
        const values = new Map(
          (found?.results ?? []).flatMap(({ configs }) => configs).map((one) => [one.name, one.value])
        )
        const allowed = { shortest: Number(values.get(shortest)), longest: Number(values.get(longest)) }
        return allowed.shortest > 0 && allowed.longest > 0 ? allowed : undefined
      }),
      Effect.timeout(2000),
      // to say so takes a permission
      Effect.orElseSucceed(() => undefined)
    )
  }
}

const refusals: Readonly<Record<string, "stale" | "fenced" | "rebalancing" | "refused">> = {
  ILLEGAL_GENERATION: "stale",
  STALE_MEMBER_EPOCH: "stale",
  UNKNOWN_MEMBER_ID: "fenced",
  FENCED_MEMBER_EPOCH: "fenced",
  FENCED_INSTANCE_ID: "fenced",
  REBALANCE_IN_PROGRESS: "rebalancing",
  OFFSET_METADATA_TOO_LARGE: "refused",
  INVALID_COMMIT_OFFSET_SIZE: "refused",
  UNKNOWN_TOPIC_OR_PARTITION: "refused"
}
