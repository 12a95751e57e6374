/**
 * Producer ids, epochs and transactions, as the transaction coordinator keeps them.
 */
import * as Either from "effect/Either"
import type { OffsetAndMetadata } from "../../KafkaClient.ts"
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import type { Cluster } from "./Cluster.ts"
import type { CommittedOffset, Identity } from "./Group.ts"
import { done, ok, refuse, type Reply } from "./Protocol.ts"

/** Who a producer is: an id, and how often it was given out. */
export interface ProducerIdentity {
  readonly producerId: number
  readonly epoch: number
}

interface Transaction {
  readonly transactionalId: string
  readonly producerId: number
  epoch: number
  timeout: number
  ongoing: boolean
  readonly partitions: Map<Key, TopicPartition>
  readonly groups: Set<string>
}

export class Transactions {
  private readonly cluster: Cluster
  private readonly byId = new Map<string, Transaction>()
  private producerIds = 0

  constructor(cluster: Cluster) {
    this.cluster = cluster
  }

  /** Ends what an earlier producer of the same id left open, and fences it. */
  initProducerId(transactionalId: string | undefined, timeout: number): Reply<ProducerIdentity> {
    if (transactionalId === undefined) return ok({ producerId: this.producerIds++, epoch: 0 })
    const forbidden = this.cluster.authorize("transactional-id", transactionalId)
    if (forbidden !== undefined) return Either.left(forbidden)
    if (timeout <= 0 || timeout > this.cluster.settings.maxTransactionTimeout) {
      return refuse(
        "INVALID_TRANSACTION_TIMEOUT",
        transactionalId,
        `${timeout} ms, and the broker allows up to ${this.cluster.settings.maxTransactionTimeout} ms`
      )
    }
    const known = this.byId.get(transactionalId)
    if (known === undefined) {
      const transaction: Transaction = {
        transactionalId,
        producerId: this.producerIds++,
        epoch: 0,
        timeout,
        ongoing: false,
        partitions: new Map(),
        groups: new Set()
      }
      this.byId.set(transactionalId, transaction)
      return ok({ producerId: transaction.producerId, epoch: 0 })
    }
    known.epoch++
    known.timeout = timeout
    if (known.ongoing) this.finish(known, "abort")
    return ok({ producerId: known.producerId, epoch: known.epoch })
  }

  private find(transactionalId: string, who: ProducerIdentity): Reply<Transaction> {
    const forbidden = this.cluster.authorize("transactional-id", transactionalId)
    if (forbidden !== undefined) return Either.left(forbidden)
    const transaction = this.byId.get(transactionalId)
    if (transaction === undefined || transaction.producerId !== who.producerId) {
      return refuse("INVALID_PRODUCER_ID_MAPPING", transactionalId)
    }
    return who.epoch === transaction.epoch ? ok(transaction) : refuse("PRODUCER_FENCED", transactionalId)
  }

  private start(transaction: Transaction): void {
    if (transaction.ongoing) return
    transaction.ongoing = true
    const { epoch, transactionalId } = transaction
    this.cluster.timers.set(
      this.timerKey(transactionalId),
      this.cluster.timers.now() + transaction.timeout,
      () => {
        // the producer is taken for dead, and fenced in case it is not
        if (!transaction.ongoing || transaction.epoch !== epoch) return
        transaction.epoch++
        this.finish(transaction, "abort")
      }
    )
  }

  /** A partition takes part from now on. */
  addPartition(transactionalId: string, who: ProducerIdentity, tp: TopicPartition): Reply<void> {
    const found = this.find(transactionalId, who)
    if (found._tag === "Left") return found
    this.start(found.right)
    found.right.partitions.set(key(tp), tp)
    return done
  }

  /** Offsets that count when the transaction is committed. */
  addOffsets(
    transactionalId: string,
    who: ProducerIdentity,
    groupId: string,
    member: Identity,
    offsets: ReadonlyArray<OffsetAndMetadata>
  ): Reply<void> {
    const found = this.find(transactionalId, who)
    if (found._tag === "Left") return found
    const group = this.cluster.group(groupId)
    if (group._tag === "Left") return group
    for (const offset of offsets) {
      const log = this.cluster.log(offset)
      if (log._tag === "Left") return log
    }
    const may = group.right.mayCommit(member, true)
    if (may._tag === "Left") return may
    this.start(found.right)
    found.right.groups.add(groupId)
    const pending = group.right.pending.get(who.producerId) ?? new Map<Key, CommittedOffset>()
    group.right.pending.set(who.producerId, pending)
    const committedAt = this.cluster.timers.now()
    for (const offset of offsets) pending.set(key(offset), { ...offset, committedAt })
    return done
  }

  end(transactionalId: string, who: ProducerIdentity, outcome: "commit" | "abort"): Reply<void> {
    const found = this.find(transactionalId, who)
    if (found._tag === "Left") return found
    if (found.right.ongoing) this.finish(found.right, outcome)
    return done
  }

  private finish(transaction: Transaction, outcome: "commit" | "abort"): void {
    const { cluster } = this
    const { groups, partitions, producerId, transactionalId } = transaction
    cluster.timers.clear(this.timerKey(transactionalId))
    transaction.ongoing = false
    for (const { partition, topic } of partitions.values()) {
      cluster.topics.get(topic)?.partitions[partition]?.appendMarker(producerId, outcome, cluster.now)
    }
    for (const groupId of groups) {
      const group = cluster.groups.get(groupId)
      const pending = group?.pending.get(producerId)
      if (group === undefined || pending === undefined) continue
      group.pending.delete(producerId)
      if (outcome === "commit") group.store([...pending.values()])
    }
    partitions.clear()
    groups.clear()
  }

  private timerKey(transactionalId: string): string {
    return `transaction/${transactionalId}`
  }
}
