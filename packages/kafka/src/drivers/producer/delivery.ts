/**
 * One produce request to one broker, and what its answer, or the lack of one, means for each batch in it.
 */
import type { ProducerSessionOptions, SendError } from "../../KafkaClient.ts"
import { type ClientError, KafkaRequestError, ProducerError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { type TypedError, withoutTopic } from "../errors.ts"
import type { KnownLeaders } from "./leaders.ts"
import { isOpen, type Pending } from "./pending.ts"
import type { Transactions } from "./transactions.ts"
import { failure, type Group, type Produced, type Transport } from "./transport.ts"
import * as Verdict from "./verdict.ts"

export class Delivery {
  private readonly options: ProducerSessionOptions
  private readonly transport: Transport
  private readonly transactions: Transactions
  private readonly leaders: KnownLeaders
  /** Whether batches have sequence numbers, by which the broker recognises them. */
  readonly numbered: boolean

  constructor(
    options: ProducerSessionOptions,
    transport: Transport,
    transactions: Transactions,
    leaders: KnownLeaders
  ) {
    this.options = options
    this.transport = transport
    this.transactions = transactions
    this.leaders = leaders
    this.numbered = options.idempotent || options.transactionalId !== undefined
  }

  /** One request, which the driver bounds in time. */
  async ask(group: Group): Promise<void> {
    let stage: Verdict.Stage = "unsent"
    for (const one of group.members) one.leader = group.leader
    try {
      const answers = await this.transport.produce(group, () => {
        stage = "sent"
      })
      if (answers === "unanswered") { for (const one of group.members) one.store(-1n) }
      else group.members.forEach((one, i) => this.conclude(one, answers[i]))
    } catch (error) {
      for (const one of group.members) if (isOpen(one)) this.apply(one, error, stage)
    }
  }

  private conclude(one: Pending, answer: Produced | undefined): void {
    if (answer === undefined) this.apply(one, new Error("the broker's answer leaves the partition out"), "sent")
    else if (answer._tag === "Stored") one.store(answer.baseOffset, answer.logAppendTime)
    else this.apply(one, answer.error, "sent")
  }

  /** What an error means for a batch. */
  apply(one: Pending, error: unknown, stage: Verdict.Stage): void {
    const { meaning, protocolCode } = this.transport
    const verdict = Verdict.judge(
      { answered: protocolCode(error), meaning: meaning(error) },
      stage,
      this.options.transactionalId !== undefined
    )
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

  private error({ batch }: Pending, error: unknown): TypedError {
    return failure(this.transport, error, "produce", {
      topic: batch.topic,
      partition: batch.partition,
      transactionalId: this.options.transactionalId,
      millis: this.options.requestTimeout
    })
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
    return new KafkaRequestError({
      operation: "produce",
      code: "LEADER_NOT_AVAILABLE",
      retriable: true,
      reason: `${TopicPartition.format(batch)} has no leader`
    })
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
