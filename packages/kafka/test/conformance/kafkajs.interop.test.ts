import * as RealKafka from "../support/RealKafka.ts"
import { testOn } from "./Kafka.ts"
import { driver } from "./kafkajs.ts"
import { interop } from "./suite/interop.ts"

RealKafka.suiteOfOwn("KafkaJs and Java", (distribution) => {
  RealKafka.suite("on one real Kafka", ({ bootstrapServers }) => {
    interop(testOn(driver(bootstrapServers).cluster), { distribution, bootstrapServers })
  })
})
