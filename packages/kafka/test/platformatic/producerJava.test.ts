import { withJava } from "../sessions/producerJava.ts"
import { platformatic } from "./sessions.ts"

withJava(platformatic)
