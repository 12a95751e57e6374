/**
 * The settings of a broker, chosen for a quick start and for tests that need not wait.
 */
import type { Certificates } from "./certificates.ts"
import { hasSasl, hasTls, type KafkaListener, listenerName, securityProtocol } from "./listeners.ts"

/** One node of a cluster and where it listens. */
export interface KafkaNode {
  readonly nodeId: number
  readonly host: string
  /** The port of each client's door. */
  readonly clients: ReadonlyArray<{ readonly listener: KafkaListener; readonly port: number }>
  /** Where the other brokers come in. */
  readonly internalPort: number
  readonly controllerPort: number
}

export interface PropertiesOptions {
  readonly node: KafkaNode
  readonly nodes: ReadonlyArray<KafkaNode>
  readonly dataDirectory: string
  readonly partitions: number
  /** User names and passwords, for PLAIN. */
  readonly users: Readonly<Record<string, string>>
  readonly acls: boolean
  /** There when a door needs them. */
  readonly certificates: Certificates | undefined
  readonly extra: Readonly<Record<string, string>>
}

type Settings = Record<string, string>

const cluster = ({ node, nodes }: PropertiesOptions): Settings => {
  const listeners = [
    ...node.clients.map(({ listener, port }) => `${listenerName(listener)}://${node.host}:${port}`),
    `INTERNAL://${node.host}:${node.internalPort}`
  ]
  return {
    "process.roles": "broker,controller",
    "node.id": String(node.nodeId),
    "controller.quorum.voters": nodes.map((_) => `${_.nodeId}@${_.host}:${_.controllerPort}`).join(","),
    "controller.listener.names": "CONTROLLER",
    "listeners": [...listeners, `CONTROLLER://${node.host}:${node.controllerPort}`].join(","),
    "advertised.listeners": listeners.join(","),
    "listener.security.protocol.map": [
      "CONTROLLER:PLAINTEXT",
      "INTERNAL:PLAINTEXT",
      ...node.clients.map(({ listener }) => `${listenerName(listener)}:${securityProtocol(listener)}`)
    ].join(","),
    "inter.broker.listener.name": "INTERNAL",
    // A broker that died is missed after 3 s instead of 9. It may not come back any sooner either.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000"
  }
}

const storage = ({ dataDirectory, nodes, partitions }: PropertiesOptions): Settings => {
  const replicas = String(Math.min(nodes.length, 3))
  const inSync = nodes.length >= 3 ? "2" : "1"
  return {
    "log.dirs": dataDirectory,
    "num.partitions": String(partitions),
    "auto.create.topics.enable": "false",
    "default.replication.factor": replicas,
    "min.insync.replicas": inSync,
    // Nothing goes away unless its topic says so, such as a record that a test dated long ago. Where a topic does,
    // retention and compaction are looked after every second, so that a test sees them happen.
    "log.retention.ms": "-1",
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "num.recovery.threads.per.data.dir": "2",
    // Groups and transactions: few partitions, so that the first member and the first transaction do not wait long.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "offsets.topic.num.partitions": "5",
    "offsets.topic.replication.factor": replicas,
    "transaction.state.log.num.partitions": "5",
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"
  }
}

const quoted = (text: string): string => `"${text.replaceAll("\\", "\\\\").replaceAll("\"", "\\\"")}"`

const sasl = (prefix: string, users: Readonly<Record<string, string>>): Settings => {
  const security = "org.apache.kafka.common.security"
  const accounts = Object.entries(users).map(([user, password]) => `user_${user}=${quoted(password)}`)
  const scram = `${security}.scram.ScramLoginModule required;`
  return {
    [`${prefix}.sasl.enabled.mechanisms`]: "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
    [`${prefix}.plain.sasl.jaas.config`]: `${security}.plain.PlainLoginModule required ${accounts.join(" ")};`,
    [`${prefix}.scram-sha-256.sasl.jaas.config`]: scram,
    [`${prefix}.scram-sha-512.sasl.jaas.config`]: scram,
    [`${prefix}.oauthbearer.sasl.jaas.config`]:
      `${security}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="admin";`,
    [`${prefix}.oauthbearer.sasl.server.callback.handler.class`]:
      `${security}.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler`
  }
}

const security = ({ acls, certificates, node, users }: PropertiesOptions): Settings => {
  const settings: Settings = {}
  for (const { listener } of node.clients) {
    const prefix = `listener.name.${listener}`
    if (hasTls(listener) && certificates !== undefined) {
      Object.assign(settings, {
        [`${prefix}.ssl.keystore.type`]: "PEM",
        [`${prefix}.ssl.keystore.location`]: certificates.server.keyStoreFile,
        [`${prefix}.ssl.truststore.type`]: "PEM",
        [`${prefix}.ssl.truststore.location`]: certificates.caFile,
        [`${prefix}.ssl.client.auth`]: listener === "mtls" ? "required" : "none",
        [`${prefix}.ssl.principal.mapping.rules`]: "RULE:^CN=([^,]+).*$/$1/,DEFAULT"
      })
    }
    if (hasSasl(listener)) Object.assign(settings, sasl(prefix, users))
  }
  if (acls) {
    Object.assign(settings, {
      "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
      // The brokers themselves, and with them who comes in by `plaintext` or `ssl`, are anonymous.
      "super.users": "User:ANONYMOUS;User:admin",
      "allow.everyone.if.no.acl.found": "false"
    })
  }
  return settings
}

/** The text of a broker's `server.properties`. */
export const serverProperties = (options: PropertiesOptions): string =>
  Object.entries({ ...cluster(options), ...storage(options), ...security(options), ...options.extra })
    .map(([key, value]) => `${key}=${value.replaceAll("\\", "\\\\")}\n`)
    .join("")
