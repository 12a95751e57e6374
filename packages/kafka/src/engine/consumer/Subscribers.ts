/**
 * The streams of a consumer, and what the driver has to read for them.
 */
import type * as KafkaClient from "../../KafkaClient.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { covers, overlap, type Source, type Subscriber } from "./Subscriber.ts"

export class Subscribers {
  readonly all = new Set<Subscriber>()
  /** Whether streams name their partitions, or join the group: the first one decides. */
  private manual: boolean | undefined = undefined

  /** Adds a stream, or says why it can't be. */
  add(subscriber: Subscriber): string | undefined {
    const manual = subscriber.source._tag === "Manual"
    if (manual !== (this.manual ?? manual)) {
      return "one stream names its partitions and another joins the group: use two consumers"
    }
    for (const other of this.all) {
      if (other.closedAt !== undefined) continue
      if (other.source._tag === "Pattern" || subscriber.source._tag === "Pattern") {
        return "a pattern needs a consumer of its own: two sources would share topics"
      }
      if (overlap(other.source, subscriber.source)) {
        return "another stream of this consumer reads the same topic: they would share its records"
      }
    }
    this.manual = manual
    this.all.add(subscriber)
    return undefined
  }

  /** Streams that have ended and only wait for commits give way to a new one. */
  displace(subscriber: Subscriber): void {
    for (const other of this.all) {
      if (other.closedAt !== undefined && overlap(other.source, subscriber.source)) this.all.delete(other)
    }
  }

  /** The stream that reads a partition. */
  of(topicPartition: TopicPartition.TopicPartition): Subscriber | undefined {
    for (const subscriber of this.all) {
      if (subscriber.closedAt === undefined && covers(subscriber.source, topicPartition)) return subscriber
    }
    return undefined
  }

  /** Whether a reader has not ended yet. */
  get reading(): boolean {
    for (const { lanes } of this.all) for (const lane of lanes) if (!lane.closed) return true
    return false
  }

  /** What the driver has to read for all of them. */
  get subscription(): KafkaClient.Subscription {
    return toSubscription([...this.all].map((one) => one.source), this.manual === true)
  }
}

const toSubscription = (sources: ReadonlyArray<Source>, manual: boolean): KafkaClient.Subscription => {
  const topics = new Set<string>()
  const partitions: Array<TopicPartition.TopicPartition> = []
  for (const source of sources) {
    if (source._tag === "Pattern") return source
    if (source._tag === "Topics") { for (const topic of source.topics) topics.add(topic) }
    else for (const partition of source.partitions.keys()) partitions.push(TopicPartition.make(source.topic, partition))
  }
  return manual ? { _tag: "Manual", partitions } : { _tag: "Topics", topics }
}

/** The same text for the same subscription. */
export const describe = (subscription: KafkaClient.Subscription): string => {
  switch (subscription._tag) {
    case "Topics":
      return [...subscription.topics].sort().join(",")
    case "Pattern":
      return `/${subscription.pattern.source}/${subscription.pattern.flags}`
    case "Manual":
      return subscription.partitions.map(TopicPartition.key).sort().join(",")
  }
}
