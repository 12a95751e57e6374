/**
 * What a fetch response of kafkajs says of each partition that was asked for.
 */
import { isRetriable } from "../../engine/consumer/Retry.ts"
import type { ConsumerSessionOptions } from "../../KafkaClient.ts"
import type { Answer } from "../fetcher.ts"
import type { Plan, Wanted } from "../lanes.ts"
import * as Connection from "./connection.ts"
import { chunk } from "./consumerRecords.ts"
import { clientError, protocolCode, withoutFencing } from "./errors.ts"
import type { FetchResponse } from "./internals.ts"

export const answers = (
  environment: Connection.Environment,
  { isolationLevel }: Pick<ConsumerSessionOptions, "isolationLevel">,
  plan: Plan,
  { responses }: FetchResponse
): ReadonlyArray<Answer> => {
  const committedOnly = isolationLevel === "read_committed"
  const out: Array<Answer> = []
  for (const { partitions, topicName } of responses) {
    for (const data of partitions) {
      // most partitions say nothing new
      if (data.error === undefined && data.messages.length === 0) continue
      const wanted = plan.find(topicName, data.partition)
      if (wanted === undefined) continue
      if (data.error !== undefined) {
        out.push(refused(environment, wanted, data.error))
        continue
      }
      const found = chunk(wanted.lane.topicPartition, wanted.position, data, committedOnly)
      if (found !== undefined) out.push({ _tag: "Records", wanted, chunk: found })
    }
  }
  return out
}

const refused = (environment: Connection.Environment, wanted: Wanted, problem: unknown): Answer => {
  const code = protocolCode(problem)?.code ?? ""
  if (code === "OFFSET_OUT_OF_RANGE") return { _tag: "OutOfRange", wanted }
  const { partition, topic } = wanted
  const error = withoutFencing(clientError(problem, Connection.attempt(environment, "fetch", { topic, partition })))
  if (error._tag === "KafkaAuthorizationError") return { _tag: "Refused", wanted, error }
  return error._tag === "UnknownTopicError" || isRetriable(error) || passing.has(code)
    ? { _tag: "Moved", wanted }
    : { _tag: "Failed", error }
}

/** What kafkajs takes for final, and passes. */
const passing: ReadonlySet<string> = new Set(["UNKNOWN", "REPLICA_NOT_AVAILABLE", "UNKNOWN_LEADER_EPOCH"])
