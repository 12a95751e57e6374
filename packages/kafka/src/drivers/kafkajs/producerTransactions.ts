/**
 * A producer's identity towards the cluster, and its transactions. Every request here may be sent twice: the
 * coordinator answers the second time as it did the first.
 */
import * as Effect from "effect/Effect"
import type { GroupMetadata, OffsetAndMetadata, ProducerSessionOptions, SendError } from "../../KafkaClient.ts"
import {
  type ClientError,
  CommitError,
  KafkaTimeoutError,
  ProducerError,
  ProducerFencedError
} from "../../KafkaError.ts"
import type { ClusterRequests } from "./cluster.ts"
import * as Connection from "./connection.ts"
import { clientError, DriverError, protocolCode, withoutTopic } from "./errors.ts"
import type { Broker } from "./internals.ts"
import { Identity } from "./producerSequences.ts"

type Failure = ClientError | ProducerFencedError

interface Answer<A> {
  readonly value: A
}

/** What a transaction consists of. */
interface Open {
  readonly partitions: Map<string, Set<number>>
  readonly groups: Set<string>
}

export class Transactions {
  private readonly environment: Connection.Environment
  private readonly options: ProducerSessionOptions
  private readonly cluster: ClusterRequests
  private latest: Identity | undefined
  private readonly oneIdentity = Effect.unsafeMakeSemaphore(1)
  private transaction: Open | undefined
  /** Why the open transaction can only be aborted. */
  private broken = false
  fenced: ProducerFencedError | undefined

  constructor(environment: Connection.Environment, options: ProducerSessionOptions, cluster: ClusterRequests) {
    this.environment = environment
    this.options = options
    this.cluster = cluster
  }

  // -------------------------------------------------------------------------------------------------------------------
  // identity
  // -------------------------------------------------------------------------------------------------------------------

  /**
   * Who we are. With a transactional id, asking for it aborts what was left open under that id, and fences whoever has
   * it.
   */
  get identity(): Effect.Effect<Identity, Failure> {
    return Effect.suspend(() => this.known ?? this.oneIdentity.withPermits(1)(this.askForIdentity))
  }

  private get known(): Effect.Effect<Identity, Failure> | undefined {
    if (this.fenced !== undefined) return this.fenced
    return this.latest === undefined ? undefined : Effect.succeed(this.latest)
  }

  private get askForIdentity(): Effect.Effect<Identity, Failure> {
    return Effect.suspend(() => {
      // somebody else may have asked meanwhile
      const { known } = this
      if (known !== undefined) return known
      const { requestTimeout: within, transactionTimeout, transactionalId } = this.options
      const request = (broker: Broker) => broker.initProducerId({ transactionalId, transactionTimeout })
      return Effect.map(
        transactionalId === undefined
          ? this.repeat("init producer", () => this.cluster.any().then(request), { within })
          : this.viaCoordinator("init transactions", request, { within }),
        ({ value }) => this.latest = new Identity(value)
      )
    })
  }

  /** The identity, if there is one already. */
  get current(): Identity | undefined {
    return this.fenced === undefined ? this.latest : undefined
  }

  isCurrent(identity: Identity | undefined): boolean {
    return identity !== undefined && this.latest === identity
  }

  /** What was sent under the identity is in doubt: a fresh one goes on. */
  renew(identity: Identity | undefined): void {
    if (identity === undefined || this.latest !== identity) return
    this.latest = undefined
    if (this.transaction !== undefined) this.broken = true
  }

  /** Another producer has the transactional id: nothing can be done under it any more. */
  fence(error: unknown): ProducerFencedError {
    this.latest = undefined
    return this.fenced ??= new ProducerFencedError({
      transactionalId: this.options.transactionalId ?? "",
      cause: new DriverError(error, this.environment.secrets)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // transactions
  // -------------------------------------------------------------------------------------------------------------------

  /** Why nothing can be sent now. */
  get refusal(): string | undefined {
    if (this.options.transactionalId === undefined) return undefined
    return this.transaction === undefined
      ? "no transaction is open"
      : this.broken
      ? "the transaction can only be aborted"
      : undefined
  }

  get begin(): Effect.Effect<void, SendError> {
    return Effect.suspend((): Effect.Effect<void, SendError> => {
      if (this.options.transactionalId === undefined) return wrongState("the producer has no transactional id")
      if (this.transaction !== undefined) return wrongState("the transaction before has not been ended")
      return Effect.map(this.identity, () => {
        this.transaction = { partitions: new Map(), groups: new Set() }
        this.broken = false
      })
    })
  }

  /** Which of these partitions are not in the transaction yet. */
  missing(partitions: ReadonlyArray<{ readonly topic: string; readonly partition: number }>) {
    const known = this.transaction?.partitions
    return known === undefined ? [] : partitions.filter(({ partition, topic }) => !known.get(topic)?.has(partition))
  }

  /** Puts partitions into the transaction; answers the error of each that can not be in it. */
  add(
    partitions: ReadonlyArray<{ readonly topic: string; readonly partition: number }>
  ): Effect.Effect<ReadonlyArray<unknown>, Failure> {
    return Effect.gen(this, function*() {
      const identity = yield* this.identity
      const errors: Array<unknown> = partitions.map(() => undefined)
      for (;;) {
        const left = partitions.filter((_, i) => errors[i] === undefined)
        const wanted = this.missing(left)
        if (wanted.length === 0) return errors
        const topics = new Map<string, Array<number>>()
        for (const { partition, topic } of wanted) {
          const same = topics.get(topic)
          if (same === undefined) topics.set(topic, [partition])
          else same.push(partition)
        }
        const { value } = yield* this.viaCoordinator(
          "add partitions to transaction",
          (broker) =>
            broker.addPartitionsToTxn({
              ...this.as(identity),
              topics: Array.from(topics, ([topic, partitions]) => ({ topic, partitions }))
            }).then((answer) => {
              // what passes is said for all of them alike, and looks like the error of the request then
              const first = answer.errors[0]?.partitionErrors[0]?.error
              if (first !== undefined && protocolCode(first)?.retriable === true) throw first
              return answer
            })
        )
        for (const { partitionErrors, topic } of value.errors) {
          for (const { error, partition } of partitionErrors) {
            if (error === undefined) {
              const known = this.transaction?.partitions
              const same = known?.get(topic)
              if (same === undefined) known?.set(topic, new Set([partition]))
              else same.add(partition)
            } else if (protocolCode(error)?.code !== "OPERATION_NOT_ATTEMPTED") {
              errors[partitions.findIndex((one) => one.topic === topic && one.partition === partition)] = error
            }
          }
        }
      }
    })
  }

  sendOffsets(
    offsets: ReadonlyArray<OffsetAndMetadata>,
    { groupId }: GroupMetadata
  ): Effect.Effect<void, SendError | CommitError> {
    return Effect.gen(this, function*() {
      const open = this.transaction
      if (open === undefined || this.refusal !== undefined) return yield* wrongState(this.refusal ?? "")
      if (offsets.length === 0) return
      const identity = yield* this.identity
      if (!open.groups.has(groupId)) {
        yield* this.viaCoordinator(
          "add offsets to transaction",
          (broker) => broker.addOffsetsToTxn({ ...this.as(identity), groupId }),
          { group: groupId }
        )
        open.groups.add(groupId)
      }
      const topics = new Map<string, Array<{ partition: number; offset: string; metadata: string | undefined }>>()
      for (const { metadata, offset, partition, topic } of offsets) {
        const one = { partition, offset: String(offset), metadata }
        const same = topics.get(topic)
        if (same === undefined) topics.set(topic, [one])
        else same.push(one)
      }
      yield* this.repeat(
        "send offsets to transaction",
        () =>
          this.cluster.coordinator("group", groupId).then((broker) =>
            broker.txnOffsetCommit({
              ...this.as(identity),
              groupId,
              topics: Array.from(topics, ([topic, partitions]) => ({ topic, partitions }))
            })
          ).catch((error: unknown) => {
            this.cluster.forgetCoordinator("group", groupId)
            throw error
          }),
        { group: groupId, refine: (error) => offsetsError(error, offsets) }
      )
    })
  }

  get commit(): Effect.Effect<void, SendError> {
    return Effect.suspend((): Effect.Effect<void, SendError> => {
      const open = this.transaction
      if (open === undefined || this.refusal !== undefined) return wrongState(this.refusal ?? "")
      let lost: unknown = undefined
      return this.end(open, true, (error) => {
        lost ??= error
      }).pipe(
        Effect.mapError((error) => lost !== undefined && isPassing(error) ? this.uncertain(lost) : error),
        Effect.tapError(() =>
          Effect.sync(() => {
            this.broken = true
          })
        )
      )
    })
  }

  private uncertain(cause: unknown): ProducerError {
    const { deliveryTimeout, transactionalId } = this.options
    return new ProducerError({
      topic: "",
      reason: "unknown-outcome",
      retriable: false,
      description: `the answer to the commit of transaction "${transactionalId}" was lost, and none came within ` +
        `${deliveryTimeout} ms: it may or may not have been committed`,
      cause: new DriverError(cause, this.environment.secrets)
    })
  }

  get abort(): Effect.Effect<void, SendError> {
    return Effect.suspend((): Effect.Effect<void, SendError> => {
      const open = this.transaction
      if (open === undefined) return wrongState("no transaction is open")
      // to take the transactional id over again ends what is open, and fences what is still on its way
      const takeOver = Effect.suspend(() => {
        this.latest = undefined
        return Effect.map(this.identity, () => this.ended())
      })
      if (this.broken) return takeOver
      return Effect.catchAll(
        this.end(open, false),
        (error) => error._tag === "ProducerFencedError" ? Effect.fail(error) : takeOver
      )
    })
  }

  private ended(): void {
    this.transaction = undefined
    this.broken = false
  }

  private end(open: Open, transactionResult: boolean, onLost?: (error: unknown) => void): Effect.Effect<void, Failure> {
    return Effect.gen(this, function*() {
      if (open.partitions.size > 0 || open.groups.size > 0) {
        const identity = yield* this.identity
        yield* this.viaCoordinator(
          transactionResult ? "commit transaction" : "abort transaction",
          (broker) =>
            broker.endTxn({ ...this.as(identity), transactionResult }).catch((error: unknown) => {
              if (protocolCode(error) === undefined) onLost?.(error)
              throw error
            })
        )
      }
      this.ended()
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // requests
  // -------------------------------------------------------------------------------------------------------------------

  private as({ producerEpoch, producerId }: Identity) {
    return { transactionalId: this.options.transactionalId ?? "", producerId, producerEpoch }
  }

  private viaCoordinator<A>(
    operation: string,
    run: (broker: Broker) => Promise<A>,
    options: { readonly group?: string; readonly within?: number } = {}
  ): Effect.Effect<Answer<A>, Failure> {
    const { cluster } = this
    const id = this.options.transactionalId ?? ""
    return this.repeat(operation, () =>
      cluster.coordinator("transaction", id).then(run).catch((error: unknown) => {
        cluster.forgetCoordinator("transaction", id)
        throw error
      }), options)
  }

  /** Asks again for as long as the answer may change, within the delivery timeout if no other is given. */
  private repeat<A, E extends object = never>(
    operation: string,
    run: () => Promise<A>,
    options: {
      readonly group?: string
      readonly within?: number
      readonly refine?: (error: unknown) => E | undefined
    } = {}
  ): Effect.Effect<Answer<A>, Failure | E> {
    const { requestTimeout, transactionalId } = this.options
    const attempt = Connection.attempt(this.environment, operation, {
      transactionalId,
      group: options.group,
      millis: requestTimeout
    })
    const millis = options.within ?? this.options.deliveryTimeout
    const once = Effect.tryPromise({ try: () => run().then((value) => ({ value })), catch: (error) => ({ error }) })
    return Effect.suspend(() => {
      let last: Failure | undefined
      const loop = (pause: number): Effect.Effect<Answer<A>, Failure | E> =>
        Effect.catchAll(once, ({ error }) => {
          const typed = clientError(error, attempt)
          if (typed._tag === "ProducerFencedError") return Effect.fail(this.fence(error))
          last = withoutTopic(typed)
          if (!isPassing(last)) return Effect.fail(options.refine?.(error) ?? last)
          return Effect.zipRight(Effect.sleep(pause), Effect.suspend(() => loop(Math.min(500, pause * 2))))
        })
      return Effect.timeoutFail(loop(20), {
        duration: millis,
        onTimeout: () => last ?? new KafkaTimeoutError({ operation, millis })
      })
    })
  }
}

/** Whether the same request may be answered differently later. */
const isPassing = (error: Failure): boolean =>
  error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
  (error._tag === "KafkaRequestError" && error.retriable)

const wrongState = (description: string): Effect.Effect<never, ProducerError> =>
  Effect.fail(new ProducerError({ topic: "", reason: "invalid", retriable: false, description }))

const offsetsError = (error: unknown, offsets: ReadonlyArray<OffsetAndMetadata>): CommitError | undefined => {
  const answered = protocolCode(error)
  const reason = answered === undefined ? undefined : offsetReasons[answered.code]
  if (answered === undefined || reason === undefined) return undefined
  return new CommitError({
    reason,
    partitions: offsets.map(({ partition, topic }) => ({ topic, partition })),
    code: answered.code,
    description: answered.reason
  })
}

const offsetReasons: Readonly<Record<string, CommitError["reason"]>> = {
  ILLEGAL_GENERATION: "stale",
  UNKNOWN_MEMBER_ID: "fenced",
  FENCED_INSTANCE_ID: "fenced",
  REBALANCE_IN_PROGRESS: "rebalancing",
  OFFSET_METADATA_TOO_LARGE: "refused",
  INVALID_COMMIT_OFFSET_SIZE: "refused",
  INVALID_GROUP_ID: "refused"
}
