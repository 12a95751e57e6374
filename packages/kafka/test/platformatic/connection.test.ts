import { describe, expect, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import { Cluster } from "../../src/drivers/platformatic/cluster.ts"
import * as Connection from "../../src/drivers/platformatic/connection.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import { Faults } from "../kafkajs/support.ts"
import * as FakeBroker from "./FakeBroker.ts"
import { environment } from "./sessions.ts"

const { Writer } = await import("@platformatic/kafka")

const keys = FakeBroker.apiKeys

const password = Redacted.make("secret")

/** A connection to a broker whose sessions last so long, in milliseconds, and that answers nothing else. */
const connected = (
  sessionLifetime: bigint,
  options: {
    readonly credentials?: Effect.Effect<KafkaConfig.Credentials, unknown>
    readonly answer?: (request: FakeBroker.Request) => FakeBroker.Answer
  } = {}
) =>
  Effect.gen(function*() {
    const asked: Array<number> = []
    const broker = yield* FakeBroker.start((request) => {
      asked.push(request.apiKey)
      switch (request.apiKey) {
        case keys.apiVersions:
          return FakeBroker.anyVersions(request)
        case keys.saslHandshake:
          return FakeBroker.framed(
            request,
            Writer.create().appendInt16(0).appendArray(["PLAIN"], (w, one) => w.appendString(one, false), false, false)
          )
        case keys.saslAuthenticate:
          return FakeBroker.framed(
            request,
            Writer.create().appendInt16(0).appendString(null).appendBytes(Buffer.alloc(0)).appendInt64(sessionLifetime)
              .appendTaggedFields()
          )
        default:
          return options.answer?.(request) ?? "silence"
      }
    })
    const own = yield* Connection.environment().pipe(Effect.provide(KafkaConfig.layer({
      brokers: broker,
      security: KafkaConfig.sasl({
        over: KafkaConfig.plaintext,
        mechanism: "plain",
        credentials: options.credentials ?? { username: "alice", password }
      })
    })))
    const [host = "", port] = broker.split(":")
    const connection = yield* Effect.acquireRelease(
      Effect.promise(() =>
        Connection.Connection.open(own, { host, port: Number(port) }, {
          clientId: "test",
          requestTimeout: 10_000,
          connectTimeout: 5000,
          signal: new AbortController().signal
        })
      ),
      (connection) => Effect.sync(() => connection.close())
    )
    const metadata = Effect.promise(() =>
      connection.call(own.apis.metadata, [], false, false).then(() => "answered", (error: unknown) => error)
    )
    const closed = Effect.async<void>((resume) => void connection.onClose(() => resume(Effect.void)))
    return { asked, closed, connection, metadata }
  })

describe("a connection that is being opened", () => {
  it.scopedLive("ends with the session that asked for it, and is not waited for", () =>
    Effect.gen(function*() {
      const asked = yield* Effect.makeLatch(false)
      const broker = yield* FakeBroker.start(() => {
        asked.unsafeOpen()
        return "silence"
      })
      const faults = new Faults()
      const cluster = new Cluster(
        yield* environment(broker, faults, { connectionTimeout: "1 minute", requestTimeout: "1 minute" })
      )
      const connecting = yield* Effect.fork(Effect.exit(cluster.connect))
      yield* asked.await
      expect(faults.open.size).toBe(1)
      yield* cluster.close
      yield* Effect.promise(() => faults.allClosed())
      yield* Fiber.interrupt(connecting)
    }))
})

const handshakes = (asked: ReadonlyArray<number>): number => asked.filter((key) => key === keys.saslHandshake).length

describe("a session that ends", () => {
  it.scopedLive("without credentials for another, at a broker that is frozen: what waits for them fails at once", () =>
    Effect.gen(function*() {
      let times = 0
      const asked = yield* Effect.makeLatch(false)
      const refusal = yield* Effect.makeLatch(false)
      const { closed, connection, metadata } = yield* connected(1000n, {
        credentials: Effect.suspend(() =>
          ++times === 1
            ? Effect.succeed({ username: "alice", password })
            : Effect.zipRight(Effect.all([asked.open, refusal.await]), Effect.fail("the vault is closed"))
        )
      })
      yield* asked.await
      const waiting = yield* Effect.fork(metadata)
      yield* Effect.yieldNow()
      yield* refusal.open
      expect(String(yield* Fiber.join(waiting))).toContain("the connection was lost")
      yield* closed
      expect(connection.isOpen).toBe(false)
    }))

  it.scopedLive("in more than a timer can hold: it is not extended over and over", () =>
    Effect.gen(function*() {
      const timers = vi.spyOn(globalThis, "setTimeout")
      yield* Effect.addFinalizer(() => Effect.sync(() => timers.mockRestore()))
      const days = 40n
      const { asked, metadata } = yield* connected(days * 86_400_000n, {
        answer: (request) => FakeBroker.cluster(request)
      })
      const tooLong = timers.mock.calls.filter(([, millis]) => millis !== undefined && millis > 0x7fffffff)
      expect(tooLong.length).toBe(1)
      // as Node does at once, in our own time: what it would send goes before the request
      tooLong[0]![0]()
      expect(yield* metadata).toBe("answered")
      expect(handshakes(asked)).toBe(1)
    }))

  it.scopedLive("later than its connection, of which nothing stays behind", () =>
    Effect.gen(function*() {
      const timers = vi.spyOn(globalThis, "setTimeout")
      yield* Effect.addFinalizer(() => Effect.sync(() => timers.mockRestore()))
      const { closed, metadata } = yield* connected(3_600_000n, { answer: () => "hang up" })
      const extending = timers.mock.calls.findIndex(([, millis]) => millis === 2_880_000)
      const timer = timers.mock.results[extending]!.value as NodeJS.Timeout
      const cleared = vi.spyOn(globalThis, "clearInterval")
      yield* Effect.addFinalizer(() => Effect.sync(() => cleared.mockRestore()))
      yield* metadata
      yield* closed
      expect(cleared).toHaveBeenCalledWith(timer)
    }))
})
