/**
 * A batch on its way to the broker, and what has become of it.
 */
import type { BatchResult, ProducerBatch, SendError } from "../../KafkaClient.ts"
import type { Identity } from "./sequences.ts"
import type { Transactions } from "./transactions.ts"

export class Pending {
  readonly batch: ProducerBatch
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
    this.result = { _tag: "Stored", baseOffset, logAppendTime }
    this.identity?.advance(this.batch.topic, this.batch.partition, this.batch.records.length)
    this.transactions.stored(this.identity)
  }
}

export const isOpen = (one: Pending): boolean => one.result === undefined
