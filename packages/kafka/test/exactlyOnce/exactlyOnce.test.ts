import { exactlyOnce } from "./exactlyOnce.ts"

exactlyOnce("kafkajs")
