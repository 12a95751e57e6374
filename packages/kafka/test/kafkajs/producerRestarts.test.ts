import { surviving } from "../sessions/producerRestarts.ts"
import { kafkajs } from "./sessions.ts"

surviving(kafkajs, [1, 2, 3])
