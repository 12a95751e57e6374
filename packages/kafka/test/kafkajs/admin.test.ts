import { administration } from "../sessions/admin.ts"
import { kafkajs } from "./sessions.ts"

administration(kafkajs)
