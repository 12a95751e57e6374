/**
 * The example as a process: what `npm start` shows, and its exit code.
 */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { type AddressInfo, createServer } from "node:net"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a file of the example in a pipe. `onStdout` sees all that was printed so far. */
const execute = (
  file: string,
  args: ReadonlyArray<string>,
  options: {
    readonly env?: Record<string, string>
    readonly onStdout?: (stdout: string, kill: (signal: NodeJS.Signals) => void) => void
  } = {}
): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const { KAFKA_BOOTSTRAP_SERVERS: _, ...env } = process.env
    const child = spawn(
      process.execPath,
      ["--conditions=@coffeebuddy/source", "--import", "tsx", `examples/${file}`, ...args],
      { cwd: root, env: { ...env, ...options.env }, stdio: ["ignore", "pipe", "pipe"] }
    )
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      options.onStdout?.(stdout, (signal) => child.kill(signal))
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    child.once("error", reject)
    child.once("close", (code) => resolve({ code, stdout, stderr }))
  })

const main = "run-events/main.ts"

describe.concurrent("npm start", { timeout: 120_000 }, () => {
  it("ends with 0 and a summary in which all is well", async () => {
    const { code, stderr, stdout } = await execute(main, ["--runs", "3", "--seconds", "0"])
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.match(stdout, /\n3 runs and \d+ events in [\d.]+ s\n( {2}ok {2}.*\n){6}$/)
    assert.notInclude(stdout, "\x1b")
  })

  it("ends with 1 when the summary is wrong", async () => {
    const { code, stderr, stdout } = await execute("test/fixtures/forgetful.ts", ["--runs", "3", "--seconds", "0"])
    assert.strictEqual(code, 1)
    assert.match(stdout, / {2}WRONG {2}projection: 2 of 3 runs are in the state that was planned, not run-\w+-1\n/)
    assert.match(stderr, /^The summary is wrong/)
  })

  it("stops cleanly on SIGTERM", async () => {
    let killed = false
    const { code, stderr, stdout } = await execute(main, ["--seconds", "3600"], {
      onStdout: (_, kill) => {
        if (!killed) kill("SIGTERM")
        killed = true
      }
    })
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.match(stdout, /\nStopped after \d+ of \d+ events\. What was processed is committed\.\n$/)
  })

  it("says where its metrics are, and serves them for as long as it is told to", async () => {
    let scraped: Promise<{ readonly page: string; readonly health: string }> | undefined
    const text = async (address: string) => (await fetch(address)).text()
    const { code, stderr, stdout } = await execute(main, ["--runs", "3", "--seconds", "0", "--keep-serving"], {
      onStdout: (stdout, kill) => {
        const page = /^Metrics: (http:\/\/localhost:\d+\/metrics)$/m.exec(stdout)?.[1]
        if (page === undefined || scraped !== undefined || !stdout.includes("still served")) return
        scraped = Promise.all([text(page), text(page.replace("metrics", "health/live"))])
          .then(([page, health]) => ({ page, health }))
          .finally(() => kill("SIGTERM"))
      }
    })
    assert.strictEqual(stderr, "")
    assert.strictEqual(code, 0)
    assert.match(stdout, /( {2}ok {2}.*\n){6}/)
    const answer = await scraped
    const events = /^3 runs and (\d+) events/m.exec(stdout)?.[1]
    const labels = "service=\"run-events\",group=\"run-events-example-printer\",topic=\"coffeebuddy.run-events\""
    assert.include(answer?.page, `kafka_consumer_records_total{${labels}} ${events}\n`)
    assert.include(answer?.health, "\"live\": true")
  })

  it("ends with 1 and a sentence when the port for its metrics is taken", async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, resolve))
    const { port } = server.address() as AddressInfo
    const { code, stderr } = await execute(main, ["--metrics-port", String(port)])
    await new Promise((resolve) => server.close(resolve))
    assert.strictEqual(code, 1)
    assert.strictEqual(stderr, `metrics (listen): port ${port}: something else listens there already\n`)
  })

  it("ends with 1 and a sentence when a variable is wrong", async () => {
    const { code, stderr } = await execute(main, [], { env: { KAFKA_BOOTSTRAP_SERVERS: "kafka:port" } })
    assert.strictEqual(code, 1)
    assert.include(stderr, "KAFKA_BOOTSTRAP_SERVERS")
    assert.notInclude(stderr, "    at ")
  })
})
