import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Cluster } from "../../src/drivers/platformatic/cluster.ts"
import type { FetchResponse } from "../../src/drivers/platformatic/consumerApis.ts"
import { answers } from "../../src/drivers/platformatic/consumerFetch.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import { planOf } from "../sessions/plan.ts"
import { environment } from "./sessions.ts"

/** One batch of so many records, of so many bytes each. */
const response = (records: number, size: number): FetchResponse => ({
  throttleTimeMs: 0,
  errorCode: 0,
  sessionId: 0,
  responses: [{
    topicId: "a",
    partitions: [{
      partitionIndex: 0,
      errorCode: 0,
      highWatermark: 0n,
      lastStableOffset: 0n,
      logStartOffset: 0n,
      abortedTransactions: null,
      preferredReadReplica: -1,
      records: [{
        firstOffset: 0n,
        length: records * size,
        partitionLeaderEpoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
        lastOffsetDelta: records - 1,
        firstTimestamp: 0n,
        maxTimestamp: 0n,
        producerId: -1n,
        producerEpoch: 0,
        firstSequence: 0,
        records: Array.from({ length: records }, (_, offsetDelta) => ({
          length: size,
          attributes: 0,
          timestampDelta: 0n,
          offsetDelta,
          key: null,
          value: null,
          headers: []
        }))
      }]
    }]
  }]
})

describe("what a fetch answers", () => {
  const plan = planOf(TopicPartition.make("a", 0))
  const wanted = plan.wanted[0]!
  const answersTo = (found: FetchResponse) =>
    Effect.map(
      environment("localhost:9092"),
      (environment) => answers(new Cluster(environment), "read_committed", plan, found)
    )

  it.effect("records in a format that the library does not know are refused, and not read as something else", () =>
    Effect.gen(function*() {
      const found = response(1, 10)
      found.responses[0]!.partitions[0]!.records![0]!.magic = 1
      expect(yield* answersTo(found)).toMatchObject([
        { _tag: "Failed", error: { code: "UNSUPPORTED_FOR_MESSAGE_FORMAT", retriable: false } }
      ])
    }))

  it.effect("what a broker says of a partition is about that partition, unless nobody can go on", () =>
    Effect.gen(function*() {
      const answered = (errorCode: number) => {
        const found = response(1, 10)
        found.responses[0]!.partitions[0]!.errorCode = errorCode
        return Effect.map(answersTo(found), ([one]) => one)
      }
      expect(yield* answered(1)).toEqual({ _tag: "OutOfRange", wanted })
      expect(yield* answered(29)).toMatchObject({ _tag: "Refused", wanted, error: { resourceName: "a" } })
      // unknown topic, no leader, another leader, older and newer leader epochs, storage, an unknown error
      for (const code of [3, 5, 6, 74, 75, 56, -1]) expect(yield* answered(code)).toEqual({ _tag: "Moved", wanted })
      expect(yield* answered(12345)).toMatchObject({ _tag: "Failed", error: { code: "CODE_12345" } })
      expect(yield* answered(0)).toMatchObject({ _tag: "Records", wanted, chunk: { nextOffset: 1n } })
    }))
})
