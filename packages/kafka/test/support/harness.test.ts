/**
 * The harness itself, as far as it does without a broker.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { cacheDirectory, KafkaUnavailable, resolveDistribution, table } from "../../../../scripts/kafka/index.ts"
import * as RealKafka from "./RealKafka.ts"

const folder = Effect.acquireRelease(
  Effect.promise(() => fs.mkdtemp(path.join(os.tmpdir(), "harness-test-"))),
  (directory) => Effect.promise(() => fs.rm(directory, { recursive: true, force: true }))
)

/** A cache of its own and a Maven that counts how often it fetched. */
const workshop = Effect.gen(function*() {
  const directory = yield* folder
  const cache = path.join(directory, "cache")
  const maven = path.join(directory, "mvn")
  const calls = path.join(directory, "calls")
  yield* Effect.promise(() =>
    fs.writeFile(
      maven,
      `#!/bin/sh
for argument; do case "$argument" in -DoutputDirectory=*) libs="\${argument#*=}";; esac; done
echo fetched >> "${calls}"
mkdir -p "$libs" && echo one > "$libs/kafka.jar" && echo two > "$libs/slf4j.jar"
`,
      { mode: 0o755 }
    )
  )
  return {
    jar: path.join(cache, "4.1.1", "libs", "kafka.jar"),
    cache,
    resolve: Effect.promise(() => resolveDistribution({ version: "4.1.1", cache, maven })),
    fetched: Effect.promise(async () => (await fs.readFile(calls, "utf8")).trim().split("\n").length),
    versions: Effect.promise(() => fs.readdir(cache))
  }
})

RealKafka.suiteOfOwn("Kafka's jars", () => {
  it.scopedLive("are fetched once", () =>
    Effect.gen(function*() {
      const { fetched, jar, resolve } = yield* workshop
      const first = yield* resolve
      expect(yield* resolve).toEqual(first)
      expect(yield* fetched).toBe(1)
      expect(yield* Effect.promise(() => fs.readFile(jar, "utf8"))).toBe("one\n")
    }))

  it.scopedLive("are whole for everybody when several fetch them at once", () =>
    Effect.gen(function*() {
      const { jar, resolve, versions } = yield* workshop
      yield* Effect.all([resolve, resolve, resolve], { concurrency: "unbounded" })
      expect(yield* Effect.promise(() => fs.readFile(jar, "utf8"))).toBe("one\n")
      expect(yield* versions).toEqual(["4.1.1"])
    }))

  it.scopedLive("are fetched again when one is missing or cut short", () =>
    Effect.gen(function*() {
      const { fetched, jar, resolve } = yield* workshop
      yield* resolve
      yield* Effect.promise(() => fs.rm(jar))
      yield* resolve
      yield* Effect.promise(() => fs.writeFile(jar, "o"))
      yield* resolve
      expect(yield* Effect.promise(() => fs.readFile(jar, "utf8"))).toBe("one\n")
      expect(yield* fetched).toBe(3)
    }))

  it.scopedLive("take the remains of a fetch that was killed along", () =>
    Effect.gen(function*() {
      const { cache, resolve, versions } = yield* workshop
      const [old, young] = [path.join(cache, "4.1.1.part-old"), path.join(cache, "4.1.1.part-young")]
      yield* Effect.promise(async () => {
        await fs.mkdir(old, { recursive: true })
        await fs.mkdir(young)
        await fs.utimes(old, new Date(0), new Date(0))
      })
      yield* resolve
      expect((yield* versions).toSorted()).toEqual(["4.1.1", "4.1.1.part-young"])
    }))

  it.scopedLive("are unavailable, with the reason, without Maven and when Maven fails", () =>
    Effect.gen(function*() {
      const cache = yield* folder
      const reason = (maven: string, version: string) =>
        Effect.promise(() =>
          resolveDistribution({ version, cache, maven }).then(
            () => "none",
            (cause: unknown) => cause instanceof KafkaUnavailable ? cause.message : `not KafkaUnavailable: ${cause}`
          )
        )
      expect(yield* reason("/nowhere/mvn", "4.1.1")).toContain("/nowhere/mvn")
      expect(yield* reason("false", "4.1.1")).toBe("Maven could not fetch Kafka 4.1.1:")
      expect(yield* reason("true", "latest")).toContain("\"latest\" is no version of Kafka")
      expect(yield* Effect.promise(() => fs.readdir(cache))).toEqual([])
    }))
})

describe("the harness", () => {
  it("keeps its cache where the environment says", () => {
    expect(cacheDirectory({ COFFEEBUDDY_KAFKA_CACHE: "/a", XDG_CACHE_HOME: "/b" })).toBe("/a")
    expect(cacheDirectory({ XDG_CACHE_HOME: "/b" })).toBe("/b/coffeebuddy-kafka")
    expect(cacheDirectory({})).toBe(path.join(os.homedir(), ".cache", "coffeebuddy-kafka"))
  })

  it("reads the table in a tool's output", () => {
    const output = "\nConsumer group 'g' has no active members.\n\nGROUP TOPIC  LAG\ng     orders 3\ng     runs   -\n\n"
    expect(table(output, "GROUP")).toEqual([
      { GROUP: "g", TOPIC: "orders", LAG: "3" },
      { GROUP: "g", TOPIC: "runs", LAG: "-" }
    ])
    expect(table("Error: nothing here", "GROUP")).toEqual([])
  })
})
