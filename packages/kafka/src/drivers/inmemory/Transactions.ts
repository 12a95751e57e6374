/**
 * Producer ids, epochs and transactions, as the transaction coordinator keeps them.
 */
import * as Either from "effect/Either"
import type { OffsetAndMetadata } from "../../KafkaClient.ts"
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import type { Group, Identity } from "./Group.ts"
import { done, ok, type Refusal, refuse, type Reply } from "./Protocol.ts"
import type { Timers } from "./Timers.ts"

/** Who a producer is: an id, and how often it was given out. */
export interface ProducerIdentity {
  readonly producerId: number
  readonly epoch: number
}

export type Outcome = "commit" | "abort"

interface Transaction {
  readonly transactionalId: string
  readonly producerId: number
  epoch: number
  timeout: number
  /** `undefined` before the first one. */
  state: "ongoing" | Outcome | undefined
  readonly partitions: Map<Key, TopicPartition>
  readonly groups: Map<string, Group>
}

/** What the coordinator needs of the rest of the cluster. */
export interface Host {
  readonly timers: Timers
  readonly maxTransactionTimeout: number
  readonly authorize: (resource: "transactional-id", name: string) => Refusal | undefined
  readonly endTransaction: (tp: TopicPartition, producerId: number, outcome: Outcome) => void
}

export class Transactions {
  private readonly host: Host
  private readonly byId = new Map<string, Transaction>()
  private producerIds = 0

  constructor(host: Host) {
    this.host = host
  }

  /** A transactional id fences who had it before, and ends what that one left open. */
  initProducerId(transactionalId: string | undefined, timeout: number): Reply<ProducerIdentity> {
    if (transactionalId === undefined) return ok({ producerId: this.producerIds++, epoch: 0 })
    const forbidden = this.host.authorize("transactional-id", transactionalId)
    if (forbidden !== undefined) return Either.left(forbidden)
    const { maxTransactionTimeout } = this.host
    if (timeout <= 0 || timeout > maxTransactionTimeout) {
      const reason = `${timeout} ms, and the broker allows 1 to ${maxTransactionTimeout} ms`
      return refuse("INVALID_TRANSACTION_TIMEOUT", transactionalId, reason)
    }
    let transaction = this.byId.get(transactionalId)
    if (transaction === undefined) {
      transaction = {
        transactionalId,
        producerId: this.producerIds++,
        epoch: 0,
        timeout,
        state: undefined,
        partitions: new Map(),
        groups: new Map()
      }
      this.byId.set(transactionalId, transaction)
    } else {
      transaction.epoch++
      transaction.timeout = timeout
      if (transaction.state === "ongoing") this.finish(transaction, "abort")
      transaction.state = undefined
    }
    return ok({ producerId: transaction.producerId, epoch: transaction.epoch })
  }

  private find(transactionalId: string, who: ProducerIdentity): Reply<Transaction> {
    const forbidden = this.host.authorize("transactional-id", transactionalId)
    if (forbidden !== undefined) return Either.left(forbidden)
    const transaction = this.byId.get(transactionalId)
    if (transaction === undefined || transaction.producerId !== who.producerId) {
      return refuse("INVALID_PRODUCER_ID_MAPPING", transactionalId)
    }
    return who.epoch === transaction.epoch ? ok(transaction) : refuse("PRODUCER_FENCED", transactionalId)
  }

  private start(transaction: Transaction): void {
    if (transaction.state === "ongoing") return
    transaction.state = "ongoing"
    const { timers } = this.host
    timers.set(timerKey(transaction), timers.now() + transaction.timeout, () => {
      // its producer is taken for dead, and fenced in case it is not
      transaction.epoch++
      this.finish(transaction, "abort")
    })
  }

  /** A partition takes part from now on. */
  addPartition(transactionalId: string, who: ProducerIdentity, tp: TopicPartition): Reply<void> {
    return Either.map(this.find(transactionalId, who), (transaction) => {
      this.start(transaction)
      transaction.partitions.set(key(tp), tp)
    })
  }

  /** Offsets that count if the transaction is committed. */
  addOffsets(
    transactionalId: string,
    who: ProducerIdentity,
    group: Group,
    member: Identity,
    offsets: ReadonlyArray<OffsetAndMetadata>
  ): Reply<void> {
    return Either.flatMap(
      this.find(transactionalId, who),
      (transaction) =>
        Either.map(group.mayCommit(member, true), () => {
          this.start(transaction)
          transaction.groups.set(group.groupId, group)
          group.storePending(who.producerId, offsets)
        })
    )
  }

  /** Ending it again the same way, because the answer was lost, is the same as ending it once. */
  end(transactionalId: string, who: ProducerIdentity, outcome: Outcome): Reply<void> {
    return Either.flatMap(this.find(transactionalId, who), (transaction) => {
      if (transaction.state === "ongoing") this.finish(transaction, outcome)
      else if (transaction.state !== outcome) {
        return refuse(
          "INVALID_TXN_STATE",
          transactionalId,
          transaction.state === undefined
            ? "there is no transaction"
            : `the last transaction ended with ${transaction.state}`
        )
      }
      return done
    })
  }

  private finish(transaction: Transaction, outcome: Outcome): void {
    const { groups, partitions, producerId } = transaction
    this.host.timers.clear(timerKey(transaction))
    transaction.state = outcome
    for (const tp of partitions.values()) this.host.endTransaction(tp, producerId, outcome)
    for (const group of groups.values()) group.endPending(producerId, outcome === "commit")
    partitions.clear()
    groups.clear()
  }

  /** Transactional ids with a transaction under way. */
  ongoing(): ReadonlyArray<string> {
    return [...this.byId.values()].filter(({ state }) => state === "ongoing").map(({ transactionalId }) =>
      transactionalId
    )
  }
}

const timerKey = ({ transactionalId }: Transaction): string => `transaction/${transactionalId}`
