/**
 * Simulates as many lives of a group as one likes.
 *
 *     npm run simulate -- --seeds 10000
 *     npm run simulate -- --from 4711 --seeds 1 --verbose
 */
import { parseArgs } from "node:util"
import { withUsage } from "../../../../scripts/usage.ts"
import { simulate, tell } from "./simulate.ts"

const values = withUsage(import.meta.url, () =>
  parseArgs({
    options: {
      seeds: { type: "string", default: "1000" },
      from: { type: "string", default: "1" },
      verbose: { type: "boolean", default: false },
      help: { type: "boolean", short: "h" }
    }
  }))
const from = Number(values.from)
const seeds = Number(values.seeds)
const startedAt = Date.now()
let failed = 0
let records = 0
let duplicates = 0
let simulated = 0
for (let seed = from; seed < from + seeds; seed++) {
  const result = simulate(seed, { verbose: values.verbose })
  records += result.records
  duplicates += result.duplicates
  simulated += result.elapsed
  if (values.verbose || result.violations.length > 0) console.log(tell(result))
  if (result.violations.length > 0) failed++
  if ((seed - from + 1) % 100 === 0) {
    console.error(
      `${seed - from + 1} of ${seeds} seeds, ${failed} failed, ${Math.round((Date.now() - startedAt) / 1000)} s`
    )
  }
}
console.log(
  `${seeds} seeds, ${failed} failed; ${records} records, ${duplicates} handled again after faults; ${
    Math.round(simulated / 3_600_000)
  } simulated hours in ${Math.round((Date.now() - startedAt) / 1000)} s`
)
process.exitCode = failed === 0 ? 0 : 1
