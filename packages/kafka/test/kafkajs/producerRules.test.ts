import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import KafkaJs from "kafkajs"
import { meaning, protocolCode } from "../../src/drivers/kafkajs/errors.ts"
import { following, Identity } from "../../src/drivers/producer/sequences.ts"
import * as Verdict from "../../src/drivers/producer/verdict.ts"
import { KafkaConnectionError } from "../../src/KafkaError.ts"

const judge = (error: unknown, stage: Verdict.Stage, transactional: boolean) =>
  Verdict.judge({ answered: protocolCode(error), meaning: meaning(error) }, stage, transactional)

const answered = (type: string, retriable = false) =>
  Object.assign(new Error(type), { name: "KafkaJSProtocolError", type, retriable })

describe("what a failed attempt to produce means", () => {
  it.each(["NOT_LEADER_FOR_PARTITION", "NOT_ENOUGH_REPLICAS", "UNKNOWN_TOPIC_OR_PARTITION", "CORRUPT_MESSAGE"])(
    "%s: not stored, and it may pass",
    (type) => {
      expect(judge(answered(type, true), "sent", false)).toMatchObject({ _tag: "again", perhapsStored: false })
    }
  )

  it.each(["NOT_ENOUGH_REPLICAS_AFTER_APPEND", "REQUEST_TIMED_OUT", "NETWORK_EXCEPTION"])(
    "%s: perhaps stored",
    (type) => {
      expect(judge(answered(type, true), "sent", false)).toMatchObject({ _tag: "again", perhapsStored: true })
    }
  )

  it.each(["MESSAGE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"])("%s: refused for its size", (type) => {
    expect(judge(answered(type), "sent", false)).toEqual({ _tag: "refused", answered: true, tooLarge: true })
  })

  it.each(["TOPIC_AUTHORIZATION_FAILED", "INVALID_TIMESTAMP", "INVALID_RECORD", "UNSUPPORTED_COMPRESSION_TYPE"])(
    "%s: refused",
    (type) => {
      expect(judge(answered(type), "sent", false)).toEqual({ _tag: "refused", answered: true, tooLarge: false })
    }
  )

  it("a sequence that the broker does not follow takes a fresh producer id", () => {
    expect(judge(answered("OUT_OF_ORDER_SEQUENCE_NUMBER"), "sent", false)._tag).toBe("estranged")
    expect(judge(answered("UNKNOWN_PRODUCER_ID"), "sent", true)._tag).toBe("estranged")
    expect(judge(answered("INVALID_PRODUCER_EPOCH"), "sent", false)._tag).toBe("estranged")
  })

  it("an epoch that is over fences a transactional producer", () => {
    expect(judge(answered("INVALID_PRODUCER_EPOCH"), "sent", true)._tag).toBe("fenced")
    const unknown = answered("KAFKAJS_UNKNOWN_ERROR_CODE")
    expect(judge(Object.assign(unknown, { message: "Unknown error code 90" }), "sent", true)._tag).toBe(
      "fenced"
    )
  })

  it("a duplicate is stored", () => {
    expect(judge(answered("DUPLICATE_SEQUENCE_NUMBER"), "sent", false)._tag).toBe("stored")
  })

  it("a connection that breaks after sending leaves it in doubt, before sending it does not", () => {
    const errors = [
      new KafkaJs.KafkaJSConnectionError("Connection error: read ECONNRESET", {}),
      Object.assign(new Error("Closed connection"), { name: "KafkaJSConnectionClosedError" }),
      Object.assign(new Error("Request Produce timed out"), { name: "KafkaJSRequestTimeoutError" }),
      new KafkaConnectionError({ operation: "produce", brokers: [], reason: "gone" })
    ]
    for (const error of errors) {
      expect(judge(error, "sent", false)).toMatchObject({ _tag: "again", perhapsStored: true })
      expect(judge(error, "unsent", false)).toMatchObject({ _tag: "again", perhapsStored: false })
    }
  })

  it("what is not understood is in doubt after sending, and not tried again", () => {
    expect(judge(new TypeError("boom"), "sent", false)).toEqual({ _tag: "lost" })
    expect(judge(new TypeError("boom"), "unsent", false)._tag).toBe("refused")
  })

  it("whatever it is, there is a verdict, and before sending nothing is in doubt", () => {
    FastCheck.assert(FastCheck.property(FastCheck.anything(), FastCheck.boolean(), (error, transactional) => {
      expect(judge(error, "sent", transactional)).toHaveProperty("_tag")
      const before = judge(error, "unsent", transactional)
      expect(before._tag).not.toBe("lost")
      expect(before._tag === "again" && before.perhapsStored).toBe(false)
    }))
  })
})

describe("sequence numbers", () => {
  it("follow each other in each partition, and begin again after the largest int32", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.array(FastCheck.record({
        topic: FastCheck.constantFrom("a", "b"),
        partition: FastCheck.integer({ min: 0, max: 2 }),
        records: FastCheck.integer({ min: 1, max: 2 ** 30 })
      })),
      (batches) => {
        const identity = new Identity({ producerId: 7n, producerEpoch: 0 })
        const expected = new Map<string, bigint>()
        for (const { partition, records, topic } of batches) {
          const key = `${topic} ${partition}`
          const before = expected.get(key) ?? 0n
          expect(BigInt(identity.next(topic, partition))).toBe(before % 2n ** 31n)
          identity.advance(topic, partition, records)
          expected.set(key, before + BigInt(records))
        }
      }
    ))
  })

  it("the one after the largest is nought", () => {
    expect(following(2 ** 31 - 1, 1)).toBe(0)
    expect(following(2 ** 31 - 2, 1)).toBe(2 ** 31 - 1)
  })
})
