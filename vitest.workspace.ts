import type { TestProjectInlineConfiguration } from "vitest/config"

/**
 * The packages whose tests are run. They import each other from source, so no test needs a build.
 *
 * `vitest.config.ts` takes the list from here.
 */
const project = (name: string): TestProjectInlineConfiguration => {
  const conditions = ["@coffeebuddy/source", "module", "node", "development|production"]
  return {
    resolve: { conditions },
    ssr: { resolve: { conditions } },
    // long enough for a property test or a broker's start on a busy machine: what takes longer than this hangs
    test: {
      name,
      root: `packages/${name}`,
      include: ["test/**/*.test.ts"],
      environment: "node",
      testTimeout: 30_000,
      hookTimeout: 60_000
    }
  }
}

export default [project("kafka"), project("kafka-metrics")]
