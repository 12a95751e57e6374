/** One broker with every door there is, users, and permissions that are asked for: what the security suite runs on. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
// Node sees only some of its names as named imports
import KafkaJs from "kafkajs"
import * as Crypto from "node:crypto"
import * as FileSystem from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import {
  type Certificates,
  clientEnvironment,
  type ClientOptions,
  javaTools,
  type KafkaCluster,
  makeCertificates
} from "../../../../scripts/kafka/index.ts"
import * as RealKafka from "../support/RealKafka.ts"

export type Environment = Readonly<Record<string, string>>

/**
 * What a topic, group or transactional id of a test begins with says what alice may do with it. Else it is nothing, and
 * guest may do nothing at all.
 */
export const prefixes = { hers: "hers-", readable: "readable-", writable: "writable-" } as const

export interface Service {
  readonly cluster: KafkaCluster
  /** What whoever runs the tests may do anything with. */
  readonly operator: Environment
  /** The variables of a client, with each secret as a file as secret stores mount them. */
  readonly files: (options: ClientOptions) => Environment
  /** The variables of a client, with secrets as their values. */
  readonly values: (options: ClientOptions) => Environment
  /** The variables of a client that shows alice's certificate, all as values, its key encrypted. */
  readonly encrypted: Environment
  /** Certificates of an authority that the broker does not know. */
  readonly strangers: Certificates
  /** Writes a file, and answers its path. */
  readonly write: (name: string, text: string) => string
  /** Takes away from alice whatever she may do with a topic or a group, from now on. */
  readonly deny: (resource: "topic" | "group", name: string) => Effect.Effect<void>
  /** Gives a user another password for SCRAM-SHA-512. */
  readonly changePassword: (user: string, password: string) => Effect.Effect<void>
  /** Restarts the broker: every connection is lost, and made again. */
  readonly restart: Effect.Effect<void, RealKafka.KafkaFailure>
  /** All that must never be seen. */
  readonly secrets: ReadonlyArray<string>
}

export class SecuredKafka extends Context.Tag("security/SecuredKafka")<SecuredKafka, Service>() {}

/** With characters that some formats have to escape. */
const newPassword = (): string => `${Crypto.randomBytes(12).toString("base64url")}+/=`

/** How long a connection by a password of SCRAM-SHA-256, or by a token, lasts until it has to show it again. */
const shortSession = "6000"

const folder = Effect.acquireRelease(
  Effect.sync(() => FileSystem.mkdtempSync(Path.join(Os.tmpdir(), "coffeebuddy-security-"))),
  (directory) => Effect.sync(() => FileSystem.rmSync(directory, { recursive: true, force: true }))
)

const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = KafkaJs

const addAcls = async (
  bootstrapServers: string,
  acl: Parameters<ReturnType<InstanceType<typeof KafkaJs.Kafka>["admin"]>["createAcls"]>[0]["acl"]
): Promise<void> => {
  const kafka = new KafkaJs.Kafka({ brokers: bootstrapServers.split(","), logLevel: KafkaJs.logLevel.NOTHING })
  const admin = kafka.admin()
  await admin.connect()
  try {
    await admin.createAcls({ acl })
  } finally {
    await admin.disconnect()
  }
}

const grant = (bootstrapServers: string): Promise<void> => {
  const { GROUP, TOPIC, TRANSACTIONAL_ID } = AclResourceTypes
  const { ALL, READ, WRITE } = AclOperationTypes
  return addAcls(
    bootstrapServers,
    ["alice", "rotating"].flatMap((user) =>
      ([
        [TOPIC, prefixes.hers, ALL],
        [GROUP, prefixes.hers, ALL],
        [TRANSACTIONAL_ID, prefixes.hers, ALL],
        [TOPIC, prefixes.readable, READ],
        [TOPIC, prefixes.writable, WRITE]
      ] as const).map(([resourceType, resourceName, operation]) => ({
        resourceType,
        resourceName,
        resourcePatternType: ResourcePatternTypes.PREFIXED,
        principal: `User:${user}`,
        host: "*",
        operation,
        permissionType: AclPermissionTypes.ALLOW
      }))
    )
  )
}

/** The variables that hold what may be a file as well. */
const mayBeFile = /^KAFKA_SASL_(USERNAME|PASSWORD)$/

/** A key's lines, each of which gives some of it away. */
const linesOf = (pem: string): ReadonlyArray<string> =>
  pem.split("\n").filter((line) => line.length > 20 && !line.startsWith("-----"))

const make = Effect.gen(function*() {
  const directory = yield* folder
  const users = { admin: newPassword(), alice: newPassword(), rotating: newPassword(), guest: newPassword() }
  const { cluster } = yield* RealKafka.start({
    listeners: ["plaintext", "ssl", "mtls", "sasl_plaintext", "sasl_ssl"],
    acls: true,
    users,
    // "localhost" is no name of it
    certificateNames: ["127.0.0.1", "kafka.internal"],
    properties: {
      "listener.name.sasl_plaintext.scram-sha-256.connections.max.reauth.ms": shortSession,
      "listener.name.sasl_plaintext.oauthbearer.connections.max.reauth.ms": shortSession,
      "listener.name.sasl_ssl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
    }
  })
  const plaintext = cluster.bootstrapServersOf("plaintext")
  const strangers = yield* Effect.promise(() =>
    makeCertificates(Path.join(directory, "strangers"), { names: ["127.0.0.1"], clients: ["alice"] })
  )
  yield* Effect.promise(() => grant(plaintext))
  let count = 0
  const write = (name: string, text: string): string => {
    const file = Path.join(directory, `${++count}-${name}`)
    FileSystem.writeFileSync(file, text)
    return file
  }
  const values = (options: ClientOptions): Environment => clientEnvironment(cluster, options)
  const passphrase = newPassword()
  const certificate = cluster.certificates!.clients["alice"]!
  const text = (file: string): string => FileSystem.readFileSync(file, "utf8")
  const key = Crypto.createPrivateKey(text(certificate.keyFile))
    .export({ format: "pem", type: "pkcs8", cipher: "aes-256-cbc", passphrase })
    .toString()
  const tools = javaTools({ distribution: cluster.distribution, bootstrapServers: plaintext })
  return SecuredKafka.of({
    cluster,
    operator: { KAFKA_BOOTSTRAP_SERVERS: plaintext },
    values,
    files: (options) =>
      Object.fromEntries(
        Object.entries(values(options)).map(([name, value]) =>
          mayBeFile.test(name) ? [`${name}_FILE`, write(name, `${value}\n`)] : [name, value]
        )
      ),
    encrypted: {
      KAFKA_BOOTSTRAP_SERVERS: cluster.bootstrapServersOf("mtls"),
      KAFKA_SECURITY_PROTOCOL: "SSL",
      KAFKA_SSL_CA: text(cluster.certificates!.caFile),
      // as it is where a variable can't have several lines
      KAFKA_SSL_CERT: text(certificate.certFile).replaceAll("\n", "\\n"),
      KAFKA_SSL_KEY: key.replaceAll("\n", "\\n"),
      KAFKA_SSL_KEY_PASSPHRASE: passphrase
    },
    strangers,
    write,
    deny: (resource, resourceName) =>
      Effect.promise(() =>
        addAcls(plaintext, [{
          resourceType: resource === "topic" ? AclResourceTypes.TOPIC : AclResourceTypes.GROUP,
          resourceName,
          resourcePatternType: ResourcePatternTypes.LITERAL,
          principal: "User:alice",
          host: "*",
          operation: AclOperationTypes.ALL,
          permissionType: AclPermissionTypes.DENY
        }])
      ),
    changePassword: (user, password) =>
      Effect.promise(() =>
        tools.admin("kafka-configs", [
          ...["--alter", "--entity-type", "users", "--entity-name", user],
          ...["--add-config", `SCRAM-SHA-512=[password=${password}]`]
        ])
      ),
    restart: Effect.tryPromise({
      try: async () => {
        await cluster.broker(1).stop()
        await cluster.broker(1).start()
      },
      catch: (cause) => new RealKafka.KafkaFailure(String(cause), { cause })
    }),
    secrets: [
      ...Object.values(users),
      passphrase,
      ...[text(certificate.keyFile), key, text(strangers.clients["alice"]!.keyFile)].flatMap(linesOf)
    ]
  })
})

export const layer: Layer.Layer<SecuredKafka, RealKafka.KafkaFailure | RealKafka.KafkaUnavailable> = Layer.scoped(
  SecuredKafka,
  make
)
