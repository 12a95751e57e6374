import { describe } from "@effect/vitest"
import { driver, failing } from "./inmemory.ts"
import { conformance, testOn } from "./Kafka.ts"
import { failures } from "./suite/failures.ts"
import { groups } from "./suite/groups.ts"
import { parts } from "./suite/index.ts"
import { outages } from "./suite/outages.ts"

describe("InMemoryKafka", () => {
  conformance(driver, parts)
  outages(testOn(failing))
})

describe("InMemoryKafka with rebalances that revoke everything", () => {
  conformance(driver, [groups, failures], { members: { rebalanceProtocol: "eager" } })
})
