import { describe } from "@effect/vitest"
import { conformance } from "../conformance/Kafka.ts"
import { driver } from "../conformance/platformatic.ts"
import { failures } from "../conformance/suite/failures.ts"
import { groups } from "../conformance/suite/groups.ts"
import * as RealKafka from "../support/RealKafka.ts"

RealKafka.suite("Platformatic's other ways to be in a group, on a real Kafka", (kafka) => {
  const on = driver(kafka.bootstrapServers)
  describe.concurrent("each", () => {
    describe("eager", () => {
      conformance(on, [groups], { members: { rebalanceProtocol: "eager" } })
    })

    describe("of KIP-848", () => {
      conformance(on, [groups, failures], { members: { groupProtocol: "consumer" } })
    })
  })
})
