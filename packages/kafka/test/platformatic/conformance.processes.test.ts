import { describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { testOn } from "../conformance/Kafka.ts"
import { driver } from "../conformance/platformatic.ts"
import { processes } from "../conformance/suite/processes.ts"
import * as RealKafka from "../support/RealKafka.ts"

const library = await import("@platformatic/kafka")

const { GROUP } = library.ConfigResourceTypes
const { SET } = library.IncrementalAlterConfigOperationTypes

/** In a group of KIP-848 this is not for its members to say. */
const allow = (brokers: string) => (groupId: string, sessionTimeout: number) =>
  Effect.acquireUseRelease(
    Effect.sync(() => new library.Admin({ clientId: "test", bootstrapBrokers: brokers.split(",") })),
    (admin) =>
      Effect.tryPromise(() =>
        admin.incrementalAlterConfigs({
          resources: [{
            resourceType: GROUP,
            resourceName: groupId,
            configs: [{
              name: "consumer.session.timeout.ms",
              configOperation: SET,
              value: String(sessionTimeout)
            }, {
              name: "consumer.heartbeat.interval.ms",
              configOperation: SET,
              value: "250"
            }]
          }]
        })
      ),
    (admin) => Effect.promise(() => admin.close())
  )

RealKafka.suite("Platformatic in a process of its own", ({ bootstrapServers: brokers }) => {
  const test = testOn(driver(brokers).cluster)
  describe("in a classic group", () => {
    processes(test, { brokers, driver: "platformatic" })
  })

  describe("in a group of KIP-848", () => {
    processes(test, { brokers, driver: "platformatic", groupProtocol: "consumer", allow: allow(brokers) })
  })
})
