/**
 * How a client comes in by each listener: as environment variables for this library, as settings for Java.
 */
import type { KafkaCluster } from "./cluster.ts"
import { KafkaFailure } from "./errors.ts"
import { hasSasl, hasTls, type KafkaListener, securityProtocol } from "./listeners.ts"

/** The mechanisms that go with a name and a password. */
export type PasswordMechanism = "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512"

export interface ClientOptions {
  /** The cluster's first listener by default. */
  readonly listener?: KafkaListener | undefined
  /** One of the cluster's users, `admin` by default. */
  readonly user?: string | undefined
  /** `"SCRAM-SHA-512"` by default. */
  readonly mechanism?: PasswordMechanism | undefined
}

/** Everything that a client of a listener must know. */
const accessOf = (cluster: KafkaCluster, options: ClientOptions) => {
  const listener = options.listener ?? cluster.listeners[0]!
  const user = options.user ?? "admin"
  const password = cluster.users[user]
  const certificate = cluster.certificates?.clients[user]
  if ((hasSasl(listener) || listener === "mtls") && password === undefined) {
    throw new KafkaFailure(`This cluster has no user ${user}, only ${Object.keys(cluster.users).join(", ")}`)
  }
  return {
    bootstrapServers: cluster.bootstrapServersOf(listener),
    protocol: securityProtocol(listener),
    caFile: hasTls(listener) ? cluster.certificates?.caFile : undefined,
    certificate: listener === "mtls" ? certificate : undefined,
    sasl: hasSasl(listener)
      ? { mechanism: options.mechanism ?? "SCRAM-SHA-512", user, password: password! }
      : undefined
  }
}

/** The variables that `KafkaConfig.layerEnv` reads. */
export const clientEnvironment = (
  cluster: KafkaCluster,
  options: ClientOptions = {}
): Readonly<Record<string, string>> => {
  const { bootstrapServers, caFile, certificate, protocol, sasl } = accessOf(cluster, options)
  return {
    KAFKA_BOOTSTRAP_SERVERS: bootstrapServers,
    ...(protocol === "PLAINTEXT" ? {} : { KAFKA_SECURITY_PROTOCOL: protocol }),
    ...(caFile === undefined ? {} : { KAFKA_SSL_CA_FILE: caFile }),
    ...(certificate === undefined
      ? {}
      : { KAFKA_SSL_CERT_FILE: certificate.certFile, KAFKA_SSL_KEY_FILE: certificate.keyFile }),
    ...(sasl === undefined
      ? {}
      : {
        KAFKA_SASL_MECHANISM: sasl.mechanism,
        KAFKA_SASL_USERNAME: sasl.user,
        KAFKA_SASL_PASSWORD: sasl.password
      })
  }
}

/** The settings of a Java client, for the `clientProperties` of a `JavaTarget`. */
export const clientProperties = (
  cluster: KafkaCluster,
  options: ClientOptions = {}
): Readonly<Record<string, string>> => {
  const { caFile, certificate, protocol, sasl } = accessOf(cluster, options)
  const loginModule = sasl?.mechanism === "PLAIN" ? "plain.PlainLoginModule" : "scram.ScramLoginModule"
  return {
    "security.protocol": protocol,
    ...(caFile === undefined ? {} : { "ssl.truststore.type": "PEM", "ssl.truststore.location": caFile }),
    ...(certificate === undefined
      ? {}
      : { "ssl.keystore.type": "PEM", "ssl.keystore.location": certificate.keyStoreFile }),
    ...(sasl === undefined
      ? {}
      : {
        "sasl.mechanism": sasl.mechanism,
        "sasl.jaas.config": `org.apache.kafka.common.security.${loginModule} required ` +
          `username="${sasl.user}" password="${sasl.password}";`
      })
  }
}
