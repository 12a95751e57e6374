/**
 * Producing through kafkajs's connections and codecs, without kafkajs's producer, whose idempotent mode loses and
 * doubles acknowledged records: with two sends under way, after its retries are used up, and when one of several
 * brokers fails.
 *
 * Here every attempt is one request to one broker, each partition has its own answer, and the sequence numbers are
 * ours. A batch whose fate is uncertain is only ever sent again with the producer id and the sequence numbers it had,
 * so the broker recognises it. If that does not settle it within the delivery timeout, its outcome is answered as
 * unknown, and a fresh producer id goes on.
 *
 * A batch that takes longer than a moment is answered as pending, and seen to in the background: one broker that is
 * slow, frozen or gone does not hold up the partitions of others.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { Message } from "kafkajs"
import type {
  BatchResult,
  Capabilities,
  ProducerBatch,
  ProducerSession,
  ProducerSessionOptions,
  SendError
} from "../../KafkaClient.ts"
import {
  type ClientError,
  KafkaTimeoutError,
  ProducerError,
  type ProducerFencedError,
  UnknownTopicError,
  type UnsupportedFeatureError
} from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { ClusterRequests, isMetadata, type Leaders, leadersOf, type LookupError } from "./cluster.ts"
import * as Compression from "./compression.ts"
import * as Connection from "./connection.ts"
import { clientError, withoutTopic } from "./errors.ts"
import type { Broker, ProducedPartition } from "./internals.ts"
import { message } from "./producerRecords.ts"
import type { Identity } from "./producerSequences.ts"
import { Transactions } from "./producerTransactions.ts"
import * as Verdict from "./producerVerdict.ts"

/** For how long metadata is believed by whoever asks for it, in milliseconds. */
const metadataAge = 1000

/** How long to wait before what may have been stored is sent again, in milliseconds; twice as long each time. */
const firstPause = 100

/** How long `send` waits for results before it answers that some are pending, in milliseconds. */
const patience = 500

export const open = (
  environment: Connection.Environment,
  capabilities: Capabilities,
  options: ProducerSessionOptions
): Effect.Effect<ProducerSession, ClientError | ProducerFencedError | UnsupportedFeatureError, Scope.Scope> =>
  Effect.gen(function*() {
    const compression = yield* Compression.prepare(options.compression)
    const cluster = new ClusterRequests(
      environment,
      Connection.make(environment, { clientId: options.clientId, requestTimeout: options.requestTimeout })
    )
    yield* Effect.addFinalizer(() => cluster.close)
    yield* cluster.connect
    const transactions = new Transactions(environment, options, cluster)
    const run = yield* FiberSet.makeRuntime<never, void>()
    const session = new Session(environment, options, compression, cluster, transactions, run)
    if (session.numbered) yield* transactions.identity
    return {
      capabilities,
      maxInFlight: 1,
      send: (batches) => session.send(batches),
      partitionCount: (topic) => Effect.map(session.lookUp(topic), (leaders) => leaders.size),
      begin: transactions.begin,
      sendOffsets: (offsets, group) => transactions.sendOffsets(offsets, group),
      commit: session.commit,
      abort: session.abort
    }
  })

/** A batch on its way. */
class Pending {
  readonly batch: ProducerBatch
  readonly messages: Array<Message>
  result: BatchResult | undefined = undefined
  /** Under which it was first sent; it keeps them. */
  identity: Identity | undefined = undefined
  sequence = 0
  /** Whether an attempt may have stored it. */
  perhapsStored = false
  /** How long to wait before it is tried again. */
  pause = 0
  /** The broker that was asked last. */
  leader: number | undefined = undefined
  lastError: SendError | undefined = undefined
  private readonly transactions: Transactions

  constructor(batch: ProducerBatch, transactions: Transactions) {
    this.batch = batch
    this.messages = batch.records.map(message)
    this.transactions = transactions
  }
  number(identity: Identity): void {
    this.identity = identity
    this.sequence = identity.next(this.batch.topic, this.batch.partition)
  }
  /** The broker refused it, numbers and all: it was not stored before either. */
  refuse(error: SendError): void {
    this.result = { _tag: "Failed", error, outcome: "refuse" }
  }
  /** Nothing more is done about it. Whether it was stored is unknown if it may have been before. */
  fail(error: SendError, outcome: "retry" | "refuse"): void {
    this.result = { _tag: "Failed", error, outcome: this.perhapsStored ? "unknown" : outcome }
    if (this.perhapsStored) this.transactions.renew(this.identity)
  }
  store(baseOffset: bigint, logAppendTime?: bigint): void {
    this.result = { _tag: "Stored", baseOffset, ...(logAppendTime === undefined ? {} : { logAppendTime }) }
    this.identity?.advance(this.batch.topic, this.batch.partition, this.messages.length)
  }
}

/** What goes into one request. */
interface Group {
  readonly leader: number
  readonly identity: Identity | undefined
  readonly members: Array<Pending>
}

const nobody: Effect.Effect<ReadonlyArray<Pending>> = Effect.succeed([])

const isOpen = (one: Pending): boolean => one.result === undefined

interface Known {
  readonly leaders: Leaders
  readonly at: number
  /** Whether it turned out not to be so any more. */
  stale: boolean
}

class Session {
  private readonly environment: Connection.Environment
  private readonly options: ProducerSessionOptions
  private readonly compression: number
  private readonly cluster: ClusterRequests
  private readonly transactions: Transactions
  private readonly acks: number
  private readonly topics = new Map<string, Known>()
  /** What was answered as pending, by partition. */
  private readonly slow = new Map<TopicPartition.Key, Pending>()
  private readonly run: (work: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
  /** Whether batches have sequence numbers, by which the broker recognises them. */
  readonly numbered: boolean

  constructor(
    environment: Connection.Environment,
    options: ProducerSessionOptions,
    compression: number,
    cluster: ClusterRequests,
    transactions: Transactions,
    run: (work: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
  ) {
    this.environment = environment
    this.options = options
    this.compression = compression
    this.cluster = cluster
    this.transactions = transactions
    this.run = run
    this.numbered = options.idempotent || options.transactionalId !== undefined
    this.acks = options.acks === "all" ? -1 : options.acks === "leader" ? 1 : 0
  }

  // -------------------------------------------------------------------------------------------------------------------
  // metadata
  // -------------------------------------------------------------------------------------------------------------------

  /** The leaders of a topic as they are now, or were a moment ago. */
  lookUp(topic: string): Effect.Effect<Leaders, LookupError> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const known = this.topics.get(topic)
      return known !== undefined && !known.stale && now - known.at < metadataAge
        ? Effect.succeed(known.leaders)
        : Effect.flatMap(this.refresh([topic]), (errors) => {
          const error = errors.get(topic)
          return error === undefined ? Effect.sync(() => this.topics.get(topic)!.leaders) : Effect.fail(error)
        })
    })
  }

  /** Asks who leads these topics. Answers what stands in the way, by topic. */
  private refresh(topics: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, LookupError>, ClientError> {
    return Effect.zipWith(this.cluster.topics("produce", topics), Clock.currentTimeMillis, (found, at) => {
      const errors = new Map<string, LookupError>()
      for (const [topic, answer] of found) {
        if (isMetadata(answer)) {
          this.topics.set(topic, { leaders: leadersOf(answer), at, stale: false })
        } else {
          errors.set(topic, answer)
          if (answer._tag === "UnknownTopicError") this.topics.delete(topic)
        }
      }
      return errors
    })
  }

  private leader({ batch }: Pending): number | undefined {
    const leader = this.topics.get(batch.topic)?.leaders.get(batch.partition)
    return leader === undefined || leader < 0 ? undefined : leader
  }

  private isUnclear(one: Pending): boolean {
    return this.topics.get(one.batch.topic)?.stale !== false || this.leader(one) === undefined
  }

  /** Finds out who leads these partitions, and fails those that nobody will. */
  private place(pending: ReadonlyArray<Pending>): Effect.Effect<void> {
    const unclear = pending.filter((one) => this.isUnclear(one))
    if (unclear.length === 0) return Effect.void
    return Effect.match(this.refresh([...new Set(unclear.map((one) => one.batch.topic))]), {
      // with what is known from before, if it is
      onFailure: (error) => {
        for (const one of unclear) if (this.leader(one) === undefined) this.failLookup(one, error)
      },
      onSuccess: (errors) => {
        for (const one of unclear) {
          const { partition, topic } = one.batch
          const error = errors.get(topic)
          if (error !== undefined) this.failLookup(one, error)
          else if (this.topics.get(topic)?.leaders.has(partition) !== true) {
            one.fail(new UnknownTopicError({ operation: "produce", topic, partition }), "refuse")
          } else if (this.leader(one) === undefined) this.failLookup(one, this.leaderless(one))
        }
      }
    })
  }

  private failLookup(one: Pending, error: LookupError): void {
    if (!isPassing(error)) one.fail(error, "refuse")
    else if (!this.isOurs(one)) one.fail(error, "retry")
  }

  // -------------------------------------------------------------------------------------------------------------------
  // sending
  // -------------------------------------------------------------------------------------------------------------------

  send(batches: ReadonlyArray<ProducerBatch>): Effect.Effect<ReadonlyArray<BatchResult>> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const fresh: Array<Pending> = []
      const all = batches.map((batch) => {
        const asked = this.asked(batch)
        if (asked !== undefined) return asked
        const one = new Pending(batch, this.transactions)
        const { refusal } = this.transactions
        if (batch.records.length === 0) one.store(-1n)
        else if (refusal === undefined) fresh.push(one)
        else one.fail(this.invalid(one, refusal), "refuse")
        return one
      })
      const answers = Effect.sync(() => all.map((one) => this.answer(one)))
      if (fresh.length === 0) return answers
      const deadline = now + this.options.deliveryTimeout
      return Effect.zipRight(
        Effect.onInterrupt(
          forAMoment(() => this.quickly(fresh, deadline) ?? this.thoroughly(fresh, deadline)),
          () => answers
        ),
        answers
      )
    })
  }

  /** What is known of the partition from before. */
  private asked(batch: ProducerBatch): Pending | undefined {
    const before = this.slow.get(TopicPartition.key(batch))
    if (before === undefined || before.batch.records === batch.records) return before
    if (isOpen(before)) {
      const one = new Pending(batch, this.transactions)
      one.fail(this.notYet(), "retry")
      return one
    }
    // whoever sent it does not want to know any more
    this.slow.delete(TopicPartition.key(batch))
    return undefined
  }

  private answer(one: Pending): BatchResult {
    const key = TopicPartition.key(one.batch)
    if (one.result === undefined) {
      this.slow.set(key, one)
      return { _tag: "Failed", error: one.lastError ?? this.notYet(), outcome: "pending" }
    }
    if (this.slow.get(key) === one) this.slow.delete(key)
    return one.result
  }

  private notYet(): SendError {
    return new KafkaTimeoutError({ operation: "produce", millis: patience })
  }

  /** Until each has a result, whatever it takes. */
  private thoroughly(pending: ReadonlyArray<Pending>, deadline: number): Promise<void> {
    return this.inBackground(pending, this.attempt(pending, deadline, 0))
  }

  /** The same with next to no effort, if all that has to be known is known. */
  private quickly(pending: ReadonlyArray<Pending>, deadline: number): Promise<unknown> | undefined {
    const identity = this.transactions.current
    if (
      this.options.transactionalId !== undefined || this.slow.size > 0 || (this.numbered && identity === undefined) ||
      pending.some((one) => this.isUnclear(one))
    ) return undefined
    if (this.numbered && identity !== undefined) { for (const one of pending) one.number(identity) }
    for (const one of pending) one.pause = firstPause
    const [groups] = this.group(pending)
    return Promise.all(groups.map(async (group) => {
      await this.ask(group)
      const left = group.members.filter(isOpen)
      if (left.length > 0) await this.inBackground(left, this.again(left, deadline, 0))
    }))
  }

  private inBackground(pending: ReadonlyArray<Pending>, work: Effect.Effect<void>): Promise<void> {
    const whatever = Effect.catchAllCause(work, (cause) =>
      Effect.sync(() => {
        for (const one of pending.filter(isOpen)) {
          one.perhapsStored = true
          one.fail(this.unanswered(one, Cause.squash(cause)), "retry")
        }
      }))
    return new Promise((resolve) => this.run(whatever).addObserver(() => resolve()))
  }

  /** One attempt for each, and further ones for what has no result then. Brokers do not wait for each other. */
  private attempt(pending: ReadonlyArray<Pending>, deadline: number, round: number): Effect.Effect<void> {
    if (pending.length === 0) return Effect.void
    for (const one of pending) one.pause = firstPause
    return this.place(pending).pipe(
      Effect.flatMap(() => this.numbered ? this.number(pending.filter(isOpen)) : Effect.void),
      Effect.flatMap(() => this.options.transactionalId === undefined ? nobody : this.enter(pending.filter(isOpen))),
      Effect.flatMap((out) => {
        if (round === 0 && this.slow.size > 0) this.spare(pending.filter(isOpen))
        const [groups, nowhere] = this.group(pending.filter((one) => isOpen(one) && !out.includes(one)))
        const deliveries = groups.map((group) =>
          Effect.flatMap(this.deliver(group), () => this.again(group.members, deadline, round))
        )
        if (nowhere.length + out.length > 0) deliveries.push(this.again([...nowhere, ...out], deadline, round))
        const [first] = deliveries
        return deliveries.length === 1 && first !== undefined
          ? first
          : Effect.all(deliveries, { concurrency: "unbounded", discard: true })
      })
    )
  }

  /** A broker that has yet to answer is not sent anything new. */
  private spare(pending: ReadonlyArray<Pending>): void {
    const busy = new Set([...this.slow.values()].filter(isOpen).map((one) => one.leader))
    for (const one of pending) {
      const leader = this.leader(one)
      if (leader !== undefined && busy.has(leader)) one.fail(this.notYet(), "retry")
    }
  }

  /** What has no result may have been stored, so that only we can ask again; or it can be sent in a moment. */
  private again(pending: ReadonlyArray<Pending>, deadline: number, round: number): Effect.Effect<void> {
    const left = pending.filter(isOpen)
    if (left.length === 0) return Effect.void
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const pause = Math.max(...left.map((one) => one.pause)) * Math.min(10, 2 ** round)
      if (now + pause >= deadline) {
        for (const one of left) one.fail(this.unanswered(one), "retry")
        return Effect.void
      }
      return Effect.zipRight(Effect.sleep(pause), this.attempt(left, deadline, round + 1))
    })
  }

  /** Gives each batch its numbers, once. */
  private number(pending: ReadonlyArray<Pending>): Effect.Effect<void> {
    const fresh = pending.filter((one) => one.identity === undefined)
    if (fresh.length === 0) return Effect.void
    return Effect.match(this.transactions.identity, {
      onFailure: (error) => {
        for (const one of fresh) one.fail(error, isPassing(error) ? "retry" : "refuse")
      },
      onSuccess: (identity) => {
        for (const one of fresh) one.number(identity)
      }
    })
  }

  /** Puts the partitions into the transaction. Answers those that are not in it, failed or not. */
  private enter(pending: ReadonlyArray<Pending>): Effect.Effect<ReadonlyArray<Pending>> {
    const missing = this.transactions.missing(pending.map((one) => one.batch))
    if (missing.length === 0) return Effect.succeed([])
    const entering = pending.filter((one) => missing.includes(one.batch))
    return Effect.match(this.transactions.add(missing), {
      onFailure: (error) => {
        for (const one of entering) one.fail(error, isPassing(error) ? "retry" : "refuse")
        return entering
      },
      onSuccess: (errors) =>
        entering.filter((one, i) => {
          if (errors[i] !== undefined) this.apply(one, errors[i], "unsent")
          return errors[i] !== undefined
        })
    })
  }

  /** What goes into one request: what one broker leads, under one identity. And what nobody leads just now. */
  private group(pending: ReadonlyArray<Pending>): readonly [ReadonlyArray<Group>, ReadonlyArray<Pending>] {
    const groups: Array<Group> = []
    const nowhere: Array<Pending> = []
    for (const one of pending) {
      const leader = this.leader(one)
      const group = groups.find((group) => group.leader === leader && group.identity === one.identity)
      if (leader === undefined) nowhere.push(one)
      else if (group === undefined) groups.push({ leader, identity: one.identity, members: [one] })
      else group.members.push(one)
    }
    return [groups, nowhere]
  }

  private deliver(group: Group): Effect.Effect<void> {
    return Effect.promise(() => this.ask(group))
  }

  /** One request, which kafkajs bounds in time. */
  private async ask(group: Group): Promise<void> {
    let stage: Verdict.Stage = "unsent"
    for (const one of group.members) one.leader = group.leader
    try {
      const broker = await this.cluster.broker(group.leader)
      stage = "sent"
      this.conclude(group, await broker.produce(this.request(group)))
    } catch (error) {
      for (const one of group.members) if (isOpen(one)) this.apply(one, error, stage)
    }
  }

  private conclude({ members }: Group, answer: Awaited<ReturnType<Broker["produce"]>>): void {
    if (this.acks === 0) {
      for (const one of members) one.store(-1n)
      return
    }
    const found = new Map<TopicPartition.Key, ProducedPartition>()
    for (const { partitions, topicName } of answer?.topics ?? []) {
      for (const one of partitions) found.set(TopicPartition.key({ topic: topicName, partition: one.partition }), one)
    }
    for (const one of members) {
      const stored = found.get(TopicPartition.key(one.batch))
      if (stored === undefined || stored.error !== undefined) {
        this.apply(one, stored?.error ?? new Error("the broker's answer leaves the partition out"), "sent")
      } else {
        const logAppendTime = BigInt(stored.logAppendTime)
        one.store(BigInt(stored.baseOffset), logAppendTime < 0n ? undefined : logAppendTime)
      }
    }
  }

  private request({ identity, members }: Group) {
    const topics = new Map<string, Array<{ partition: number; firstSequence?: number; messages: Array<Message> }>>()
    for (const { batch, messages, sequence } of members) {
      let partitions = topics.get(batch.topic)
      if (partitions === undefined) topics.set(batch.topic, partitions = [])
      partitions.push({
        partition: batch.partition,
        messages,
        ...(identity === undefined ? {} : { firstSequence: sequence })
      })
    }
    return {
      acks: this.acks,
      timeout: this.options.requestTimeout,
      compression: this.compression,
      topicData: Array.from(topics, ([topic, partitions]) => ({ topic, partitions })),
      ...(identity === undefined
        ? {}
        : { producerId: identity.producerId, producerEpoch: identity.producerEpoch }),
      ...(this.options.transactionalId === undefined ? {} : { transactionalId: this.options.transactionalId })
    }
  }

  /** What an error means for a batch. */
  private apply(one: Pending, error: unknown, stage: Verdict.Stage): void {
    const verdict = Verdict.judge(error, stage, this.options.transactionalId !== undefined)
    switch (verdict._tag) {
      case "stored":
        return one.store(-1n)
      case "refused": {
        const typed = this.refusal(one, error, verdict.tooLarge)
        return verdict.answered ? one.refuse(typed) : one.fail(typed, "refuse")
      }
      case "lost":
        one.perhapsStored = true
        return one.fail(this.error(one, error), "retry")
      case "estranged":
        one.fail(withoutTopic(this.error(one, error)), "retry")
        return this.transactions.renew(one.identity)
      case "fenced":
        if (this.transactions.isCurrent(one.identity)) return one.fail(this.transactions.fence(error), "refuse")
        // we have gone on without it
        one.perhapsStored = true
        return one.fail(this.error(one, error), "retry")
      case "again": {
        one.perhapsStored ||= verdict.perhapsStored
        one.lastError = withoutTopic(this.error(one, error))
        if (verdict.soon) one.pause = 20
        const known = this.topics.get(one.batch.topic)
        if (known !== undefined && verdict.stale) known.stale = true
        // what was certainly not stored can be sent again by anybody, and need not hold up others
        if (!verdict.soon && !this.isOurs(one)) one.fail(one.lastError, "retry")
      }
    }
  }

  /** Whether nobody but us can send it again without the risk of storing it twice. */
  private isOurs(one: Pending): boolean {
    return one.perhapsStored && this.numbered
  }

  // -------------------------------------------------------------------------------------------------------------------
  // transactions
  // -------------------------------------------------------------------------------------------------------------------

  /** With a record in doubt there is nothing to be committed. */
  readonly commit: Effect.Effect<void, SendError> = Effect.suspend(() => {
    this.doubt()
    return this.transactions.commit
  })

  readonly abort: Effect.Effect<void, SendError> = Effect.suspend(() => {
    this.doubt()
    this.slow.clear()
    return this.transactions.abort
  })

  private doubt(): void {
    for (const one of this.slow.values()) if (isOpen(one)) this.transactions.renew(one.identity)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // errors
  // -------------------------------------------------------------------------------------------------------------------

  private error({ batch }: Pending, error: unknown): ReturnType<typeof clientError> {
    return clientError(
      error,
      Connection.attempt(this.environment, "produce", {
        topic: batch.topic,
        partition: batch.partition,
        transactionalId: this.options.transactionalId,
        millis: this.options.requestTimeout
      })
    )
  }

  private refusal(one: Pending, error: unknown, tooLarge: boolean): SendError {
    const typed = this.error(one, error)
    if (typed._tag !== "KafkaRequestError") return typed
    return new ProducerError({
      topic: one.batch.topic,
      partition: one.batch.partition,
      reason: tooLarge ? "too-large" : "refused",
      code: typed.code,
      retriable: false,
      description: tooLarge ? "larger than the topic or the broker allows: see max.message.bytes" : typed.reason,
      cause: typed.cause
    })
  }

  private unanswered({ batch, lastError }: Pending, cause: unknown = lastError): SendError {
    return new ProducerError({
      topic: batch.topic,
      partition: batch.partition,
      reason: "unknown-outcome",
      retriable: false,
      description: `sent, and not answered within ${this.options.deliveryTimeout} ms: it may or may not be stored`,
      cause
    })
  }

  private leaderless({ batch }: Pending): ClientError {
    return withoutTopic(clientError(
      Object.assign(new Error(`${TopicPartition.format(batch)} has no leader`), {
        type: "LEADER_NOT_AVAILABLE",
        retriable: true
      }),
      Connection.attempt(this.environment, "produce")
    ))
  }

  private invalid({ batch }: Pending, description: string): SendError {
    return new ProducerError({
      topic: batch.topic,
      partition: batch.partition,
      reason: "invalid",
      retriable: false,
      description
    })
  }
}

/** Waits a moment for work that goes on whether or not it is waited for. */
const forAMoment = (work: () => Promise<unknown>): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const timer = setTimeout(() => resume(Effect.void), patience)
    const wait = async (): Promise<void> => {
      try {
        await work()
        resume(Effect.void)
      } catch (error) {
        resume(Effect.die(error))
      } finally {
        clearTimeout(timer)
      }
    }
    void wait()
    return Effect.sync(() => clearTimeout(timer))
  })

const isPassing = (error: SendError): boolean =>
  error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
  (error._tag === "KafkaRequestError" && error.retriable)
