/**
 * What the kitchen has to make: orders become drinks, keyed by the drink, exactly once. What is written and what was read
 * are one transaction, so that a crash neither forgets a cup nor makes it twice.
 */
import { Consumer, Serde, Topic } from "@coffeebuddy/kafka"
import * as Producer from "@coffeebuddy/kafka/Producer"
import { Effect, Layer, Schema } from "effect"
import { Drink } from "../run-events/RunEvent.ts"
import { RUN_EVENTS_TOPIC } from "../run-events/topic.ts"

export class Cup extends Schema.Class<Cup>("Cup")({ runId: Schema.String, person: Schema.String, drink: Drink }) {}

export const CUPS_TOPIC = Topic.make("cups", { key: Serde.string, value: Serde.json(Cup), partitions: 3 })

/** Runs until its consumer is stopped. */
export const kitchen = Consumer.transform(
  RUN_EVENTS_TOPIC,
  ({ value: event }) =>
    Effect.succeed(
      event.type === "ordered" ? { key: event.drink, value: new Cup({ ...event }) } : undefined
    ),
  CUPS_TOPIC
)

/** What the kitchen needs. Each process has a transactional id of its own, the same after a restart. */
export const kitchenLive = (transactionalId: string) =>
  Layer.merge(
    Consumer.layer({ groupId: "kitchen" }),
    Producer.layer({ transactionalId, transactionTimeout: "20 seconds" })
  )
