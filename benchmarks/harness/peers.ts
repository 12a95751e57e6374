/**
 * Contenders that are not made of this repository's packages: how what they need is had, once, and how they are run.
 */
import { execFile } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdir } from "node:fs/promises"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { cacheDirectory, resolveDistribution } from "../../scripts/kafka/index.ts"
import { type Contender, nodeArguments, type Parameters, Unavailable } from "./model.ts"

const run = promisify(execFile)
const folder = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url))
const worker = fileURLToPath(new URL("../worker.ts", import.meta.url))

/** Runs it once, however often it is asked for. */
const once = <A>(make: () => Promise<A>): () => Promise<A> => {
  let made: Promise<A> | undefined
  return () => made ??= make()
}

const orUnavailable = (what: string) => (error: unknown): never => {
  const said = error instanceof Error ? error.message.trim().split("\n").at(-1) ?? "" : String(error)
  throw new Unavailable(`${what}: ${said}`)
}

/** Installs `peers/package.json`. */
const installPeers = once(async () => {
  if (existsSync(path.join(folder("peers"), "node_modules", ".package-lock.json"))) return
  console.error("installing the other clients")
  await run("npm", ["ci", "--no-audit", "--no-fund", "--prefix", folder("peers")], { timeout: 300_000 })
    .catch(orUnavailable("the other clients can't be installed"))
})

/** A Node that is new enough for @platformatic/kafka: this one, or one from the npm package `node`. */
const newerNode = once(async () => {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
  if (major > 22 || (major === 22 && minor >= 22)) return process.execPath
  const prefix = path.join(cacheDirectory(), "node-24")
  const binary = path.join(prefix, "node_modules", "node", "bin", "node")
  if (!existsSync(binary)) {
    console.error("installing Node 24 from the npm package node")
    await mkdir(prefix, { recursive: true })
    await run("npm", ["install", "--no-audit", "--no-fund", "--prefix", prefix, "node@24.21.0"], { timeout: 300_000 })
      .catch(orUnavailable("Node 24 can't be installed"))
  }
  return binary
})

/** A client in `peers/`, run by this Node or by a newer one. */
export const inPeer = (
  name: string,
  [module, run]: readonly [string, string],
  node: "this" | "newer" = "this"
): Contender => ({
  name,
  parameters: {},
  foreign: true,
  command: async () => {
    await installPeers()
    return {
      file: node === "this" ? process.execPath : await newerNode(),
      args: ["--import", "tsx", worker, new URL(`../peers/${module}.mjs`, import.meta.url).href, run],
      cwd: folder("..")
    }
  }
})

/** A contender of this repository that needs a newer Node. */
export const inNewerNode = (
  name: string,
  [module, run]: readonly [string, string],
  parameters: Parameters = {}
): Contender => ({
  name,
  parameters,
  command: async () => ({ file: await newerNode(), args: nodeArguments(module, run) })
})

/** The Java client, from the broker's own jars. */
export const inJava = (name: string, command: string): Contender => ({
  name,
  parameters: {},
  foreign: true,
  command: async () => {
    const { classPath, java } = await resolveDistribution().catch(orUnavailable("no Java client"))
    const options = ["-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classPath]
    return { file: java, args: [...options, path.join(folder("java"), "Bench.java"), command] }
  }
})

const aiokafka = "0.12.0"

/** A folder of its own for Python's packages. */
const python = once(async () => {
  const venv = path.join(cacheDirectory(), `aiokafka-${aiokafka}`)
  const binary = path.join(venv, "bin", "python")
  if (!existsSync(path.join(venv, "ready"))) {
    console.error("installing aiokafka")
    await run("python3", ["-m", "venv", venv]).catch(orUnavailable("no Python"))
    await run(binary, ["-m", "pip", "install", "--quiet", `aiokafka==${aiokafka}`], { timeout: 300_000 })
      .catch(orUnavailable("aiokafka can't be installed"))
    await mkdir(path.join(venv, "ready"))
  }
  return binary
})

/** aiokafka. */
export const inPython = (name: string, command: string): Contender => ({
  name,
  parameters: {},
  foreign: true,
  command: async () => ({ file: await python(), args: [path.join(folder("python"), "bench.py"), command] })
})
