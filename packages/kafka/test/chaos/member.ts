/**
 * A member of the group as a process of its own: it reads the topic, writes down each record it handles, and leaves on
 * SIGTERM. It has no `process.exit`: it ends when nothing is left that keeps it alive.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as fs from "node:fs"
import { inspect } from "node:util"
import * as Consumer from "../../src/Consumer.ts"
import type * as ConsumerRecord from "../../src/ConsumerRecord.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import { isKafkaError } from "../../src/KafkaError.ts"
import { type KafkaEvent, KafkaObserver } from "../../src/KafkaEvent.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import type { TopicPartition } from "../../src/TopicPartition.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { Dice } from "../simulation/VirtualTime.ts"
import { drivers } from "../support/drivers.ts"
import { type Line, write } from "./Journal.ts"
import type { Orders } from "./members.ts"

const orders = JSON.parse(process.argv[2]!) as Orders
const dice = new Dice(orders.seed)
const file = fs.openSync(orders.journal, "a")
const journal = (line: Line): void => write(file, line)

const topic = Topic.make(orders.topic, { key: Serde.string, value: Serde.string })
const numbers = (partitions: ReadonlyArray<TopicPartition>): ReadonlyArray<number> =>
  partitions.map(({ partition }) => partition)

const observe = (event: KafkaEvent): void => {
  switch (event._tag) {
    case "Assigned":
      return journal({
        _tag: "Assigned",
        partitions: numbers(event.partitions),
        positions: event.positions.map(Number)
      })
    case "Revoked":
    case "Lost":
      return journal({ _tag: event._tag, partitions: numbers(event.partitions) })
    case "Committed":
      return journal({
        _tag: "Committed",
        offsets: event.offsets.map(({ offset, partition }) => [partition, Number(offset)])
      })
    case "CommitFailed":
      if (event.willRetry) return
      return journal({ _tag: "CommitFailed", partitions: numbers(event.partitions), error: event.error.message })
    case "GateWaited":
      return journal({ _tag: "GateWaited", millis: event.millis, unsettled: numbers(event.unsettled) })
  }
}

const handle = (record: ConsumerRecord.ConsumerRecord<string, string>): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { key, partition } = record
    const what = { partition, offset: Number(record.offset), key, number: Number(record.value) }
    const pause = dice.between(0, orders.slowest)
    journal({ _tag: "Began", ...what })
    return Effect.sleep(pause).pipe(
      Effect.zipRight(Effect.sync(() => journal({ _tag: "Done", ...what }))),
      Effect.onInterrupt(() => Effect.sync(() => journal({ _tag: "Interrupted", ...what })))
    )
  })

const consume = orders.ordering === undefined
  ? Consumer.stream(topic).pipe(
    Stream.mapEffect((record) => Effect.as(handle(record), record)),
    Consumer.commitWithin(orders.commitCount, orders.commitWithin),
    Stream.runDrain
  )
  : Consumer.forEach(topic, handle, {
    ordering: orders.ordering,
    concurrency: orders.concurrency,
    commitCount: orders.commitCount,
    commitWithin: orders.commitWithin
  })

const asked = Deferred.unsafeMake<void>(FiberId.none)
process.once("SIGTERM", () => {
  journal({ _tag: "Asked" })
  Deferred.unsafeDone(asked, Effect.void)
})
journal({ _tag: "Up" })

const program = Effect.gen(function*() {
  const consumer = yield* Consumer.Consumer
  const consuming = yield* Effect.fork(consume)
  const leaving = orders.leave === "stop"
    ? Effect.zipRight(consumer.stop, Fiber.join(consuming))
    : Effect.asVoid(Fiber.interrupt(consuming))
  yield* Effect.raceFirst(Fiber.join(consuming), Effect.zipRight(Deferred.await(asked), leaving))
}).pipe(Effect.provide(
  Consumer.layer({
    groupId: orders.groupId,
    sessionTimeout: orders.sessionTimeout,
    heartbeatInterval: orders.heartbeatInterval,
    stopTimeout: "10 seconds",
    maxPollRecords: orders.maxPollRecords,
    groupProtocol: orders.groupProtocol
  }).pipe(
    Layer.provide(drivers[orders.driver]),
    Layer.provide(TopicRegistry.layerWith({})),
    Layer.provide(KafkaConfig.layer({ brokers: orders.brokers, clientId: orders.name })),
    Layer.provide(Layer.succeed(KafkaObserver, { enabled: true, onEvent: observe }))
  )
))

Effect.runFork(program).addObserver((exit) => {
  if (Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)) {
    journal({
      _tag: "Failed",
      error: inspect(Cause.squash(exit.cause), { depth: 5 }),
      typed: isKafkaError(Cause.squash(exit.cause))
    })
    process.exitCode = 1
  }
  journal({ _tag: "Closed" })
})
