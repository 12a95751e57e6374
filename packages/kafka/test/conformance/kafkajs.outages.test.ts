import * as RealKafka from "../support/RealKafka.ts"
import { testOn } from "./Kafka.ts"
import { failing } from "./kafkajs.ts"
import { outages } from "./suite/outages.ts"

RealKafka.suiteOfOwn("KafkaJs on a real Kafka that goes down", () => {
  outages(testOn(failing))
})
