/**
 * Producing, whatever client sends the requests: every attempt is one request to one broker, each partition has its own
 * answer, and the sequence numbers are ours. A batch whose fate is uncertain is only ever sent again with the producer
 * id and the sequence numbers it had, so the broker recognises it. If that does not settle it within the delivery
 * timeout, its outcome is answered as unknown, and a fresh producer id goes on.
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
import { asyncOnce } from "../../engine/asyncOnce.ts"
import type {
  BatchResult,
  Capabilities,
  ProducerBatch,
  ProducerSession,
  ProducerSessionOptions,
  SendError
} from "../../KafkaClient.ts"
import { type ClientError, KafkaTimeoutError, type ProducerFencedError, UnknownTopicError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { newTopic } from "../lookups.ts"
import { Delivery } from "./delivery.ts"
import { KnownLeaders } from "./leaders.ts"
import { isOpen, Pending } from "./pending.ts"
import { Transactions } from "./transactions.ts"
import type { Group, LookupError, Transport } from "./transport.ts"

/** How long to wait before what may have been stored is sent again, in milliseconds; twice as long each time. */
const firstPause = 100

/** How long `send` waits for results before it answers that some are pending, in milliseconds. */
const patience = 500

/**
 * A session over a driver that is connected. It asks for an identity at once where it needs one.
 */
export const make = (
  transport: Transport,
  capabilities: Capabilities,
  maxInFlight: number,
  options: ProducerSessionOptions
): Effect.Effect<ProducerSession, ClientError | ProducerFencedError, Scope.Scope> =>
  Effect.gen(function*() {
    const transactions = new Transactions(options, transport)
    yield* Effect.addFinalizer(() => Effect.sync(() => void (transactions.closed = true)))
    const run = yield* FiberSet.makeRuntime<never, void>()
    const leaders = new KnownLeaders(transport)
    const delivery = new Delivery(options, transport, transactions, leaders)
    const session = new Session(options, yield* Effect.clock, transactions, leaders, delivery, run)
    if (delivery.numbered) yield* transactions.identity
    return {
      capabilities,
      maxInFlight,
      send: (batches) => session.send(batches),
      partitionCount: (topic) =>
        leaders.lookUp(topic).pipe(
          Effect.retry({ while: (error) => error._tag === "UnknownTopicError", schedule: newTopic }),
          Effect.map((found) => found.size)
        ),
      begin: transactions.begin,
      sendOffsets: (offsets, group) => transactions.sendOffsets(offsets, group),
      commit: session.commit,
      abort: session.abort
    }
  })

const nobody: Effect.Effect<ReadonlyArray<Pending>> = Effect.succeed([])

class Session {
  private readonly options: ProducerSessionOptions
  private readonly clock: Clock.Clock
  private readonly transactions: Transactions
  private readonly leaders: KnownLeaders
  private readonly delivery: Delivery
  private readonly run: (work: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
  /** What was sent and has no result yet, whether or not anybody waits for it. */
  private open: ReadonlyArray<Pending> = []
  /** What was answered as pending, by partition. */
  private readonly slow = new Map<TopicPartition.Key, Pending>()

  constructor(
    options: ProducerSessionOptions,
    clock: Clock.Clock,
    transactions: Transactions,
    leaders: KnownLeaders,
    delivery: Delivery,
    run: (work: Effect.Effect<void>) => Fiber.RuntimeFiber<void>
  ) {
    this.options = options
    this.clock = clock
    this.transactions = transactions
    this.leaders = leaders
    this.delivery = delivery
    this.run = run
  }

  /** Finds out who leads these partitions, and fails those that nobody will. */
  private place(pending: ReadonlyArray<Pending>): Effect.Effect<void> {
    const unclear = pending.filter((one) => this.leaders.isUnclear(one.batch))
    if (unclear.length === 0) return Effect.void
    return Effect.match(this.leaders.refresh([...new Set(unclear.map((one) => one.batch.topic))]), {
      // with what is known from before, if it is
      onFailure: (error) => {
        for (const one of unclear) if (this.leaders.of(one.batch) === undefined) this.failLookup(one, error)
      },
      onSuccess: (errors) => {
        for (const one of unclear) {
          const { partition, topic } = one.batch
          const error = errors.get(topic)
          if (error !== undefined) this.failLookup(one, error)
          else if (!this.leaders.has(one.batch)) {
            one.fail(new UnknownTopicError({ operation: "produce", topic, partition }), "refuse")
          } else if (this.leaders.of(one.batch) === undefined) this.failLookup(one, this.delivery.leaderless(one))
        }
      }
    })
  }

  private failLookup(one: Pending, error: LookupError): void {
    if (!isPassing(error)) one.fail(error, "refuse")
    else if (!this.delivery.isOurs(one)) one.fail(error, "retry")
  }

  // -------------------------------------------------------------------------------------------------------------------
  // sending
  // -------------------------------------------------------------------------------------------------------------------

  send(batches: ReadonlyArray<ProducerBatch>): Effect.Effect<ReadonlyArray<BatchResult>> {
    return Effect.suspend(() => {
      const fresh: Array<Pending> = []
      const all = batches.map((batch) => {
        const asked = this.asked(batch)
        if (asked !== undefined) return asked
        const one = new Pending(batch, this.transactions)
        const { refusal } = this.transactions
        if (batch.records.length === 0) one.store(-1n)
        else if (refusal === undefined) fresh.push(one)
        else one.fail(this.delivery.invalid(one, refusal), "refuse")
        return one
      })
      if (fresh.length === 0) return Effect.succeed(this.answers(all))
      this.open = [...this.open, ...fresh]
      const deadline = this.clock.unsafeCurrentTimeMillis() + this.options.deliveryTimeout
      return forAMoment(
        () => this.quickly(fresh, deadline) ?? this.thoroughly(fresh, deadline),
        () => this.answers(all)
      )
    })
  }

  /** What is known of the partition from before. */
  private asked(batch: ProducerBatch): Pending | undefined {
    const before = this.slow.size === 0 ? undefined : this.slow.get(TopicPartition.key(batch))
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

  private answers(all: ReadonlyArray<Pending>): ReadonlyArray<BatchResult> {
    this.open = this.open.filter(isOpen)
    return all.map((one) => this.answer(one))
  }

  private answer(one: Pending): BatchResult {
    if (one.result !== undefined && this.slow.size === 0) return one.result
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
      this.options.transactionalId !== undefined || this.slow.size > 0 ||
      (this.delivery.numbered && identity === undefined) ||
      pending.some((one) => this.leaders.isUnclear(one.batch))
    ) return undefined
    if (this.delivery.numbered && identity !== undefined) { for (const one of pending) one.number(identity) }
    for (const one of pending) one.pause = firstPause
    const [groups] = this.group(pending)
    const [first, second] = groups
    return first !== undefined && second === undefined
      ? this.once(first, deadline)
      : Promise.all(groups.map((group) => this.once(group, deadline)))
  }

  private async once(group: Group, deadline: number): Promise<void> {
    await this.delivery.ask(group)
    const left = group.members.filter(isOpen)
    if (left.length > 0) await this.inBackground(left, this.again(left, deadline, 0))
  }

  private inBackground(pending: ReadonlyArray<Pending>, work: Effect.Effect<void>): Promise<void> {
    const whatever = Effect.catchAllCause(work, (cause) =>
      Effect.sync(() => {
        for (const one of pending.filter(isOpen)) {
          one.perhapsStored = true
          one.fail(this.delivery.unanswered(one, Cause.squash(cause)), "retry")
        }
      }))
    return new Promise((resolve) => this.run(whatever).addObserver(() => resolve()))
  }

  /** One attempt for each, and further ones for what has no result then. Brokers do not wait for each other. */
  private attempt(pending: ReadonlyArray<Pending>, deadline: number, round: number): Effect.Effect<void> {
    if (pending.length === 0) return Effect.void
    for (const one of pending) one.pause = firstPause
    return this.place(pending).pipe(
      Effect.flatMap(() => this.delivery.numbered ? this.number(pending.filter(isOpen)) : Effect.void),
      Effect.flatMap(() => this.options.transactionalId === undefined ? nobody : this.enter(pending.filter(isOpen))),
      Effect.flatMap((out) => {
        if (round === 0 && this.slow.size > 0) this.spare(pending.filter(isOpen))
        const [groups, nowhere] = this.group(pending.filter((one) => isOpen(one) && !out.includes(one)))
        const deliveries = groups.map((group) =>
          Effect.flatMap(
            Effect.promise(() => this.delivery.ask(group)),
            () => this.again(group.members, deadline, round)
          )
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
      const leader = this.leaders.of(one.batch)
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
        for (const one of left) one.fail(this.delivery.unanswered(one), "retry")
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
          if (errors[i] !== undefined) this.delivery.apply(one, errors[i], "unsent")
          return errors[i] !== undefined
        })
    })
  }

  /** What goes into one request: what one broker leads, under one identity. And what nobody leads just now. */
  private group(pending: ReadonlyArray<Pending>): readonly [ReadonlyArray<Group>, ReadonlyArray<Pending>] {
    const groups: Array<Group> = []
    const nowhere: Array<Pending> = []
    for (const one of pending) {
      const leader = this.leaders.of(one.batch)
      const group = groups.find((group) => group.leader === leader && group.identity === one.identity)
      if (leader === undefined) nowhere.push(one)
      else if (group === undefined) groups.push({ leader, identity: one.identity, members: [one] })
      else group.members.push(one)
    }
    return [groups, nowhere]
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

  /** What has no numbers yet was not sent, and never will be: it would be in the next transaction. */
  private doubt(): void {
    if (this.options.transactionalId === undefined) return
    for (const one of this.open.filter(isOpen)) {
      if (one.identity !== undefined) this.transactions.renew(one.identity)
      else one.fail(this.delivery.invalid(one, "its transaction ended before it was sent"), "refuse")
    }
  }
}

/** Waits a moment for work that goes on whether or not it is waited for, and looks at what has come of it. */
const forAMoment = <A>(work: () => Promise<unknown>, look: () => A): Effect.Effect<A> =>
  asyncOnce<A>((resume) => {
    // no finalizer, which would cost more than the rest: who is interrupted leaves a timer that holds nobody up
    const timer = setTimeout(() => answer(Effect.sync(look)), patience).unref()
    const answer = (result: Effect.Effect<A>): void => {
      clearTimeout(timer)
      resume(result)
    }
    work().then(() => answer(Effect.sync(look)), (defect: unknown) => answer(Effect.die(defect)))
  })

const isPassing = (error: SendError): boolean =>
  error._tag === "KafkaConnectionError" || error._tag === "KafkaTimeoutError" ||
  (error._tag === "KafkaRequestError" && error.retriable)
