/**
 * All works, in the order of the report.
 */
import type { Bench } from "../harness/model.ts"
import { consuming } from "./consuming.ts"
import { passing } from "./passing.ts"
import { processing } from "./processing.ts"
import { producing } from "./producing.ts"
import { stalled } from "./stalled.ts"
import { watching } from "./watching.ts"

export const benches: ReadonlyArray<Bench> = [
  ...consuming,
  ...processing,
  ...producing,
  ...passing,
  ...watching,
  ...stalled
]
