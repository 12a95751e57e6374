/**
 * A worker as a program of its own, for tests that send it signals: what `runMain` makes of it. It prints a line for each
 * record that it begins and that it is done with: `record <partition>:<offset>`, `done <partition>:<offset>`, and `closed`
 * at its end.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ConsumerWorker from "../../../src/ConsumerWorker.ts"
import * as KafkaConfig from "../../../src/KafkaConfig.ts"
import * as TopicRegistry from "../../../src/TopicRegistry.ts"
import { drivers } from "../../support/drivers.ts"
import { textTopic } from "../support.ts"
import type { Task } from "./spawn.ts"

const task = JSON.parse(process.argv[2]!) as Task

const say = (line: string): Effect.Effect<void> => Effect.sync(() => void process.stdout.write(`${line}\n`))

const WorkerLive = ConsumerWorker.layer(
  textTopic(task.slug),
  (record) =>
    say(`record ${record.partition}:${record.offset}`).pipe(
      // long enough for a signal to find it in the middle of a record
      Effect.zipRight(Effect.sleep(record.offset === BigInt(task.stuckAt ?? -1) ? "1 second" : 0)),
      Effect.zipRight(say(`done ${record.partition}:${record.offset}`))
    ),
  {
    groupId: task.groupId,
    groupProtocol: task.groupProtocol,
    sessionTimeout: task.sessionTimeout,
    heartbeatInterval: 250
  }
)

ConsumerWorker.wait.pipe(
  Effect.provide(WorkerLive),
  Effect.ensuring(say("closed")),
  Effect.provide(
    drivers[task.driver].pipe(
      Layer.provideMerge(KafkaConfig.layer({ brokers: task.brokers, topicPrefix: task.prefix })),
      Layer.merge(TopicRegistry.layerWith({ prefix: task.prefix }))
    )
  ),
  NodeRuntime.runMain
)
