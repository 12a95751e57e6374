import * as Effect from "effect/Effect"
import * as Compression from "../../src/drivers/kafkajs/compression.ts"
import { withJava } from "../sessions/producerJava.ts"
import { platformatic } from "./sessions.ts"

// a plain kafkajs consumer reads what is stored
Effect.runSync(Compression.install)

withJava(platformatic)
