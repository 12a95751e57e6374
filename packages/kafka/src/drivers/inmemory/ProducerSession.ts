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
import type { Link, Network, RequestKind } from "./Network.ts"
import type { Failure, Reply } from "./Protocol.ts"
import { canRetry, clientError, commitError, isRetriable, refuse } from "./Protocol.ts"
import type { ProducerIdentity } from "./Transactions.ts"

const firstBackoff = 100
const longestBackoff = 1000

export const open = (
  cluster: Cluster,
  network: Network,
  options: ProducerSessionOptions
): Effect.Effect<ProducerSession, ClientError | ProducerFencedError, Scope.Scope> =>
  Effect.gen(function*() {
    const { transactionalId } = options
    const idempotent = options.idempotent || transactionalId !== undefined
    const link: Link = { clientId: cluster.nextClientId(options.clientId ?? "producer"), cut: false }
    const brokers = cluster.addresses
    yield* Effect.acquireRelease(
      Effect.sync(() => network.links.add(link)),
      () => Effect.sync(() => network.links.delete(link))
    )

    const coordinator = () => transactionalId === undefined ? cluster.anyBroker : cluster.coordinator(transactionalId)

    /** Tries again while that may help, for as long as one delivery may take. */
    const retrying = <A>(request: Effect.Effect<A, Failure>): Effect.Effect<A, Failure> =>
      Effect.gen(function*() {
        const start = yield* Clock.currentTimeMillis
        for (let backoff = firstBackoff;; backoff = Math.min(backoff * 2, longestBackoff)) {
          const answer = yield* Effect.either(request)
          if (Either.isRight(answer)) return answer.right
          const elapsed = (yield* Clock.currentTimeMillis) - start
          const missing = answer.left._tag === "Refused" && answer.left.refusal.code === "UNKNOWN_TOPIC_OR_PARTITION"
          if (missing || !canRetry(answer.left) || elapsed >= options.deliveryTimeout) {
            return yield* Effect.fail(answer.left)
          }
          yield* Clock.sleep(Math.min(backoff, options.deliveryTimeout - elapsed))
        }
      })

    const sendError = (
      operation: string,
      topic: string,
      partition: number | undefined,
      failure: Failure
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
        case "RECORD_LIST_TOO_LARGE":
          return because("too-large")
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

    const initialise = (operation: string) =>
      retrying(network.call(
        link,
        coordinator,
        "init-producer",
        () => cluster.transactions.initProducerId(transactionalId, options.transactionTimeout)
      )).pipe(Effect.mapError((failure) => {
        const error = clientError(operation, brokers, failure)
        return error
      }))

    let identity: ProducerIdentity | undefined = idempotent
      ? yield* Effect.catchTag(initialise("connect"), "UnknownTopicError", Effect.die)
      : undefined
    const sequences = new Map<Key, number>()
    let inTransaction = false

    /** One batch on its way, tried until its outcome is known or its time is over. */
    const deliver = (batch: ProducerBatch): Effect.Effect<BatchResult> =>
      Effect.gen(function*() {
        const { partition, records, topic } = batch
        const k = key(batch)
        const first = sequences.get(k) ?? 0
        const who = identity
        const start = yield* Clock.currentTimeMillis
        let uncertain = false
        const failed = (error: SendError, outcome: "retry" | "unknown" | "refuse"): BatchResult => ({
          _tag: "Failed",
          error,
          outcome
        })
        const append = (): Reply<Appended> => {
          if (transactionalId !== undefined && who !== undefined) {
            const added = cluster.transactions.addPartition(transactionalId, who, batch)
            if (added._tag === "Left") return Either.left(added.left)
          }
          return cluster.append(
            batch,
            records,
            who && { ...who, firstSequence: first, transactional: transactionalId !== undefined }
          )
        }
        for (let backoff = firstBackoff;; backoff = Math.min(backoff * 2, longestBackoff)) {
          const answer = yield* Effect.either(
            network.call(link, () => cluster.leaderOf(batch), "produce", append, options.requestTimeout)
          )
          if (Either.isRight(answer)) {
            if (who !== undefined) sequences.set(k, first + records.length)
            if (options.acks === "none") return { _tag: "Stored", baseOffset: -1n }
            return {
              _tag: "Stored",
              baseOffset: answer.right.baseOffset,
              ...(answer.right.logAppendTime === undefined ? {} : { logAppendTime: answer.right.logAppendTime })
            }
          }
          const failure = answer.left
          if (options.acks === "none") return { _tag: "Stored", baseOffset: -1n }
          const refused = failure._tag === "Refused"
          if (!refused && (failure._tag === "TimedOut" || failure.sent)) uncertain = true
          const error = sendError("produce", topic, partition, failure)
          const again = canRetry(failure) && error._tag !== "UnknownTopicError"
          if (!again) return failed(error, uncertain ? "unknown" : "refuse")
          const elapsed = (yield* Clock.currentTimeMillis) - start
          if (elapsed >= options.deliveryTimeout || (uncertain && who === undefined)) {
            if (uncertain && who !== undefined) identity = undefined
            return failed(error, uncertain ? "unknown" : "retry")
          }
          yield* Clock.sleep(Math.min(backoff, options.deliveryTimeout - elapsed))
        }
      })

    const send = (batches: ReadonlyArray<ProducerBatch>): Effect.Effect<ReadonlyArray<BatchResult>> =>
      Effect.gen(function*() {
        if (idempotent && identity === undefined) {
          // the number of the next batch is not known any more: a new producer starts from nothing
          const fresh = yield* Effect.either(initialise("produce"))
          if (Either.isLeft(fresh)) {
            const error = fresh.left
            return batches.map((): BatchResult => ({ _tag: "Failed", error, outcome: "retry" }))
          }
          identity = fresh.right
          sequences.clear()
        }
        if (transactionalId !== undefined && !inTransaction) {
          return batches.map(({ partition, topic }): BatchResult => ({
            _tag: "Failed",
            error: new ProducerError({
              topic,
              partition,
              reason: "invalid",
              code: "INVALID_TXN_STATE",
              retriable: false,
              description: "a transactional producer sends inside a transaction only"
            }),
            outcome: "refuse"
          }))
        }
        return yield* Effect.forEach(batches, deliver)
      })

    const transactional = <A>(
      operation: string,
      kind: RequestKind,
      handle: (transactionalId: string, who: ProducerIdentity) => Reply<A>
    ): Effect.Effect<A, Failure> =>
      Effect.suspend(() =>
        retrying(
          network.call(link, coordinator, kind, () =>
            transactionalId === undefined || identity === undefined || !inTransaction
              ? refuse("INVALID_TXN_STATE", transactionalId, `${operation}: no transaction was begun`)
              : handle(transactionalId, identity))
        )
      )

    const end = (outcome: "commit" | "abort"): Effect.Effect<void, SendError> =>
      transactional(`${outcome} transaction`, "end-txn", (id, who) => cluster.transactions.end(id, who, outcome)).pipe(
        Effect.mapError((failure) => sendError(`${outcome} transaction`, "", undefined, failure)),
        Effect.ensuring(Effect.sync(() => {
          inTransaction = false
        }))
      )

    const session: ProducerSession = {
      capabilities,
      maxInFlight: 1,
      send,
      partitionCount: (topic) =>
        retrying(network.call(
          link,
          () => cluster.anyBroker,
          "metadata",
          () => Either.map(cluster.find(topic), ({ partitions }) => partitions.length)
        )).pipe(Effect.mapError((failure) => clientError("fetch metadata", brokers, failure))),
      begin: Effect.suspend(() => {
        if (transactionalId === undefined || inTransaction) {
          return Effect.fail(
            sendError("begin transaction", "", undefined, {
              _tag: "Refused",
              refusal: {
                code: "INVALID_TXN_STATE",
                reason: inTransaction ? "a transaction is under way" : "this producer has no transactional id"
              }
            })
          )
        }
        inTransaction = true
        return Effect.void
      }),
      sendOffsets: (offsets, group) =>
        transactional(
          "send offsets",
          "txn-offsets",
          (id, who) =>
            cluster.transactions.addOffsets(id, who, group.groupId, {
              memberId: group.memberId,
              generation: group.generation,
              instanceId: group.groupInstanceId
            }, offsets)
        ).pipe(Effect.mapError((failure) => {
          const { error } = commitError(brokers, offsets, failure)
          return error instanceof CommitError ? error : sendError("send offsets", "", undefined, failure)
        })),
      commit: end("commit"),
      abort: end("abort")
    }
    return session
  })
