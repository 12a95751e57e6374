/** Consume, transform, produce, exactly once: `npm run kitchen -w examples`. */
import { Effect } from "effect"
import { Kafka, run } from "../shared.ts"
import { program } from "./program.ts"

program.pipe(Effect.asVoid, Effect.provide(Kafka), run)
