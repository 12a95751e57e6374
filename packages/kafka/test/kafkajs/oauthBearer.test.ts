import { describe, expect, it } from "@effect/vitest"
import type { Logger, SaslAuthenticationRequest, SaslAuthenticationResponse } from "kafkajs"
import { mechanism } from "../../src/drivers/kafkajs/oauthBearer.ts"

const logger: Logger = {
  debug: () => {},
  error: () => {},
  info: () => {},
  warn: () => {},
  namespace: () => logger,
  setLogLevel: () => {}
}

/** A broker that answers each message as told, and keeps what it was sent. */
const exchange = async (answers: ReadonlyArray<string | Error>, token = "a.b.c") => {
  const sent: Array<string> = []
  const { authenticationProvider } = mechanism(() => Promise.resolve(token))
  const { authenticate } = authenticationProvider({
    host: "kafka-1",
    port: 9092,
    logger,
    saslAuthenticate: async <A>({ request, response }: {
      readonly request: SaslAuthenticationRequest
      readonly response?: SaslAuthenticationResponse<A>
    }): Promise<A | void> => {
      const bytes = await request.encode()
      expect(bytes.readInt32BE(0)).toBe(bytes.length - 4)
      sent.push(bytes.subarray(4).toString())
      const answer = answers[sent.length - 1] ?? ""
      if (answer instanceof Error) throw answer
      const raw = Buffer.concat([Buffer.alloc(4), Buffer.from(answer)])
      raw.writeInt32BE(answer.length)
      return response?.parse(await response.decode(raw))
    }
  })
  const outcome = await authenticate().then(() => "welcome", (error: Error) => `${error.name}: ${error.message}`)
  return { outcome, sent }
}

describe("OAUTHBEARER", () => {
  it("shows the token, and is welcome when nothing is answered", async () => {
    expect(await exchange([""])).toEqual({ outcome: "welcome", sent: ["n,,\u0001auth=Bearer a.b.c\u0001\u0001"] })
  })

  it("takes an answer for the refusal that it is, and ends the exchange as RFC 7628 has it", async () => {
    const refused = await exchange([`{"status":"invalid_token"}`, new Error("Authentication failed")])
    expect(refused.sent).toHaveLength(2)
    expect(refused.sent[1]).toBe("\u0001")
    expect(refused.outcome).toBe(
      `KafkaJSSASLAuthenticationError: SASL OAUTHBEARER authentication failed: {"status":"invalid_token"}`
    )
  })

  it("fails as the broker does", async () => {
    expect(await exchange([new Error("no such mechanism")])).toMatchObject({ outcome: "Error: no such mechanism" })
  })

  it("shows no more than the beginning of a long refusal", async () => {
    expect((await exchange(["x".repeat(100_000)])).outcome.length).toBeLessThan(1100)
  })
})
