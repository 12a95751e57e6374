import { consumer } from "../sessions/consumer.ts"
import { consumerFaults } from "../sessions/consumerFaults.ts"
import { platformatic } from "./consumerSupport.ts"

consumer(platformatic)

consumerFaults(platformatic)
