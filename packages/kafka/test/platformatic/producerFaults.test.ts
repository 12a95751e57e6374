import { faults } from "../sessions/producerFaults.ts"
import { platformatic } from "./sessions.ts"

faults(platformatic)
