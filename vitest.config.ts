import { defineConfig } from "vitest/config"
import projects from "./vitest.workspace.ts"

/** In CI, and with coverage, the results are written as files too: JUnit for dashboards, JSON for scripts. */
const withFiles = (process.env["CI"] ?? "") !== "" || process.argv.includes("--coverage")

export default defineConfig({
  test: {
    projects,
    globalSetup: ["packages/kafka/test/support/globalSetup.ts"],
    reporters: [
      "default",
      ...(process.env["GITHUB_ACTIONS"] === "true" ? ["github-actions"] : []),
      ...(withFiles ? ["junit", "json"] : [])
    ],
    outputFile: { junit: "reports/junit.xml", json: "reports/tests.json" },
    coverage: {
      provider: "v8",
      include: ["packages/*/src/**/*.ts"],
      reporter: ["text-summary", "lcov"],
      reportsDirectory: "reports/coverage"
    }
  }
})
