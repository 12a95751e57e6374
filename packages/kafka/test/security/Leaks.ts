/** Watches for secrets in all that anybody could see of a program: log, spans, metrics, events, errors, the console. */
import { expect } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { format, inspect } from "node:util"
import * as KafkaError from "../../src/KafkaError.ts"
import { KafkaObserver } from "../../src/KafkaEvent.ts"

// ---------------------------------------------------------------------------------------------------------------------
// printing
// ---------------------------------------------------------------------------------------------------------------------

const said = (print: () => string | undefined): string => {
  try {
    return print() ?? ""
  } catch (error) {
    // some things can't be printed in some way, such as a circle as JSON; what is said instead counts too
    return String(error)
  }
}

/** As it would be sent to another process. */
const encode = Schema.encodeSync(KafkaError.KafkaError)

/** A value in every way that somebody may print it. */
export const printed = (value: unknown): string =>
  [
    said(() => String(value)),
    said(() => JSON.stringify(value, (_, one: unknown) => typeof one === "bigint" ? String(one) : one)),
    said(() => format("%s %o %O", value, value, value)),
    said(() => inspect(value, { depth: 12, showHidden: true, getters: true, maxArrayLength: null })),
    ...(value instanceof Error ? [value.message, value.stack ?? "", printedCause(Cause.fail(value))] : []),
    ...(KafkaError.isKafkaError(value) ? [said(() => JSON.stringify(encode(value)))] : [])
  ].join("\n")

const printedCause = (cause: Cause.Cause<unknown>): string =>
  [
    Cause.pretty(cause, { renderErrorCause: true }),
    said(() => String(cause)),
    said(() => JSON.stringify(cause)),
    said(() => inspect(cause, { depth: 12 }))
  ].join("\n")

const printedSpan = (span: Tracer.Span): string =>
  [
    span.name,
    printed(Object.fromEntries(span.attributes)),
    ...(span.status._tag === "Ended" && Exit.isFailure(span.status.exit) ? [printedCause(span.status.exit.cause)] : [])
  ].join("\n")

// ---------------------------------------------------------------------------------------------------------------------
// looking
// ---------------------------------------------------------------------------------------------------------------------

/** How a secret may look when it has gone through something. */
const disguises = (secret: string): ReadonlyArray<string> => {
  const bytes = Buffer.from(secret)
  return [
    secret,
    JSON.stringify(secret).slice(1, -1),
    said(() => encodeURIComponent(secret)),
    bytes.toString("base64"),
    bytes.toString("base64url"),
    bytes.toString("hex")
  ]
}

/** None of the secrets is in a text. Only what is around one is shown where it is. */
export const expectNone = (seen: string, secrets: Iterable<string>): void => {
  for (const secret of secrets) {
    for (const disguise of disguises(secret)) {
      const at = seen.indexOf(disguise)
      expect(at < 0 ? "" : seen.slice(Math.max(0, at - 200), at + disguise.length + 20), "a secret shows").toBe("")
    }
  }
}

const formats: ReadonlyArray<Logger.Logger<unknown, unknown>> = [
  Logger.jsonLogger,
  Logger.logfmtLogger,
  Logger.stringLogger,
  Logger.structuredLogger
]

/** Each line in every format that Effect has. */
const everyFormat = (see: (line: string) => void): Logger.Logger<unknown, void> =>
  Logger.make((options) => {
    for (const logger of formats) see(printed(logger.log(options)))
  })

const consoleMethods = ["debug", "error", "info", "log", "trace", "warn"] as const

const watchedConsole = (see: (line: string) => void) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = consoleMethods.map((method) => [method, console[method]] as const)
      for (const [method] of before) console[method] = (...args: ReadonlyArray<unknown>) => see(format(...args))
      return before
    }),
    (before) => Effect.sync(() => before.forEach(([method, original]) => console[method] = original))
  )

/** Runs an effect with everything watched, and dies where a secret shows, however the effect ends. */
export const watch = (secrets: Iterable<string>) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.scopedWith((scope) =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const spans: Array<Tracer.Span> = []
      const see = (line: string): void => void seen.push(line)
      const tracer = yield* Effect.tracer
      const kept = Tracer.make({
        span: (...args) => {
          const span = tracer.span(...args)
          spans.push(span)
          return span
        },
        context: tracer.context
      })
      yield* watchedConsole(see).pipe(Effect.provideService(Scope.Scope, scope))
      return yield* effect.pipe(
        Effect.tapErrorCause((cause) => Effect.logError("it failed", cause)),
        Effect.tapError((error) => Effect.annotateLogs(Effect.logDebug(error), "error", error)),
        Effect.withSpan("watched"),
        Effect.onExit((exit) =>
          Effect.sync(() => {
            see(printed(exit))
            for (const span of spans) see(printedSpan(span))
            see(printed(Metric.unsafeSnapshot()))
            expectNone(seen.join("\n"), secrets)
          })
        ),
        Effect.withTracer(kept),
        Effect.provideService(KafkaObserver, { enabled: true, onEvent: (event) => see(printed(event)) }),
        Logger.withMinimumLogLevel(LogLevel.All),
        Effect.provide(Logger.replace(Logger.defaultLogger, everyFormat(see)))
      )
    })
  )
