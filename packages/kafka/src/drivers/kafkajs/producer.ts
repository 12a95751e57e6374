/**
 * Producing through kafkajs's connections and codecs, without kafkajs's producer, whose idempotent mode loses and
 * doubles acknowledged records: with two sends under way, after its retries are used up, and when one of several
 * brokers fails.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Capabilities, ProducerSession, ProducerSessionOptions } from "../../KafkaClient.ts"
import type { ClientError, ProducerFencedError, UnsupportedFeatureError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { Identity } from "../producer/sequences.ts"
import * as Session from "../producer/session.ts"
import { byTopic, type Group, type Produced, type Transport } from "../producer/transport.ts"
import { ClusterRequests, isMetadata, leadersOf } from "./cluster.ts"
import * as Compression from "./compression.ts"
import * as Connection from "./connection.ts"
import { meaning, protocolCode } from "./errors.ts"
import type { Broker } from "./internals.ts"
import { EncodedPartition, EncodedTopic } from "./producerRecords.ts"

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
    // the requests of a transaction put their partitions into it first, and the coordinator refuses two at once
    const maxInFlight = options.transactionalId === undefined ? 2 : 1
    return yield* Session.make(
      transport(environment, options, compression, cluster),
      capabilities,
      maxInFlight,
      options
    )
  })

const transport = (
  environment: Connection.Environment,
  options: ProducerSessionOptions,
  compression: number,
  cluster: ClusterRequests
): Transport => {
  const { requestTimeout, transactionTimeout, transactionalId } = options
  const acks = options.acks === "all" ? -1 : options.acks === "leader" ? 1 : 0

  // it takes longer than one thinks
  const asText = new WeakMap<Identity, string>()
  const idOf = (identity: Identity): string => {
    let text = asText.get(identity)
    if (text === undefined) asText.set(identity, text = String(identity.producerId))
    return text
  }

  const produce = ({ identity, members }: Group): Parameters<Broker["produce"]>[0] => {
    const topics = new Map<string, EncodedTopic>()
    for (const { batch, sequence } of members) {
      let topic = topics.get(batch.topic)
      if (topic === undefined) topics.set(batch.topic, topic = new EncodedTopic(batch.topic))
      topic.partitions.push(new EncodedPartition(batch, identity && sequence))
    }
    return {
      acks,
      timeout: requestTimeout,
      compression,
      topicData: Array.from(topics.values()),
      producerId: identity && idOf(identity),
      producerEpoch: identity?.producerEpoch,
      transactionalId
    }
  }

  const produced = (
    { members }: Group,
    answer: Awaited<ReturnType<Broker["produce"]>>
  ): ReadonlyArray<Produced | undefined> => {
    const found = new Map<TopicPartition.Key, Produced>()
    for (const { partitions, topicName } of answer?.topics ?? []) {
      for (const { baseOffset, error, logAppendTime, partition } of partitions) {
        const stamped = BigInt(logAppendTime)
        found.set(
          TopicPartition.key({ topic: topicName, partition }),
          error === undefined
            ? { _tag: "Stored", baseOffset: BigInt(baseOffset), logAppendTime: stamped < 0n ? undefined : stamped }
            : { _tag: "Refused", error }
        )
      }
    }
    return members.map((one) => found.get(TopicPartition.key(one.batch)))
  }

  const viaCoordinator = <A>(run: (broker: Broker) => Promise<A>): Promise<A> =>
    cluster.coordinator("transaction", transactionalId ?? "").then(run).catch((error: unknown) => {
      cluster.forgetCoordinator("transaction", transactionalId ?? "")
      throw error
    })
  const as = ({ producerEpoch, producerId }: Identity) => ({
    transactionalId: transactionalId ?? "",
    producerId: String(producerId),
    producerEpoch
  })

  return {
    meaning,
    protocolCode,
    attempt: (operation, about) => Connection.attempt(environment, operation, about),
    leaders: (topics) =>
      Effect.map(
        cluster.topics("produce", topics),
        (found) => new Map(Array.from(found, ([topic, one]) => [topic, isMetadata(one) ? leadersOf(one) : one]))
      ),
    produce: async (group, onSent) => {
      const broker = await cluster.broker(group.leader)
      onSent()
      const answer = await broker.produce(produce(group))
      return acks === 0 ? "unanswered" : produced(group, answer)
    },
    initProducerId: async () => {
      const request = (broker: Broker) => broker.initProducerId({ transactionalId, transactionTimeout })
      const { producerEpoch, producerId } = await (transactionalId === undefined
        ? cluster.any().then(request)
        : viaCoordinator(request))
      return { producerId: BigInt(producerId), producerEpoch }
    },
    addPartitions: async (identity, partitions) => {
      const topics = Array.from(byTopic(partitions), ([topic, same]) => ({
        topic,
        partitions: same.map(({ partition }) => partition)
      }))
      const { errors } = await viaCoordinator((broker) => broker.addPartitionsToTxn({ ...as(identity), topics }))
      return errors.flatMap(({ partitionErrors, topic }) =>
        partitionErrors.map(({ error, partition }) => ({ topic, partition, error }))
      )
    },
    addOffsets: (identity, groupId) => viaCoordinator((broker) => broker.addOffsetsToTxn({ ...as(identity), groupId })),
    commitOffsets: (identity, { groupId }, offsets) => {
      const topics = Array.from(byTopic(offsets), ([topic, same]) => ({
        topic,
        partitions: same.map(({ metadata, offset, partition }) => ({ partition, offset: String(offset), metadata }))
      }))
      return cluster.coordinator("group", groupId).then((broker) =>
        broker.txnOffsetCommit({ ...as(identity), groupId, topics })
      ).catch((error: unknown) => {
        cluster.forgetCoordinator("group", groupId)
        throw error
      })
    },
    endTransaction: (identity, transactionResult, onSent) =>
      viaCoordinator((broker) => {
        onSent()
        return broker.endTxn({ ...as(identity), transactionResult })
      }).then(() => undefined)
  }
}
