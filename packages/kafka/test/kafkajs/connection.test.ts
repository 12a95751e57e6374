import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as ChildProcess from "node:child_process"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import * as Admin from "../../src/drivers/kafkajs/admin.ts"
import { Secrets } from "../../src/drivers/secrets.ts"
import * as KafkaClient from "../../src/KafkaClient.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { defaults, environment, Faults } from "./support.ts"

/** A server that does with connections what it is told, and ends with the scope. */
const server = (onConnection: (socket: Net.Socket) => void) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<{ readonly address: string; readonly close: () => void }>((resolve) => {
        const sockets = new Set<Net.Socket>()
        const listening = Net.createServer((socket) => {
          sockets.add(socket)
          socket.on("error", () => undefined)
          onConnection(socket)
        }).listen(0, "127.0.0.1", () => {
          const { port } = listening.address() as Net.AddressInfo
          resolve({
            address: `127.0.0.1:${port}`,
            close: () => {
              for (const socket of sockets) socket.destroy()
              listening.close()
            }
          })
        })
      })
    ),
    ({ close }) => Effect.sync(close)
  )

const openAdmin = (brokers: string, options?: Partial<KafkaConfig.Options>, faults?: Faults) =>
  Effect.flatMap(environment(brokers, faults, options), (environment) => Effect.scoped(Admin.open(environment)))

describe("connecting through kafkajs", () => {
  it.scopedLive("to a server that says nothing fails when the connection timeout is over", () =>
    Effect.gen(function*() {
      const { address } = yield* server(() => undefined)
      const faults = new Faults()
      const [took, error] = yield* Effect.timed(
        Effect.flip(openAdmin(address, { connectionTimeout: "1500 millis", requestTimeout: "60 seconds" }, faults))
      )
      expect(error._tag).toMatch(/KafkaConnectionError|KafkaTimeoutError/)
      expect(Duration.toSeconds(took)).toBeLessThan(10)
      yield* Effect.promise(() => faults.allClosed())
    }))

  it.scopedLive("to a server that hangs up says so", () =>
    Effect.gen(function*() {
      const { address } = yield* server((socket) => socket.destroy())
      const error = yield* Effect.flip(openAdmin(address, { connectionTimeout: "1 second" }))
      expect(error).toMatchObject({ _tag: "KafkaConnectionError", brokers: [address] })
      expect(error.message).toContain("security protocol")
    }))

  it.scopedLive("by TLS to a server without says that it does not speak TLS", () =>
    Effect.gen(function*() {
      const { address } = yield* server((socket) => socket.end("this is not TLS\n"))
      const error = yield* Effect.flip(
        openAdmin(address, { connectionTimeout: "1 second", security: KafkaConfig.ssl() })
      )
      expect(error._tag).toBe("KafkaConnectionError")
      expect(error.message).toContain("TLS")
    }))

  it.scopedLive("to a server of another protocol says that it is no broker", () =>
    Effect.gen(function*() {
      const { address } = yield* server((socket) =>
        socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
      )
      const error = yield* Effect.flip(openAdmin(address, { connectionTimeout: "1 second" }))
      expect(error._tag).toBe("KafkaConnectionError")
      expect(error.message).toContain("does not speak Kafka's protocol")
    }))

  it.scopedLive("to a name that nobody knows says that", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(openAdmin("no-such-host.invalid:9092", { connectionTimeout: "2 seconds" }))
      expect(error._tag).toBe("KafkaConnectionError")
      expect(error.message).toMatch(/not known|could not be looked up/)
    }))

  it.scopedLive("fails in time where the credentials never come", () =>
    Effect.gen(function*() {
      const { address } = yield* server(() => undefined)
      const error = yield* Effect.flip(
        openAdmin(address, { connectionTimeout: "1 second", security: KafkaConfig.ssl(Effect.never) })
      )
      expect(error._tag).toMatch(/KafkaConnectionError|KafkaAuthenticationError/)
    }))

  it.scopedLive("fails with what the credentials fail with, and shows no secret", () =>
    Effect.gen(function*() {
      const { address } = yield* server(() => undefined)
      const error = yield* Effect.flip(openAdmin(address, {
        connectionTimeout: "3 seconds",
        security: KafkaConfig.ssl(Effect.fail(new Error("the vault is sealed")))
      }))
      expect(error).toMatchObject({ _tag: "KafkaAuthenticationError", mechanism: "ssl" })
    }))
})

describe("kafkajs's log", () => {
  const logged = (level: LogLevel.LogLevel) =>
    Effect.gen(function*() {
      const lines: Array<{ readonly level: string; readonly text: string }> = []
      const logger = Logger.make(({ annotations, logLevel, message }) => {
        lines.push({ level: logLevel.label, text: JSON.stringify([message, Object.fromEntries(annotations)]) })
      })
      yield* Effect.ignore(openAdmin("127.0.0.1:1", { connectionTimeout: "1 second" })).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
        Logger.withMinimumLogLevel(level)
      )
      return lines
    })

  it.live("is silent at the usual level: what matters is in the error", () =>
    Effect.gen(function*() {
      expect(yield* logged(LogLevel.Info)).toEqual([])
    }))

  it.live("is in Effect's log, with where it comes from, when details are asked for", () =>
    Effect.gen(function*() {
      const lines = yield* logged(LogLevel.Debug)
      expect(lines.length).toBeGreaterThan(0)
      expect(lines[0]?.level).toBe("DEBUG")
      expect(lines[0]?.text).toContain("\"module\":\"kafkajs\"")
      expect(lines[0]?.text).toContain("127.0.0.1:1")
    }))
})

describe("secrets", () => {
  it("that were given out lately are remembered, and not all of them for ever", () => {
    const secrets = new Secrets()
    for (let i = 0; i < 100; i++) secrets.reveal(Redacted.make(`secret-${i}`))
    expect([...secrets]).toHaveLength(32)
    expect([...secrets]).toContain("secret-99")
  })
})

RealKafka.suite("connecting through kafkajs to a real broker", ({ bootstrapServers }) => {
  it.live("finds the broker that is there among some that are not", () =>
    Effect.gen(function*() {
      const brokers = `127.0.0.1:1,127.0.0.1:2,${bootstrapServers}`
      yield* openAdmin(brokers)
    }))

  it.live("is what the layer does, and only when something is opened", () =>
    Effect.scoped(Effect.gen(function*() {
      const client = yield* KafkaClient.KafkaClient
      expect(client.driver).toBe("kafkajs")
      const admin = yield* client.openAdmin
      yield* admin.listTopics
      yield* client.openProducer(defaults)
    })).pipe(
      Effect.provide(KafkaJs.layer),
      Effect.provide(KafkaConfig.layer({ brokers: bootstrapServers }))
    ))

  it.live("lets the process end when all is closed", () =>
    Effect.gen(function*() {
      const program = fileURLToPath(new URL("programs/openAndClose.ts", import.meta.url))
      const ended = yield* Effect.promise(() =>
        promisify(ChildProcess.execFile)(
          process.execPath,
          ["--conditions=@coffeebuddy/source", "--import", "tsx", program, bootstrapServers],
          { timeout: 30_000 }
        )
      )
      expect(ended.stdout).toBe("closed\n")
      expect(ended.stderr).toBe("")
    }))

  it.live("lasts: an admin works after its connections were cut", () =>
    Effect.scoped(Effect.gen(function*() {
      const faults = new Faults()
      const admin = yield* Effect.flatMap(environment(bootstrapServers, faults), Admin.open)
      const before = yield* admin.describeCluster
      yield* Effect.promise(() => faults.cutAll())
      expect(yield* admin.describeCluster).toEqual(before)
    })))
})
