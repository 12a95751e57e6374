/**
 * Counts what vitest's JSON report says, in one plain line: `node scripts/count-tests.mjs reports/tests.json`.
 *
 * A file that fails as a whole, before or after its tests, counts as one failure more.
 */
import { readFileSync } from "node:fs"

const { success, testResults } = JSON.parse(readFileSync(process.argv[2], "utf8"))
const statuses = testResults.flatMap((file) => {
  const own = file.assertionResults.map((test) => test.status)
  return file.status === "failed" && !own.includes("failed") ? [...own, "failed"] : own
})
const count = (status) => statuses.filter((one) => one === status).length
const passed = count("passed")
const failed = count("failed")
console.log(`${passed} passed, ${failed} failed, ${statuses.length - passed - failed} skipped`)
if (!success || failed > 0 || passed === 0) process.exitCode = 1
