/**
 * One group in several processes. They join first; the clock starts when each holds its share of the partitions, and
 * stops when all of them together have read enough.
 */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Run } from "../harness/model.ts"

/** What a member says. */
export type Said =
  | { readonly _tag: "Holds"; readonly partitions: number }
  | { readonly _tag: "Read"; readonly records: number; readonly cpuSeconds: number }

export const bytes: Run = (work) =>
  new Promise((resolve, reject) => {
    const processes = Number(work.parameters["processes"])
    const holds = new Map<number, number>()
    const read = new Map<number, Said & { readonly _tag: "Read" }>()
    let startedAt = 0n
    const children = Array.from({ length: processes }, (_, index) => {
      const child = fork(fileURLToPath(new URL("scaleOutMember.ts", import.meta.url)), [JSON.stringify(work)], {
        execArgv: ["--import", "tsx"],
        // what it prints is not the answer
        stdio: ["ignore", "ignore", "inherit", "ipc"]
      })
      child.on("message", (said: Said) => {
        if (said._tag === "Holds") {
          holds.set(index, said.partitions)
          const all = [...holds.values()]
          const shared = all.length === processes &&
            all.every((partitions) => partitions === work.partitions / processes)
          if (shared && startedAt === 0n) {
            startedAt = process.hrtime.bigint()
            for (const one of children) one.send("go")
          }
          return
        }
        read.set(index, said)
        const all = [...read.values()]
        if (all.reduce((sum, { records }) => sum + records, 0) < work.records) return
        const seconds = Number(process.hrtime.bigint() - startedAt) / 1e9
        for (const one of children) one.removeAllListeners().kill("SIGKILL")
        resolve({
          records: work.records,
          seconds,
          cpuSeconds: all.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0)
        })
      })
      child.on("exit", (code) => reject(new Error(`a member ended with ${String(code)}`)))
      return child
    })
  })
