/**
 * Producing through the library's single requests.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Capabilities, ProducerSession, ProducerSessionOptions } from "../../KafkaClient.ts"
import type { ClientError, ProducerFencedError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { Pending } from "../producer/pending.ts"
import type { Identity } from "../producer/sequences.ts"
import * as Session from "../producer/session.ts"
import { byTopic, type Group, type Leaders, type Produced, type Transport } from "../producer/transport.ts"
import type { Api } from "./api.ts"
import { Cluster, type CoordinatorType, isMetadata, type LookupError } from "./cluster.ts"
import * as Connection from "./connection.ts"
import { meaning, protocolCode } from "./errors.ts"
import type { ProduceResponse } from "./producerApis.ts"
import * as Records from "./producerRecords.ts"

/** What the broker keeps of a producer to recognise its batches by; more under way would defeat that. */
const maxInFlight = 5

export const open = (
  environment: Connection.Environment,
  capabilities: Capabilities,
  options: ProducerSessionOptions
): Effect.Effect<ProducerSession, ClientError | ProducerFencedError, Scope.Scope> =>
  Effect.gen(function*() {
    const cluster = new Cluster(environment, { clientId: options.clientId, requestTimeout: options.requestTimeout })
    yield* Effect.addFinalizer(() => cluster.close)
    yield* cluster.connect
    return yield* Session.make(transport(environment, options, cluster), capabilities, maxInFlight, options)
  })

const transport = (
  environment: Connection.Environment,
  options: ProducerSessionOptions,
  cluster: Cluster
): Transport => {
  const { apis, library } = environment
  const { transactionTimeout, transactionalId } = options
  const encoder = Records.make(library, options)

  const withCoordinator = async <A>(
    type: CoordinatorType,
    name: string,
    use: (connection: Connection.Connection) => Promise<A>
  ): Promise<A> => {
    try {
      return await use(await cluster.findCoordinator(type, name))
    } catch (error) {
      cluster.forgetCoordinator(type, name)
      throw error
    }
  }
  const viaCoordinator = <Args extends ReadonlyArray<unknown>, A>(
    type: CoordinatorType,
    name: string,
    api: Api<Args, A>,
    ...args: Args
  ): Promise<A> => withCoordinator(type, name, (connection) => connection.call(api, ...args))

  const entersByItself = (connection: Connection.Connection): boolean =>
    (connection.features.get("transaction.version") ?? 0) >= entering && connection.speaks(apis.endTxnRaising)

  return {
    meaning,
    protocolCode,
    attempt: (operation, about) => cluster.attempt(operation, about),
    leaders: (topics) =>
      Effect.map(cluster.lookUp("produce", topics), (found) => {
        const out = new Map<string, Leaders | LookupError>()
        for (const [topic, one] of found) {
          out.set(
            topic,
            isMetadata(one)
              ? new Map(Array.from(one.partitions, ([partition, { leader }]) => [partition, leader]))
              : one
          )
        }
        return out
      }),
    produce: async (group, onSent) => {
      const connection = cluster.openTo(group.leader) ?? await cluster.connectTo(group.leader)
      const batches = group.members.map(({ batch: { partition, records, topic }, sequence }) => ({
        topic,
        partition,
        records,
        sequence
      }))
      const encoded = await encoder.request(batches, group.identity)
      const api = group.identity?.entersByItself === true ? apis.produceEntering : apis.produce
      onSent()
      return produced(environment, group, await Connection.answered(connection.call(api, encoded)))
    },
    initProducerId: async () =>
      transactionalId === undefined
        ? (await cluster.findAny()).call(apis.initProducerId, null, transactionTimeout, -1n, -1)
        : withCoordinator("transaction", transactionalId, async (connection) => ({
          ...await connection.call(apis.initProducerId, transactionalId, transactionTimeout, -1n, -1),
          entersByItself: entersByItself(connection)
        })),
    addPartitions: async (identity, partitions) => {
      const topics = Array.from(byTopic(partitions), ([name, same]) => ({
        name,
        partitions: same.map(({ partition }) => partition)
      }))
      const id = transactionalId ?? ""
      const { producerEpoch, producerId } = identity
      const transaction = { transactionalId: id, producerId, producerEpoch, verifyOnly: false, topics }
      const { resultsByTransaction } = await Connection.answered(
        viaCoordinator("transaction", id, apis.addPartitionsToTxn, [transaction])
      )
      return resultsByTransaction.flatMap(({ topicResults }) =>
        topicResults.flatMap(({ name: topic, resultsByPartition }) =>
          resultsByPartition.map(({ partitionErrorCode, partitionIndex: partition }) => ({
            topic,
            partition,
            error: Connection.answeredError(environment, partitionErrorCode)
          }))
        )
      )
    },
    addOffsets: (identity, groupId) =>
      viaCoordinator("transaction", transactionalId ?? "", apis.addOffsetsToTxn, ...as(options, identity), groupId),
    commitOffsets: (
      { entersByItself, producerEpoch, producerId },
      { generation, groupId, groupInstanceId, memberId },
      offsets
    ) =>
      viaCoordinator(
        "group",
        groupId,
        entersByItself ? apis.txnOffsetCommitEntering : apis.txnOffsetCommit,
        transactionalId ?? "",
        groupId,
        producerId,
        producerEpoch,
        generation,
        memberId,
        groupInstanceId ?? null,
        Array.from(byTopic(offsets), ([name, same]) => ({
          name,
          partitions: same.map(({ metadata, offset, partition }) => ({
            partitionIndex: partition,
            committedOffset: offset,
            committedLeaderEpoch: -1,
            committedMetadata: metadata ?? null
          }))
        }))
      ),
    endTransaction: (identity, committed, onSent) =>
      withCoordinator("transaction", transactionalId ?? "", async (connection) => {
        onSent()
        const args = [...as(options, identity), committed] as const
        if (!identity.entersByItself) return void await connection.call(apis.endTxn, ...args)
        const { producerEpoch, producerId } = await connection.call(apis.endTxnRaising, ...args)
        return { producerId, producerEpoch, entersByItself: entersByItself(connection) }
      })
  }
}

/** The level of the cluster's feature from which on brokers take into a transaction what is written. */
const entering = 2

const as = (
  { transactionalId }: ProducerSessionOptions,
  { producerEpoch, producerId }: Identity
): [transactionalId: string, producerId: bigint, producerEpoch: number] => [
  transactionalId ?? "",
  producerId,
  producerEpoch
]

const produced = (
  environment: Connection.Environment,
  { members }: Group,
  response: ProduceResponse
): ReadonlyArray<Produced | undefined> | "unanswered" => {
  if (typeof response === "boolean") return "unanswered"
  const found = new Map<TopicPartition.Key, Produced>()
  for (const { name: topic, partitionResponses } of response.responses) {
    for (const one of partitionResponses) {
      const { baseOffset, errorCode, errorMessage, index: partition, logAppendTimeMs, recordErrors } = one
      // where single records are at fault, their errors say more
      const detail = recordErrors.find(({ batchIndexErrorMessage }) => batchIndexErrorMessage !== null)
      const error = Connection.answeredError(
        environment,
        errorCode,
        detail?.batchIndexErrorMessage ?? errorMessage
      )
      found.set(
        TopicPartition.key({ topic, partition }),
        error === undefined
          ? { _tag: "Stored", baseOffset, logAppendTime: logAppendTimeMs < 0n ? undefined : logAppendTimeMs }
          : { _tag: "Refused", error }
      )
    }
  }
  return members.map((one: Pending) => found.get(TopicPartition.key(one.batch)))
}
