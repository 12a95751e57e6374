/** Starts a program beside this file as a process that ends with the test. */
import * as Effect from "effect/Effect"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import * as Readline from "node:readline"
import type { DriverName } from "../../support/drivers.ts"
import { Seen } from "../support.ts"

export interface Task {
  readonly driver: DriverName
  readonly groupProtocol: "classic" | "consumer"
  readonly brokers: string
  readonly prefix: string
  readonly slug: string
  readonly groupId: string
  /** In milliseconds. */
  readonly sessionTimeout: number
  /** The offset whose handler never ends, or a worker's takes long, if there is one. */
  readonly stuckAt?: number
  /** How long the handlers of the others take, in milliseconds. */
  readonly pace?: number
}

export interface Process {
  /** What it printed. */
  readonly lines: Seen<string>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Its exit code, `undefined` where a signal killed it. */
  readonly exit: Effect.Effect<number | undefined, Error>
}

export const spawn = (task: Task, program: "consumer.ts" | "worker.ts" = "consumer.ts") =>
  Effect.gen(function*() {
    const lines = new Seen<string>()
    const ends = new Seen<number | undefined>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(
          process.execPath,
          ["--import", "tsx", Path.join(import.meta.dirname, program), JSON.stringify(task)],
          { stdio: ["ignore", "pipe", "inherit"] }
        )
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    Readline.createInterface({ input: child.stdout }).on("line", (line) => lines.push(line))
    child.once("close", (code) => ends.push(code ?? undefined))
    const running: Process = {
      lines,
      signal: (signal) => Effect.sync(() => void child.kill(signal)),
      exit: Effect.map(ends.count(1), ([code]) => code)
    }
    return running
  })
