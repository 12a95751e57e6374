/**
 * A private certificate authority with a certificate for the brokers and one for each client, made by openssl at start.
 */
import * as fs from "node:fs/promises"
import * as net from "node:net"
import * as path from "node:path"
import { KafkaFailure, KafkaUnavailable } from "./errors.ts"
import { run } from "./process.ts"

/** Files, all PEM. Keys are not encrypted. */
export interface Certificate {
  readonly certFile: string
  readonly keyFile: string
  /** Key and certificate in one, as Kafka takes it for a key store of type PEM. */
  readonly keyStoreFile: string
}

export interface Certificates {
  /** What a client must trust. */
  readonly caFile: string
  readonly server: Certificate
  /** What clients may show at the `mtls` listener, by their user name. */
  readonly clients: Readonly<Record<string, Certificate>>
}

const openssl = async (args: ReadonlyArray<string>): Promise<void> => {
  const done = await run("openssl", args).catch((cause) => {
    throw new KafkaUnavailable("openssl is needed for the certificates of TLS listeners, and was not found", { cause })
  })
  if (done.code !== 0) throw new KafkaFailure(`openssl ${args[0]} failed:\n${done.stderr}`)
}

/**
 * Makes an authority and its certificates in a folder. `names` are the host names and addresses of the brokers.
 */
export const makeCertificates = async (directory: string, options: {
  readonly names: ReadonlyArray<string>
  readonly clients: ReadonlyArray<string>
}): Promise<Certificates> => {
  await fs.mkdir(directory, { recursive: true })
  const file = (name: string): string => path.join(directory, name)
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
  const ca = { certFile: file("ca.pem"), keyFile: file("ca.key") }
  const caConfig = file("ca.cnf")
  await fs.writeFile(
    caConfig,
    "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nbasicConstraints=critical,CA:TRUE\n"
  )
  await openssl([
    ...["req", "-x509", "-config", caConfig, ...newKey, "-subj", "/CN=CoffeeBuddy test authority", "-days", "2"],
    ...["-keyout", ca.keyFile, "-out", ca.certFile]
  ])
  const issue = async (name: string, commonName: string, extensions: string, serial: number): Promise<Certificate> => {
    const issued: Certificate = {
      certFile: file(`${name}.pem`),
      keyFile: file(`${name}.key`),
      keyStoreFile: file(`${name}-store.pem`)
    }
    const [request, config] = [file(`${name}.csr`), file(`${name}.cnf`)]
    await fs.writeFile(config, `[req]\ndistinguished_name=dn\n[dn]\n[ext]\n${extensions}\n`)
    await openssl([
      ...["req", "-new", "-config", config, ...newKey, "-subj", `/CN=${commonName}`],
      ...["-keyout", issued.keyFile, "-out", request]
    ])
    await openssl([
      ...["x509", "-req", "-in", request, "-CA", ca.certFile, "-CAkey", ca.keyFile, "-set_serial", String(serial)],
      ...["-days", "2", "-extfile", config, "-extensions", "ext", "-out", issued.certFile]
    ])
    const both = await Promise.all([fs.readFile(issued.keyFile, "utf8"), fs.readFile(issued.certFile, "utf8")])
    await fs.writeFile(issued.keyStoreFile, both.join(""))
    return issued
  }
  const alternatives = options.names.map((name) => `${net.isIP(name) === 0 ? "DNS" : "IP"}:${name}`).join(",")
  const [server, ...clients] = await Promise.all([
    issue("server", options.names[0] ?? "localhost", `subjectAltName=${alternatives}`, 1),
    ...options.clients.map((client, index) =>
      issue(`client-${client}`, client, "extendedKeyUsage=clientAuth", index + 2)
    )
  ])
  return {
    caFile: ca.certFile,
    server: server!,
    clients: Object.fromEntries(options.clients.map((client, index) => [client, clients[index]!]))
  }
}
