import type { TestProjectInlineConfiguration } from "vitest/config"

/**
 * Whose tests are run: the packages, and the examples. They import each other from source, so no test needs a build.
 *
 * `vitest.config.ts` takes the list from here.
 */
const project = (name: string, root = `packages/${name}`): TestProjectInlineConfiguration => {
  const conditions = ["@coffeebuddy/source", "module", "node", "development|production"]
  return {
    resolve: { conditions },
    ssr: { resolve: { conditions } },
    // long enough for a property test or a broker's start on a busy machine: what takes longer than this hangs
    test: {
      name,
      root,
      include: ["test/**/*.test.ts"],
      environment: "node",
      testTimeout: 30_000,
      hookTimeout: 60_000
    }
  }
}

export default [project("kafka"), project("kafka-metrics"), project("examples", "examples")]
