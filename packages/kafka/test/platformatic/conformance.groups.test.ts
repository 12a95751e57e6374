import { describe } from "@effect/vitest"
import { conformance } from "../conformance/Kafka.ts"
import { driver } from "../conformance/platformatic.ts"
import { commits } from "../conformance/suite/commits.ts"
import { failures } from "../conformance/suite/failures.ts"
import { groups } from "../conformance/suite/groups.ts"
import { streams } from "../conformance/suite/streams.ts"
import * as RealKafka from "../support/RealKafka.ts"

const parts = [groups, failures, commits, streams]

RealKafka.suite("Platformatic's other ways to be in a group, on a real Kafka", (kafka) => {
  describe.concurrent("each", () => {
    describe("eager", () =>
      conformance(driver(kafka.bootstrapServers), parts, { members: { rebalanceProtocol: "eager" } }))

    describe("of KIP-848", () =>
      conformance(driver(kafka.bootstrapServers), parts, { members: { groupProtocol: "consumer" } }))
  })
})
