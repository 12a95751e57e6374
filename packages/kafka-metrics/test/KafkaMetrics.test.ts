import { Consumer, ConsumerWorker, InMemoryKafka, KafkaError, KafkaEvent } from "@coffeebuddy/kafka"
import { EffectMetrics, KafkaMetrics, MetricDefinition } from "@coffeebuddy/kafka-metrics"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import { Counter, Registry } from "prom-client"
import { broker, clients, consuming, Orders, produce } from "./support.ts"

const on = (metrics: Layer.Layer<KafkaMetrics.KafkaMetrics, unknown>) =>
  clients.pipe(Layer.provideMerge(broker), Layer.provideMerge(metrics))

const value = (...args: Parameters<KafkaMetrics.Service["value"]>) =>
  Effect.flatMap(KafkaMetrics.KafkaMetrics, (metrics) => metrics.value(...args))

const text = Effect.flatMap(
  KafkaMetrics.KafkaMetrics,
  (metrics) => Effect.map(metrics.render("prometheus"), (page) => page.body)
)

describe("what is counted", () => {
  it.effect("records and bytes that were produced and consumed, by physical topic", () =>
    Effect.gen(function*() {
      yield* produce(7)
      yield* produce(3, 1)
      yield* consuming(10, Effect.void)
      const topic = "shop.orders"
      expect(yield* value("producer_records_total", { client: "till", topic })).toBe(10)
      expect(yield* value("producer_send_duration_seconds", { topic })).toBe(2)
      expect(yield* value("producer_buffered_records", { client: "till" })).toBe(0)
      expect(yield* value("consumer_fetched_records_total", { group: "kitchen", topic })).toBe(10)
      expect(yield* value("consumer_records_total", { group: "kitchen", topic })).toBe(10)
      expect(yield* value("consumer_handler_duration_seconds", { group: "kitchen", topic })).toBe(10)
      expect(yield* value("consumer_rebalances_total", { group: "kitchen" })).toBe(1)
      expect(yield* value("consumer_commits_total", { group: "kitchen" })).toBeGreaterThan(0)
      expect(yield* value("consumer_records_total", { topic: "orders" })).toBe(0)
    }).pipe(Effect.provide(on(KafkaMetrics.layerInMemory))))

  it.effect("lag by partition, and nothing of it is left once the partitions are gone", () =>
    Effect.gen(function*() {
      yield* produce(5)
      yield* consuming(
        5,
        Effect.gen(function*() {
          const labels = { group: "kitchen", topic: "shop.orders", partition: "0" }
          expect(yield* value("consumer_assigned_partitions")).toBe(2)
          expect(yield* value("consumer_position", labels)).toBe(5)
          expect(yield* value("consumer_lag_records", labels)).toBe(0)
          expect(yield* text).toContain(
            "kafka_consumer_lag_records{group=\"kitchen\",topic=\"shop.orders\",partition=\"0\"} 0"
          )
        })
      )
      expect(yield* text).not.toContain("partition=\"")
      expect(yield* value("consumer_records_total")).toBe(5)
    }).pipe(Effect.provide(on(KafkaMetrics.layerPrometheus()))))

  it.effect("lag in records and in time grows while nobody reads, and is computed when it is asked for", () =>
    Effect.gen(function*() {
      const { onEvent } = yield* KafkaEvent.KafkaObserver
      const topicPartition = { topic: "shop.orders", partition: 0 }
      const partitions = [topicPartition]
      onEvent({ _tag: "Assigned", groupId: "kitchen", partitions, positions: [10n], millis: 20 })
      onEvent({
        _tag: "Polled",
        groupId: "kitchen",
        topicPartition,
        records: 10,
        bytes: 100,
        position: 20n,
        highWatermark: 50n,
        lastTimestamp: 0n,
        bufferedRecords: 10,
        bufferedBytes: 100
      })
      expect(yield* value("consumer_lag_records")).toBe(40)
      yield* TestClock.adjust("90 seconds")
      expect(yield* value("consumer_lag_seconds")).toBe(90)
      expect(yield* value("consumer_last_progress_age_seconds")).toBe(90)
      onEvent({ _tag: "HandedOut", groupId: "kitchen", topicPartition, records: 10, position: 20n })
      onEvent({ _tag: "Committed", groupId: "kitchen", offsets: [{ ...topicPartition, offset: 15n }], millis: 3 })
      expect(yield* value("consumer_lag_records")).toBe(30)
      expect(yield* value("consumer_committed_lag_records")).toBe(35)
      expect(yield* value("consumer_last_progress_age_seconds")).toBe(0)
      onEvent({ _tag: "Lost", groupId: "kitchen", partitions })
      expect(yield* value("consumer_lost_partitions_total")).toBe(1)
      expect((yield* text).split("\n").filter((line) => line.includes("partition=\""))).toEqual([])
    }).pipe(Effect.provide(KafkaMetrics.layerPrometheus())))
})

describe("a worker", () => {
  it.effect("has its failures, what was done about them, and its dead letters counted", () =>
    Effect.gen(function*() {
      yield* produce(2)
      const worker = yield* ConsumerWorker.make(
        Orders,
        (order) => order.key === "table-1" ? Effect.fail("no milk") : Effect.void,
        { groupId: "kitchen", deadLetter: "refused", retry: Schedule.recurs(1) }
      )
      while ((yield* value("consumer_dead_letters_total")) === 0) yield* TestClock.adjust("1 second")
      const labels = { group: "kitchen", topic: "shop.orders" }
      expect(yield* value("consumer_handler_failures_total", { ...labels, action: "retry" })).toBe(1)
      expect(yield* value("consumer_handler_failures_total", { ...labels, action: "dead-letter" })).toBe(1)
      expect(yield* value("consumer_dead_letters_total", { ...labels, target: "shop.refused" })).toBe(1)
      expect(yield* value("consumer_up", { group: "kitchen" })).toBe(1)
      yield* worker.stop
    }).pipe(Effect.scoped, Effect.provide(on(KafkaMetrics.layerInMemory))))

  it.effect("that fails is down, and its failure is counted", () =>
    Effect.gen(function*() {
      yield* produce(1)
      const worker = yield* ConsumerWorker.make(Orders, () => Effect.fail("no milk"), { groupId: "bar" })
      expect(yield* Effect.flip(worker.wait)).toBe("no milk")
      expect(yield* text).toContain("kafka_consumer_up{group=\"bar\"} 0")
      expect(yield* value("consumer_failures_total", { group: "bar" })).toBe(1)
    }).pipe(
      Effect.scoped,
      Effect.provide(on(KafkaMetrics.layerPrometheus())),
      Logger.withMinimumLogLevel(LogLevel.None)
    ))
})

describe("a partition from which nothing comes", () => {
  const labels = { partition: "0" }

  it.effect("has its lag all the same: what the group had committed, and where the partition ends", () =>
    Effect.gen(function*() {
      yield* produce(5)
      yield* consuming(5, Effect.void).pipe(Effect.provide(Consumer.layer({ groupId: "kitchen" })))
      yield* Effect.gen(function*() {
        const reading = yield* Effect.fork(Consumer.forEach(Orders, () => Effect.void))
        yield* TestClock.adjust("2 seconds")
        expect(yield* text).toContain(
          "kafka_consumer_lag_records{group=\"kitchen\",topic=\"shop.orders\",partition=\"0\"} 0"
        )
        expect(yield* text).toContain(
          "kafka_consumer_committed_lag_records{group=\"kitchen\",topic=\"shop.orders\",partition=\"0\"} 0"
        )
        yield* Fiber.interrupt(reading)
      }).pipe(Effect.provide(Consumer.layer({ groupId: "kitchen" })))
    }).pipe(Effect.provide(on(KafkaMetrics.layerPrometheus()))))

  it.effect("because its reader stands still and its buffer is full, falls behind visibly", () =>
    Effect.gen(function*() {
      yield* produce(5)
      const reading = yield* Effect.fork(Consumer.forEach(Orders, () => Effect.never, { maxAhead: 1 }))
      yield* TestClock.adjust("1 second")
      yield* produce(100)
      yield* TestClock.adjust("5 seconds")
      yield* produce(100)
      yield* TestClock.adjust("12 seconds")
      expect(yield* value("consumer_high_watermark", labels)).toBe(205)
      expect(yield* value("consumer_fetched_records_total")).toBeLessThan(205)
      yield* Fiber.interrupt(reading)
    }).pipe(
      Effect.provide(Consumer.layer({
        groupId: "kitchen",
        maxPollRecords: 1,
        fetch: { maxBytesPerPartition: 100, maxBytes: 1000 },
        prefetch: { partitionBytes: 200, totalBytes: 1000 }
      })),
      Effect.provide(on(KafkaMetrics.layerPrometheus()))
    ))
})

describe("several of one kind in one process", () => {
  const groupId = "kitchen"
  const at = (partition: number) => ({ topic: "shop.orders", partition })
  const assigned = (partition: number): KafkaEvent.KafkaEvent => ({
    _tag: "Assigned",
    groupId,
    partitions: [at(partition)],
    positions: [10n],
    committed: [4n],
    millis: 20
  })
  const ends = (partition: number, offset: bigint): KafkaEvent.KafkaEvent => ({
    _tag: "EndOffsets",
    groupId,
    offsets: [{ ...at(partition), offset }]
  })
  const turned = (bufferedRecords: number): KafkaEvent.KafkaEvent => ({
    _tag: "LoopTurned",
    groupId,
    bufferedRecords,
    bufferedBytes: bufferedRecords * 10
  })

  it.effect("consumers of a group: counts are added up, ages and states are the worst, and none hides another", () =>
    Effect.gen(function*() {
      const { onEvent } = yield* KafkaEvent.KafkaObserver
      const [first, second] = [{}, {}]
      onEvent(turned(7), first)
      onEvent(assigned(0), first)
      onEvent(ends(0, 30n), first)
      yield* TestClock.adjust("10 seconds")
      onEvent(turned(5), second)
      onEvent(assigned(1), second)
      onEvent(ends(1, 12n), second)
      const partition = (name: MetricDefinition.Name) =>
        Effect.all([value(name, { partition: "0" }), value(name, { partition: "1" })])
      expect(yield* value("consumer_assigned_partitions")).toBe(2)
      expect(yield* value("consumer_buffered_records")).toBe(12)
      expect(yield* value("consumer_last_poll_age_seconds")).toBe(10)
      expect(yield* partition("consumer_lag_records")).toEqual([20, 2])
      expect(yield* partition("consumer_committed_lag_records")).toEqual([26, 8])

      onEvent({ _tag: "Connection", clientId: groupId, state: "disconnected" }, second)
      expect(yield* value("connection_up", { client: groupId })).toBe(0)
      onEvent({ _tag: "Connection", clientId: groupId, state: "connected" }, second)
      expect(yield* value("connection_up", { client: groupId })).toBe(1)

      onEvent({ _tag: "Stopped", groupId, millis: 1 }, second)
      expect(yield* value("consumer_up")).toBe(1)
      expect(yield* value("consumer_assigned_partitions")).toBe(1)
      expect(yield* partition("consumer_lag_records")).toEqual([20, 0])
      onEvent(
        { _tag: "Died", groupId, error: new KafkaError.ConsumerError({ groupId, reason: "crashed", description: "" }) },
        first
      )
      expect(yield* text).toMatch(/consumer_up\{.*\} 0/)
      onEvent({ _tag: "ConsumerClosed", groupId }, first)
      expect(yield* text).not.toContain("kafka_consumer_up{")
    }).pipe(Effect.provide(KafkaMetrics.layerPrometheus())))

  it.effect("a partition that two of them read is as far behind as the slower is", () =>
    Effect.gen(function*() {
      const { onEvent } = yield* KafkaEvent.KafkaObserver
      const [first, second] = [{}, {}]
      for (const source of [first, second]) {
        onEvent(assigned(0), source)
        onEvent(ends(0, 30n), source)
      }
      onEvent({ _tag: "HandedOut", groupId, topicPartition: at(0), records: 15, position: 25n }, first)
      expect(yield* value("consumer_position")).toBe(10)
      expect(yield* value("consumer_lag_records")).toBe(20)
    }).pipe(Effect.provide(KafkaMetrics.layerPrometheus())))

  it.effect("producers of a client id", () =>
    Effect.gen(function*() {
      const { onEvent } = yield* KafkaEvent.KafkaObserver
      const [first, second] = [{}, {}]
      for (const source of [first, second]) {
        onEvent({ _tag: "Connection", clientId: "till", state: "connected" }, source)
        onEvent({ _tag: "ProducerBuffered", clientId: "till", records: 3, bytes: 30 }, source)
      }
      expect(yield* value("producer_buffered_records")).toBe(6)
      onEvent({ _tag: "Connection", clientId: "till", state: "disconnected" }, first)
      expect(yield* value("connection_up")).toBe(0)
      onEvent({ _tag: "ProducerClosed", clientId: "till" }, first)
      expect(yield* value("producer_buffered_records")).toBe(3)
      expect(yield* value("connection_up")).toBe(1)
      onEvent({ _tag: "ProducerClosed", clientId: "till" }, second)
      expect(yield* text).not.toContain("client=\"till\"")
    }).pipe(Effect.provide(KafkaMetrics.layerPrometheus())))
})

describe("layers", () => {
  it.effect("one can be changed for another without a change in the program", () =>
    Effect.gen(function*() {
      const program = Effect.zipRight(produce(3), consuming(3, value("consumer_records_total")))
      expect(yield* Effect.provide(program, on(KafkaMetrics.layerPrometheus()))).toBe(3)
      expect(yield* Effect.provide(program, on(KafkaMetrics.layerInMemory))).toBe(3)
      expect(yield* Effect.provide(program, on(KafkaMetrics.layerEffect))).toBe(3)
      expect(yield* Effect.provide(program, on(KafkaMetrics.layerNoop))).toBe(0)
    }))

  it.effect("layerPrometheus twice in one process: each has its own registry", () =>
    Effect.gen(function*() {
      const read = Effect.zipRight(produce(2), value("producer_records_total"))
      expect(yield* Effect.provide(read, on(KafkaMetrics.layerPrometheus()))).toBe(2)
      expect(yield* Effect.all([read, read].map(Effect.provide(on(KafkaMetrics.layerPrometheus()))))).toEqual([2, 2])
    }))

  it.scoped("a registry that has the metrics already is refused, and taken again once they are gone", () =>
    Effect.gen(function*() {
      const registry = new Registry()
      const first = KafkaMetrics.layerPrometheus({ registry })
      const second = Layer.fresh(KafkaMetrics.layerPrometheus({ registry }))
      const failure = yield* Effect.provide(Effect.flip(Effect.scoped(Layer.build(second))), first)
      expect(failure.reason).toBe("registered")
      expect(failure.message).toContain("kafka_producer_records_total")
      expect(registry.getMetricsAsArray()).toEqual([])
      yield* Layer.build(second)
      expect(registry.getMetricsAsArray()).toHaveLength(MetricDefinition.names.length)
      yield* Layer.build(KafkaMetrics.layerPrometheus({ registry, prefix: "other" }))
    }))

  it.effect("a registry with a metric of that name by somebody else is refused, and nothing was published", () =>
    Effect.gen(function*() {
      const registry = new Registry()
      const theirs = new Counter({ name: "kafka_consumer_commits_total", help: "mine", registers: [registry] })
      const failure = yield* Effect.flip(Effect.scoped(Layer.build(KafkaMetrics.layerPrometheus({ registry }))))
      expect(failure.reason).toBe("registered")
      expect(registry.getMetricsAsArray()).toEqual([theirs])
    }))

  it.effect("settings that are not valid are refused with the reason", () =>
    Effect.gen(function*() {
      const reason = (options: KafkaMetrics.Options) =>
        Effect.scoped(Layer.build(KafkaMetrics.layerPrometheus(options))).pipe(
          Effect.flip,
          Effect.map((error) => error.reason)
        )
      expect(yield* reason({ prefix: "" })).toBe("prefix")
      expect(yield* reason({ prefix: "7up" })).toBe("prefix")
      expect(yield* reason({ prefix: "my-app" })).toBe("prefix")
      expect(yield* reason({ defaultLabels: { "the-app": "a" } })).toBe("labels")
      expect(yield* reason({ defaultLabels: { __app: "a" } })).toBe("labels")
      expect(yield* reason({ defaultLabels: { topic: "a" } })).toBe("labels")
      expect(yield* reason({ defaultLabels: { le: "a" } })).toBe("labels")
      expect(yield* reason({ buckets: [] })).toBe("buckets")
      expect(yield* reason({ buckets: [1, 1] })).toBe("buckets")
      expect(yield* reason({ buckets: [0, 1] })).toBe("buckets")
      expect(yield* reason({ buckets: [1, Number.POSITIVE_INFINITY] })).toBe("buckets")
    }))

  it.effect("prefix, labels and buckets are those that were asked for, and labels of others are left alone", () =>
    Effect.gen(function*() {
      const registry = new Registry()
      const mine = new Counter({ name: "mine_total", help: "mine", registers: [registry] })
      mine.inc()
      const page = yield* Effect.provide(
        Effect.zipRight(produce(1), text),
        on(KafkaMetrics.layerPrometheus({ registry, prefix: "shop", defaultLabels: { env: "a\"b" }, buckets: [5, 10] }))
      )
      expect(page).toContain("shop_producer_records_total{env=\"a\\\"b\",client=\"till\",topic=\"shop.orders\"} 1")
      expect(page).toContain("mine_total 1")
      const bounds = [...page.matchAll(/shop_producer_send_duration_seconds_bucket\{.*le="(.*?)"\} (.*)/g)]
      expect(bounds.map((match) => [match[1], match[2]])).toEqual([["5", "1"], ["10", "1"], ["+Inf", "1"]])
    }))

  it.effect("a metric of others that throws is a typed failure of the scrape", () =>
    Effect.gen(function*() {
      const registry = new Registry()
      const counter = new Counter({
        name: "broken_total",
        help: "broken",
        collect: () => {
          throw new Error("no milk")
        }
      })
      registry.registerMetric(counter)
      const failure = yield* Effect.flip(Effect.provide(text, KafkaMetrics.layerPrometheus({ registry })))
      expect(failure).toMatchObject({ _tag: "MetricsError", reason: "scrape" })
    }))
})

describe("Effect's metrics", () => {
  it.effect("what Kafka does is among them, by the same names", () =>
    Effect.gen(function*() {
      const layer = on(KafkaMetrics.layerEffectWith({ prefix: "mirrored" }))
      const page = yield* Effect.provide(Effect.zipRight(produce(4), consuming(4, text)), layer)
      expect(page).toContain("mirrored_consumer_records_total{group=\"kitchen\",topic=\"shop.orders\"} 4")
      expect(page).toMatch(/mirrored_consumer_lag_records\{.*partition="0"\} 0/)
      expect(page).toContain(
        "mirrored_consumer_handler_duration_seconds_count{group=\"kitchen\",topic=\"shop.orders\"} 4"
      )
      const later = yield* Effect.provide(text, KafkaMetrics.layerEffectWith({ prefix: "mirrored" }))
      expect(later).not.toMatch(/mirrored_.*partition="/)
    }))

  it.effect("are in the registry of prom-client, also those that are used later", () =>
    Effect.gen(function*() {
      const cups = Metric.counter("cups-served", { description: "cups", incremental: true })
      yield* Metric.increment(Metric.tagged(cups, "drink", "latte"))
      expect(yield* text).toContain("cups_served_total{drink=\"latte\"} 1")
      yield* Metric.update(Metric.gauge("milk_litres"), 3)
      yield* Metric.update(Metric.frequency("moods"), "happy")
      const page = yield* text
      expect(page).toContain("milk_litres 3")
      expect(page).toContain("moods_total{key=\"happy\"} 1")
      expect(page).toContain("# HELP cups_served_total cups")
    }).pipe(Effect.provide(Layer.provideMerge(EffectMetrics.layer, KafkaMetrics.layerPrometheus()))))

  it.effect("are gone from a registry once the bridge is closed", () =>
    Effect.gen(function*() {
      const registry = new Registry()
      yield* Metric.update(Metric.gauge("milk_litres"), 3)
      yield* Effect.scoped(EffectMetrics.publishTo(registry))
      expect(registry.getMetricsAsArray()).toEqual([])
    }))
})

describe("an observer that throws", () => {
  const broken = KafkaEvent.layerObserver(Effect.succeed({
    enabled: true,
    onEvent: () => {
      throw new Error("no milk")
    }
  }))

  it.effect("harms neither consumer nor producer nor another observer, and is counted", () =>
    Effect.gen(function*() {
      yield* produce(20)
      expect(yield* consuming(20, value("consumer_records_total"))).toBe(20)
      expect(yield* value("observer_failures_total")).toBeGreaterThan(0)
      const kafka = yield* InMemoryKafka.InMemoryBroker
      expect(yield* kafka.committed("kitchen")).toContainEqual({ topic: "shop.orders", partition: 0, offset: 20n })
    }).pipe(Effect.provide(on(Layer.provideMerge(KafkaMetrics.layerInMemory, broken)))))
})
