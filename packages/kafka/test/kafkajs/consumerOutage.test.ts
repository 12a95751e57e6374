import { oneBroker, threeBrokers } from "../sessions/consumerOutage.ts"
import { kafkajs } from "./consumerSupport.ts"

oneBroker(kafkajs)

threeBrokers(kafkajs)
