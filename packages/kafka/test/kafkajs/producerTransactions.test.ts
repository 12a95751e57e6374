import { transactions } from "../sessions/producerTransactions.ts"
import { kafkajs } from "./sessions.ts"

transactions(kafkajs)
