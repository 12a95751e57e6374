import { consumerOutage } from "../sessions/consumerOutage.ts"
import { platformatic } from "./consumerSupport.ts"

consumerOutage(platformatic)
