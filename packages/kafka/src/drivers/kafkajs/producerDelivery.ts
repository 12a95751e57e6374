/**
 * One produce request to one broker, and what its answer, or the lack of one, means for each batch in it.
 */
import type { Message } from "kafkajs"
import type { ProducerSessionOptions, SendError } from "../../KafkaClient.ts"
import { type ClientError, ProducerError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { ClusterRequests } from "./cluster.ts"
import * as Connection from "./connection.ts"
import { clientError, withoutTopic } from "./errors.ts"
import type { Broker, ProducedPartition } from "./internals.ts"
import type { KnownLeaders } from "./producerLeaders.ts"
import { isOpen, type Pending } from "./producerPending.ts"
import type { Identity } from "./producerSequences.ts"
import type { Transactions } from "./producerTransactions.ts"
import * as Verdict from "./producerVerdict.ts"

export interface Group {
  readonly leader: number
  readonly identity: Identity | undefined
  readonly members: Array<Pending>
}

export class Delivery {
  private readonly environment: Connection.Environment
  private readonly options: ProducerSessionOptions
  private readonly compression: number
  private readonly cluster: ClusterRequests
  private readonly transactions: Transactions
  private readonly leaders: KnownLeaders
  private readonly acks: number
  /** Whether batches have sequence numbers, by which the broker recognises them. */
  readonly numbered: boolean

  constructor(
    environment: Connection.Environment,
    options: ProducerSessionOptions,
    compression: number,
    cluster: ClusterRequests,
    transactions: Transactions,
    leaders: KnownLeaders
  ) {
    this.environment = environment
    this.options = options
    this.compression = compression
    this.cluster = cluster
    this.transactions = transactions
    this.leaders = leaders
    this.numbered = options.idempotent || options.transactionalId !== undefined
    this.acks = options.acks === "all" ? -1 : options.acks === "leader" ? 1 : 0
  }

  /** One request, which kafkajs bounds in time. */
  async ask(group: Group): Promise<void> {
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
  apply(one: Pending, error: unknown, stage: Verdict.Stage): void {
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
        if (verdict.stale) this.leaders.doubt(one.batch.topic)
        // what was certainly not stored can be sent again by anybody, and need not hold up others
        if (!verdict.soon && !this.isOurs(one)) one.fail(one.lastError, "retry")
      }
    }
  }

  /** Whether nobody but us can send it again without the risk of storing it twice. */
  isOurs(one: Pending): boolean {
    return one.perhapsStored && this.numbered
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

  unanswered({ batch, lastError }: Pending, cause: unknown = lastError): SendError {
    return new ProducerError({
      topic: batch.topic,
      partition: batch.partition,
      reason: "unknown-outcome",
      retriable: false,
      description: `sent, and not answered within ${this.options.deliveryTimeout} ms: it may or may not be stored`,
      cause
    })
  }

  leaderless({ batch }: Pending): ClientError {
    return withoutTopic(clientError(
      Object.assign(new Error(`${TopicPartition.format(batch)} has no leader`), {
        type: "LEADER_NOT_AVAILABLE",
        retriable: true
      }),
      Connection.attempt(this.environment, "produce")
    ))
  }

  invalid({ batch }: Pending, description: string): SendError {
    return new ProducerError({
      topic: batch.topic,
      partition: batch.partition,
      reason: "invalid",
      retriable: false,
      description
    })
  }
}
