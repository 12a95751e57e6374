/**
 * Child processes that never outlive us, not even when we are killed with SIGKILL.
 */
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process"
import type { Writable } from "node:stream"

/** What a finished command said. */
export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/**
 * The trick: a shell first leaves a watcher behind, then turns into the program itself. The watcher reads a pipe that
 * only we hold open. A line means that all went well; an end without a line means that we died, and then the program
 * is killed and its folder removed. A stopped (SIGSTOP) program is killed just so.
 */
const supervise = `
watched=$$
(
  if ! read -r line <&3; then
    kill -9 "$watched"
    tries=0
    while kill -0 "$watched" && [ "$tries" -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
    [ -z "$KAFKA_HARNESS_REMOVE" ] || rm -rf "$KAFKA_HARNESS_REMOVE"
  fi
) </dev/null >/dev/null 2>&1 &
exec "$@" 3<&-
`

/**
 * Starts a program whose life is bound to ours. `remove` names a folder that shall go too when we are killed and so
 * cannot tidy up.
 */
export const spawnBound = (
  command: string,
  args: ReadonlyArray<string>,
  options: {
    readonly stdio: readonly [stdin: "ignore" | "pipe", stdout: "pipe" | number, stderr: "pipe" | number]
    readonly remove?: string | undefined
  }
): ChildProcess => {
  const child = spawn("/bin/sh", ["-c", supervise, "sh", command, ...args], {
    // Its own session: a Ctrl-C in the terminal is for us to handle.
    detached: true,
    stdio: [...options.stdio, "pipe"] as StdioOptions,
    env: { ...process.env, KAFKA_HARNESS_REMOVE: options.remove ?? "" }
  })
  const lifeline = child.stdio[3] as Writable | null | undefined
  lifeline?.on("error", () => undefined)
  child.once("exit", () => lifeline?.end("done\n"))
  return child
}

/**
 * Runs a command to its end and answers with what it said. Rejects only when the command cannot be started.
 */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly input?: string | Uint8Array | undefined } = {}
): Promise<Finished> =>
  new Promise((resolve, reject) => {
    const child = spawnBound(command, args, { stdio: ["pipe", "pipe", "pipe"] })
    const out: Array<Buffer> = []
    const err: Array<Buffer> = []
    child.stdout?.on("data", (chunk: Buffer) => out.push(chunk))
    child.stderr?.on("data", (chunk: Buffer) => err.push(chunk))
    child.once("error", reject)
    child.once("close", (code) => {
      const stdout = Buffer.concat(out).toString("utf8")
      const stderr = Buffer.concat(err).toString("utf8")
      if (code === 127 && stderr.includes("not found")) reject(new Error(stderr.trim()))
      else resolve({ code, stdout, stderr })
    })
    child.stdin?.on("error", () => undefined)
    child.stdin?.end(options.input ?? "")
  })
