/** Orders come in, the kitchen works, and somebody counts the cups. */
import { Consumer, Producer, TopicRegistry } from "@coffeebuddy/kafka"
import { Array, Config, Console, Effect, Record, Stream } from "effect"
import { RUN_EVENTS_TOPIC } from "../run-events/topic.ts"
import { sendRuns } from "../shared.ts"
import { CUPS_TOPIC, kitchen, kitchenLive } from "./kitchen.ts"

/** The cups of these runs, as a reader of the target sees them. */
const count = (runIds: ReadonlySet<string>, cups: number) =>
  Consumer.stream(CUPS_TOPIC).pipe(
    Stream.map((record) => record.value),
    Stream.filter((cup) => runIds.has(cup.runId)),
    Stream.take(cups),
    Stream.runCollect,
    Effect.map((all) => Record.map(Array.groupBy(all, (cup) => cup.drink), (cups) => cups.length)),
    Effect.provide(Consumer.layer({ groupId: "kitchen-count" }))
  )

export const program = Effect.gen(function*() {
  yield* TopicRegistry.ensure([RUN_EVENTS_TOPIC, CUPS_TOPIC])
  const events = yield* Effect.provide(sendRuns(20), Producer.layer())
  const runIds = new Set(events.map((event) => event.runId))
  const ordered = events.filter((event) => event.type === "ordered").length

  const transactionalId = yield* Config.withDefault(Config.string("TRANSACTIONAL_ID"), "kitchen-1")
  const cups = yield* Effect.raceFirst(
    count(runIds, ordered),
    Effect.zipRight(Effect.provide(kitchen, kitchenLive(transactionalId)), Effect.never)
  )
  yield* Console.log(`${ordered} orders, and as many cups:`)
  for (const [drink, many] of Object.entries(cups)) yield* Console.log(`  ${many} ${drink}`)
  return { ordered, cups }
})
