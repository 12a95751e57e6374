import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Admin from "../../src/drivers/platformatic/admin.ts"
import type { AdminSession } from "../../src/KafkaClient.ts"
import { readers } from "../kafkajs/consumerSupport.ts"
import { platformatic } from "./consumerSupport.ts"
import * as FakeBroker from "./FakeBroker.ts"
import { environment } from "./sessions.ts"

const library = await import("@platformatic/kafka")

const { apiVersions, metadata } = FakeBroker.apiKeys

/** What comes of a client of such a broker. Nothing here takes longer than the connection timeout. */
const failure = (
  answer: (request: FakeBroker.Request) => FakeBroker.Answer,
  use: (admin: AdminSession) => Effect.Effect<unknown, unknown> = () => Effect.void
) =>
  Effect.gen(function*() {
    const broker = yield* FakeBroker.start(answer)
    const own = yield* environment(broker, undefined, {
      connectionTimeout: "500 millis",
      requestTimeout: "500 millis"
    })
    return yield* Effect.flip(Effect.scoped(Effect.flatMap(Admin.open(own), use)))
  }).pipe(Effect.timeout("5 seconds"))

describe("a broker that is no good is a typed error, in time", () => {
  it.scopedLive("older than the driver can speak to", () =>
    Effect.gen(function*() {
      const error = yield* failure((request) =>
        // such brokers answer in the oldest format
        FakeBroker.framed(request, library.Writer.create().appendInt16(35).appendInt32(0))
      )
      expect(error).toMatchObject({ _tag: "KafkaRequestError", code: "UNSUPPORTED_VERSION", retriable: false })
      expect(String(error)).toContain("it needs Kafka 3.2 or later")
    }))

  it.scopedLive("speaking only versions that the driver does not", () =>
    Effect.gen(function*() {
      const error = yield* failure((request) => FakeBroker.versions(request, [[metadata, 0, 8]]))
      expect(error).toMatchObject({ _tag: "KafkaRequestError", code: "UNSUPPORTED_VERSION" })
      expect(String(error)).toContain("versions 0 to 8 of Metadata, and this driver 12")
    }))

  it.scopedLive("without a request that the driver needs", () =>
    Effect.gen(function*() {
      const error = yield* failure((request) => FakeBroker.versions(request, []))
      expect(error).toMatchObject({ _tag: "KafkaRequestError", code: "UNSUPPORTED_VERSION" })
      expect(String(error)).toContain("the broker has no Metadata request")
    }))

  it.scopedLive("that says nothing", () =>
    Effect.gen(function*() {
      expect(yield* failure(() => "silence")).toMatchObject({ _tag: "KafkaConnectionError" })
    }))

  it.scopedLive("that hangs up", () =>
    Effect.gen(function*() {
      expect(yield* failure(() => "hang up")).toMatchObject({ _tag: "KafkaConnectionError" })
    }))

  it.scopedLive("that answers what was not asked", () =>
    Effect.gen(function*() {
      const error = yield* failure((request) =>
        FakeBroker.anyVersions({ ...request, correlationId: request.correlationId + 1000 })
      )
      expect(error).toMatchObject({ _tag: "KafkaRequestError", code: "MALFORMED_RESPONSE" })
    }))

  it.scopedLive("whose answers have lengths that can not be", () =>
    Effect.gen(function*() {
      for (const length of [-1, 0, 3, -0x80000000]) {
        for (const rest of [4, 5, 8, 40]) {
          const error = yield* failure(({ correlationId }) => {
            const answer = Buffer.alloc(4 + rest)
            answer.writeInt32BE(length)
            answer.writeInt32BE(correlationId, 4)
            return answer
          })
          expect(error).toMatchObject({ _tag: expect.stringMatching(/^Kafka(Connection|Request|Timeout)Error$/) })
        }
      }
    }))

  it.scopedLive("that is a web server", () =>
    Effect.gen(function*() {
      const error = yield* failure(() => Buffer.from("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
      expect(error).toMatchObject({ _tag: expect.stringMatching(/^Kafka(Connection|Request|Timeout)Error$/) })
    }))

  it.scopedLive("that stops answering", () =>
    Effect.gen(function*() {
      let asked = 0
      const error = yield* failure(
        (request) =>
          request.apiKey === apiVersions
            ? FakeBroker.anyVersions(request)
            : ++asked === 1
            ? FakeBroker.cluster(request)
            : "silence",
        (admin) => admin.describeCluster
      )
      expect(error).toMatchObject({ _tag: "KafkaTimeoutError", operation: "describe cluster" })
    }))

  it.scopedLive("with an error code that nobody knows", () =>
    Effect.gen(function*() {
      let asked = 0
      const error = yield* failure(
        (request) =>
          request.apiKey === apiVersions
            ? FakeBroker.anyVersions(request)
            : ++asked === 1
            ? FakeBroker.cluster(request)
            : FakeBroker.framed(
              request,
              library.Writer.create()
                .appendInt32(0)
                .appendArray([], () => undefined)
                .appendString("fake")
                .appendInt32(-1)
                .appendArray(["t"], (w, name) => {
                  w.appendInt16(29_999).appendString(name).appendUUID(null).appendBoolean(false)
                  w.appendArray([], () => undefined).appendInt32(0)
                })
                .appendTaggedFields()
            ),
        (admin) => admin.describeTopics(["t"])
      )
      expect(error).toMatchObject({ _tag: "KafkaRequestError", code: "MALFORMED_RESPONSE" })
    }))

  describe("in a group of KIP-848", () => {
    const { consumerGroupHeartbeat, findCoordinator } = FakeBroker.apiKeys
    const everything = Array.from({ length: 68 }, (_, key) => [key, 0, 99] as const)

    /** What comes of a consumer where the heartbeat is spoken in these versions, and answered like that. */
    const failure = (newest: number, heartbeat: (request: FakeBroker.Request) => FakeBroker.Answer) =>
      Effect.gen(function*() {
        let address = ""
        address = yield* FakeBroker.start((request) => {
          switch (request.apiKey) {
            case apiVersions:
              return FakeBroker.versions(request, [...everything, [consumerGroupHeartbeat, 0, newest]])
            case metadata:
              return FakeBroker.cluster(request, { address, topics: ["t"] })
            case findCoordinator:
              return FakeBroker.coordinator(request, address)
            default:
              return heartbeat(request)
          }
        })
        const { join } = readers(platformatic)
        const reader = yield* join(address, "g", ["t"], { options: { groupProtocol: "consumer" } })
        return yield* Effect.flip(Effect.forever(reader.poll))
      }).pipe(Effect.timeout("5 seconds"))

    it.scopedLive("that has a preview of it alone", () =>
      Effect.gen(function*() {
        const error = yield* failure(0, () => "silence")
        expect(error).toMatchObject({ _tag: "ConsumerError", cause: { code: "UNSUPPORTED_VERSION" } })
        expect(String(error)).toContain(
          "versions 0 to 0 of ConsumerGroupHeartbeat, and this driver 1: it needs Kafka 4.0 or later"
        )
      }))

    it.scopedLive("that was not told to have such", () =>
      Effect.gen(function*() {
        const error = yield* failure(1, (request) =>
          FakeBroker.framed(
            request,
            library.Writer.create()
              .appendInt32(0).appendInt16(35).appendString(null).appendString(null).appendInt32(0).appendInt32(0)
              .appendInt8(-1).appendTaggedFields()
          ))
        expect(error).toMatchObject({ _tag: "ConsumerError", cause: { code: "UNSUPPORTED_VERSION" } })
        expect(String(error)).toContain("the brokers have no groups of KIP-848")
      }))
  })

  it.live("whatever it answers", () =>
    Effect.promise(() =>
      FastCheck.assert(
        FastCheck.asyncProperty(
          FastCheck.uint8Array({ maxLength: 200 }),
          FastCheck.boolean(),
          (bytes, greets) =>
            Effect.runPromise(Effect.scoped(Effect.gen(function*() {
              const error = yield* failure((request) =>
                greets && request.apiKey === apiVersions
                  ? FakeBroker.anyVersions(request)
                  : FakeBroker.framed(request, library.Writer.create().append(Buffer.from(bytes)))
              )
              expect(error).toMatchObject({ _tag: expect.stringMatching(/^Kafka(Connection|Request|Timeout)Error$/) })
            })))
        ),
        { numRuns: 40 }
      )
    ))
})
