/**
 * kafkajs's log lines as Effect's, with annotations.
 *
 * kafkajs logs as errors what it is about to retry. Whatever fails in the end is a typed error of ours, so its lines
 * are details: errors and warnings are logged as `Debug`, the rest as `Trace`, and only what somebody would see is
 * even built.
 */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import { type logCreator, logLevel } from "kafkajs"
import { scrub } from "./errors.ts"

const minimum = (runtime: Runtime.Runtime<never>): LogLevel.LogLevel =>
  Option.getOrElse(FiberRefs.get(runtime.fiberRefs, FiberRef.currentMinimumLogLevel), () => LogLevel.Info)

/**
 * How much kafkajs is asked to say: as much as the program's minimum log level lets through.
 */
export const levelOf = (runtime: Runtime.Runtime<never>): logLevel => {
  const level = minimum(runtime)
  return LogLevel.lessThanEqual(level, LogLevel.Trace)
    ? logLevel.DEBUG
    : LogLevel.lessThanEqual(level, LogLevel.Debug)
    ? logLevel.WARN
    : logLevel.NOTHING
}

const isScalar = (u: unknown): u is string | number | boolean =>
  typeof u === "string" || typeof u === "number" || typeof u === "boolean"

/**
 * @param secrets read anew for each line, since credentials may be rotated
 */
export const make = (runtime: Runtime.Runtime<never>, secrets: Iterable<string>): logCreator => () => {
  const run = Runtime.runFork(runtime)
  return ({ level, log, namespace }) => {
    const annotations: Record<string, string> = { module: "kafkajs", namespace }
    for (const [name, value] of Object.entries(log)) {
      if (name === "message" || name === "timestamp" || name === "logger" || !isScalar(value)) continue
      annotations[name] = scrub(String(value), secrets)
    }
    run(Effect.annotateLogs(
      Effect.logWithLevel(
        level === logLevel.ERROR || level === logLevel.WARN ? LogLevel.Debug : LogLevel.Trace,
        scrub(String(log.message), secrets)
      ),
      annotations
    ))
  }
}
