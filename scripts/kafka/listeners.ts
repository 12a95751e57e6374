/**
 * The doors of a broker. Each is a listener with a port of its own, and clients use the ones that were asked for.
 */

/**
 * - `plaintext`: nobody is asked who they are.
 * - `ssl`: the server shows a certificate of a private authority.
 * - `mtls`: `ssl`, and the client must show one too. Its common name is its user name.
 * - `sasl_plaintext`, `sasl_ssl`: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER (unsecured tokens, for tests).
 */
export type KafkaListener = "plaintext" | "ssl" | "mtls" | "sasl_plaintext" | "sasl_ssl"

export const allListeners: ReadonlyArray<KafkaListener> = ["plaintext", "ssl", "mtls", "sasl_plaintext", "sasl_ssl"]

/** The name of a listener in `server.properties`. */
export const listenerName = (listener: KafkaListener): string => listener.toUpperCase()

export const securityProtocol = (listener: KafkaListener): string =>
  listener === "mtls" ? "SSL" : listener.toUpperCase()

export const hasTls = (listener: KafkaListener): boolean =>
  listener === "ssl" || listener === "mtls" || listener === "sasl_ssl"

export const hasSasl = (listener: KafkaListener): boolean => listener === "sasl_plaintext" || listener === "sasl_ssl"
