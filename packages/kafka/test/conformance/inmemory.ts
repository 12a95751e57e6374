/** The suite's brokers in this process. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import { Broker, type Driver, Outage } from "./Kafka.ts"

const brokers = InMemoryKafka.layerWith({ minSessionTimeout: "1 second", metadataRefresh: "1 second" })

const controls = Layer.effectContext(Effect.gen(function*() {
  const broker = yield* InMemoryKafka.InMemoryBroker
  return Broker.context({
    slowJoins: Effect.asVoid(broker.delay("join-group", "200 millis")),
    evict: (groupId, memberId) => Effect.asVoid(broker.expireSession(groupId, memberId)),
    compact: (topicPartition) => Effect.asVoid(broker.compact(topicPartition))
  })
}))

const outage = Layer.effectContext(Effect.gen(function*() {
  const broker = yield* InMemoryKafka.InMemoryBroker
  return Outage.context({ begin: Effect.asVoid(broker.kill()), end: Effect.asVoid(broker.restart()) })
}))

const cluster = Layer.provideMerge(controls, brokers)

export const driver: Driver = {
  name: "InMemoryKafka",
  cluster,
  inMemory: cluster,
  unreachable: Layer.provideMerge(
    Layer.effectDiscard(Effect.flatMap(InMemoryKafka.InMemoryBroker, (broker) => broker.kill())),
    InMemoryKafka.layerWith({ connectionTimeout: "500 millis" })
  )
}

/** A cluster that may go down. */
export const failing = Layer.provideMerge(outage, cluster)
