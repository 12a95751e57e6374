/**
 * Services that trace into memory, and what they have traced.
 */
import * as NodeSdk from "@effect/opentelemetry/NodeSdk"
import type { SpanKind } from "@opentelemetry/api"
import { type ReadableSpan, type Sampler, SimpleSpanProcessor, type SpanExporter } from "@opentelemetry/sdk-trace-base"

/** Where all the services of a test send their spans. */
export class Spans {
  private readonly finished: Array<ReadableSpan> = []
  // the SDK's own exporter in memory forgets everything when the service ends
  private readonly exporter: SpanExporter = {
    export: (spans, done) => {
      this.finished.push(...spans)
      done({ code: 0 })
    },
    shutdown: () => Promise.resolve()
  }

  /** A tracer for a service. */
  service(name: string, sampler?: Sampler) {
    return NodeSdk.layer(() => ({
      resource: { serviceName: name },
      spanProcessor: new SimpleSpanProcessor(this.exporter),
      ...(sampler === undefined ? {} : { tracerConfig: { sampler } })
    }))
  }

  get all(): ReadonlyArray<Seen> {
    return this.finished.map(seen)
  }

  /** The spans of a name, in the order in which they ended. */
  named(name: string): ReadonlyArray<Seen> {
    return this.all.filter((span) => span.name === name)
  }

  one(name: string): Seen {
    const [span, ...more] = this.named(name)
    if (span === undefined || more.length > 0) {
      throw new Error(`${more.length + 1} spans "${name}" among: ${this.all.map((one) => one.name).join(", ")}`)
    }
    return span
  }

  /** Everything that would be seen of all spans, as text. */
  get text(): string {
    return JSON.stringify(
      this.finished.map(({ attributes, events, links, name, status }) => ({
        name,
        attributes,
        events,
        links,
        status
      }))
    )
  }
}

export interface Seen {
  readonly service: string
  readonly name: string
  readonly kind: SpanKind
  readonly traceId: string
  readonly spanId: string
  readonly parent: string | undefined
  readonly links: ReadonlyArray<string>
  readonly attributes: Readonly<Record<string, unknown>>
  readonly error: string | undefined
}

const seen = (span: ReadableSpan): Seen => ({
  service: String(span.resource.attributes["service.name"]),
  name: span.name,
  kind: span.kind,
  traceId: span.spanContext().traceId,
  spanId: span.spanContext().spanId,
  parent: span.parentSpanContext?.spanId,
  links: span.links.map(({ context }) => context.spanId),
  attributes: span.attributes,
  error: span.status.code === 2 ? span.status.message : undefined
})
