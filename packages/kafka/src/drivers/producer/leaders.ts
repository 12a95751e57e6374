/**
 * Who leads the partitions that are produced to, as far as is known.
 */
import * as Effect from "effect/Effect"
import type { ClientError } from "../../KafkaError.ts"
import type { TopicPartition } from "../../TopicPartition.ts"
import type { Leaders, LookupError, Transport } from "./transport.ts"

interface Known {
  readonly leaders: Leaders
  /** Whether it turned out not to be so any more. */
  stale: boolean
}

export class KnownLeaders {
  private readonly transport: Transport
  private readonly topics = new Map<string, Known>()

  constructor(transport: Transport) {
    this.transport = transport
  }

  /** The leaders of a topic as they are now: whoever asks has a reason, such as a partition that was added just now. */
  lookUp(topic: string): Effect.Effect<Leaders, LookupError> {
    return Effect.flatMap(this.refresh([topic]), (errors) => {
      const error = errors.get(topic)
      return error === undefined ? Effect.sync(() => this.topics.get(topic)!.leaders) : Effect.fail(error)
    })
  }

  /** Asks who leads these topics. Answers what stands in the way, by topic. */
  refresh(topics: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, LookupError>, ClientError> {
    return Effect.map(this.transport.leaders(topics), (found) => {
      const errors = new Map<string, LookupError>()
      for (const [topic, answer] of found) {
        if (isLeaders(answer)) this.topics.set(topic, { leaders: answer, stale: false })
        else {
          errors.set(topic, answer)
          if (answer._tag === "UnknownTopicError") this.topics.delete(topic)
        }
      }
      return errors
    })
  }

  has({ partition, topic }: TopicPartition): boolean {
    return this.topics.get(topic)?.leaders.has(partition) === true
  }

  /** The node that leads it, if there is one. */
  of({ partition, topic }: TopicPartition): number | undefined {
    return this.topics.get(topic)?.leaders.get(partition)
  }

  /** Whether the cluster has to be asked. */
  isUnclear(tp: TopicPartition): boolean {
    return this.topics.get(tp.topic)?.stale !== false || this.of(tp) === undefined
  }

  /** It turned out not to be so any more. */
  doubt(topic: string): void {
    const known = this.topics.get(topic)
    if (known !== undefined) known.stale = true
  }
}

const isLeaders = (found: Leaders | LookupError): found is Leaders => !("_tag" in found)
