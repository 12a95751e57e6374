/**
 * A service with metrics and health: `npm run service -w examples`. On a cluster, start it several times to share the
 * work, each with a `PORT` of its own, and once more with `RUNS=100` to have something to do:
 *
 *     export KAFKA_BOOTSTRAP_SERVERS=localhost:9092
 *     PORT=9101 npm run service -w examples
 *     PORT=9102 RUNS=100 npm run service -w examples
 */
import { ConsumerWorker, Producer, TopicRegistry } from "@coffeebuddy/kafka"
import * as HttpServer from "@effect/platform/HttpServer"
import { Config, Effect } from "effect"
import { RUN_EVENTS_TOPIC } from "../run-events/topic.ts"
import { Kafka, run, sendRuns } from "../shared.ts"
import { serviceLive } from "./service.ts"

const program = Effect.gen(function*() {
  const port = yield* Config.withDefault(Config.port("PORT"), 0)
  const runs = yield* Config.withDefault(Config.integer("RUNS"), 5)
  yield* TopicRegistry.ensure([RUN_EVENTS_TOPIC])
  yield* Effect.gen(function*() {
    yield* HttpServer.logAddress
    yield* ConsumerWorker.ready
    if (runs > 0) yield* Effect.provide(sendRuns(runs), Producer.layer())
    // until Ctrl-C, or SIGTERM: what is in hand is finished and committed, and the group is left
    yield* ConsumerWorker.wait
  }).pipe(Effect.provide(serviceLive(port)))
})

program.pipe(Effect.provide(Kafka), run)
