/**
 * Metrics and health over HTTP: on a port of their own, or in a server that is there already.
 *
 * @since 0.1.0
 */
import * as KafkaHealth from "@coffeebuddy/kafka/KafkaHealth"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Format, KafkaMetrics } from "./KafkaMetrics.ts"
import { MetricsError } from "./MetricsError.ts"

/**
 * @since 0.1.0
 * @category models
 */
export interface RouterOptions {
  /** Where the metrics are, `/metrics` if absent. */
  readonly path?: `/${string}` | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends RouterOptions {
  /** The port to listen on. 0 takes any that is free, which the log then says. */
  readonly port: number
  /** The address to listen on: all if absent. */
  readonly host?: string | undefined
}

/**
 * What the routes need.
 *
 * @since 0.1.0
 * @category models
 */
export type Requirements = KafkaMetrics | KafkaHealth.KafkaHealth

/**
 * The routes, to mount in a server that is there already. It is an `HttpApp` too.
 *
 * - `/metrics`: everything in the registry, as Prometheus' text, or as OpenMetrics for whoever prefers it by `Accept`.
 * - `/health/ready`: 200 where each consumer has joined, was assigned and knows where to start, 503 where not.
 * - `/health/live`: 200 where each run loop turns and makes progress, 503 where not.
 *
 * The health's body is JSON: each consumer with its status and problems, each partition with its offsets and lag.
 *
 * @example
 * ```ts
 * import { MetricsServer } from "@coffeebuddy/kafka-metrics"
 * import { HttpRouter, HttpServerResponse } from "@effect/platform"
 *
 * const app = HttpRouter.empty.pipe(
 *   HttpRouter.get("/", HttpServerResponse.text("a coffee shop")),
 *   HttpRouter.mount("/internal", MetricsServer.router())
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const router = (options: RouterOptions = {}): HttpRouter.HttpRouter<never, Requirements> =>
  HttpRouter.empty.pipe(
    HttpRouter.get(options.path ?? "/metrics", scrape),
    HttpRouter.get("/health/live", health((report) => report.live)),
    HttpRouter.get("/health/ready", health((report) => report.ready))
  )

/**
 * Serves the routes on an `HttpServer` of any platform.
 *
 * @since 0.1.0
 * @category layers
 */
export const serve = (options: RouterOptions = {}): Layer.Layer<never, never, HttpServer.HttpServer | Requirements> =>
  HttpServer.serve(router(options))

/**
 * Serves the routes on a port of their own, on Node: it needs `@effect/platform-node`.
 *
 * Fails with a `MetricsError` of the reason `listen` where the port is in use or can't be listened on. A scrape while the
 * program shuts down is answered as long as this layer is there: build it below the consumers, as here.
 *
 * @example
 * ```ts
 * import { Consumer, InMemoryKafka, KafkaHealth, TopicRegistry } from "@coffeebuddy/kafka"
 * import { KafkaMetrics, MetricsServer } from "@coffeebuddy/kafka-metrics"
 * import { Layer } from "effect"
 *
 * const Live = Consumer.layer({ groupId: "kitchen" }).pipe(
 *   Layer.provide(InMemoryKafka.layer),
 *   Layer.provide(TopicRegistry.layerWith({})),
 *   Layer.provideMerge(MetricsServer.layer({ port: 9464 })),
 *   Layer.provideMerge(KafkaHealth.layer),
 *   Layer.provideMerge(KafkaMetrics.layerPrometheus())
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<never, MetricsError, Requirements> =>
  serve(options).pipe(HttpServer.withLogAddress, Layer.provide(layerServer(options)))

/**
 * The server of {@link layer} alone, for {@link serve} or routes of your own, and for whoever asks for its address.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerServer = (
  options: Pick<Options, "port" | "host">
): Layer.Layer<HttpServer.HttpServer, MetricsError> => Layer.scoped(HttpServer.HttpServer, listen(options))

const listen = ({ host, port }: Pick<Options, "port" | "host">) => {
  const refuse = (description: string, cause?: unknown) =>
    new MetricsError({ reason: "listen", description: `port ${port}: ${description}`, cause })
  if (!Number.isInteger(port) || port < 0 || port > 65535) return Effect.fail(refuse("a port is from 0 to 65535"))
  return Effect.tryPromise({
    // only here, so that whoever mounts the routes elsewhere does not have to install it
    try: () => Promise.all([import("@effect/platform-node/NodeHttpServer"), import("node:http")]),
    catch: (cause) => refuse("@effect/platform-node is not installed", cause)
  }).pipe(
    Effect.flatMap(([NodeHttpServer, http]) =>
      NodeHttpServer.make(() => http.createServer(), { port, ...(host === undefined ? {} : { host }) }).pipe(
        Effect.mapError((error) => refuse(codeOf(error.cause), error.cause))
      )
    )
  )
}

const codeOf = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE"
    ? "something else listens there already"
    : String(cause)

// ---------------------------------------------------------------------------------------------------------------------
// routes
// ---------------------------------------------------------------------------------------------------------------------

const scrape: HttpApp.Default<never, KafkaMetrics> = Effect.gen(function*() {
  const metrics = yield* KafkaMetrics
  const request = yield* HttpServerRequest.HttpServerRequest
  const { body, contentType } = yield* metrics.render(formatFor(request.headers["accept"] ?? ""))
  return HttpServerResponse.text(body, { contentType })
}).pipe(
  Effect.catchTag("MetricsError", (error) =>
    Effect.as(
      Effect.logWarning("a scrape failed", Cause.fail(error)),
      HttpServerResponse.text(`${error.message}\n`, { status: 500 })
    ))
)

const health = (
  isWell: (report: KafkaHealth.Report) => boolean
): HttpApp.Default<never, KafkaHealth.KafkaHealth> =>
  Effect.map(KafkaHealth.report, (report) =>
    HttpServerResponse.text(JSON.stringify(report, exactly, 2), {
      status: isWell(report) ? 200 : 503,
      contentType: "application/json"
    }))

/** JSON has no bigint: a number as long as it is exact. */
const exactly = (_key: string, value: unknown): unknown =>
  typeof value !== "bigint" ? value : Number.isSafeInteger(Number(value)) ? Number(value) : String(value)

/** OpenMetrics for whoever likes it better than text, as a Prometheus server says it does. */
const formatFor = (accept: string): Format => {
  const liking = (type: string): number => {
    for (const part of accept.toLowerCase().split(",")) {
      const [name, ...parameters] = part.split(";").map((one) => one.trim())
      if (name !== type) continue
      const quality = parameters.find((one) => one.startsWith("q="))
      return quality === undefined ? 1 : Number(quality.slice(2)) || 0
    }
    return 0
  }
  return liking("application/openmetrics-text") > liking("text/plain") ? "openmetrics" : "prometheus"
}
