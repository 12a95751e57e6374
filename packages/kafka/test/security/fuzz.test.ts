/** What comes from a file or over the network: understood, or refused with a typed error, and never a defect. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as FileSystem from "node:fs"
import { createRequire } from "node:module"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { createSecureContext } from "node:tls"
import * as Admin from "../../src/Admin.ts"
import * as Consumer from "../../src/Consumer.ts"
import { groupDescription } from "../../src/drivers/kafkajs/admin.ts"
import { chunk, view } from "../../src/drivers/kafkajs/consumerRecords.ts"
import type { RawRecord } from "../../src/drivers/kafkajs/internals.ts"
import * as ConsumerSettings from "../../src/engine/consumer/Settings.ts"
import { fileOrValueNames, plainNames } from "../../src/engine/environment.ts"
import * as ProducerSettings from "../../src/engine/producer/settings.ts"
import { tlsProblem } from "../../src/engine/tls.ts"
import { differences } from "../../src/engine/topics.ts"
import type { KafkaClient } from "../../src/KafkaClient.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import { isKafkaError } from "../../src/KafkaError.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import * as Producer from "../../src/Producer.ts"
import * as RecordHeaders from "../../src/RecordHeaders.ts"
import * as Serde from "../../src/Serde.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import * as tls from "../fixtures/tls.ts"

// ---------------------------------------------------------------------------------------------------------------------
// odd things
// ---------------------------------------------------------------------------------------------------------------------

/** Names that every object has, and others that are often forgotten. */
const names = FastCheck.oneof(
  FastCheck.string({ maxLength: 12, unit: "grapheme" }),
  FastCheck.constantFrom("__proto__", "constructor", "toString", "hasOwnProperty", "length", "0", "")
)

const bytes = FastCheck.uint8Array({ maxLength: 200 }).map((all) => Buffer.from(all))

/** A text with some of its characters changed, left out or doubled. */
const mutated = (text: string) =>
  FastCheck.array(
    FastCheck.tuple(FastCheck.nat(text.length), FastCheck.nat(40), FastCheck.string({ maxLength: 4, unit: "binary" })),
    { maxLength: 3 }
  ).map((cuts) => cuts.reduce((out, [at, length, put]) => out.slice(0, at) + put + out.slice(at + length), text))

const pem = FastCheck.oneof(
  mutated(tls.certificate),
  mutated(tls.key),
  mutated(tls.encryptedKey),
  mutated(tls.certificate + tls.certificate),
  FastCheck.string({ unit: "binary" }),
  FastCheck.constantFrom(tls.certificate, tls.key, tls.encryptedKey, tls.passphrase, "")
)

/** How it ended, with nothing but typed failures allowed. */
const expectTyped = (exit: Exit.Exit<unknown, unknown>): void =>
  expect(Exit.isFailure(exit) && !Cause.isFailType(exit.cause) ? Cause.pretty(exit.cause) : "").toBe("")

const folder = Effect.acquireRelease(
  Effect.sync(() => FileSystem.mkdtempSync(Path.join(Os.tmpdir(), "coffeebuddy-fuzz-"))),
  (directory) => Effect.sync(() => FileSystem.rmSync(directory, { recursive: true, force: true }))
)

const load = (environment: Readonly<Record<string, string>>) =>
  Effect.withConfigProvider(KafkaConfig.fromEnv, ConfigProvider.fromMap(new Map(Object.entries(environment))))

/** Everything that a driver would ask a configuration for. */
const askAll = ({ security }: KafkaConfig.Service) =>
  Effect.gen(function*() {
    const over = security._tag === "Sasl" ? security.over : security
    if (over._tag === "Ssl") yield* over.tls
    if (security._tag === "Sasl") {
      yield* security.mechanism === "oauthbearer" ? Effect.asVoid(security.token) : Effect.asVoid(security.credentials)
    }
  })

// ---------------------------------------------------------------------------------------------------------------------
// files and variables
// ---------------------------------------------------------------------------------------------------------------------

describe("configuration", () => {
  const value = FastCheck.oneof(
    FastCheck.string({ unit: "binary", maxLength: 30 }),
    FastCheck.constantFrom(
      "kafka-1:9092",
      "SASL_SSL",
      "SSL",
      "SASL_PLAINTEXT",
      "PLAIN",
      "SCRAM-SHA-512",
      "OAUTHBEARER",
      "true",
      "10 seconds",
      "-1",
      "9999999999999999",
      "1e309",
      "Infinity",
      "/dev/zero",
      "/dev/null",
      "/",
      "\u0000",
      tls.certificate,
      tls.key
    )
  )
  const variable = FastCheck.constantFrom(
    ...plainNames,
    ...fileOrValueNames,
    ...fileOrValueNames.map((name) => `${name}_FILE`)
  )

  it.effect.prop(
    "whatever the variables hold, they are understood or refused",
    [FastCheck.array(FastCheck.tuple(variable, value), { maxLength: 12 })],
    ([given]) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(Effect.flatMap(load(Object.fromEntries(given)), askAll))
        expectTyped(exit)
      }),
    { fastCheck: { numRuns: 60 } }
  )

  it.scoped("a file without an end, or a large one, is refused without being read", () =>
    Effect.gen(function*() {
      const large = Path.join(yield* folder, "large")
      FileSystem.writeFileSync(large, Buffer.alloc(3 * 1024 * 1024, "a"))
      for (const file of ["/dev/zero", large]) {
        const error = yield* Effect.flip(load({
          KAFKA_BOOTSTRAP_SERVERS: "kafka-1:9092",
          KAFKA_SECURITY_PROTOCOL: "SSL",
          KAFKA_SSL_CA_FILE: file
        }))
        expect(String(error)).toContain("at most 1048576 bytes")
      }
    }))

  it.prop(
    "PEM that is accepted can be used",
    [pem, pem, pem, FastCheck.option(FastCheck.oneof(FastCheck.string(), FastCheck.constant(tls.passphrase)))],
    ([ca, cert, key, passphrase]) => {
      const settings = {
        ca,
        cert,
        key: Redacted.make(key),
        ...(passphrase === null ? {} : { passphrase: Redacted.make(passphrase) })
      }
      if (tlsProblem(settings) !== undefined) return
      createSecureContext({ ca, cert, key, ...(passphrase === null ? {} : { passphrase }) })
    }
  )

  it.effect.prop(
    "a file that becomes something else while the program runs is an error of authentication",
    [FastCheck.oneof(pem.map((text) => Buffer.from(text)), bytes)],
    ([contents]) =>
      Effect.scoped(Effect.gen(function*() {
        const directory = yield* folder
        const file = (name: string, text: string): string => {
          const path = Path.join(directory, name)
          FileSystem.writeFileSync(path, text)
          return path
        }
        const environment = {
          KAFKA_BOOTSTRAP_SERVERS: "kafka-1:9092",
          KAFKA_SECURITY_PROTOCOL: "SSL",
          KAFKA_SSL_CA_FILE: file("ca", tls.certificate),
          KAFKA_SSL_CERT_FILE: file("cert", tls.certificate),
          KAFKA_SSL_KEY_FILE: file("key", tls.key)
        }
        const { security } = yield* load(environment)
        for (const name of ["ca", "cert", "key"]) {
          const path = Path.join(directory, name)
          const before = FileSystem.readFileSync(path)
          FileSystem.writeFileSync(path, contents)
          const exit = yield* Effect.exit(security._tag === "Ssl" ? security.tls : Effect.void)
          expectTyped(exit)
          if (Exit.isFailure(exit)) {
            expect(Cause.squash(exit.cause)).toMatchObject({ _tag: "KafkaAuthenticationError", kind: "unobtainable" })
          }
          FileSystem.writeFileSync(path, before)
        }
      })),
    { fastCheck: { numRuns: 25 } }
  )

  /** As `Config`s answer them: of the right kind, and of any size. */
  const number = FastCheck.oneof(
    FastCheck.integer(),
    FastCheck.double(),
    FastCheck.constantFrom(0, -1, Number.NaN, Infinity, Number.MAX_SAFE_INTEGER)
  )
  const duration = FastCheck.oneof(
    number.map((millis) => Duration.millis(millis)),
    FastCheck.constantFrom(Duration.infinity, Duration.zero, Duration.days(10_000)),
    number
  )
  const optional = <A>(arbitrary: FastCheck.Arbitrary<A>) => FastCheck.option(arbitrary, { nil: undefined, freq: 3 })

  it.prop(
    "a consumer's options make sense together, or each that does not is named",
    [FastCheck.record({
      groupId: FastCheck.string(),
      rebalanceTimeout: optional(duration),
      revokeTimeout: optional(duration),
      sessionTimeout: optional(duration),
      heartbeatInterval: optional(duration),
      commitTimeout: optional(duration),
      stopTimeout: optional(duration),
      unavailableAfter: optional(duration),
      stalledAfter: optional(duration),
      maxPollRecords: optional(number),
      fetch: optional(FastCheck.record({
        maxBytesPerPartition: optional(number),
        maxBytes: optional(number),
        minBytes: optional(number),
        maxWait: optional(duration)
      })),
      prefetch: optional(FastCheck.record({
        partitionBytes: optional(number),
        partitionRecords: optional(number),
        totalBytes: optional(number),
        totalRecords: optional(number)
      }))
    })],
    ([options]) => {
      const made = ConsumerSettings.make(options, KafkaJs.capabilities)
      if (Either.isLeft(made)) return
      const { prefetch, ...settings } = made.right
      for (const value of [...Object.values(settings), ...Object.values(prefetch)]) {
        expect(typeof value !== "number" || (value > 0 && value < 2 ** 53)).toBe(true)
      }
      expect(settings.heartbeatInterval).toBeLessThan(settings.sessionTimeout)
    }
  )

  it.prop(
    "a producer's options make sense together, or each that does not is named",
    [FastCheck.record({
      linger: optional(duration),
      requestTimeout: optional(duration),
      deliveryTimeout: optional(duration),
      closeTimeout: optional(duration),
      transactionTimeout: optional(duration),
      batchSize: optional(number),
      maxRequestSize: optional(number),
      bufferMemory: optional(number),
      idempotent: optional(FastCheck.boolean()),
      transactionalId: optional(FastCheck.string())
    })],
    ([options]) => {
      const made = ProducerSettings.check(options)
      if (Either.isLeft(made)) return
      const { batchSize, bufferMemory, deliveryTimeout, linger, maxRequestSize, requestTimeout } = made.right
      expect(batchSize > 0 && batchSize <= maxRequestSize && maxRequestSize <= bufferMemory).toBe(true)
      expect(linger + requestTimeout).toBeLessThanOrEqual(deliveryTimeout)
      expect(deliveryTimeout).toBeLessThan(2 ** 31)
    }
  )

  it.prop(
    "a topic's configuration is compared, whatever stands in it",
    [
      FastCheck.dictionary(names, FastCheck.string()),
      FastCheck.dictionary(names, FastCheck.option(FastCheck.string()))
    ],
    ([wanted, found]) => {
      const differing = differences(
        { topic: "runs", partitions: undefined, replicationFactor: undefined, config: wanted },
        { topic: "runs", partitions: [] },
        Object.fromEntries(Object.entries(found).map(([name, value]) => [name, { value, isDefault: false }]))
      )
      expect(new Set(differing.map(({ setting }) => setting)).size).toBe(differing.length)
      for (const { setting } of differing) expect(Object.keys(wanted)).toContain(setting)
    }
  )
})

// ---------------------------------------------------------------------------------------------------------------------
// records
// ---------------------------------------------------------------------------------------------------------------------

describe("records", () => {
  const context: Serde.SerdeContext = { topic: "runs", part: "value", headers: [] }

  class Order extends Schema.Class<Order>("Order")({
    id: Schema.NonEmptyString,
    placed: Schema.Date,
    lines: Schema.Array(Schema.Struct({ item: Schema.String, count: Schema.Positive })),
    more: Schema.Record({ key: Schema.String, value: Schema.Unknown })
  }) {}

  interface Tree {
    readonly children: ReadonlyArray<Tree>
  }
  const Tree = Schema.Struct({
    children: Schema.Array(Schema.suspend((): Schema.Schema<Tree> => Tree))
  })

  const serdes: ReadonlyArray<readonly [string, Serde.Serde<unknown>]> = [
    ["string", Serde.string as Serde.Serde<unknown>],
    ["bytes", Serde.bytes as Serde.Serde<unknown>],
    ["int32", Serde.int32 as Serde.Serde<unknown>],
    ["int64", Serde.int64 as Serde.Serde<unknown>],
    ["uuid", Serde.uuid as Serde.Serde<unknown>],
    ["json", Serde.json(Order) as Serde.Serde<unknown>],
    ["a json tree", Serde.json(Tree) as Serde.Serde<unknown>],
    ["nullable", Serde.nullable(Serde.json(Order)) as Serde.Serde<unknown>]
  ]

  const order = JSON.stringify({
    id: "1",
    placed: "2026-11-24T00:00:00Z",
    lines: [{ item: "flat white", count: 2 }],
    more: { ["__proto__"]: { polluted: true } }
  })
  /** Deeper than a recursive schema can go. */
  const deep = Buffer.from(`${`{"children":[`.repeat(30_000)}${"]}".repeat(30_000)}`)
  const payload = FastCheck.oneof(
    bytes,
    FastCheck.json().map((text) => Buffer.from(text)),
    mutated(order).map((text) => Buffer.from(text)),
    FastCheck.constantFrom(null, Buffer.from(order), deep)
  )

  it.prop("any payload is read or refused with an error, be it nested without end", [
    FastCheck.constantFrom(...serdes),
    payload
  ], ([
    [, serde],
    given
  ]) => {
    const read = Either.try(() => serde.deserialize(given, context))
    if (Either.isLeft(read)) expect(read.left).toBeInstanceOf(Error)
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  })

  // kafkajs's own way from bytes to records
  const kafkajs = createRequire(import.meta.url)
  const Encoder = kafkajs("kafkajs/src/protocol/encoder") as new() => {
    writeVarInt: (value: number) => unknown
    writeVarIntString: (value: string) => unknown
    writeVarIntBytes: (value: Buffer | null) => unknown
    writeInt8: (value: number) => unknown
    writeVarLong: (value: number) => unknown
    readonly buffer: Buffer
  }
  const Decoder = kafkajs("kafkajs/src/protocol/decoder") as new(bytes: Buffer) => object
  const decodeRecord = kafkajs("kafkajs/src/protocol/recordBatch/record/v0/decoder") as (
    decoder: object,
    batch: object
  ) => RawRecord

  const received = (headers: ReadonlyArray<readonly [string, Buffer | null]>): RawRecord => {
    const encoder = new Encoder()
    encoder.writeInt8(0)
    encoder.writeVarLong(0)
    encoder.writeVarInt(0)
    encoder.writeVarIntBytes(null)
    encoder.writeVarIntBytes(Buffer.from("value"))
    encoder.writeVarInt(headers.length)
    for (const [name, value] of headers) {
      encoder.writeVarIntString(name)
      encoder.writeVarIntBytes(value)
    }
    return decodeRecord(new Decoder(encoder.buffer), {
      firstOffset: "0",
      firstTimestamp: "0",
      lastOffsetDelta: 0,
      producerId: "-1"
    })
  }

  it.prop(
    "headers of any name are received as they were sent, each name's values in order",
    [FastCheck.array(FastCheck.tuple(names, FastCheck.option(bytes)), { maxLength: 8 })],
    ([sent]) => {
      const raw = received(sent)
      const found = view.headers(raw)
      for (const name of new Set(sent.map(([name]) => name))) {
        expect(RecordHeaders.getAll(found, name)).toEqual(
          sent.filter(([one]) => one === name).map(([, value]) => value)
        )
      }
      expect(found).toHaveLength(sent.length)
      const size = sent.reduce((sum, [name, value]) => sum + name.length + (value?.length ?? 0), 5)
      const topicPartition = TopicPartition.make("runs", 0)
      const data = { partition: 0, highWatermark: "1", messages: [raw] }
      const got = chunk(topicPartition, 0n, data, true)
      expect(got?.bytes).toBeLessThanOrEqual(size)
    }
  )

  it.prop("what other members of a group were told is read, or left out", [bytes], ([memberAssignment]) => {
    const { members } = groupDescription({
      groupId: "group",
      state: "Stable",
      protocolType: "consumer",
      members: [{ memberId: "one", clientId: "client", clientHost: "/127.0.0.1", memberAssignment }]
    })
    for (const { partition, topic } of members[0]?.assignment ?? []) {
      expect(typeof topic).toBe("string")
      expect(Number.isInteger(partition)).toBe(true)
    }
  })
})

// ---------------------------------------------------------------------------------------------------------------------
// the network
// ---------------------------------------------------------------------------------------------------------------------

describe("a server that answers nonsense", () => {
  /** What it says to each request: bytes as they are, or as the body of an answer that belongs to the request. */
  type Nonsense = ReadonlyArray<{ readonly framed: boolean; readonly bytes: Buffer }>

  const serving = (nonsense: Nonsense): Effect.Effect<string, never, Scope> =>
    Effect.map(
      Effect.acquireRelease(
        Effect.async<{ readonly server: Net.Server; readonly sockets: ReadonlySet<Net.Socket> }>((resume) => {
          const sockets = new Set<Net.Socket>()
          const server = Net.createServer((socket) => {
            sockets.add(socket)
            let count = 0
            socket.on("error", () => undefined)
            socket.on("data", (request) => {
              const answer = nonsense[count++ % nonsense.length]!
              if (!answer.framed || request.length < 12) return void socket.write(answer.bytes)
              const head = Buffer.alloc(8)
              head.writeInt32BE(answer.bytes.length + 4)
              // the answer is to this request
              request.copy(head, 4, 8, 12)
              socket.write(Buffer.concat([head, answer.bytes]))
            })
          }).listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, sockets })))
        }),
        ({ server, sockets }) =>
          Effect.sync(() => {
            for (const socket of sockets) socket.destroy()
            server.close()
          })
      ),
      ({ server }) => `127.0.0.1:${(server.address() as Net.AddressInfo).port}`
    )

  const nonsense = FastCheck.array(
    FastCheck.record({
      framed: FastCheck.boolean(),
      bytes: FastCheck.oneof(
        bytes,
        // versions of nothing, and lengths that are not true
        FastCheck.constantFrom(
          Buffer.alloc(6),
          Buffer.from([0, 0, 0, 0, 0, 1, 0, 3, 0, 0, 0, 9]),
          Buffer.from("000000007fffffff00", "hex"),
          Buffer.from("ffffffff", "hex"),
          Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")
        )
      )
    }),
    { minLength: 1, maxLength: 5 }
  )

  it.live("is a typed error for all that is opened, in time", () =>
    Effect.gen(function*() {
      const samples = FastCheck.sample(nonsense, 30)
      const clients: ReadonlyArray<Effect.Effect<unknown, unknown, KafkaClient | TopicRegistry.TopicRegistry | Scope>> =
        [Admin.make, Producer.make(), Consumer.make({ groupId: "group" })]
      const exits = yield* Effect.forEach(samples, (sample, index) =>
        Effect.gen(function*() {
          const brokers = yield* serving(sample)
          const config = KafkaConfig.layer({ brokers, connectionTimeout: "500 millis", requestTimeout: "500 millis" })
          return yield* clients[index % clients.length]!.pipe(
            Effect.scoped,
            Effect.provide(Layer.merge(KafkaJs.layer, TopicRegistry.layerWith({})).pipe(Layer.provide(config))),
            Effect.timeoutFail({
              duration: "20 seconds",
              onTimeout: () =>
                new Error("it hangs")
            }),
            Effect.exit
          )
        }).pipe(Effect.scoped), { concurrency: "unbounded" })
      for (const exit of exits) {
        expectTyped(exit)
        // a server may be taken for a broker as long as nothing is asked of it
        if (Exit.isFailure(exit)) {
          expect(Cause.squash(exit.cause)).toSatisfy(isKafkaError)
        }
      }
    }))
})
