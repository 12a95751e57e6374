import { surviving, survivingTransactions } from "../sessions/producerRestarts.ts"
import { platformatic } from "./sessions.ts"

surviving(platformatic, [1])

survivingTransactions(platformatic, [1, 2, 3])
