import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { logLevel } from "kafkajs"
import * as KafkaJsLogger from "../../src/drivers/kafkajs/logger.ts"

interface Line {
  readonly level: string
  readonly message: unknown
  readonly annotations: Readonly<Record<string, unknown>>
}

/** What becomes of lines of kafkajs in a program that logs from a level on. */
const logged = (
  minimum: LogLevel.LogLevel,
  entries: ReadonlyArray<
    { readonly level: logLevel; readonly log: { readonly message: string; readonly [name: string]: unknown } }
  >,
  secrets: Iterable<string> = []
) =>
  Effect.gen(function*() {
    const lines: Array<Line> = []
    const logger = Logger.make<unknown, void>(({ annotations, logLevel, message }) => {
      lines.push({
        level: logLevel.label,
        message: Array.isArray(message) ? message[0] : message,
        annotations: Object.fromEntries(HashMap.toEntries(annotations))
      })
    })
    yield* Effect.gen(function*() {
      const runtime = yield* Effect.runtime<never>()
      const most = KafkaJsLogger.levelOf(runtime)
      const write = KafkaJsLogger.make(runtime, secrets)(most)
      for (const { level, log } of entries) {
        // kafkajs asks its own level first
        if (level > most) continue
        write({
          level,
          label: "",
          namespace: "Connection",
          log: { timestamp: "now", logger: "kafkajs", ...log }
        })
      }
      yield* Effect.yieldNow()
    }).pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      Logger.withMinimumLogLevel(minimum)
    )
    return lines
  })

const lines = [
  { level: logLevel.ERROR, log: { message: "Connection error", broker: "till:9092", clientId: "counter" } },
  { level: logLevel.WARN, log: { message: "retrying" } },
  { level: logLevel.INFO, log: { message: "joined" } },
  { level: logLevel.DEBUG, log: { message: "a request", size: 3, expectResponse: true, nested: { secret: "x" } } }
]

describe("kafkajs's log", () => {
  it.effect("is silent by default: what fails in the end is an error of ours", () =>
    Effect.gen(function*() {
      expect(yield* logged(LogLevel.Info, lines)).toEqual([])
    }))

  it.effect("says as Debug what it calls errors and warnings, with annotations, and the rest as Trace", () =>
    Effect.gen(function*() {
      const annotations = { module: "kafkajs", namespace: "Connection" }
      const [error, warning] = [
        {
          level: "DEBUG",
          message: "Connection error",
          annotations: { ...annotations, broker: "till:9092", clientId: "counter" }
        },
        { level: "DEBUG", message: "retrying", annotations }
      ]
      expect(yield* logged(LogLevel.Debug, lines)).toEqual([error, warning])
      expect(yield* logged(LogLevel.Trace, lines)).toEqual([
        error,
        warning,
        { level: "TRACE", message: "joined", annotations },
        { level: "TRACE", message: "a request", annotations: { ...annotations, size: "3", expectResponse: "true" } }
      ])
    }))

  it.effect("has no secret in it, in a message or in an annotation, also one that came later", () =>
    Effect.gen(function*() {
      const secrets = new Set(["moka-pot"])
      const lines = yield* logged(
        LogLevel.Debug,
        [{
          level: logLevel.ERROR,
          log: { message: "refused: moka-pot", error: "moka-pot and french-press", stack: "at moka-pot" }
        }],
        {
          [Symbol.iterator]: () => secrets.add("french-press").values()
        }
      )
      expect(lines).toHaveLength(1)
      expect(JSON.stringify(lines)).not.toMatch(/moka-pot|french-press/)
    }))
})
