/**
 * W3C Trace Context in a record's headers: `traceparent`, and `tracestate` as it came.
 */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import * as RecordHeaders from "../RecordHeaders.ts"

/** What other vendors have written beside a `traceparent`. It is passed on as it is. */
class TraceState extends Context.Tag("@coffeebuddy/kafka/engine/TraceState")<TraceState, Uint8Array>() {}

/**
 * Where `@effect/opentelemetry` looks for whether a span of elsewhere was sampled: without it each counts as sampled. Tags
 * are known by their names, so that it need not be installed.
 */
const OtelTraceFlags = Context.GenericTag<never, number>("@effect/opentelemetry/Tracer/OtelTraceFlags")

const format = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const ids = /^[0-9a-f]+$/
const zeros = /^0+$/

/** Longer ones may be left out, says the standard. */
const longestState = 512

/** The span that a record was sent in. Versions to come are read as far as they are known. */
export const read = (headers: RecordHeaders.RecordHeaders): Tracer.ExternalSpan | undefined => {
  const text = RecordHeaders.getString(headers, "traceparent")
  const found = text === undefined || text === null ? null : format.exec(text)
  if (found === null) return undefined
  const [, version, traceId = "", spanId = "", flags = "", more] = found
  if (version === "ff" || (version === "00" && more !== undefined) || zeros.test(traceId) || zeros.test(spanId)) {
    return undefined
  }
  const sampled = Number.parseInt(flags, 16) & 1
  const state = RecordHeaders.get(headers, "tracestate")
  const context: Context.Context<never> = Context.make(OtelTraceFlags, sampled)
  return Tracer.externalSpan({
    traceId,
    spanId,
    sampled: sampled === 1,
    context: state === undefined || state === null || state.length === 0 || state.length > longestState
      ? context
      : Context.add(context, TraceState, state)
  })
}

/** What to send along so that a reader finds this span: nothing where its ids are not those of the standard. */
export const write = (span: Tracer.AnySpan): RecordHeaders.RecordHeaders => {
  if (!isId(span.traceId, 32) || !isId(span.spanId, 16)) return RecordHeaders.empty
  const parent = `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`
  const state = stateOf(span)
  return RecordHeaders.make({ traceparent: parent, ...(state === undefined ? {} : { tracestate: state }) })
}

export const has = (headers: RecordHeaders.RecordHeaders): boolean =>
  RecordHeaders.get(headers, "traceparent") !== undefined

const isId = (id: string, length: number): boolean => id.length === length && ids.test(id) && !zeros.test(id)

/** The state that the trace came with, if it came from elsewhere. */
const stateOf = (span: Tracer.AnySpan): Uint8Array | undefined => {
  let current: Tracer.AnySpan | undefined = span
  while (current !== undefined && current.traceId === span.traceId) {
    const state: Option.Option<Uint8Array> = Context.getOption(current.context, TraceState)
    if (Option.isSome(state)) return state.value
    current = current._tag === "Span" ? Option.getOrUndefined(current.parent) : undefined
  }
  return undefined
}
