import { transactions } from "../sessions/producerTransactions.ts"
import { platformatic } from "./sessions.ts"

transactions(platformatic)
