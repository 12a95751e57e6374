import { Consumer } from "@coffeebuddy/kafka"
import { Console, Effect, Stream } from "effect"
import { Progress } from "./Progress.ts"
import { RUN_EVENTS_TOPIC } from "./topic.ts"

/** Prints what is in the topic. */
export const printer = Effect.gen(function*() {
  const progress = yield* Progress
  yield* Consumer.stream(RUN_EVENTS_TOPIC).pipe(
    Stream.tap(({ value }) => Console.log(JSON.stringify(value))),
    Stream.tap(({ value }) => progress.saw("printer", value)),
    Consumer.commitWithin(1000, "1 second"),
    Stream.runDrain
  )
})
