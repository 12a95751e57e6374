import { consumerOutage } from "../sessions/consumerOutage.ts"
import { kafkajs } from "./consumerSupport.ts"

consumerOutage(kafkajs)
