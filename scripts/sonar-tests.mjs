/**
 * Turns vitest's JSON report into the one that Sonar reads, reports/sonar-tests.xml: `node scripts/sonar-tests.mjs`.
 *
 * https://docs.sonarsource.com/sonarqube-server/latest/analyzing-source-code/test-coverage/generic-test-data/
 */
import { readFileSync, writeFileSync } from "node:fs"
import { relative } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const { testResults } = JSON.parse(readFileSync(new URL("../reports/tests.json", import.meta.url), "utf8"))

const escapes = { "<": "&lt;", ">": "&gt;", "&": "&amp;", "\"": "&quot;", "\n": "&#10;" }
/** XML 1.0 has no other control characters at all. */
const xml = (text) => text.replace(/[<>&"\n]|\p{Cc}/gu, (character) => escapes[character] ?? " ")

const inside = {
  failed: ({ failureMessages: [message = "it failed"] }) =>
    `<failure message="${xml(message.split("\n")[0])}">${xml(message)}</failure>`,
  passed: () => ""
}

const files = testResults.map(({ assertionResults, name }) => {
  const cases = assertionResults.map((test) => {
    const result = inside[test.status]?.(test) ?? `<skipped message="${test.status}"/>`
    return `    <testCase name="${xml(test.fullName)}" duration="${
      Math.round(test.duration ?? 0)
    }">${result}</testCase>\n`
  })
  return `  <file path="${xml(relative(root, name))}">\n${cases.join("")}  </file>\n`
})
writeFileSync(
  new URL("../reports/sonar-tests.xml", import.meta.url),
  `<?xml version="1.0" encoding="UTF-8"?>\n<testExecutions version="1">\n${files.join("")}</testExecutions>\n`
)
