import { KafkaConfig } from "@coffeebuddy/kafka"
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer } from "effect"
import * as RealKafka from "../../packages/kafka/test/support/RealKafka.ts"
import * as Kafka from "../run-events/kafka.ts"
import { program } from "../run-events/program.ts"
import * as Projection from "../run-events/projection.ts"
import { fakeTerminal, services, withCapturedConsole } from "./support.ts"

RealKafka.suite("the run-events example on a real Kafka", ({ bootstrapServers }) => {
  /** The same layers as in memory, but for one. */
  const cluster = Layer.provideMerge(
    Kafka.onKafkaJs,
    KafkaConfig.layer({ brokers: bootstrapServers, topicPrefix: `example-${process.pid}-${Date.now()}` })
  )
  const layer = services({ runs: 20, within: "1 second" }).pipe(
    Layer.provideMerge(Layer.mergeAll(cluster, Projection.layer, fakeTerminal(false).layer))
  )

  it.live("ends well, and again when it goes on from what it has committed", () =>
    Effect.gen(function*() {
      for (const _ of ["first", "second"]) {
        const { exit, lines } = yield* Effect.provide(withCapturedConsole(program({ patience: "30 seconds" })), layer)
        assert.deepStrictEqual(lines.filter((line) => line.includes("WRONG")), [])
        assert.deepStrictEqual(exit, Exit.void)
      }
    }))
})
