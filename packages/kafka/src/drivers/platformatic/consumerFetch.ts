/**
 * What a fetch response of the library says of each partition that was asked for.
 */
import { isRetriable } from "../../engine/consumer/Retry.ts"
import type { ConsumerSessionOptions } from "../../KafkaClient.ts"
import { KafkaRequestError } from "../../KafkaError.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import type { Answer } from "../fetcher.ts"
import type { Plan, Wanted } from "../lanes.ts"
import type { Cluster } from "./cluster.ts"
import * as Connection from "./connection.ts"
import type { FetchResponse } from "./consumerApis.ts"
import { chunk } from "./consumerRecords.ts"
import type { AnsweredError } from "./errors.ts"

/** Of record batches since Kafka 0.11. The library reads all others as if they were of it. */
const format = 2

const tooOld = (topicPartition: TopicPartition.TopicPartition): KafkaRequestError =>
  new KafkaRequestError({
    operation: "fetch",
    code: "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    retriable: false,
    reason: `${TopicPartition.format(topicPartition)} has records in a format from before Kafka 0.11: use KafkaJs.layer`
  })

export const answers = (
  cluster: Cluster,
  isolationLevel: ConsumerSessionOptions["isolationLevel"],
  plan: Plan,
  { responses }: FetchResponse
): ReadonlyArray<Answer> => {
  const committedOnly = isolationLevel === "read_committed"
  const out: Array<Answer> = []
  for (const { partitions, topicId: topic } of responses) {
    for (const data of partitions) {
      // most partitions say nothing new
      if (data.errorCode === 0 && (data.records ?? []).length === 0) continue
      const wanted = plan.find(topic, data.partitionIndex)
      if (wanted === undefined) continue
      const { topicPartition } = wanted.lane
      const problem = Connection.answeredError(cluster.environment, data.errorCode)
      if (problem !== undefined) {
        out.push(refused(cluster, wanted, problem))
        continue
      }
      if (data.records?.some(({ magic }) => magic !== format) === true) {
        out.push({ _tag: "Failed", error: tooOld(topicPartition) })
        continue
      }
      const found = chunk(topicPartition, wanted.position, data, committedOnly)
      if (found !== undefined) out.push({ _tag: "Records", wanted, chunk: found })
    }
  }
  return out
}

const refused = (cluster: Cluster, wanted: Wanted, problem: AnsweredError): Answer => {
  if (problem.code === "OFFSET_OUT_OF_RANGE") return { _tag: "OutOfRange", wanted }
  const { partition, topic } = wanted
  const error = cluster.lookupError("fetch", problem, { topic, partition })
  if (error._tag === "KafkaAuthorizationError") return { _tag: "Refused", wanted, error }
  return error._tag === "UnknownTopicError" || isRetriable(error) || passing.has(problem.code)
    ? { _tag: "Moved", wanted }
    : { _tag: "Failed", error }
}

/** What counts as final, and passes. */
const passing: ReadonlySet<string> = new Set(["UNKNOWN_SERVER_ERROR", "REPLICA_NOT_AVAILABLE", "UNKNOWN_LEADER_EPOCH"])
