/** Workers in a test: their topics in memory, and what was handled. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ConsumerRecord } from "../../src/ConsumerRecord.ts"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import { type KafkaEvent, KafkaObserver } from "../../src/KafkaEvent.ts"
import * as Producer from "../../src/Producer.ts"
import type * as RecordHeaders from "../../src/RecordHeaders.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"

export const Runs = Topic.make("runs", { key: Serde.nullable(Serde.string), value: Serde.string, partitions: 2 })
export const DeadRuns = Topic.make("runs.dlt", { key: Serde.nullable(Serde.string), value: Serde.string })

export type RunRecord = ConsumerRecord<string | null, string>

/** A broker with these topics, and a producer. */
export const kafka = (topics: ReadonlyArray<Topic.Any> = [Runs, DeadRuns]) =>
  Layer.effectDiscard(TopicRegistry.ensure(topics)).pipe(
    Layer.provideMerge(Producer.layer()),
    Layer.provideMerge(Layer.merge(InMemoryKafka.layer, TopicRegistry.layerWith({})))
  )

/** Runs an effect, and keeps the events of what it makes. */
export const watching = <A, E, R>(events: Array<KafkaEvent>, effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, KafkaObserver, { enabled: true, onEvent: (event) => void events.push(event) })

export const eventsOf = <Tag extends KafkaEvent["_tag"]>(events: ReadonlyArray<KafkaEvent>, tag: Tag) =>
  events.filter((event): event is Extract<KafkaEvent, { readonly _tag: Tag }> => event._tag === tag)

/** Writes `key:value` texts to a partition, in order. */
export const write = (values: ReadonlyArray<string>, partition = 0) =>
  Producer.sendAll(Runs, values.map((value) => ({ key: value.split(":")[0]!, value, partition })))

/** Headers as a test reads them. */
export const texts = (headers: RecordHeaders.RecordHeaders): ReadonlyArray<readonly [string, string | null]> =>
  headers.map(([name, value]) => [name, value === null ? null : Buffer.from(value).toString("utf8")])

/** A partition's log in memory. */
export const logOf = (topic: string, partition = 0) =>
  Effect.flatMap(InMemoryKafka.InMemoryBroker, (broker) => broker.log({ topic, partition }))

/** What a group has committed in a partition. */
export const committedOf = (groupId: string, topic = "runs", partition = 0) =>
  Effect.flatMap(InMemoryKafka.InMemoryBroker, (broker) =>
    Effect.map(
      broker.committed(groupId),
      (all) => all.find((one) => one.topic === topic && one.partition === partition)?.offset
    ))
