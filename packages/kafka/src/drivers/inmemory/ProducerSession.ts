/**
 * A producer as a client of the brokers.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type {
  BatchResult,
  ProducerBatch,
  ProducerSession,
  ProducerSessionOptions,
  SendError
} from "../../KafkaClient.ts"
import { type ClientError, CommitError, ProducerError, ProducerFencedError } from "../../KafkaError.ts"
import type { Key } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import type { Appended, Cluster } from "./Cluster.ts"
import { capabilities } from "./ConsumerSession.ts"
import { backoff, connect, retrying } from "./Lifeline.ts"
import type { Network, RequestKind, Timings } from "./Network.ts"
import {
  aboutNoTopic,
  canRetry,
  clientError,
  commitError,
  type Failure,
  isRetriable,
  refuse,
  refused,
  type Reply
} from "./Protocol.ts"
import type { Outcome, ProducerIdentity } from "./Transactions.ts"

/** A batch on its way. */
interface Delivery {
  readonly batch: ProducerBatch
  /** Where its result belongs. */
  readonly index: number
  /** The number of its first record, if its producer numbers them. */
  readonly sequence: number
  /** Whether an attempt may have been carried out though nobody said so. */
  uncertain: boolean
}

/**
 * - `"broken"`: whether a batch was stored is not known, so that it can only be aborted.
 * - `"unclear"`: what the coordinator takes for the state may not be what the producer does, so that the next one needs
 *   a new epoch.
 */
type TransactionState = "none" | "open" | "broken" | "unclear"

export const open = (
  cluster: Cluster,
  network: Network,
  timings: Timings,
  options: ProducerSessionOptions
): Effect.Effect<ProducerSession, ClientError | ProducerFencedError, Scope.Scope> =>
  Effect.gen(function*() {
    const { acks, deliveryTimeout, requestTimeout, transactionTimeout, transactionalId } = options
    const numbered = options.idempotent || transactionalId !== undefined
    const brokers = cluster.addresses
    const link = yield* network.connect({
      kind: "producer",
      clientId: options.clientId ?? "producer",
      groupId: undefined
    })
    const anyBroker = () => cluster.anyBroker
    const coordinator = transactionalId === undefined ? anyBroker : () => cluster.coordinator(transactionalId)

    let identity: ProducerIdentity | undefined
    /** The number of the next record of each partition. */
    const sequences = new Map<Key, number>()
    let transaction: TransactionState = "none"
    /** Whether the coordinator knows of it. */
    let begun = false

    const sendError = (
      operation: string,
      failure: Failure,
      topic = "",
      partition?: number
    ): SendError => {
      if (failure._tag !== "Refused") return clientError(operation, brokers, failure)
      const { code, reason } = failure.refusal
      const because = (why: ProducerError["reason"]) =>
        new ProducerError({
          topic,
          ...(partition === undefined ? {} : { partition }),
          reason: why,
          code,
          retriable: isRetriable(code),
          description: reason ?? code
        })
      switch (code) {
        case "PRODUCER_FENCED":
        case "INVALID_PRODUCER_EPOCH":
          return transactionalId === undefined ? because("refused") : new ProducerFencedError({ transactionalId })
        case "MESSAGE_TOO_LARGE":
          return because("too-large")
        case "INVALID_TXN_STATE":
          return because("invalid")
        case "UNKNOWN_TOPIC_OR_PARTITION":
        case "TOPIC_AUTHORIZATION_FAILED":
        case "CLUSTER_AUTHORIZATION_FAILED":
        case "TRANSACTIONAL_ID_AUTHORIZATION_FAILED":
        case "GROUP_AUTHORIZATION_FAILED":
          return clientError(operation, brokers, failure)
        default:
          return because("refused")
      }
    }

    /** A producer id with a fresh epoch: earlier ones of the same transactional id are fenced, their records aborted. */
    const initialise = (patience: number): Effect.Effect<void, Failure> =>
      Effect.map(
        retrying(
          network.call(
            link,
            coordinator,
            "init-producer",
            () => cluster.transactions.initProducerId(transactionalId, transactionTimeout),
            requestTimeout
          ),
          patience
        ),
        (fresh) => {
          identity = fresh
          sequences.clear()
        }
      )

    // -----------------------------------------------------------------------------------------------------------------
    // sending
    // -----------------------------------------------------------------------------------------------------------------

    /** The broker's part. */
    const append = (
      who: ProducerIdentity | undefined,
      { batch, sequence }: Delivery
    ): Reply<Appended> => {
      if (who === undefined) return cluster.append(batch, batch.records, acks)
      const { epoch, producerId } = who
      const by = { producerId, epoch, firstSequence: sequence, transactional: transactionalId !== undefined }
      if (transactionalId !== undefined) {
        const added = Either.flatMap(
          cluster.log(batch),
          () => cluster.transactions.addPartition(transactionalId, who, batch)
        )
        if (Either.isLeft(added)) return Either.left(added.left)
        begun = true
      }
      return cluster.append(batch, batch.records, acks, by)
    }

    /** One request to one leader: an answer for each batch. */
    const request = (
      who: ProducerIdentity | undefined,
      leader: number | undefined,
      deliveries: ReadonlyArray<Delivery>
    ): Effect.Effect<ReadonlyArray<readonly [Delivery, Either.Either<Appended, Failure>]>> =>
      Effect.map(
        Effect.either(network.call(
          link,
          () => leader,
          "produce",
          () => Either.right(deliveries.map((delivery) => append(who, delivery))),
          requestTimeout
        )),
        (answer) =>
          deliveries.map((delivery, i) =>
            [
              delivery,
              Either.isRight(answer) ? Either.mapLeft(answer.right[i]!, refused) : Either.left(answer.left)
            ] as const
          )
      )

    const stored = ({ baseOffset, logAppendTime }: Appended): BatchResult => ({
      _tag: "Stored",
      baseOffset,
      logAppendTime
    })

    /** What became of a batch, if that is clear; `undefined` if it is to be sent again. */
    const settle = (
      delivery: Delivery,
      answer: Either.Either<Appended, Failure>,
      timeIsUp: boolean
    ): BatchResult | undefined => {
      const { batch: { partition, topic }, batch } = delivery
      const advance = () => sequences.set(key(batch), delivery.sequence + batch.records.length)
      if (acks === "none") {
        advance()
        return { _tag: "Stored", baseOffset: -1n }
      }
      if (Either.isRight(answer)) {
        advance()
        return stored(answer.right)
      }
      const failure = answer.left
      if (failure._tag === "TimedOut" || (failure._tag === "Disconnected" && failure.sent)) delivery.uncertain = true
      const { uncertain } = delivery
      // only a numbered batch can be sent again without being stored twice
      const again = canRetry(failure) && (!uncertain || numbered)
      if (again && !timeIsUp) return undefined
      if (uncertain) {
        // its numbers may be taken or not: nothing can be sent after it under the same identity
        if (transactionalId === undefined) identity = undefined
        else if (transaction === "open") transaction = "broken"
      }
      return {
        _tag: "Failed",
        error: sendError("produce", failure, topic, partition),
        outcome: uncertain ? "unknown" : again ? "retry" : "refuse"
      }
    }

    /** Mostly there is one leader, and one answer: nothing is spent on what could be otherwise. */
    const deliver = (batches: ReadonlyArray<ProducerBatch>): Effect.Effect<ReadonlyArray<BatchResult>> =>
      Effect.flatMap(Clock.currentTimeMillis, (start) => {
        const who = identity
        const results = new Array<BatchResult>(batches.length)
        const attempt = (deliveries: ReadonlyArray<Delivery>, round: number): Effect.Effect<Array<BatchResult>> => {
          const byLeader = new Map<number | undefined, Array<Delivery>>()
          for (const delivery of deliveries) {
            const leader = cluster.leaderOf(delivery.batch)
            const same = byLeader.get(leader)
            if (same === undefined) byLeader.set(leader, [delivery])
            else same.push(delivery)
          }
          const requests = Array.from(byLeader, ([leader, same]) => request(who, leader, same))
          const [first] = requests
          const answered = requests.length === 1 && first !== undefined
            ? first
            : Effect.map(Effect.all(requests, { concurrency: "unbounded" }), (answers) => answers.flat())
          return Effect.flatMap(Effect.zip(answered, Clock.currentTimeMillis), ([answers, now]) => {
            const left = deliveryTimeout - (now - start)
            const waiting: Array<Delivery> = []
            for (const [delivery, answer] of answers) {
              const result = settle(delivery, answer, left <= 0)
              if (result === undefined) waiting.push(delivery)
              else results[delivery.index] = result
            }
            return waiting.length === 0
              ? Effect.succeed(results)
              : Effect.zipRight(
                Clock.sleep(Math.min(backoff(round), left)),
                Effect.suspend(() => attempt(waiting, round + 1))
              )
          })
        }
        const all = batches.map((batch, index): Delivery => ({
          batch,
          index,
          sequence: sequences.get(key(batch)) ?? 0,
          uncertain: false
        }))
        return attempt(all, 0)
      })

    const failAll = (
      batches: ReadonlyArray<ProducerBatch>,
      error: (batch: ProducerBatch) => SendError,
      outcome: "retry" | "refuse"
    ): ReadonlyArray<BatchResult> => batches.map((batch) => ({ _tag: "Failed", error: error(batch), outcome }))

    const invalidState = (operation: string, reason: string, batch?: ProducerBatch): SendError =>
      sendError(
        operation,
        refused({ code: "INVALID_TXN_STATE", reason }),
        batch?.topic,
        batch?.partition
      )

    const send = (batches: ReadonlyArray<ProducerBatch>): Effect.Effect<ReadonlyArray<BatchResult>> =>
      Effect.suspend(() => {
        if (transactionalId !== undefined && transaction !== "open") {
          const reason = transaction === "broken"
            ? "a batch of the transaction has an unknown outcome: it can only be aborted"
            : "a producer with a transactional id sends inside a transaction only"
          return Effect.succeed(failAll(batches, (batch) => invalidState("produce", reason, batch), "refuse"))
        }
        if (!numbered || identity !== undefined) return deliver(batches)
        return Effect.matchEffect(initialise(deliveryTimeout), {
          onSuccess: () => deliver(batches),
          onFailure: (failure) => Effect.succeed(failAll(batches, () => sendError("produce", failure), "retry"))
        })
      })

    // -----------------------------------------------------------------------------------------------------------------
    // transactions
    // -----------------------------------------------------------------------------------------------------------------

    const inTransaction = <A>(
      operation: string,
      kind: RequestKind,
      handle: (transactionalId: string, who: ProducerIdentity) => Reply<A>
    ): Effect.Effect<A, Failure> =>
      Effect.suspend(() => {
        const who = identity
        return retrying(
          network.call(
            link,
            coordinator,
            kind,
            () =>
              transactionalId === undefined || who === undefined || transaction === "none"
                ? refuse("INVALID_TXN_STATE", transactionalId, `${operation}: there is no transaction`)
                : handle(transactionalId, who),
            requestTimeout
          ),
          deliveryTimeout
        )
      })

    const begin: Effect.Effect<void, SendError> = Effect.suspend(() => {
      if (transactionalId === undefined) {
        return Effect.fail(invalidState("begin transaction", "the producer has no transactional id"))
      }
      if (transaction === "open" || transaction === "broken") {
        return Effect.fail(invalidState("begin transaction", "a transaction is under way"))
      }
      const ready = transaction === "unclear" ? initialise(deliveryTimeout) : Effect.void
      return Effect.mapBoth(ready, {
        onSuccess: () => {
          transaction = "open"
          begun = false
        },
        onFailure: (failure) => sendError("begin transaction", failure)
      })
    })

    const end = (outcome: Outcome): Effect.Effect<void, SendError> =>
      Effect.suspend(() => {
        const operation = `${outcome} transaction`
        const broken = transaction === "broken"
        if (broken && outcome === "commit") {
          return Effect.fail(invalidState(operation, "a batch has an unknown outcome: it can only be aborted"))
        }
        if (transaction === "open" && !begun) {
          // nothing was sent
          transaction = "none"
          return Effect.void
        }
        const request = inTransaction(
          operation,
          "end-txn",
          (id, who) => cluster.transactions.end(id, who, outcome)
        )
        return Effect.mapBoth(request, {
          onSuccess: () => {
            transaction = broken ? "unclear" : "none"
          },
          onFailure: (failure) => {
            if (transaction !== "none") transaction = "unclear"
            return sendError(operation, failure)
          }
        })
      })

    yield* connect(cluster, network, link, timings)
    if (numbered) {
      yield* aboutNoTopic(
        Effect.mapError(initialise(timings.connectionTimeout), (failure) => clientError("connect", brokers, failure))
      )
    }
    yield* Effect.addFinalizer(() =>
      // as Java's close: what is left open would hold up its readers until it times out
      transaction === "none"
        ? Effect.void
        : Effect.ignore(Effect.timeout(Effect.interruptible(end("abort")), closeTimeout))
    )

    const session: ProducerSession = {
      capabilities,
      maxInFlight: 1,
      send,
      partitionCount: (topic) =>
        Effect.mapError(
          retrying(
            network.call(
              link,
              anyBroker,
              "metadata",
              () => Either.map(cluster.lookUp(topic), ({ partitions }) => partitions.length)
            ),
            deliveryTimeout
          ),
          (failure) => clientError("fetch metadata", brokers, failure)
        ),
      begin,
      sendOffsets: (offsets, { generation, groupId, groupInstanceId, memberId }) =>
        Effect.mapError(
          inTransaction("send offsets", "txn-offsets", (id, who) =>
            Either.flatMap(cluster.group(groupId), (group) =>
              Either.flatMap(cluster.checkOffsets(offsets), () => {
                const member = { memberId, generation, instanceId: groupInstanceId }
                return Either.map(cluster.transactions.addOffsets(id, who, group, member, offsets), () => {
                  begun = true
                })
              }))),
          (failure) => {
            const { error } = commitError(brokers, offsets, failure)
            return error instanceof CommitError ? error : sendError("send offsets", failure)
          }
        ),
      commit: end("commit"),
      abort: end("abort")
    }
    return session
  })

/** How long closing waits for the end of a transaction, in milliseconds. */
const closeTimeout = 5000
