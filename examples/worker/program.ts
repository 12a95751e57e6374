/** The worker at work: some guests have no card at first. */
import { Consumer, ConsumerWorker, DeadLetter, TopicRegistry } from "@coffeebuddy/kafka"
import { Array, Console, Effect, Stream } from "effect"
import { RUN_EVENTS_TOPIC } from "../run-events/topic.ts"
import { sendRuns } from "../shared.ts"
import { isStamped, LoyaltyLive, Till, topics } from "./loyalty.ts"

/** Those who look after the dead letters are a group of their own. */
const SupportLive = Consumer.layer({ groupId: "loyalty-support" })

export const program = Effect.gen(function*() {
  yield* TopicRegistry.ensure(topics)
  const till = yield* Till
  const events = yield* sendRuns(3)
  const orders = Array.filter(events, (event) => event.type === "ordered")
  const people = Array.dedupe(orders.map((order) => order.person))
  const [newcomer = "Ada", ...regulars] = people
  yield* Effect.forEach(regulars, till.handOut)

  /** Ends when these people have a stamp for each of their orders. */
  const stamped = (who: ReadonlyArray<string>) =>
    till.cards.changes.pipe(
      Stream.takeUntil((cards) => orders.every((order) => !who.includes(order.person) || isStamped(cards, order))),
      Stream.runDrain
    )

  yield* Effect.gen(function*() {
    yield* ConsumerWorker.ready
    yield* stamped(regulars)
    yield* Console.log(`stamped: ${regulars.join(", ")}`)

    const missing = orders.filter((order) => order.person === newcomer).length
    yield* DeadLetter.stream(RUN_EVENTS_TOPIC).pipe(
      Stream.filterEffect((letter) =>
        Effect.map(letter.record, ({ value }) => events.some((one) => one.runId === value.runId))
      ),
      Stream.take(missing),
      Stream.runForEach(({ attempt, error, message }) =>
        Console.log(`dead letter: ${error}, ${message} (attempt ${attempt})`)
      ),
      Effect.provide(Consumer.layer({ groupId: "loyalty-watch" }))
    )

    yield* till.handOut(newcomer)
    const { replayed } = yield* DeadLetter.replay(RUN_EVENTS_TOPIC, { select: (letter) => letter.error === "NoCard" })
      .pipe(
        Effect.provide(SupportLive)
      )
    yield* stamped(people)
    yield* Console.log(`stamped after ${replayed.length} were sent back: ${newcomer}`)
  }).pipe(
    // the worker lives as long as this, and where it fails, so does this
    Effect.raceFirst(Effect.zipRight(ConsumerWorker.wait, Effect.never)),
    Effect.provide(LoyaltyLive)
  )
})
