import { withJava } from "../sessions/producerJava.ts"
import { kafkajs } from "./sessions.ts"

withJava(kafkajs)
