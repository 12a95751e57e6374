import { producing } from "../sessions/producer.ts"
import { kafkajs } from "./sessions.ts"

producing(kafkajs)
