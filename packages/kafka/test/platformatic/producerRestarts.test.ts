import { surviving } from "../sessions/producerRestarts.ts"
import { platformatic } from "./sessions.ts"

surviving(platformatic, [1])
