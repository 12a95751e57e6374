/** The command as a process, on a real Kafka: pipes, signals and exit codes. */
import { assert, it } from "@effect/vitest"
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as RealKafka from "../support/RealKafka.ts"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))

interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** `use` gets the process, and sees what it has printed so far each time there is more. */
const execute = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  use: {
    readonly input?: string
    readonly onStdout?: (stdout: string, child: ChildProcessWithoutNullStreams) => void
  } = {}
): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--conditions=@coffeebuddy/source", "--import", "tsx", main, ...args], {
      env: { ...process.env, ...env }
    })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      use.onStdout?.(stdout, child)
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    // a process that has ended reads no more
    child.stdin.on("error", () => {})
    child.stdin.end(use.input ?? "")
    child.once("error", reject)
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }))
  })

RealKafka.suite("coffeebuddy-kafka as a process on a real Kafka", (kafka) => {
  const prefix = `cli-${process.pid}-${Date.now()}`
  const env = { KAFKA_BOOTSTRAP_SERVERS: kafka.bootstrapServers, KAFKA_TOPIC_PREFIX: prefix }

  it(
    "sends what it is given, prints it again, and ends well where head or Ctrl-C ends it",
    { timeout: 120_000 },
    async () => {
      const { default: KafkaJs } = await import("kafkajs")
      const admin = new KafkaJs.Kafka({
        brokers: kafka.bootstrapServers.split(","),
        logLevel: KafkaJs.logLevel.NOTHING
      })
        .admin()
      await admin.connect()
      await admin.createTopics({ topics: [{ topic: `${prefix}.orders`, numPartitions: 3 }] })
      await admin.disconnect()

      const lines = Array.from({ length: 20_000 }, (_, index) => `table-${index % 50}:order ${index} ${"x".repeat(50)}`)
      const sent = await execute(["produce", "orders", "--key-separator", ":"], env, { input: lines.join("\n") })
      assert.deepStrictEqual([sent.code, sent.stderr], [0, ""])
      assert.match(sent.stdout, new RegExp(`^20,000 records to ${prefix}.orders\n  partition 0: `))

      const [all, checked, head, following] = await Promise.all([
        execute(["consume", "orders", "--until-end", "--json"], env),
        execute(["check", "orders"], env),
        // the pipe is closed after the first lines, long before the last is written
        execute(["consume", "orders"], env, { onStdout: (_, child) => child.stdout.destroy() }),
        execute(["consume", "orders"], env, {
          onStdout: (stdout, child) => {
            if (stdout.split("\n").length > 20_000) child.kill("SIGINT")
          }
        })
      ])
      const values = all.stdout.trimEnd().split("\n").map((line) => JSON.parse(line))
      assert.deepStrictEqual([all.code, all.stderr], [0, ""])
      assert.sameMembers(values.map(({ key, value }) => `${key}:${value}`), lines)
      assert.strictEqual(checked.code, 0, checked.stdout + checked.stderr)
      assert.match(checked.stdout, /✓ topics .*\n.*3 partitions, 1 replica of each, 20,000 records\n$/)
      assert.deepStrictEqual([head.code, head.stderr], [0, ""])
      assert.deepStrictEqual([following.code, following.stderr], [130, ""])
      assert.notInclude(following.stdout, "\x1b")
    }
  )
})
