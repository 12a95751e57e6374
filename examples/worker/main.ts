/** A worker with retries and dead letters: `npm run worker -w examples`. */
import { Producer } from "@coffeebuddy/kafka"
import { Effect, Layer } from "effect"
import { Kafka, run } from "../shared.ts"
import { TillLive } from "./loyalty.ts"
import { program } from "./program.ts"

program.pipe(Effect.provide(Layer.merge(Producer.layer(), TillLive)), Effect.provide(Kafka), run)
