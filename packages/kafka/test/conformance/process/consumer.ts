/**
 * A consumer as a program of its own, for tests that send it signals. Told what to read by its one argument, it prints a
 * line for what it does: `record <partition>:<offset>`, `assigned`, `lost`, `closed`.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Consumer from "../../../src/Consumer.ts"
import * as KafkaConfig from "../../../src/KafkaConfig.ts"
import { type KafkaEvent, KafkaObserver } from "../../../src/KafkaEvent.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import { drivers } from "../../support/drivers.ts"
import { textTopic } from "../support.ts"
import type { Task } from "./spawn.ts"

const task = JSON.parse(process.argv[2]!) as Task

const say = (line: string): void => void process.stdout.write(`${line}\n`)

const onEvent = (event: KafkaEvent): void => {
  if (event._tag === "Assigned" && event.partitions.length > 0) say("assigned")
  if (event._tag === "Lost") say("lost")
}

const program = Effect.gen(function*() {
  const consumer = yield* Consumer.make({
    groupId: task.groupId,
    groupProtocol: task.groupProtocol,
    sessionTimeout: task.sessionTimeout,
    heartbeatInterval: 250
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => say("closing")))
  yield* consumer.forEach(
    textTopic(task.slug),
    (record) =>
      Effect.sync(() => say(`record ${record.partition}:${record.offset}`)).pipe(
        Effect.zipRight(record.offset === BigInt(task.stuckAt ?? -1) ? Effect.never : Effect.sleep(task.pace ?? 0))
      ),
    { commitCount: 10, gracePeriod: 0 }
  )
})

Effect.scoped(program).pipe(
  Effect.ensuring(Effect.sync(() => say("closed"))),
  Effect.provideService(KafkaObserver, { enabled: true, onEvent }),
  Effect.provide(
    drivers[task.driver].pipe(
      Layer.provideMerge(KafkaConfig.layer({ brokers: task.brokers, topicPrefix: task.prefix })),
      Layer.merge(TopicRegistry.layerWith({ prefix: task.prefix }))
    )
  ),
  NodeRuntime.runMain
)
