import { describe } from "@effect/vitest"
import { driver } from "./inmemory.ts"
import { conformance } from "./Kafka.ts"
import { parts } from "./suite/index.ts"

describe("InMemoryKafka", () => {
  conformance(driver, parts)
})
