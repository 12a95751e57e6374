import { Consumer, InMemoryKafka, KafkaHealth } from "@coffeebuddy/kafka"
import { EffectMetrics, KafkaMetrics, MetricDefinition, MetricsServer } from "@coffeebuddy/kafka-metrics"
import { HttpClient, HttpClientRequest, HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Net from "node:net"
import { collectDefaultMetrics, Registry } from "prom-client"
import * as parser from "./parser.ts"
import { broker, clients, consuming, Orders, produce } from "./support.ts"

const watching = Layer.provideMerge(KafkaHealth.layer, KafkaMetrics.layerPrometheus())

/** A server for a test on a free port, with a client that knows where it is. */
const served = (below: Layer.Layer<KafkaMetrics.KafkaMetrics | KafkaHealth.KafkaHealth, unknown>) =>
  clients.pipe(
    Layer.provideMerge(broker),
    Layer.provideMerge(MetricsServer.serve()),
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provideMerge(below)
  )

const get = (path: string, accept?: string) =>
  Effect.gen(function*() {
    const request = HttpClientRequest.get(path)
    const response = yield* HttpClient.execute(
      accept === undefined ? request : HttpClientRequest.setHeader(request, "accept", accept)
    )
    return { status: response.status, type: response.headers["content-type"], body: yield* response.text }
  })

/** What a Prometheus server of today sends. */
const asPrometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6," +
  "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3," +
  "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"

interface Report {
  readonly ready: boolean
  readonly consumers: ReadonlyArray<KafkaHealth.ConsumerReport>
}

describe("/metrics", () => {
  it.scoped("is text for who asks for nothing, and OpenMetrics for who likes it better", () =>
    Effect.gen(function*() {
      yield* produce(3)
      const plain = yield* get("/metrics")
      expect(plain.status).toBe(200)
      expect(plain.type).toBe("text/plain; version=0.0.4; charset=utf-8")
      expect(plain.body).toContain("kafka_producer_records_total{client=\"till\",topic=\"shop.orders\"} 3")
      const open = yield* get("/metrics", asPrometheus)
      expect(open.type).toBe("application/openmetrics-text; version=1.0.0; charset=utf-8")
      expect(open.body.endsWith("# EOF\n")).toBe(true)
      expect((yield* get("/metrics", "text/plain, application/openmetrics-text;q=0.5")).type).toBe(plain.type)
      // one format leaves no trace in the other
      expect((yield* get("/metrics")).body).toBe(plain.body)
    }).pipe(Effect.provide(served(watching))))

  it.scoped.runIf(parser.available())(
    "is read by Prometheus' own parser in both formats, and says the same",
    () =>
      Effect.gen(function*() {
        yield* produce(40)
        const [text, open] = yield* consuming(40, Effect.all([get("/metrics"), get("/metrics", asPrometheus)]))
        const plain = parser.parse("prometheus", text.body)
        const families = parser.parse("openmetrics", open.body)
        const ours = MetricDefinition.names.map((name) => `kafka_${name.replace(/_total$/, "")}`)
        for (const parsed of [plain, families]) {
          const kafka = parsed.filter((family) => family.name.startsWith("kafka_"))
          expect(kafka.map((family) => family.name)).toEqual(ours)
          expect(kafka.map((family) => family.type)).toEqual(
            MetricDefinition.names.map((name) => MetricDefinition.definitions[name].type)
          )
        }
        const consumed = families.find((family) => family.name === "kafka_consumer_records")
        expect(consumed?.samples).toEqual([{
          name: "kafka_consumer_records_total",
          labels: { group: "kitchen", topic: "shop.orders", quote: "a\"b\\c\nd" },
          value: "40"
        }])
        expect(families.some((family) => family.name === "effect_fiber_started")).toBe(true)
      }).pipe(
        Effect.provide(served(
          Layer.mergeAll(KafkaHealth.layer, EffectMetrics.layer).pipe(
            Layer.provideMerge(KafkaMetrics.layerPrometheus({ defaultLabels: { quote: "a\"b\\c\nd" } }))
          )
        ))
      )
  )

  it.scoped.runIf(parser.available())("is read by the parser beside Node's own metrics", () =>
    Effect.gen(function*() {
      const registry = new Registry()
      collectDefaultMetrics({ register: registry })
      const { body } = yield* Effect.provide(
        get("/metrics"),
        served(Layer.provideMerge(KafkaHealth.layer, KafkaMetrics.layerPrometheus({ registry })))
      )
      const names = parser.parse("prometheus", body).map((family) => family.name)
      expect(names).toContain("process_cpu_user_seconds")
      expect(names).toContain("kafka_observer_failures")
    }))

  it.scoped("a metric of others that throws is a 500 that says so", () =>
    Effect.gen(function*() {
      const { registry } = yield* KafkaMetrics.KafkaMetrics
      const [metric] = registry.getMetricsAsArray()
      expect(metric).toBeDefined()
      Object.assign(metric!, { get: () => Promise.reject(new Error("no milk")) })
      expect(yield* get("/metrics")).toMatchObject({ status: 500 })
    }).pipe(Effect.provide(served(watching))))
})

describe("/health", () => {
  const report = (path: string) =>
    Effect.map(get(path), ({ body, status }) => ({ status, ...(JSON.parse(body) as Report) }))

  it.scoped("is ready once the consumer has its partitions, and not before or after", () =>
    Effect.gen(function*() {
      yield* produce(5)
      yield* Effect.yieldNow()
      const before = yield* report("/health/ready")
      expect(before.status).toBe(503)
      expect(before.consumers[0]).toMatchObject({
        groupId: "kitchen",
        status: "joining",
        problems: ["it has not been given its partitions yet"]
      })
      const during = yield* consuming(5, report("/health/ready"))
      expect(during.status).toBe(200)
      expect(during.consumers[0]?.partitions[0]).toMatchObject({ topic: "shop.orders", position: 5, lag: 0 })
      expect((yield* report("/health/ready")).status).toBe(503)
      expect((yield* report("/health/live")).status).toBe(200)
    }).pipe(Effect.provide(served(watching))))

  it.scoped("is not live where records wait and nothing moves, and says in which partition", () =>
    Effect.gen(function*() {
      yield* produce(5, 1)
      const fiber = yield* Effect.fork(
        Stream.runDrain(Stream.tap(Consumer.stream(Orders), () => Effect.never))
      )
      yield* TestClock.adjust("1 second")
      yield* produce(5, 1)
      yield* TestClock.adjust("11 minutes")
      const { consumers, status } = yield* report("/health/live")
      expect(status).toBe(503)
      expect(consumers[0]?.problems).toEqual([
        expect.stringMatching(/^shop\.orders\[1\]: records are waiting, and none was handed out or committed for/)
      ])
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(served(watching))))
})

describe("the server", () => {
  it.scoped("a port in use is a typed error", () =>
    Effect.gen(function*() {
      const port = yield* Effect.acquireRelease(
        Effect.async<{ readonly server: Net.Server; readonly port: number }>((resume) => {
          const server = Net.createServer()
          server.listen(0, () => resume(Effect.succeed({ server, port: (server.address() as Net.AddressInfo).port })))
        }),
        ({ server }) => Effect.sync(() => server.close())
      )
      const build = (options: MetricsServer.Options) =>
        Effect.flip(Layer.build(Layer.provide(MetricsServer.layer(options), watching)))
      expect(yield* build({ port: port.port })).toMatchObject({
        _tag: "MetricsError",
        reason: "listen",
        message: `metrics (listen): port ${port.port}: something else listens there already`
      })
      expect(yield* build({ port: 70_000 })).toMatchObject({ _tag: "MetricsError", reason: "listen" })
    }))

  it.scoped("opens a port of its own and gives it back", () =>
    Effect.gen(function*() {
      const layer = Layer.provide(MetricsServer.layer({ port: 0 }), watching)
      yield* Effect.scoped(Layer.build(layer))
      yield* Layer.build(layer)
    }))

  it.scoped("the routes are mounted in a server that is there already", () =>
    Effect.gen(function*() {
      const app = HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("a coffee shop")),
        HttpRouter.mount("/internal", MetricsServer.router({ path: "/scrape" }))
      )
      yield* Layer.build(HttpServer.serve(app))
      expect((yield* get("/")).body).toBe("a coffee shop")
      expect((yield* get("/internal/scrape")).body).toContain("# TYPE kafka_consumer_lag_records gauge")
      expect((yield* get("/internal/health/ready")).status).toBe(200)
      expect((yield* get("/internal/metrics")).status).toBe(404)
    }).pipe(Effect.provide(Layer.merge(NodeHttpServer.layerTest, watching))))

  it.scoped("answers while a consumer stops, which waits for a handler", () =>
    Effect.gen(function*() {
      yield* produce(1)
      const handling = yield* Deferred.make<void>()
      const served = yield* Effect.makeLatch()
      const reading = yield* Effect.fork(
        Consumer.forEach(Orders, () => Effect.zipRight(Deferred.succeed(handling, undefined), served.await))
      )
      yield* Deferred.await(handling)
      const stopping = yield* Effect.fork(Consumer.stop)
      yield* Effect.yieldNow()
      expect((yield* get("/metrics")).body).toContain("kafka_consumer_records_total{group=\"kitchen\"")
      expect((yield* get("/health/live")).status).toBe(200)
      expect(stopping.unsafePoll()).toBe(null)
      yield* served.open
      yield* Fiber.join(stopping)
      yield* Fiber.join(reading)
      expect((yield* get("/metrics")).status).toBe(200)
    }).pipe(Effect.provide(served(watching))))

  it.scoped("answers while consumers come and go", () =>
    Effect.gen(function*() {
      const kafka = yield* InMemoryKafka.InMemoryBroker
      yield* produce(3)
      yield* consuming(3, Effect.void)
      expect(yield* kafka.committed("kitchen")).toContainEqual({ topic: "shop.orders", partition: 0, offset: 3n })
      const { body, status } = yield* get("/metrics")
      expect(status).toBe(200)
      expect(body).not.toContain("kafka_consumer_up{")
    }).pipe(Effect.provide(served(watching))))
})
