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
    test: { name, root: `packages/${name}`, include: ["test/**/*.test.ts"], environment: "node" }
  }
}

export default [project("kafka"), project("kafka-metrics")]
