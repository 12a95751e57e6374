/**
 * OAUTHBEARER as RFC 7628 has it. kafkajs has it too, and takes every answer for a welcome: a refused token is found out
 * by the next request, if there is one, as a connection that broke.
 */
import type { AuthenticationProviderArgs, Mechanism } from "kafkajs"

/** Bytes with their length before them: what both sides of the exchange are in. */
const sized = (bytes: Buffer): Buffer => {
  const size = Buffer.alloc(4)
  size.writeInt32BE(bytes.length)
  return Buffer.concat([size, bytes])
}

const answer = {
  decode: (raw: Buffer): Buffer => raw.subarray(4),
  parse: (bytes: Buffer): Buffer => bytes
}

const first = (token: string): Buffer => Buffer.from(`n,,\u0001auth=Bearer ${token}\u0001\u0001`)

/** To a refusal the client answers this, and is then refused for good. */
const last = Buffer.from("\u0001")

/** By its name it is known as kafkajs's own. */
class Refused extends Error {
  readonly retriable = false
  override readonly name = "KafkaJSSASLAuthenticationError"
}

/** Asks for the token at each authentication. */
export const mechanism = (token: () => Promise<string>): Mechanism => ({
  mechanism: "oauthbearer",
  authenticationProvider: ({ saslAuthenticate }: AuthenticationProviderArgs) => {
    const exchange = (bytes: Buffer) => saslAuthenticate({ request: { encode: () => sized(bytes) }, response: answer })
    return {
      authenticate: async () => {
        const refusal = (await exchange(first(await token()))) ?? Buffer.alloc(0)
        if (refusal.length === 0) return
        // the broker closes the connection after it
        await exchange(last).catch(() => undefined)
        throw new Refused(`SASL OAUTHBEARER authentication failed: ${refusal.toString("utf8").slice(0, 1000)}`)
      }
    }
  }
})
