/** What is wrong with TLS settings. */
import * as Redacted from "effect/Redacted"
import type { Tls } from "../KafkaConfig.ts"

const isPem = (text: string): boolean => text.includes("-----BEGIN ")

/** By the name of the setting. No secret is in it. */
export const tlsProblem = (tls: Tls): readonly [name: "ca" | "cert" | "key", message: string] | undefined => {
  if (tls.cert !== undefined && tls.key === undefined) {
    return ["key", "a certificate needs its private key: it is missing"]
  }
  if (tls.key !== undefined && tls.cert === undefined) {
    return ["cert", "a private key needs its certificate: it is missing"]
  }
  if (tls.passphrase !== undefined && tls.key === undefined) return ["key", "there is a passphrase, and no private key"]
  for (const name of ["ca", "cert"] as const) {
    const pem = tls[name]
    if (pem !== undefined && !isPem(pem)) {
      return [name, "expected certificates as PEM (-----BEGIN CERTIFICATE-----), found something else"]
    }
  }
  return tls.key === undefined || isPem(Redacted.value(tls.key))
    ? undefined
    : ["key", "expected a private key as PEM (-----BEGIN PRIVATE KEY-----), found something else (redacted)"]
}
