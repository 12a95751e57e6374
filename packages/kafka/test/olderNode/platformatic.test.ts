/**
 * Where this Node is older than the Platformatic driver needs: a newer Node runs its tests, and each is reported here.
 */
// What runs over there is defined here by its result, whatever its name.
/* oxlint-disable vitest/valid-title, vitest/no-disabled-tests, vitest/no-conditional-tests */
import { describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { findNode24 } from "../../../../scripts/node24.ts"
import { askForSharedKafka } from "../support/SharedKafka.ts"

/** As vitest's JSON reporter writes it. */
interface Report {
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{
      readonly fullName: string
      readonly status: string
      readonly failureMessages: ReadonlyArray<string> | null
    }>
  }>
}

const root = fileURLToPath(new URL("../../../../", import.meta.url))

/** Runs the other project, on the Kafka that this run has, and answers its report. */
const runThere = async (node: string): Promise<Report> => {
  const kafka = await askForSharedKafka()
  const folder = await mkdtemp(Path.join(Os.tmpdir(), "coffeebuddy-platformatic-"))
  try {
    const file = Path.join(folder, "report.json")
    const child = spawn(
      node,
      [
        "node_modules/vitest/vitest.mjs",
        "run",
        "--project",
        "platformatic",
        // most of their time is waiting for brokers
        "--maxWorkers=3",
        "--minWorkers=1",
        "--reporter=default",
        "--reporter=json",
        `--outputFile.json=${file}`
      ],
      {
        cwd: root,
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          ...process.env,
          VITEST: undefined,
          ...(kafka._tag === "Available" ? { KAFKA_BOOTSTRAP_SERVERS: kafka.kafka.bootstrapServers } : {})
        }
      }
    )
    let said = ""
    const listen = (chunk: Buffer): void => {
      said = `${said}${chunk.toString("utf8")}`.slice(-8000)
    }
    child.stdout.on("data", listen)
    child.stderr.on("data", listen)
    await new Promise((resolve, reject) => {
      child.once("error", reject)
      child.once("close", resolve)
    })
    const text = await readFile(file, "utf8").catch(() => {
      throw new Error(`vitest on ${node} left no report:\n${said}`)
    })
    return JSON.parse(text) as Report
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const failed = (why: string): void => {
  it("runs on a newer Node", () => {
    throw new Error(why)
  })
}

const reason = (cause: unknown): string => cause instanceof Error ? cause.message : String(cause)

describe("on a newer Node", async () => {
  const node = await findNode24().then((path) => ({ path }), (cause: unknown) => ({ missing: reason(cause) }))
  if ("missing" in node) {
    const why = `there is no newer Node for the tests of the Platformatic driver: ${node.missing}`
    if (process.env["REQUIRE_KAFKA"] === "1" || (process.env["CI"] ?? "") !== "") failed(why)
    else {
      console.warn(`SKIPPED, ${why}`)
      it.skip(`skipped: ${why.split("\n")[0]}`, () => undefined)
    }
    return
  }
  const report = await runThere(node.path).catch(reason)
  if (typeof report === "string") return failed(report)
  for (const file of report.testResults) {
    describe(Path.relative(root, file.name), () => {
      if (file.assertionResults.length === 0) failed(file.message)
      for (const { failureMessages, fullName, status } of file.assertionResults) {
        if (status === "passed") it(fullName, () => undefined)
        else if (status === "failed") {
          it(fullName, () => {
            throw new Error((failureMessages ?? []).join("\n"))
          })
        } else it.skip(fullName, () => undefined)
      }
    })
  }
})
