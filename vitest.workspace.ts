import type { TestProjectInlineConfiguration } from "vitest/config"
import { isNewEnough } from "./scripts/node24.ts"

/**
 * Whose tests are run: the packages, and the examples. They import each other from source, so no test needs a build.
 *
 * `vitest.config.ts` takes the list from here.
 */
const project = (
  name: string,
  root = `packages/${name}`,
  files: { readonly include?: ReadonlyArray<string>; readonly exclude?: ReadonlyArray<string> } = {}
): TestProjectInlineConfiguration => {
  const conditions = ["@coffeebuddy/source", "module", "node", "development|production"]
  return {
    resolve: { conditions },
    ssr: { resolve: { conditions } },
    // long enough for a property test or a broker's start on a busy machine: what takes longer than this hangs
    test: {
      name,
      root,
      include: [...files.include ?? ["test/**/*.test.ts"]],
      exclude: ["**/node_modules/**", ...files.exclude ?? []],
      environment: "node",
      testTimeout: 30_000,
      hookTimeout: 60_000
    }
  }
}

/**
 * The second driver needs a newer Node than the rest. Where this one is older, one file of `kafka` has a newer one run
 * the tests of that driver, and reports each of them.
 */
const platformatic = "test/platformatic/**/*.test.ts"
const bridge = "test/olderNode/**/*.test.ts"

const kafka = isNewEnough(process.versions.node)
  ? [
    project("kafka", "packages/kafka", { exclude: [platformatic, bridge] }),
    project("platformatic", "packages/kafka", { include: [platformatic] })
  ]
  : [project("kafka", "packages/kafka", { exclude: [platformatic] })]

export default [...kafka, project("kafka-metrics"), project("examples", "examples")]
