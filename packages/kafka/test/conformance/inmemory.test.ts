import { describe } from "@effect/vitest"
import { driver, failing } from "./inmemory.ts"
import { conformance, testOn } from "./Kafka.ts"
import { parts } from "./suite/index.ts"
import { outages } from "./suite/outages.ts"

describe("InMemoryKafka", () => {
  conformance(driver, parts)
  outages(testOn(failing))
})
