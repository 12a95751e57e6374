import { threeBrokers } from "../sessions/consumerOutage.ts"
import { platformatic } from "./consumerSupport.ts"

// what one broker does is in the conformance suite
threeBrokers(platformatic)
