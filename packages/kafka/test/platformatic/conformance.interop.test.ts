import { testOn } from "../conformance/Kafka.ts"
import { driver } from "../conformance/platformatic.ts"
import { interop } from "../conformance/suite/interop.ts"
import { mixedGroups } from "../conformance/suite/mixedGroups.ts"
import * as RealKafka from "../support/RealKafka.ts"

RealKafka.suiteOfOwn("Platformatic and Java", (distribution) => {
  RealKafka.suite("on one real Kafka", ({ bootstrapServers }) => {
    const test = testOn(driver(bootstrapServers).cluster)
    interop(test, { distribution, bootstrapServers })
    mixedGroups(test, { distribution, bootstrapServers })
  })
})
