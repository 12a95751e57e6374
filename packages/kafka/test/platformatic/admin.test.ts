import { administration } from "../sessions/admin.ts"
import { platformatic } from "./sessions.ts"

administration(platformatic)
