import { conformance } from "../conformance/Kafka.ts"
import { driver } from "../conformance/platformatic.ts"
import { parts } from "../conformance/suite/index.ts"
import * as RealKafka from "../support/RealKafka.ts"

RealKafka.suite("Platformatic on a real Kafka", (kafka) => conformance(driver(kafka.bootstrapServers), parts))
