import { describe, expect, it } from "@effect/vitest"
import { SpanKind } from "@opentelemetry/api"
import { AlwaysOffSampler, AlwaysOnSampler, ParentBasedSampler } from "@opentelemetry/sdk-trace-base"
import * as SemConv from "@opentelemetry/semantic-conventions/incubating"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import * as Consumer from "../../src/Consumer.ts"
import * as ConsumerWorker from "../../src/ConsumerWorker.ts"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import * as KafkaTracing from "../../src/KafkaTracing.ts"
import * as Producer from "../../src/Producer.ts"
import * as RecordHeaders from "../../src/RecordHeaders.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { endToEnd } from "./endToEnd.ts"
import { Spans } from "./support.ts"

const Orders = Topic.make("orders", { key: Serde.string, value: Serde.nullable(Serde.string), partitions: 1 })
const Bills = Topic.make("bills", { key: Serde.string, value: Serde.string, partitions: 1 })

const Refused = Topic.make("orders.dlt", { key: Serde.bytes, value: Serde.bytes, partitions: 1 })

const kafka = Layer.provideMerge(
  Layer.effectDiscard(TopicRegistry.ensure([Orders, Bills, Refused])),
  Layer.merge(InMemoryKafka.layer, TopicRegistry.layerWith({}))
)

const clients = Layer.merge(Consumer.layer({ groupId: "kitchen" }), Producer.layer({ clientId: "counter" }))

const headersOf = (topic: string) =>
  Effect.map(
    Effect.flatMap(InMemoryKafka.InMemoryBroker, (broker) => broker.log({ topic, partition: 0 })),
    (log) => log.filter(({ kind }) => kind === "data").map(({ headers }) => headers)
  )

const parentsIn = (topic: string) =>
  Effect.map(headersOf(topic), (all) => all.map((headers) => RecordHeaders.getString(headers, "traceparent")))

/** Handles so many records of a topic, and ends once they are done. */
const handling = (
  topic: typeof Orders,
  count: number,
  handler: (
    record: Consumer.RecordOf<typeof Orders>
  ) => Effect.Effect<unknown, never, Producer.Producer> = () => Effect.void
) =>
  Effect.gen(function*() {
    const all = yield* Deferred.make<void>()
    let seen = 0
    const fiber = yield* Effect.fork(Consumer.forEach(topic, (record) =>
      Effect.zipRight(
        handler(record),
        Effect.suspend(() => ++seen === count ? Effect.asVoid(Deferred.succeed(all, undefined)) : Effect.void)
      )))
    yield* Deferred.await(all)
    yield* Consumer.stop
    yield* Fiber.join(fiber)
  })

const order = (table: string, headers?: RecordHeaders.Input) => ({
  key: table,
  value: "two espressi",
  ...(headers === undefined ? {} : { headers })
})

/** A program with clients that trace. */
const traced = <A, E>(
  spans: Spans,
  program: Effect.Effect<A, E, Consumer.Consumer | Producer.Producer>,
  sampler?: Parameters<Spans["service"]>[1]
) => program.pipe(Effect.provide(clients), Effect.provide(spans.service("shop", sampler)))

const elsewhere = { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: "00f067aa0ba902b7" }
const fromElsewhere = `00-${elsewhere.traceId}-${elsewhere.spanId}-01`

describe("a trace", () => {
  it.effect("is seen from end to end through services", () => Effect.provide(endToEnd("-of-today"), kafka))

  it.effect("that came with a tracestate has it in the next record too", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Effect.gen(function*() {
          yield* Producer.send(Orders, order("1", { traceparent: fromElsewhere, tracestate: "vendor=a" }))
          yield* handling(Orders, 1, () => Effect.orDie(Producer.send(Bills, { key: "1", value: "2.40" })))
        })
      )
      expect((yield* headersOf("bills")).map((headers) => RecordHeaders.getString(headers, "tracestate"))).toEqual([
        "vendor=a"
      ])
    }).pipe(Effect.provide(kafka)))

  it.effect("that is not sampled stays so, and its records say so", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(spans, Producer.send(Orders, order("1")), new AlwaysOffSampler())
      const [parent] = yield* parentsIn("orders")
      expect(parent).toMatch(/-00$/)
      yield* traced(spans, handling(Orders, 1), new ParentBasedSampler({ root: new AlwaysOnSampler() }))
      expect(spans.all).toEqual([])
    }).pipe(Effect.provide(kafka)))
})

describe("where there is no tracer", () => {
  const plain = Effect.gen(function*() {
    yield* Producer.send(Orders, order("1"))
    yield* Producer.sendAll(Orders, [order("2", { loyalty: "gold" })])
    yield* yield* Producer.enqueue(Orders, order("3"))
    yield* handling(
      Orders,
      3,
      () => Effect.map(Effect.option(Effect.currentSpan), (span) => expect(span._tag).toBe("None"))
    )
  })
  const untouched = Effect.map(
    headersOf("orders"),
    (all) => expect(all.map((headers) => headers.map(([name]) => name))).toEqual([[], ["loyalty"], []])
  )

  it.effect("no header is written and no span made", () =>
    Effect.zipRight(Effect.provide(plain, clients), untouched).pipe(Effect.provide(kafka)))

  it.effect("nor where it is switched off, for all or for Kafka alone", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* plain.pipe(
        Effect.provide(clients),
        Effect.withTracerEnabled(false),
        Effect.provide(spans.service("shop"))
      )
      yield* untouched
      expect(spans.all).toEqual([])
    }).pipe(Effect.provide(kafka)))

  it.effect("nor with the option", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(spans, Effect.provide(plain, KafkaTracing.layer({ enabled: false })))
      yield* untouched
      expect(spans.all).toEqual([])
    }).pipe(Effect.provide(kafka)))

  it.effect("the tracer is not asked once", () => {
    const refusing = Tracer.make({
      span: () => {
        throw new Error("asked")
      },
      context: (run) => run()
    })
    return plain.pipe(
      Effect.provide(clients),
      Effect.provide(KafkaTracing.layer({ enabled: false })),
      Effect.withTracer(refusing),
      Effect.zipRight(untouched),
      Effect.provide(kafka)
    )
  })
})

describe("sending", () => {
  it.effect("is one span for many records, which all carry it", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(spans, Producer.sendAll(Orders, [order("1"), order("2"), order("3")]))
      const sent = spans.one("send orders")
      expect(sent.attributes["messaging.batch.message_count"]).toBe(3)
      expect(sent.attributes).not.toHaveProperty("messaging.kafka.message.key")
      const parent = `00-${sent.traceId}-${sent.spanId}-01`
      expect(yield* parentsIn("orders")).toEqual([parent, parent, parent])
    }).pipe(Effect.provide(kafka)))

  it.effect("never overrides the context that a record brings, and is linked to it", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(spans, Producer.sendAll(Orders, [order("1", { traceparent: fromElsewhere }), order("2")]))
      const sent = spans.one("send orders")
      expect(sent.links).toEqual([elsewhere.spanId])
      expect(yield* parentsIn("orders")).toEqual([fromElsewhere, `00-${sent.traceId}-${sent.spanId}-01`])
    }).pipe(Effect.provide(kafka)))

  it.effect("in two steps lasts until the acknowledgement, though nobody waits for it", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Effect.gen(function*() {
          yield* Producer.enqueue(Orders, order("1"))
          yield* Producer.flush
          yield* Effect.yieldNow()
        })
      )
      expect(spans.one("send orders").attributes).toMatchObject({
        "messaging.kafka.offset": 0,
        "messaging.kafka.message.key": "1"
      })
    }).pipe(Effect.provide(kafka)))

  it.effect("a stream is a span for each of its chunks", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Stream.make(order("1"), order("2")).pipe(
          Stream.concat(Stream.make(order("3"))),
          Stream.run(Producer.sink(Orders))
        )
      )
      expect(spans.named("send orders").map((span) => span.attributes["messaging.batch.message_count"])).toEqual([2, 1])
    }).pipe(Effect.provide(kafka)))

  it.effect("that fails is a span with the kind of the failure, and without the record's value", () =>
    Effect.gen(function*() {
      const Strict = Topic.make("orders", {
        key: Serde.string,
        value: Serde.json(Schema.Struct({ cups: Schema.Positive }))
      })
      const spans = new Spans()
      const failure = yield* Effect.flip(
        traced(spans, Producer.send(Strict, { key: "1", value: { cups: -4242 } }))
      )
      expect(failure._tag).toBe("SerializationError")
      expect(spans.one("send orders")).toMatchObject({
        error: expect.any(String),
        attributes: { "error.type": "SerializationError" }
      })
      expect(spans.text).not.toContain("4242")
    }).pipe(Effect.provide(kafka)))

  it.effect("says that a record is a tombstone, and no key where keys are not to be said", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Producer.send(Orders, { key: "Ada Lovelace", value: null }).pipe(
          Effect.zipRight(handling(Orders, 1)),
          Effect.provide(KafkaTracing.layer({ keys: false }))
        )
      )
      for (const name of ["send orders", "process orders"]) {
        expect(spans.one(name).attributes["messaging.kafka.message.tombstone"]).toBe(true)
      }
      expect(spans.text).not.toContain("Lovelace")
    }).pipe(Effect.provide(kafka)))
})

describe("handling each record", () => {
  it.effect("begins a trace of its own where it is to be linked only, or where nothing came with the record", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* Effect.provide(Producer.send(Orders, order("1")), clients)
      yield* traced(
        spans,
        Producer.send(Orders, order("2")).pipe(
          Effect.zipRight(Effect.withSpan(handling(Orders, 2), "the whole day")),
          Effect.provide(KafkaTracing.layer({ process: "link" }))
        )
      )
      const sent = spans.one("send orders")
      const [alone, linked] = spans.named("process orders")
      expect([alone?.parent, linked?.parent]).toEqual([undefined, undefined])
      expect([alone?.links, linked?.links]).toEqual([[], [sent.spanId]])
      expect(linked?.traceId).not.toBe(sent.traceId)
    }).pipe(Effect.provide(kafka)))

  it.effect("a handler that fails is seen in its span", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Effect.gen(function*() {
          yield* Producer.send(Orders, order("1"))
          yield* Effect.flip(Consumer.forEach(Orders, () => Effect.fail(new ParseResult.Unexpected("milk"))))
        })
      )
      expect(spans.one("process orders")).toMatchObject({
        error: expect.any(String),
        attributes: { "error.type": "Unexpected" }
      })
    }).pipe(Effect.provide(kafka)))

  it.effect("a worker does too, and what it gives up keeps its trace", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* Effect.scoped(Effect.gen(function*() {
        const worker = yield* ConsumerWorker.make(Orders, () => Effect.fail("no milk"), {
          groupId: "bar",
          deadLetter: true
        })
        yield* worker.ready
        yield* Producer.send(Orders, order("1"))
        while ((yield* parentsIn("orders.dlt")).length === 0) yield* Effect.yieldNow()
        yield* worker.stop
      })).pipe(Effect.provide(Producer.layer()), Effect.provide(spans.service("bar")))
      const sent = spans.one("send orders")
      expect(spans.one("process orders")).toMatchObject({
        parent: sent.spanId,
        attributes: { "messaging.consumer.group.name": "bar", "messaging.kafka.offset": 0 }
      })
      expect(spans.one("send orders.dlt")).toMatchObject({
        parent: spans.one("process orders").spanId,
        links: [sent.spanId]
      })
      expect(yield* parentsIn("orders.dlt")).toEqual([`00-${sent.traceId}-${sent.spanId}-01`])
    }).pipe(Effect.provide(kafka)))

  it.effect("what is transformed carries the span of what it was made of", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      const transformer = Layer.merge(
        Consumer.layer({ groupId: "kitchen" }),
        Producer.layer({ transactionalId: "kitchen", transactionTimeout: "20 seconds" })
      )
      yield* traced(spans, Effect.all([Producer.send(Orders, order("1")), Producer.send(Orders, order("2"))]))
      yield* Effect.gen(function*() {
        const reading = yield* Effect.fork(Consumer.transform(
          Orders,
          ({ key }) => Effect.succeed([{ key, value: "2.40" }, { key, value: "tip" }]),
          Bills
        ))
        const broker = yield* InMemoryKafka.InMemoryBroker
        while ((yield* broker.committed("kitchen"))[0]?.offset !== 2n) yield* Effect.yieldNow()
        yield* Consumer.stop
        yield* Fiber.join(reading)
      }).pipe(Effect.provide(transformer), Effect.provide(spans.service("kitchen")))
      const sent = spans.named("send orders")
      const made = spans.named("process orders")
      expect(made.map((span) => span.parent).sort()).toEqual(sent.map((span) => span.spanId).sort())
      const parents = yield* parentsIn("bills")
      expect(parents).toEqual(made.flatMap((span) => Array(2).fill(`00-${span.traceId}-${span.spanId}-01`)))
      expect(spans.named("send bills").flatMap((span) => span.links)).toEqual(made.map((span) => span.spanId))
    }).pipe(Effect.provide(kafka)))
})

describe("streaming", () => {
  it.effect("is a span for each chunk handed out, linked to what its records were sent in", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Effect.gen(function*() {
          yield* Producer.sendAll(Orders, [order("1"), order("2")])
          yield* Producer.send(Orders, order("3"))
          yield* Stream.runDrain(Consumer.streamUntil(Orders, "end"))
        })
      )
      const polled = spans.named("poll orders")
      const counts = polled.map((span) => Number(span.attributes["messaging.batch.message_count"]))
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(3)
      expect(polled.flatMap((span) => span.links)).toEqual(spans.named("send orders").map((span) => span.spanId))
      expect(polled[0]).toMatchObject({
        kind: SpanKind.CLIENT,
        attributes: {
          [SemConv.ATTR_MESSAGING_OPERATION_TYPE]: SemConv.MESSAGING_OPERATION_TYPE_VALUE_RECEIVE,
          [SemConv.ATTR_MESSAGING_CONSUMER_GROUP_NAME]: "kitchen",
          [SemConv.ATTR_MESSAGING_DESTINATION_PARTITION_ID]: "0"
        }
      })
    }).pipe(Effect.provide(kafka)))

  it.effect("a trace is continued where a program says that it works on a record, and linked for many", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Effect.gen(function*() {
          yield* Effect.all([Producer.send(Orders, order("1")), Producer.send(Orders, order("2"))])
          const records = yield* Stream.runCollect(Consumer.streamUntil(Orders, "end"))
          yield* Effect.void.pipe(Effect.withSpan("brew"), KafkaTracing.withSpan(Chunk.unsafeHead(records)))
          yield* KafkaTracing.withSpan(Effect.void, records, { groupId: "kitchen" })
          yield* KafkaTracing.withSpan(Effect.void, [])
        })
      )
      const sent = spans.named("send orders")
      const [single, many] = spans.named("process orders")
      expect(single?.parent).toBe(sent[0]?.spanId)
      expect(spans.one("brew").parent).toBe(single?.spanId)
      expect(many).toMatchObject({
        parent: undefined,
        links: sent.map((span) => span.spanId),
        attributes: { "messaging.batch.message_count": 2, "messaging.consumer.group.name": "kitchen" }
      })
    }).pipe(Effect.provide(kafka)))

  it.effect("a record carries the span it was made in, where it is sent later", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Effect.gen(function*() {
          const made = yield* Effect.withSpan(KafkaTracing.inject(order("1", { loyalty: "gold" })), "make")
          expect(yield* KafkaTracing.inject(made)).toBe(made)
          yield* Producer.sendAll(Orders, [made])
        })
      )
      const make = spans.one("make")
      expect(yield* parentsIn("orders")).toEqual([`00-${make.traceId}-${make.spanId}-01`])
      expect(spans.one("send orders").links).toEqual([make.spanId])
    }).pipe(Effect.provide(kafka)))
})

describe("the names", () => {
  it.effect("of all attributes are those of the conventions", () =>
    Effect.gen(function*() {
      const spans = new Spans()
      yield* traced(
        spans,
        Effect.gen(function*() {
          yield* Producer.sendAll(Orders, [order("1"), { key: "2", value: null }])
          yield* handling(Orders, 2)
        })
      )
      yield* traced(spans, Stream.runDrain(Consumer.streamUntil(Orders, { offset: 0n })))
      const known = new Set<unknown>(
        Object.entries(SemConv).filter(([name]) => name.startsWith("ATTR_")).map(([, value]) => value)
      )
      const used = new Set(spans.all.flatMap((span) => Object.keys(span.attributes)))
      expect(used.size).toBeGreaterThan(6)
      expect([...used].filter((name) => !known.has(name))).toEqual([])
    }).pipe(Effect.provide(kafka)))
})
