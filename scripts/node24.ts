/**
 * A newer Node than the one that runs this, for what needs one: the Platformatic driver and its tests.
 *
 * It comes from the npm package `node`, installed into the cache apart from the workspace, where its `bin` would stand
 * in front of the Node that was chosen.
 *
 *     tsx scripts/node24.ts --version
 */
import { execFile, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdir } from "node:fs/promises"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { promisify } from "node:util"
import { cacheDirectory } from "./kafka/distribution.ts"

export const version = "24.21.0"

/** What the driver asks for. */
const needed = [22, 22] as const

export const isNewEnough = (node: string): boolean => {
  const [major = 0, minor = 0] = node.split(".").map(Number)
  return major > needed[0] || (major === needed[0] && minor >= needed[1])
}

const run = promisify(execFile)

/** Its path: this Node where it is new enough, else one from the cache, else a freshly installed one. */
export const findNode24 = async (): Promise<string> => {
  if (isNewEnough(process.versions.node)) return process.execPath
  const directory = path.join(cacheDirectory(), "node-24")
  const bin = path.join(directory, "node_modules", "node", "bin", "node")
  const answers = async (): Promise<boolean> =>
    existsSync(bin) && (await run(bin, ["--version"])).stdout.trim() === `v${version}`
  if (await answers().catch(() => false)) return bin
  await mkdir(directory, { recursive: true })
  await run("npm", ["install", "--prefix", directory, "--no-audit", "--no-fund", "--no-save", `node@${version}`], {
    timeout: 300_000
  })
  if (!await answers()) throw new Error(`node@${version} was installed into ${directory}, and does not run`)
  return bin
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const child = spawn(await findNode24(), process.argv.slice(2), { stdio: "inherit" })
  child.once("exit", (code, signal) => process.exit(code ?? (signal === null ? 0 : 1)))
}
