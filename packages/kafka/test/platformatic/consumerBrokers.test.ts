import { threeBrokers } from "../sessions/consumerOutage.ts"
import { platformatic } from "./consumerSupport.ts"

threeBrokers(platformatic)
