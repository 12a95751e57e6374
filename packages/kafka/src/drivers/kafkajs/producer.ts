/**
 * Producing through kafkajs, with what its idempotent mode lacks: see `producerAttempt.ts` for the rules of one attempt
 * and `producerVerdict.ts` for what a failed one means.
 *
 * A batch whose fate is uncertain is only ever sent again by the kafkajs producer that sent it first, with the sequence
 * numbers it had then. If that does not settle it within the delivery timeout, its outcome is answered as unknown, and
 * a fresh producer takes over.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type {
  BatchResult,
  Capabilities,
  GroupMetadata,
  OffsetAndMetadata,
  ProducerBatch,
  ProducerSession,
  ProducerSessionOptions,
  SendError
} from "../../KafkaClient.ts"
import {
  type ClientError,
  CommitError,
  KafkaRequestError,
  KafkaTimeoutError,
  ProducerError,
  ProducerFencedError,
  UnknownTopicError,
  type UnsupportedFeatureError
} from "../../KafkaError.ts"
import * as Admin from "./admin.ts"
import * as Compression from "./compression.ts"
import * as Connection from "./connection.ts"
import { clientError, DriverError, protocolCode, withoutTopic } from "./errors.ts"
import * as Attempt from "./producerAttempt.ts"
import * as Verdict from "./producerVerdict.ts"

/** kafkajs starts a sequence of 2^31 records again from nought in a way that the broker does not accept. */
const recordsLimit = 2 ** 30

/** How long metadata is not asked for again, in milliseconds. */
const metadataAge = 5000

/** How long metadata may be in the making, in milliseconds. */
const metadataPatience = 500

/**
 * kafkajs's own retries are off. It refuses nought for an idempotent producer; with what is no number it never gets to
 * a second try.
 */
const noRetries = { retries: NaN }

export const open = (
  environment: Connection.Environment,
  capabilities: Capabilities,
  options: ProducerSessionOptions
): Effect.Effect<ProducerSession, ClientError | ProducerFencedError | UnsupportedFeatureError, Scope.Scope> =>
  Effect.gen(function*() {
    const compression = yield* Compression.prepare(options.compression)
    const metadata = yield* Admin.client(environment, { clientId: options.clientId, patience: metadataPatience })
    const session = new Session(environment, options, compression, metadata.ask)
    yield* Effect.addFinalizer(() => session.close)
    yield* session.current
    return {
      capabilities,
      maxInFlight: 1,
      send: (batches) => session.send(batches),
      partitionCount: (topic) => Effect.map(session.lookUp(topic), (leaders) => leaders.size),
      begin: session.begin,
      sendOffsets: (offsets, group) => session.sendOffsets(offsets, group),
      commit: session.commit,
      abort: session.abort
    }
  })

/** A batch that has no result yet. */
class Pending {
  readonly batch: ProducerBatch
  result: BatchResult | undefined = undefined
  /** Whether an attempt of this `send` may have stored it. */
  perhapsStored = false

  constructor(batch: ProducerBatch) {
    this.batch = batch
  }
  fail(error: SendError, outcome: "retry" | "refuse"): void {
    this.result = { _tag: "Failed", error, outcome: this.perhapsStored && outcome === "retry" ? "unknown" : outcome }
  }
}

type Lookup = Effect.Effect<Attempt.Leaders, ClientError | UnknownTopicError>

class Session {
  private readonly environment: Connection.Environment
  private readonly options: ProducerSessionOptions
  private readonly settings: Attempt.Settings
  private readonly ask: Admin.Ask
  /** Whether the broker recognises a batch that it has already. */
  private readonly idempotent: boolean
  private readonly seen = new Map<string, { readonly at: number; readonly leaders: Attempt.Leaders }>()
  private incarnation: Attempt.Incarnation | undefined
  private fenced: ProducerFencedError | undefined
  /** Of a transactional producer: `"broken"` where only an abort can follow. */
  private state: "idle" | "open" | "broken" = "idle"

  constructor(
    environment: Connection.Environment,
    options: ProducerSessionOptions,
    compression: number,
    ask: Admin.Ask
  ) {
    this.environment = environment
    this.options = options
    this.ask = ask
    this.idempotent = options.idempotent || options.transactionalId !== undefined
    this.settings = {
      acks: options.acks === "all" ? -1 : options.acks === "leader" ? 1 : 0,
      compression,
      timeout: options.requestTimeout
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // incarnations
  // -------------------------------------------------------------------------------------------------------------------

  /** The kafkajs producer to be used, connected. */
  readonly current: Effect.Effect<Attempt.Incarnation, ClientError | ProducerFencedError> = Effect.suspend(() => {
    if (this.fenced !== undefined) return this.fenced
    if (this.incarnation !== undefined) return Effect.succeed(this.incarnation)
    const { environment, options } = this
    const { transactionalId } = options
    const connection = Connection.make(environment, {
      clientId: options.clientId,
      requestTimeout: options.requestTimeout
    })
    const producer = connection.kafka.producer({
      createPartitioner: Attempt.partitioner,
      allowAutoTopicCreation: false,
      maxInFlightRequests: 1,
      retry: noRetries,
      ...(transactionalId === undefined
        ? { idempotent: options.idempotent }
        : { transactionalId, transactionTimeout: options.transactionTimeout })
    })
    const incarnation: Attempt.Incarnation = {
      connection,
      producer,
      leaders: new Map(),
      transaction: undefined,
      records: 0,
      troubles: 0,
      retired: false
    }
    this.incarnation = incarnation
    return Connection.establish(environment, connection, producer, "connect").pipe(
      Effect.zipRight(transactionalId === undefined ? Effect.void : this.initialise(incarnation)),
      Effect.onError(() => Effect.sync(() => this.retire(incarnation))),
      Effect.as(incarnation)
    )
  })

  /** Takes the transactional id over, which aborts what another left open under it. */
  private initialise(incarnation: Attempt.Incarnation): Effect.Effect<void, ClientError | ProducerFencedError> {
    return Effect.tryPromise({
      // kafkajs does it before the first transaction
      try: () => incarnation.producer.transaction().then((transaction) => transaction.abort()),
      catch: (error) => this.transactionError("init transactions", error)
    }).pipe(
      Effect.retry({
        schedule: Schedule.exponential(50).pipe(Schedule.union(Schedule.spaced(500))),
        while: (error) => error._tag === "KafkaRequestError" && error.retriable
      }),
      Effect.timeoutFail({
        duration: this.options.requestTimeout,
        onTimeout: () => new KafkaTimeoutError({ operation: "init transactions", millis: this.options.requestTimeout })
      })
    )
  }

  /** Ends a kafkajs producer at once and for good. */
  private retire(incarnation: Attempt.Incarnation): void {
    incarnation.retired = true
    if (this.incarnation === incarnation) {
      this.incarnation = undefined
      if (this.state === "open") this.state = "broken"
    }
    incarnation.connection.kill()
    incarnation.producer.disconnect().catch(() => undefined)
  }

  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const incarnation = this.incarnation
    this.incarnation = undefined
    return incarnation === undefined ? Effect.void : Connection.close(incarnation.connection, incarnation.producer)
  })

  // -------------------------------------------------------------------------------------------------------------------
  // metadata
  // -------------------------------------------------------------------------------------------------------------------

  lookUp(topic: string): Lookup {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const seen = this.seen.get(topic)
      if (seen !== undefined && now - seen.at < metadataAge) return Effect.succeed(seen.leaders)
      return Effect.map(Admin.topicMetadata(this.ask, "produce", topic), ({ partitions }) => {
        const leaders = Attempt.leadersOf(partitions)
        this.seen.set(topic, { at: now, leaders })
        return leaders
      })
    }).pipe(Effect.tapError(() => Effect.sync(() => this.seen.delete(topic))))
  }

  /** Lets kafkajs see only topics that exist: one that does not would spoil its metadata for all. */
  private admit(incarnation: Attempt.Incarnation, pending: ReadonlyArray<Pending>): Effect.Effect<void> {
    const topics = new Map<string, Array<Pending>>()
    for (const one of pending) {
      const { partition, topic } = one.batch
      if (incarnation.leaders.get(topic)?.has(partition) === true) continue
      const same = topics.get(topic)
      if (same === undefined) topics.set(topic, [one])
      else same.push(one)
    }
    return Effect.forEach(topics, ([topic, all]) => {
      // a partition may have come since
      if (incarnation.leaders.has(topic)) this.seen.delete(topic)
      return Effect.match(this.lookUp(topic), {
        onSuccess: (leaders) => {
          incarnation.leaders.set(topic, leaders)
          for (const one of all) {
            const { partition } = one.batch
            if (!leaders.has(partition)) {
              one.fail(new UnknownTopicError({ operation: "produce", topic, partition }), "refuse")
            }
          }
        },
        onFailure: (error) => {
          const passing = error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
            (error._tag === "KafkaRequestError" && error.retriable)
          for (const one of all) one.fail(error, passing ? "retry" : "refuse")
        }
      })
    }, { discard: true })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // sending
  // -------------------------------------------------------------------------------------------------------------------

  send(batches: ReadonlyArray<ProducerBatch>): Effect.Effect<ReadonlyArray<BatchResult>> {
    return Effect.gen(this, function*() {
      const all = batches.map((batch) => new Pending(batch))
      for (const one of all) {
        if (one.batch.records.length === 0) one.result = { _tag: "Stored", baseOffset: -1n }
      }
      const deadline = (yield* Clock.currentTimeMillis) + this.options.deliveryTimeout
      for (let round = 0;; round++) {
        const pending = all.filter((one) => one.result === undefined)
        if (pending.length === 0) break
        if (this.options.transactionalId !== undefined && this.state !== "open") {
          for (const one of pending) one.fail(noTransaction(one.batch), "refuse")
          break
        }
        const incarnation = yield* Effect.either(this.current)
        if (Either.isLeft(incarnation)) {
          const error = incarnation.left
          const passing = error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
            (error._tag === "KafkaRequestError" && error.retriable)
          for (const one of pending) one.fail(error, passing ? "retry" : "refuse")
          break
        }
        yield* this.round(incarnation.right, pending, deadline, round)
      }
      return all.map((one) => one.result!)
    }).pipe(Effect.onInterrupt(() =>
      Effect.sync(() => {
        if (this.incarnation !== undefined) this.retire(this.incarnation)
      })
    ))
  }

  /** One attempt for each that has no result, and a pause where another one has to follow. */
  private round(
    incarnation: Attempt.Incarnation,
    pending: ReadonlyArray<Pending>,
    deadline: number,
    round: number
  ): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      yield* this.admit(incarnation, pending)
      const groups = this.group(incarnation, pending.filter((one) => one.result === undefined))
      const pauses = yield* Effect.forEach(groups, (group) => this.deliver(incarnation, group, deadline), {
        concurrency: "unbounded"
      })
      const left = pending.filter((one) => one.result === undefined)
      if (left.length === 0) {
        if (incarnation.records > recordsLimit && this.state !== "open") this.retire(incarnation)
        return
      }
      // what is left may have been stored, or was to be sent to several brokers
      const now = yield* Clock.currentTimeMillis
      const pause = Math.max(0, ...pauses) === 0 ? 0 : Math.min(1000, Math.max(...pauses) * 2 ** Math.min(round, 6))
      if (incarnation.retired || now + pause >= deadline) {
        for (const one of left) one.fail(this.undelivered(one), "retry")
        this.retire(incarnation)
        return
      }
      yield* Effect.sleep(pause)
    })
  }

  /** What leads to one request each. Without idempotence a batch can not be told apart from its mates afterwards. */
  private group(
    incarnation: Attempt.Incarnation,
    pending: ReadonlyArray<Pending>
  ): ReadonlyArray<ReadonlyArray<Pending>> {
    if (!this.idempotent && this.settings.acks !== 0) return pending.map((one) => [one])
    const groups = new Map<number, Array<Pending>>()
    for (const one of pending) {
      const leader = incarnation.leaders.get(one.batch.topic)?.get(one.batch.partition) ?? -1
      const group = groups.get(leader)
      if (group === undefined) groups.set(leader, [one])
      else group.push(one)
    }
    return [...groups.values()]
  }

  /** One attempt. Answers how long to pause before the next, if one has to follow. */
  private deliver(
    incarnation: Attempt.Incarnation,
    group: ReadonlyArray<Pending>,
    deadline: number
  ): Effect.Effect<number> {
    return Effect.gen(this, function*() {
      const attempt = Attempt.run(incarnation, group.map((one) => one.batch), this.settings)
      const now = yield* Clock.currentTimeMillis
      const answer = yield* Effect.timeoutTo(attempt.answer, {
        duration: Math.max(1, deadline - now),
        onSuccess: (answer) => answer,
        onTimeout: (): Attempt.Answer => {
          this.retire(incarnation)
          return {
            _tag: "failed",
            error: new KafkaTimeoutError({ operation: "produce", millis: this.options.deliveryTimeout }),
            encoded: attempt.encoded()
          }
        }
      })
      if (answer._tag === "split") return 0
      if (answer._tag === "answered") {
        incarnation.troubles = 0
        group.forEach((one, i) => {
          one.result = answer.results[i]
          // kafkajs forgets a partition whose leader moved back and forth
          if (one.result === undefined) one.perhapsStored = true
        })
        return 100
      }
      const verdict = Verdict.judge(answer, this.options.transactionalId !== undefined)
      if (group.length > 1 && Verdict.answer(answer) !== undefined) {
        // The broker answered for each, and kafkajs tells the first answer of all. Those that are stored are recognised.
        for (const one of group) one.perhapsStored = true
        const middle = group.length >> 1
        const first = yield* this.deliver(incarnation, group.slice(0, middle), deadline)
        const second = yield* this.deliver(incarnation, group.slice(middle), deadline)
        return Math.max(first, second)
      }
      return this.apply(incarnation, group, answer.error, verdict)
    })
  }

  private apply(
    incarnation: Attempt.Incarnation,
    group: ReadonlyArray<Pending>,
    error: unknown,
    verdict: Verdict.Verdict
  ): number {
    switch (verdict._tag) {
      case "stored":
        for (const one of group) one.result = { _tag: "Stored", baseOffset: -1n }
        return 0
      case "refused":
        for (const one of group) one.fail(this.refusal(one, error, verdict.tooLarge), "refuse")
        return 0
      case "again":
        for (const one of group) {
          one.perhapsStored ||= verdict.perhapsStored
          // what was certainly not stored can be sent again by anybody, and need not hold up others
          if (!(one.perhapsStored && this.idempotent) && !verdict.soon) one.fail(this.passing(one, error), "retry")
        }
        return verdict.soon ? 20 : 100
      case "lost":
        for (const one of group) {
          one.perhapsStored = true
          one.fail(this.passing(one, error), "retry")
        }
        this.retire(incarnation)
        return 0
      case "metadata":
        for (const one of group) if (!one.perhapsStored) one.fail(withoutTopic(this.passing(one, error)), "retry")
        for (const topic of incarnation.leaders.keys()) this.seen.delete(topic)
        if (++incarnation.troubles > 1 && this.state !== "open") this.retire(incarnation)
        return 100
      case "estranged":
        for (const one of group) one.fail(this.passing(one, error), "retry")
        this.retire(incarnation)
        return 0
      case "fenced": {
        const fenced = new ProducerFencedError({
          transactionalId: this.options.transactionalId ?? "",
          cause: new DriverError(error, this.environment.secrets)
        })
        this.fenced = fenced
        for (const one of group) one.fail(fenced, "refuse")
        this.retire(incarnation)
        return 0
      }
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // errors
  // -------------------------------------------------------------------------------------------------------------------

  private about({ batch }: Pending) {
    return Connection.attempt(this.environment, "produce", {
      topic: batch.topic,
      partition: batch.partition,
      transactionalId: this.options.transactionalId,
      millis: this.options.requestTimeout
    })
  }

  private passing(one: Pending, error: unknown): ReturnType<typeof clientError> {
    return clientError(error, this.about(one))
  }

  private refusal(one: Pending, error: unknown, tooLarge: boolean): SendError {
    const typed = this.passing(one, error)
    if (typed._tag !== "KafkaRequestError") return typed
    return new ProducerError({
      topic: one.batch.topic,
      partition: one.batch.partition,
      reason: tooLarge ? "too-large" : "refused",
      code: typed.code,
      retriable: false,
      description: tooLarge
        ? "larger than the broker or the topic allows: see max.message.bytes"
        : typed.reason,
      cause: typed.cause
    })
  }

  private undelivered(one: Pending): SendError {
    return new ProducerError({
      topic: one.batch.topic,
      partition: one.batch.partition,
      reason: one.perhapsStored ? "unknown-outcome" : "timeout",
      retriable: !one.perhapsStored,
      description: one.perhapsStored
        ? `sent, and no answer came within ${this.options.deliveryTimeout} ms: it may or may not have been stored`
        : `could not be sent within ${this.options.deliveryTimeout} ms`
    })
  }

  private transactionError(operation: string, error: unknown): ClientError | ProducerFencedError {
    const { transactionalId } = this.options
    const typed = clientError(error, Connection.attempt(this.environment, operation, { transactionalId }))
    if (typed._tag === "ProducerFencedError") {
      this.fenced = typed
      return typed
    }
    return withoutTopic(typed)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // transactions
  // -------------------------------------------------------------------------------------------------------------------

  readonly begin: Effect.Effect<void, SendError> = Effect.suspend((): Effect.Effect<void, SendError> => {
    const { transactionalId } = this.options
    if (transactionalId === undefined) return Effect.fail(wrongState("the producer has no transactional id"))
    if (this.state !== "idle") return Effect.fail(wrongState("the transaction before has not been ended"))
    return Effect.flatMap(this.current, (incarnation) =>
      Effect.map(
        Effect.tryPromise({
          try: () => incarnation.producer.transaction(),
          catch: (error) => this.transactionError("begin transaction", error)
        }),
        (transaction) => {
          incarnation.transaction = transaction
          this.state = "open"
        }
      ))
  })

  sendOffsets(
    offsets: ReadonlyArray<OffsetAndMetadata>,
    group: GroupMetadata
  ): Effect.Effect<void, SendError | CommitError> {
    const topics = new Map<string, Array<{ partition: number; offset: string; metadata?: string }>>()
    for (const { metadata, offset, partition, topic } of offsets) {
      let partitions = topics.get(topic)
      if (partitions === undefined) topics.set(topic, partitions = [])
      partitions.push({ partition, offset: String(offset), ...(metadata === undefined ? {} : { metadata }) })
    }
    return this.inTransaction("send offsets", (transaction) =>
      transaction.sendOffsets({
        consumerGroupId: group.groupId,
        topics: Array.from(topics, ([topic, partitions]) => ({ topic, partitions }))
      }), {
      // the broker takes the same offsets twice
      repeat: true,
      refine: (error) => offsetsError(error, offsets)
    })
  }

  readonly commit: Effect.Effect<void, SendError> = Effect.suspend(() =>
    this.inTransaction("commit transaction", (transaction) => transaction.commit(), {
      repeat: false,
      refine: (error) => this.commitError(error)
    })
  ).pipe(
    Effect.tap(() => this.ended()),
    Effect.tapError(() =>
      Effect.sync(() => {
        // kafkajs can neither try again nor abort now
        if (this.incarnation !== undefined) this.retire(this.incarnation)
      })
    )
  )

  readonly abort: Effect.Effect<void, SendError> = Effect.suspend(() => {
    if (this.fenced !== undefined) return this.fenced
    if (this.state === "idle") return Effect.fail(wrongState("no transaction is open"))
    return this.inTransaction("abort transaction", (transaction) => transaction.abort(), { repeat: false })
  }).pipe(
    Effect.catchAll((error) => {
      if (error._tag === "ProducerFencedError" || this.state === "idle") return Effect.fail(error)
      // to take the transactional id over again aborts it too
      if (this.incarnation !== undefined) this.retire(this.incarnation)
      return Effect.asVoid(this.current)
    }),
    Effect.tap(() => this.ended())
  )

  private ended(): Effect.Effect<void> {
    return Effect.sync(() => {
      this.state = "idle"
      const incarnation = this.incarnation
      if (incarnation === undefined) return
      incarnation.transaction = undefined
      if (incarnation.records > recordsLimit || incarnation.troubles > 0) this.retire(incarnation)
    })
  }

  private inTransaction<E = never>(
    operation: string,
    run: (transaction: NonNullable<Attempt.Incarnation["transaction"]>) => Promise<void>,
    { refine, repeat }: { readonly repeat: boolean; readonly refine?: (error: unknown) => E | undefined }
  ): Effect.Effect<void, SendError | E> {
    return Effect.suspend((): Effect.Effect<void, SendError | E> => {
      if (this.fenced !== undefined) return this.fenced
      const transaction = this.incarnation?.transaction
      if (this.state !== "open" || transaction === undefined) {
        return Effect.fail(wrongState(
          this.state === "idle" ? "no transaction is open" : "the transaction is broken and can only be aborted"
        ))
      }
      const millis = this.options.requestTimeout
      return Effect.tryPromise({
        try: () => run(transaction),
        catch: (error): SendError | E => refine?.(error) ?? this.transactionError(operation, error)
      }).pipe(
        Effect.retry({
          schedule: Schedule.exponential(20).pipe(Schedule.union(Schedule.spaced(500))),
          while: (error) => repeat && isPassing(error)
        }),
        Effect.timeoutFail({
          duration: repeat
            ? this.options.deliveryTimeout
            : millis + Duration.toMillis(this.environment.config.connectionTimeout),
          onTimeout: (): SendError | E => {
            const error = new KafkaTimeoutError({ operation, millis })
            return refine?.(error) ?? error
          }
        })
      )
    })
  }

  /** An answer that says that nothing was committed, or no word about it. */
  private commitError(error: unknown): ProducerError | undefined {
    const code = protocolCode(error)?.code
    if (code !== undefined) return undefined
    return new ProducerError({
      topic: "",
      reason: "unknown-outcome",
      retriable: false,
      description: `the answer to the commit of transaction "${this.options.transactionalId}" was lost: ` +
        "it may or may not have been committed",
      cause: new DriverError(error, this.environment.secrets)
    })
  }
}

const isPassing = (error: { readonly _tag: string } | unknown): boolean =>
  error instanceof KafkaRequestError ? error.retriable : error instanceof KafkaTimeoutError

const offsetsError = (error: unknown, offsets: ReadonlyArray<OffsetAndMetadata>): CommitError | undefined => {
  const found = protocolCode(error)
  if (found === undefined) return undefined
  const reason = offsetReasons[found.code]
  return reason === undefined ? undefined : new CommitError({
    reason,
    partitions: offsets.map(({ partition, topic }) => ({ topic, partition })),
    code: found.code,
    description: found.reason
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

const wrongState = (description: string): ProducerError =>
  new ProducerError({ topic: "", reason: "invalid", retriable: false, description })

const noTransaction = ({ partition, topic }: ProducerBatch): ProducerError =>
  new ProducerError({ topic, partition, reason: "invalid", retriable: false, description: "no transaction is open" })
