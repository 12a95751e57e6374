import * as RealKafka from "../support/RealKafka.ts"
import { testOn } from "./Kafka.ts"
import { driver } from "./kafkajs.ts"
import { processes } from "./suite/processes.ts"

// InMemoryKafka has no counterpart: what is in one process can't be frozen or told to end
RealKafka.suite("KafkaJs in a process of its own", ({ bootstrapServers }) => {
  processes(testOn(driver(bootstrapServers).cluster), { brokers: bootstrapServers, driver: "kafkajs" })
})
