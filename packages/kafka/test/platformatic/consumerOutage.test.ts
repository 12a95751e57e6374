import { oneBroker } from "../sessions/consumerOutage.ts"
import { platformatic } from "./consumerSupport.ts"

oneBroker(platformatic)
