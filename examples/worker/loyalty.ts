/**
 * A stamp on the loyalty card for each drink that was ordered: a worker that meets what can go wrong. A till that is busy
 * is asked again; a guest without a card goes to the dead letters, and is sent back once there is one.
 */
import { ConsumerWorker, DeadLetter, RetryTopics } from "@coffeebuddy/kafka"
import { Context, Data, Effect, HashMap, HashSet, Layer, Option, Schedule, SubscriptionRef } from "effect"
import type { Ordered } from "../run-events/RunEvent.ts"
import { RUN_EVENTS_TOPIC } from "../run-events/topic.ts"

export class TillBusy extends Data.TaggedError("TillBusy") {}

export class NoCard extends Data.TaggedError("NoCard")<{ readonly person: string }> {
  override get message(): string {
    return `${this.person} has no loyalty card`
  }
}

/** The stamps of each card. A stamp has a name, so that an order that comes twice is stamped once. */
type Cards = HashMap.HashMap<string, HashSet.HashSet<string>>

export class Till extends Context.Tag("examples/worker/Till")<Till, {
  readonly stamp: (order: Ordered) => Effect.Effect<void, TillBusy | NoCard>
  readonly handOut: (person: string) => Effect.Effect<void>
  readonly cards: SubscriptionRef.SubscriptionRef<Cards>
}>() {}

/** A till that is busy whenever it is asked about an order for the first time. */
export const TillLive = Layer.effect(
  Till,
  Effect.gen(function*() {
    const cards = yield* SubscriptionRef.make<Cards>(HashMap.empty())
    const asked = new Set<string>()
    return {
      cards,
      handOut: (person) =>
        SubscriptionRef.update(cards, HashMap.modifyAt(person, Option.orElseSome(() => HashSet.empty()))),
      stamp: ({ person, runId, sequence }) =>
        Effect.gen(function*() {
          const name = `${runId}/${sequence}`
          if (!asked.has(name)) {
            asked.add(name)
            return yield* new TillBusy()
          }
          if (!HashMap.has(yield* cards, person)) return yield* new NoCard({ person })
          yield* SubscriptionRef.update(cards, HashMap.modify(person, HashSet.add(name)))
        })
    }
  })
)

export const isStamped = (cards: Cards, { person, runId, sequence }: Ordered): boolean =>
  Option.exists(HashMap.get(cards, person), HashSet.has(`${runId}/${sequence}`))

/** Where an order waits while the till stays busy. Later orders of its run wait behind it. */
export const LoyaltyRetries = RetryTopics.make(RUN_EVENTS_TOPIC, { delays: ["1 second", "10 seconds"] })

/** All topics of the worker, for `TopicRegistry.ensure`. */
export const topics = [RUN_EVENTS_TOPIC, DeadLetter.topic(RUN_EVENTS_TOPIC), ...LoyaltyRetries.topics]

export const LoyaltyLive = ConsumerWorker.layer(
  RUN_EVENTS_TOPIC,
  ({ value }) => value.type === "ordered" ? Effect.flatMap(Till, (till) => till.stamp(value)) : Effect.void,
  {
    groupId: "loyalty",
    concurrency: 8,
    ordering: "key",
    timeout: "5 seconds",
    retry: Schedule.intersect(Schedule.exponential("20 millis"), Schedule.recurs(3)),
    retryTopics: LoyaltyRetries,
    retryWhile: (error) => error._tag === "TillBusy" || error._tag === "HandlerTimeoutError",
    deadLetter: true
  }
)
