import { producing } from "../sessions/producer.ts"
import { platformatic } from "./sessions.ts"

producing(platformatic)
