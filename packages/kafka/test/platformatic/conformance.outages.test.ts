import { testOn } from "../conformance/Kafka.ts"
import { failing } from "../conformance/platformatic.ts"
import { outages } from "../conformance/suite/outages.ts"
import * as RealKafka from "../support/RealKafka.ts"

RealKafka.suiteOfOwn("Platformatic on a real Kafka that goes down", () => {
  outages(testOn(failing))
})
