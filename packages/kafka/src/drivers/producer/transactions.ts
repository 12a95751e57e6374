/**
 * A producer's identity towards the cluster, and its transactions. Every request here may be sent twice: a coordinator
 * that has done it already answers so again, and one that is asked for an identity again gives a newer one.
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
import { DriverError, withoutTopic } from "../errors.ts"
import { inTime } from "../inTime.ts"
import { Identity } from "./sequences.ts"
import { failure, type Transport } from "./transport.ts"

type Failure = ClientError | ProducerFencedError

interface Answer<A> {
  readonly value: A
}

/** What a transaction consists of. */
interface Open {
  /** Under which it was begun. */
  readonly identity: Identity
  /** What may be in it. */
  readonly partitions: Map<string, Set<number>>
  readonly groups: Set<string>
  /** Whether anything of that certainly is. */
  begun: boolean
  /** Whether another identity was asked for since: the first may be fenced by it. */
  replaced: boolean
}

export class Transactions {
  private readonly options: ProducerSessionOptions
  private readonly transport: Transport
  private latest: Identity | undefined
  private readonly oneIdentity = Effect.unsafeMakeSemaphore(1)
  private transaction: Open | undefined
  /** Whether the open transaction can only be aborted. */
  private broken = false
  /** Whether it could not be aborted either: whatever begins next ends it first. */
  private left = false
  fenced: ProducerFencedError | undefined
  /** Nothing is asked again from then on: there are no connections any more. */
  closed = false

  constructor(options: ProducerSessionOptions, transport: Transport) {
    this.options = options
    this.transport = transport
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
      const { requestTimeout: within, transactionalId } = this.options
      const operation = transactionalId === undefined ? "init producer" : "init transactions"
      if (this.transaction !== undefined) this.transaction.replaced = true
      return Effect.map(
        this.repeat(operation, () => this.transport.initProducerId(), { within }),
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
      cause: this.cause(error)
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
      if (this.transaction !== undefined && !this.left) return wrongState("the transaction before has not been ended")
      const identity = this.left ? Effect.zipRight(this.takeOver, this.identity) : this.identity
      return Effect.map(identity, (identity) => {
        this.transaction = { identity, partitions: new Map(), groups: new Set(), begun: false, replaced: false }
        this.broken = false
      })
    })
  }

  /** Which of these partitions are not in the transaction yet. */
  missing(partitions: ReadonlyArray<{ readonly topic: string; readonly partition: number }>) {
    return this.transaction === undefined ? [] : missingIn(this.transaction, partitions)
  }

  /** Something that was sent under this identity is stored. */
  stored(identity: Identity | undefined): void {
    if (this.transaction !== undefined && this.transaction.identity === identity) this.transaction.begun = true
  }

  /** Puts partitions into the transaction; answers the error of each that can not be in it. */
  add(
    partitions: ReadonlyArray<{ readonly topic: string; readonly partition: number }>
  ): Effect.Effect<ReadonlyArray<unknown>, Failure> {
    return Effect.gen(this, function*() {
      const errors: Array<unknown> = partitions.map(() => undefined)
      // another may be open when the answer comes
      const open = this.transaction
      if (open === undefined) return errors
      const identity = yield* this.identity
      if (identity.entersByItself) {
        for (const one of partitions) enter(open, one)
        return errors
      }
      for (;;) {
        const left = partitions.filter((_, i) => errors[i] === undefined)
        const wanted = missingIn(open, left)
        if (wanted.length === 0) return errors
        const { value } = yield* this.repeat(
          "add partitions to transaction",
          () =>
            this.transport.addPartitions(identity, wanted).then((answers) => {
              // what passes is said for all of them alike, and looks like the error of the request then
              const first = answers[0]?.error
              if (first !== undefined && this.transport.protocolCode(first)?.retriable === true) throw first
              return answers
            }),
          { identity }
        )
        for (const { error, partition, topic } of value) {
          if (error === undefined) {
            enter(open, { topic, partition })
            open.begun = true
          } else if (this.transport.protocolCode(error)?.code !== "OPERATION_NOT_ATTEMPTED") {
            errors[partitions.findIndex((one) => one.topic === topic && one.partition === partition)] = error
          }
        }
      }
    })
  }

  sendOffsets(
    offsets: ReadonlyArray<OffsetAndMetadata>,
    group: GroupMetadata
  ): Effect.Effect<void, SendError | CommitError> {
    return Effect.gen(this, function*() {
      const open = this.transaction
      if (open === undefined || this.refusal !== undefined) return yield* wrongState(this.refusal ?? "")
      if (offsets.length === 0) return
      const identity = yield* this.identity
      const { groupId } = group
      if (identity.entersByItself) open.groups.add(groupId)
      else if (!open.groups.has(groupId)) {
        yield* this.repeat("add offsets to transaction", () => this.transport.addOffsets(identity, groupId), {
          group: groupId,
          identity
        })
        open.groups.add(groupId)
        open.begun = true
      }
      yield* this.repeat(
        "send offsets to transaction",
        () => this.transport.commitOffsets(identity, group, offsets),
        { group: groupId, identity, refine: (error) => this.offsetsError(error, offsets) }
      )
      open.begun = true
    })
  }

  get commit(): Effect.Effect<void, SendError> {
    return Effect.suspend((): Effect.Effect<void, SendError> => {
      const open = this.transaction
      if (open === undefined || this.refusal !== undefined) return wrongState(this.refusal ?? "")
      let lost: unknown = undefined
      let underWay = false
      return this.end(open, true, {
        onSent: () => {
          underWay = true
        },
        onFailed: (error) => {
          const code = this.transport.protocolCode(error)?.code
          // it may have been carried out without a word, and a coordinator that is not available may have written it down
          if (code === undefined ? underWay : code === "COORDINATOR_NOT_AVAILABLE") lost ??= error
          // it is not committed, and never was
          else if (code === "INVALID_TXN_STATE") lost = undefined
          underWay = false
        }
      }).pipe(
        Effect.mapError((error) => underWay || lost !== undefined ? this.uncertain(lost ?? error) : error),
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
    const until = this.closed
      ? "before the producer was closed"
      : this.fenced === undefined
      ? `within ${deliveryTimeout} ms`
      : "before the producer was fenced"
    return new ProducerError({
      topic: "",
      reason: "unknown-outcome",
      retriable: false,
      description: `the answer to the commit of transaction "${transactionalId}" was lost, and none came ${until}: ` +
        "it may or may not have been committed",
      cause: this.cause(cause)
    })
  }

  get abort(): Effect.Effect<void, SendError> {
    return Effect.suspend((): Effect.Effect<void, SendError> => {
      const open = this.transaction
      if (open === undefined) return wrongState("no transaction is open")
      // an end that raises the epoch ends what is open as a takeover does, and takes nothing from a newer producer
      const end = Effect.suspend(() =>
        this.broken && (open.replaced || !open.identity.entersByItself)
          ? Effect.succeed(false)
          : Effect.as(this.end(open, false), true)
      )
      // nobody asks for another identity meanwhile
      const aborted = this.oneIdentity.withPermits(1)(end).pipe(
        Effect.catchAll((error) => error._tag === "ProducerFencedError" ? Effect.fail(error) : Effect.succeed(false)),
        Effect.flatMap((ended) => ended ? Effect.void : this.takeOver)
      )
      return Effect.tapError(aborted, () =>
        Effect.sync(() => {
          this.broken = true
          this.left = true
        }))
    })
  }

  /** To take the transactional id over again ends what is open, and fences what is still on its way. */
  private get takeOver(): Effect.Effect<void, Failure> {
    return Effect.suspend(() => {
      this.latest = undefined
      return Effect.map(this.identity, () => this.ended())
    })
  }

  private ended(): void {
    this.transaction = undefined
    this.broken = false
    this.left = false
  }

  private end(
    open: Open,
    transactionResult: boolean,
    told: { readonly onSent: () => void; readonly onFailed: (error: unknown) => void } = nobody
  ): Effect.Effect<void, Failure> {
    return Effect.gen(this, function*() {
      if (open.partitions.size > 0 || open.groups.size > 0) {
        if (this.fenced !== undefined) return yield* this.fenced
        // of what has nothing in it a broker that has not heard of it takes an abort alone
        const committed = transactionResult && open.begun
        const { value } = yield* this.repeat(
          transactionResult ? "commit transaction" : "abort transaction",
          () =>
            this.transport.endTransaction(open.identity, committed, told.onSent).catch((error: unknown) => {
              told.onFailed(error)
              throw error
            }),
          { refine: (error) => committed ? this.endedByOthers(open, error) : undefined }
        )
        if (value !== undefined) this.latest = new Identity(value)
      }
      this.ended()
    })
  }

  /** The coordinator has aborted it, which has gone on for too long, and raised the epoch: as if it were fenced. */
  private endedByOthers({ identity }: Open, error: unknown): ProducerFencedError | undefined {
    return identity.entersByItself && this.transport.protocolCode(error)?.code === "INVALID_TXN_STATE"
      ? this.fence(error)
      : undefined
  }

  // -------------------------------------------------------------------------------------------------------------------
  // requests
  // -------------------------------------------------------------------------------------------------------------------

  /** Asks again for as long as the answer may change, within the delivery timeout if no other is given. */
  private repeat<A, E extends object = never>(
    operation: string,
    run: () => Promise<A>,
    options: {
      readonly group?: string
      readonly within?: number
      /** Under which it is asked: of one that we have gone on from it says nothing that it is fenced. */
      readonly identity?: Identity
      readonly refine?: (error: unknown) => E | undefined
    } = {}
  ): Effect.Effect<Answer<A>, Failure | E> {
    const { requestTimeout, transactionalId } = this.options
    const about = { transactionalId, group: options.group, millis: requestTimeout }
    const millis = options.within ?? this.options.deliveryTimeout
    const once = Effect.tryPromise({ try: () => run().then((value) => ({ value })), catch: (error) => ({ error }) })
    return Effect.suspend(() => {
      let last: Failure | undefined
      const loop = (pause: number): Effect.Effect<Answer<A>, Failure | E> =>
        Effect.catchAll(once, ({ error }) => {
          const typed = failure(this.transport, error, operation, about)
          if (typed._tag === "ProducerFencedError" && (options.identity ?? this.latest) === this.latest) {
            return Effect.fail(this.fence(error))
          }
          last = withoutTopic(typed)
          if (this.closed || !isPassing(last)) return Effect.fail(options.refine?.(error) ?? last)
          return Effect.zipRight(Effect.sleep(pause), Effect.suspend(() => loop(Math.min(500, pause * 2))))
        })
      return inTime(loop(20), {
        duration: millis,
        onTimeout: () => last ?? new KafkaTimeoutError({ operation, millis })
      })
    })
  }

  private offsetsError(error: unknown, offsets: ReadonlyArray<OffsetAndMetadata>): CommitError | undefined {
    const answered = this.transport.protocolCode(error)
    const reason = answered === undefined ? undefined : offsetReasons[answered.code]
    if (answered === undefined || reason === undefined) return undefined
    return new CommitError({
      reason,
      partitions: offsets.map(({ partition, topic }) => ({ topic, partition })),
      code: answered.code,
      description: answered.reason
    })
  }

  /** What was thrown, without secrets. */
  private cause(error: unknown): DriverError {
    return new DriverError(error, this.transport.attempt("produce", {}).secrets)
  }
}

const nobody = { onSent: () => {}, onFailed: () => {} }

const missingIn = <A extends { readonly topic: string; readonly partition: number }>(
  { partitions }: Open,
  all: ReadonlyArray<A>
): ReadonlyArray<A> => all.filter(({ partition, topic }) => partitions.get(topic)?.has(partition) !== true)

const enter = (
  { partitions }: Open,
  { partition, topic }: { readonly topic: string; readonly partition: number }
): void => {
  const same = partitions.get(topic)
  if (same === undefined) partitions.set(topic, new Set([partition]))
  else same.add(partition)
}

/** Whether the same request may be answered differently later. */
const isPassing = (error: Failure): boolean =>
  error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
  (error._tag === "KafkaRequestError" && error.retriable)

const wrongState = (description: string): Effect.Effect<never, ProducerError> =>
  Effect.fail(new ProducerError({ topic: "", reason: "invalid", retriable: false, description }))

const offsetReasons: Readonly<Record<string, CommitError["reason"]>> = {
  ILLEGAL_GENERATION: "stale",
  UNKNOWN_MEMBER_ID: "fenced",
  FENCED_INSTANCE_ID: "fenced",
  FENCED_MEMBER_EPOCH: "fenced",
  STALE_MEMBER_EPOCH: "stale",
  REBALANCE_IN_PROGRESS: "rebalancing",
  OFFSET_METADATA_TOO_LARGE: "refused",
  INVALID_COMMIT_OFFSET_SIZE: "refused",
  INVALID_GROUP_ID: "refused"
}
