/**
 * @platformatic/kafka, loaded when a layer is made: whoever does not use the driver need not have it, and whoever lacks
 * it is told in one sentence.
 */
import type * as Platformatic from "@platformatic/kafka"
import * as Effect from "effect/Effect"
import * as FileSystem from "node:fs"
import * as Module from "node:module"
import * as Path from "node:path"
import { UnsupportedFeatureError } from "../../KafkaError.ts"

/** The library's module. Nothing but its types is imported anywhere else. */
export type Library = typeof Platformatic

const packageName = "@platformatic/kafka"

/** What the driver is written against: this one, or a later one of the same major version. */
const oldestNode = [22, 22, 0] as const
const oldestLibrary = [2, 12, 0] as const

const versionOf = (text: string): ReadonlyArray<number> => text.replace(/[-+].*$/, "").split(".").map(Number)

const isBefore = (version: ReadonlyArray<number>, other: ReadonlyArray<number>): boolean => {
  for (let i = 0; i < other.length; i++) {
    const difference = (version[i] ?? 0) - (other[i] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}

/** Why the driver can't run on this Node, if it can't. */
export const nodeProblem = (version: string): string | undefined =>
  isBefore(versionOf(version), oldestNode)
    ? `it needs Node ${oldestNode.join(".")} or later, and this is Node ${version}: update Node, or use KafkaJs.layer`
    : undefined

/** Why the driver can't use this version of the library, if it can't. */
export const libraryProblem = (version: string): string | undefined => {
  const parts = versionOf(version)
  return parts[0] !== oldestLibrary[0] || isBefore(parts, oldestLibrary)
    ? `it needs ${packageName} ${oldestLibrary.join(".")} or a later 2.x, and found ${version}: ` +
      `npm install ${packageName}@${oldestLibrary.join(".")}`
    : undefined
}

/** What is installed, as far as it can be known: a bundled program has no `package.json` to look at. */
const installedVersion = (): string | undefined => {
  try {
    const entry = Module.createRequire(import.meta.url).resolve(packageName)
    const file = Path.join(Path.dirname(entry), "..", "package.json")
    const found = JSON.parse(FileSystem.readFileSync(file, "utf8")) as { readonly version?: unknown }
    return typeof found.version === "string" ? found.version : undefined
  } catch {
    return undefined
  }
}

const unsupported = (reason: string): UnsupportedFeatureError =>
  new UnsupportedFeatureError({ driver: "platformatic", feature: "connection to Kafka", reason })

/** How to get at the library; given by tests. */
export interface Source {
  readonly node: string
  readonly installed: () => string | undefined
  readonly load: () => Promise<Library>
}

const source: Source = {
  node: process.versions.node,
  installed: installedVersion,
  load: () => import("@platformatic/kafka")
}

/**
 * The library, if it is there and this Node can run it.
 */
export const load = (from: Source = source): Effect.Effect<Library, UnsupportedFeatureError> =>
  Effect.suspend(() => {
    const tooOld = nodeProblem(from.node)
    if (tooOld !== undefined) return unsupported(tooOld)
    const installed = from.installed()
    const wrong = installed === undefined ? undefined : libraryProblem(installed)
    if (wrong !== undefined) return unsupported(wrong)
    return Effect.tryPromise({
      try: from.load,
      catch: (error) =>
        unsupported(
          `the package ${packageName} can not be loaded: npm install ${packageName}@${oldestLibrary.join(".")} (${
            error instanceof Error ? error.message.split("\n")[0] : String(error)
          })`
        )
    })
  })
