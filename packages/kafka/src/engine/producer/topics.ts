/**
 * What the producer knows of the topics it sends to: their physical names and how many partitions they have. A topic is
 * looked up once before its first record, whoever asks at the same time; afterwards in the background, so that a
 * cluster that is out of reach for a while holds nothing up.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { ProducerSession } from "../../KafkaClient.ts"
import { type ClientError, ProducerError, type UnknownTopicError } from "../../KafkaError.ts"
import * as RecordHeaders from "../../RecordHeaders.ts"
import type { SerdeContext } from "../../Serde.ts"
import type { Accumulator, TopicQueues } from "./accumulator.ts"

/** How long a number of partitions is believed, in milliseconds: as long as the Java client does. */
const maxAge = 300_000

export interface KnownTopic {
  /** The physical name. */
  readonly name: string
  readonly queues: TopicQueues
  /** For records without headers. */
  readonly keyContext: SerdeContext
  readonly valueContext: SerdeContext
  readonly staleAt: number
}

type Answer = Exit.Exit<KnownTopic, LookupError>

export type LookupError = ClientError | UnknownTopicError | ProducerError

export interface Topics {
  /** What is known of a topic. Where that is old, it is renewed in the background. */
  readonly get: (slug: string, now: number) => KnownTopic | undefined
  /** Asks the cluster anew. */
  readonly look: (slug: string) => Effect.Effect<KnownTopic, LookupError>
  /** What was known of the topic with this physical name is not true any more. */
  readonly forget: (name: string) => void
}

export const make = (options: {
  readonly session: ProducerSession
  readonly accumulator: Accumulator
  readonly resolve: (slug: string) => string
  readonly now: () => number
}): Effect.Effect<Topics, never, Scope.Scope> =>
  Effect.gen(function*() {
    const fork = yield* FiberSet.makeRuntime<never>()
    const known = new Map<string, KnownTopic>()
    const lookups = new Map<string, Array<(answer: Answer) => void>>()

    const ask = (slug: string): Effect.Effect<KnownTopic, LookupError> => {
      const name = options.resolve(slug)
      return Effect.map(options.session.partitionCount(name), (partitionCount) => {
        const topic: KnownTopic = {
          name,
          queues: options.accumulator.topic(name, partitionCount),
          keyContext: { topic: name, part: "key", headers: RecordHeaders.empty },
          valueContext: { topic: name, part: "value", headers: RecordHeaders.empty },
          staleAt: options.now() + maxAge
        }
        known.set(slug, topic)
        return topic
      })
    }

    /** One question at a time for each topic, in a fiber that is nobody's, so that who waits may be interrupted. */
    const renew = (slug: string, resume: (answer: Answer) => void): void => {
      const running = lookups.get(slug)
      if (running !== undefined) return void running.push(resume)
      const waiting = [resume]
      lookups.set(slug, waiting)
      fork(ask(slug)).addObserver((exit) => {
        lookups.delete(slug)
        const answer = Exit.isInterrupted(exit) ? Exit.fail(closed(options.resolve(slug))) : exit
        for (const resume of waiting) resume(answer)
      })
    }

    return {
      get: (slug, now) => {
        const topic = known.get(slug)
        if (topic !== undefined && now >= topic.staleAt) renew(slug, () => {})
        return topic
      },
      look: (slug) => Effect.async((resume) => renew(slug, resume)),
      forget: (name) => {
        for (const [slug, topic] of known) {
          if (topic.name === name) known.delete(slug)
        }
      }
    }
  })

const closed = (topic: string): ProducerError =>
  new ProducerError({ topic, reason: "closed", retriable: true, description: "the producer is closed" })
