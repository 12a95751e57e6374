/** What is wrong with TLS settings, found before any connection is tried. */
import * as Redacted from "effect/Redacted"
import { X509Certificate } from "node:crypto"
import { createSecureContext } from "node:tls"
import type { Tls } from "../KafkaConfig.ts"

/** The setting that is wrong, and why. No secret is in it. */
export interface TlsProblem {
  readonly name: "ca" | "cert" | "key" | "passphrase"
  readonly message: string
}

export const tlsProblem = (tls: Tls): TlsProblem | undefined => {
  const { ca, cert } = tls
  const key = tls.key === undefined ? undefined : Redacted.value(tls.key)
  const passphrase = tls.passphrase === undefined ? undefined : Redacted.value(tls.passphrase)

  if (cert !== undefined && key === undefined) {
    return { name: "key", message: "a certificate needs its private key, and that is missing" }
  }
  if (key !== undefined && cert === undefined) {
    return { name: "cert", message: "a private key needs its certificate, and that is missing" }
  }
  if (passphrase !== undefined && key === undefined) {
    return { name: "key", message: "there is a passphrase, and the private key is missing" }
  }
  if (ca !== undefined && !isCertificate(ca)) return { name: "ca", message: noCertificate }
  if (cert !== undefined && !isCertificate(cert)) return { name: "cert", message: noCertificate }
  return key === undefined || cert === undefined ? undefined : keyProblem(cert, key, passphrase)
}

const noCertificate = "expected certificates as PEM (-----BEGIN CERTIFICATE-----), found something else"

const isCertificate = (pem: string): boolean => {
  try {
    void new X509Certificate(pem)
    return true
  } catch {
    return false
  }
}

const keyProblem = (cert: string, key: string, passphrase: string | undefined): TlsProblem | undefined => {
  try {
    createSecureContext({ cert, key, passphrase })
    return undefined
  } catch (error) {
    switch ((error as NodeJS.ErrnoException).code) {
      case "ERR_OSSL_X509_KEY_VALUES_MISMATCH":
        return { name: "key", message: "the private key is not the one of the certificate" }
      case "ERR_OSSL_BAD_DECRYPT":
      case "ERR_MISSING_PASSPHRASE":
        return {
          name: "passphrase",
          message: passphrase === undefined
            ? "the private key is encrypted, and its passphrase is missing"
            : "the private key can't be decrypted with this passphrase (redacted)"
        }
      default:
        return {
          name: "key",
          message: "expected a private key as PEM (-----BEGIN PRIVATE KEY-----), found something else (redacted)"
        }
    }
  }
}
