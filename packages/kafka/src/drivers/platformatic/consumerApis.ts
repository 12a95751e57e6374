/**
 * The requests of a consumer: fetches, offsets, membership.
 */
import type { consumerGroupHeartbeatV1, fetchV12, joinGroupV9, ResponseParser } from "@platformatic/kafka"
import { read } from "../errors.ts"
import * as Buffers from "./consumerBuffer.ts"
import type { Library } from "./library.ts"
import { type Api, api } from "./versions.ts"

export type FetchResponse = fetchV12.FetchResponse
export type JoinGroupResponse = joinGroupV9.JoinGroupResponse
export type ConsumerGroupHeartbeatResponse = consumerGroupHeartbeatV1.ConsumerGroupHeartbeatResponse
export type FetchTopic = fetchV12.FetchRequestTopic

type FetchArguments = [
  maxWait: number,
  minBytes: number,
  maxBytes: number,
  isolationLevel: number,
  sessionId: number,
  sessionEpoch: number,
  topics: Array<FetchTopic>,
  forgotten: [],
  rack: string
]

/**
 * A fetch. In this version topics go by their names, which the library calls `topicId`.
 *
 * What is wrong with one partition is left in the answer, where the library would throw away what came of the others.
 */
const fetch = (library: Library): Api<FetchArguments, FetchResponse> => {
  const { createRequest, parseResponse } = library.fetchV12
  const sequential = Buffers.make(library)
  const parse: ResponseParser<FetchResponse> = (correlationId, apiKey, apiVersion, reader) => {
    try {
      const whole = new library.Reader(sequential(reader.buffer.buffers))
      return parseResponse(correlationId, apiKey, apiVersion, whole)
    } catch (error) {
      const response = read(error, "response")
      if (isFetchResponse(response)) return response
      throw error
    }
  }
  return api("Fetch", library.createAPI<FetchArguments, FetchResponse>(1, 12, createRequest, parse))
}

const isFetchResponse = (u: unknown): u is FetchResponse => Array.isArray(read(u, "responses"))

/** @internal its type is made of the library's own, which a declaration could not name */
export const make = (library: Library) => ({
  fetch: fetch(library),
  listOffsets: api(
    "ListOffsets",
    library.listOffsetsV9.api,
    library.listOffsetsV8.api,
    library.listOffsetsV7.api,
    library.listOffsetsV6.api
  ),
  offsetFetch: api("OffsetFetch", library.offsetFetchV9.api, library.offsetFetchV8.api),
  offsetCommit: api("OffsetCommit", library.offsetCommitV9.api, library.offsetCommitV8.api),
  joinGroup: api("JoinGroup", library.joinGroupV9.api),
  syncGroup: api("SyncGroup", library.syncGroupV5.api),
  heartbeat: api("Heartbeat", library.heartbeatV4.api),
  leaveGroup: api("LeaveGroup", library.leaveGroupV5.api),
  describeConfigs: api("DescribeConfigs", library.describeConfigsV4.api),
  // Kafka 3.7 to 3.9 have a preview of it, with version 0
  consumerGroupHeartbeat: { ...api("ConsumerGroupHeartbeat", library.consumerGroupHeartbeatV1.api), since: "4.0" }
})

export type ConsumerApis = ReturnType<typeof make>
