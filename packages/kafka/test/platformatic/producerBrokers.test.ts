import { brokers } from "../sessions/producerBrokers.ts"
import { platformatic } from "./sessions.ts"

brokers(platformatic)
