import { defineWorkspace } from "vitest/config"

const project = (name: string, root: string) => ({
  test: {
    name,
    root,
    include: ["test/**/*.test.ts"],
    environment: "node" as const
  },
  ssr: { resolve: { conditions: ["@coffeebuddy/source", "module", "node", "development|production"] } },
  resolve: { conditions: ["@coffeebuddy/source", "module", "node", "development|production"] }
})

export default defineWorkspace([
  project("kafka", "packages/kafka"),
  project("kafka-metrics", "packages/kafka-metrics")
])
