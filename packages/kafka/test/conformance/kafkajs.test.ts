import * as RealKafka from "../support/RealKafka.ts"
import { conformance } from "./Kafka.ts"
import { driver } from "./kafkajs.ts"
import { parts } from "./suite/index.ts"

RealKafka.suite("KafkaJs on a real Kafka", (kafka) => conformance(driver(kafka.bootstrapServers), parts))
