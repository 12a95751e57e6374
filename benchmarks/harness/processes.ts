/**
 * Runs a contender in a process of its own.
 */
import { spawn } from "node:child_process"
import type { Contender, Measured, Work } from "./model.ts"

/** Rejects with {@link Unavailable} where the contender can't be had, and with what it printed where it failed. */
export const measure = async (contender: Contender, work: Work, timeoutMs: number): Promise<Measured> => {
  const { args, cwd, file } = await contender.command()
  const child = spawn(file, [...args, JSON.stringify({ ...work, parameters: contender.parameters })], {
    stdio: ["ignore", "pipe", "pipe"],
    ...(cwd === undefined ? {} : { cwd })
  })
  let printed = ""
  let complained = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => printed += text)
  child.stderr.setEncoding("utf8").on("data", (text: string) => complained = (complained + text).slice(-4000))
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs)
  const outcome = await new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message))
    child.on("close", (code, signal) => resolve(signal ?? String(code)))
  })
  clearTimeout(timer)
  const last = printed.trim().split("\n").at(-1) ?? ""
  if (outcome !== "0" || !last.startsWith("{")) {
    const killed = outcome === "SIGKILL" ? ` (it may take ${timeoutMs / 1000} s)` : ""
    throw new Error(`${contender.name} ended with ${outcome}${killed}\n${complained.trim()}`)
  }
  return JSON.parse(last) as Measured
}
