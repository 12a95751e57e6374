import { ConsumerWorker, KafkaHealth, Producer, TopicRegistry } from "@coffeebuddy/kafka"
import * as HttpServer from "@effect/platform/HttpServer"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { inMemory } from "../run-events/kafka.ts"
import { RUN_EVENTS_TOPIC } from "../run-events/topic.ts"
import { serviceLive } from "../service/service.ts"
import { sendRuns } from "../shared.ts"

/** One process of the service, with its metrics and health on a port of its own. */
const instance = Effect.map(Layer.build(Layer.fresh(serviceLive(0))), (context) => {
  const { address } = Context.get(context, HttpServer.HttpServer)
  const port = address._tag === "TcpAddress" ? address.port : 0
  return {
    worker: Context.get(context, ConsumerWorker.ConsumerWorker),
    health: Context.get(context, KafkaHealth.KafkaHealth),
    get: (path: string) =>
      Effect.promise(async () => {
        const answer = await fetch(`http://127.0.0.1:${port}${path}`)
        return { status: answer.status, text: await answer.text() }
      })
  }
})

/** Asks again until it holds. */
const until = <A, E, R>(ask: Effect.Effect<A, E, R>, holds: (answer: A) => boolean) =>
  Effect.repeat(Effect.delay(ask, "50 millis"), { until: holds })

describe("the service", () => {
  it.scopedLive("shares its work among processes, says that it is well, and counts what it does", () =>
    Effect.gen(function*() {
      yield* TopicRegistry.ensure([RUN_EVENTS_TOPIC])
      const instances = [yield* instance, yield* instance]
      // each is given some of the three partitions
      const shared = Effect.map(
        Effect.forEach(instances, (one) => one.health.report),
        (reports) => reports.map((report) => report.consumers[0]?.partitions.length ?? 0)
      )
      const counts = yield* until(shared, (counts) => counts.every((many) => many > 0))
      assert.deepStrictEqual(counts.toSorted(), [1, 2])

      const events = yield* sendRuns(10)
      const handled = Effect.map(
        Effect.forEach(instances, (one) => one.get("/metrics")),
        (pages) =>
          pages.reduce(
            (sum, { text }) =>
              sum + [...text.matchAll(/^kafka_consumer_records_total\{[^}]*\} (\d+)$/gm)].reduce((all, one) =>
                all + Number(one[1]), 0),
            0
          )
      )
      yield* until(handled, (many) => many === events.length)

      for (const one of instances) {
        assert.strictEqual((yield* one.get("/health/ready")).status, 200)
        assert.strictEqual((yield* one.get("/health/live")).status, 200)
      }
      yield* instances[0]!.worker.stop
      assert.strictEqual((yield* instances[0]!.get("/health/ready")).status, 503)
    }).pipe(Effect.provide(Layer.provideMerge(Producer.layer(), inMemory))))
})
