/**
 * A morning at CoffeeBuddy: coffee runs become events, events become state. `npm start -- --help` says what may be said.
 */
import { Effect } from "effect"
import { cli, run } from "./cli.ts"
import * as Projection from "./projection.ts"

cli(process.argv.slice(2)).pipe(Effect.provide(Projection.layer), run)
