/**
 * Three services and two topics, on any Kafka: what is seen of an order from the counter to the till.
 */
import { expect } from "@effect/vitest"
import { SpanKind } from "@opentelemetry/api"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Consumer from "../../src/Consumer.ts"
import type { KafkaClient } from "../../src/KafkaClient.ts"
import * as Producer from "../../src/Producer.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { Spans } from "./support.ts"

/** The names are made different from run to run by `suffix`, since a real Kafka is shared. */
export const endToEnd = (suffix: string): Effect.Effect<void, unknown, KafkaClient | TopicRegistry.TopicRegistry> =>
  Effect.gen(function*() {
    const Orders = Topic.make(`orders${suffix}`, { key: Serde.string, value: Serde.string, partitions: 1 })
    const Bills = Topic.make(`bills${suffix}`, { key: Serde.string, value: Serde.string, partitions: 1 })
    yield* TopicRegistry.ensure([Orders, Bills])
    const ordersName = yield* TopicRegistry.resolve(Orders)
    const billsName = yield* TopicRegistry.resolve(Bills)

    const spans = new Spans()
    const paid = yield* Deferred.make<void>()

    const kitchen = Consumer.forEach(
      Orders,
      (order) => Producer.send(Bills, { key: order.key, value: `to pay: ${order.value}` }).pipe(Effect.withSpan("brew"))
    ).pipe(
      Effect.provide(Layer.merge(Consumer.layer({ groupId: `kitchen${suffix}` }), Producer.layer({ clientId: "bar" }))),
      Effect.provide(spans.service("kitchen"))
    )
    const till = Effect.gen(function*() {
      const reading = yield* Effect.fork(
        Consumer.forEach(Bills, () => Effect.asVoid(Deferred.succeed(paid, undefined)))
      )
      yield* Deferred.await(paid)
      // what is in hand is finished, its span with it
      yield* Consumer.stop
      yield* Fiber.join(reading)
    }).pipe(
      Effect.provide(Consumer.layer({ groupId: `till${suffix}` })),
      Effect.provide(spans.service("till"))
    )
    const counter = Producer.send(Orders, { key: "table-4", value: "two espressi" }).pipe(
      Effect.withSpan("order"),
      Effect.provide(Producer.layer({ clientId: "counter" })),
      Effect.provide(spans.service("counter"))
    )

    const cooking = yield* Effect.fork(kitchen)
    const place = yield* counter
    yield* till
    yield* Fiber.interrupt(cooking)

    const order = spans.one("order")
    const sent = spans.one(`send ${ordersName}`)
    const handled = spans.one(`process ${ordersName}`)
    const brewed = spans.one("brew")
    const billed = spans.one(`send ${billsName}`)
    const settled = spans.one(`process ${billsName}`)
    expect(new Set(spans.all.map((span) => span.traceId))).toEqual(new Set([order.traceId]))
    expect(
      [sent, handled, brewed, billed, settled].map((span) => span.parent)
    ).toEqual([order, sent, handled, brewed, billed].map((span) => span.spanId))
    expect([sent, handled, billed, settled].map((span) => [span.service, span.kind])).toEqual([
      ["counter", SpanKind.PRODUCER],
      ["kitchen", SpanKind.CONSUMER],
      ["kitchen", SpanKind.PRODUCER],
      ["till", SpanKind.CONSUMER]
    ])
    expect(sent.attributes).toEqual({
      "messaging.system": "kafka",
      "messaging.operation.name": "send",
      "messaging.operation.type": "send",
      "messaging.destination.name": ordersName,
      "messaging.destination.partition.id": "0",
      "messaging.kafka.message.key": "table-4",
      "messaging.kafka.offset": Number(place.offset),
      "messaging.client.id": "counter"
    })
    expect(handled.attributes).toEqual({
      "messaging.system": "kafka",
      "messaging.operation.name": "process",
      "messaging.operation.type": "process",
      "messaging.destination.name": ordersName,
      "messaging.destination.partition.id": "0",
      "messaging.kafka.message.key": "table-4",
      "messaging.kafka.offset": Number(place.offset),
      "messaging.consumer.group.name": `kitchen${suffix}`
    })
    expect(spans.text).not.toContain("espressi")
  })
