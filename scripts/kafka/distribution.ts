/**
 * Kafka's own jars, resolved by Maven into a folder outside the tree. The first time takes a download; afterwards a
 * glance at the folder is enough.
 */
import * as crypto from "node:crypto"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { KafkaUnavailable } from "./errors.ts"
import { run } from "./process.ts"

/** The version of Kafka that is started when neither an option nor `KAFKA_VERSION` asks for another. */
export const defaultVersion = "4.1.1"

export interface Distribution {
  readonly version: string
  /** The `java` to run. */
  readonly java: string
  readonly javaVersion: number
  /** A short name for exactly this build of Java. */
  readonly javaBuild: string
  /** The folder of this version in the cache. */
  readonly directory: string
  /** The jars, in the form that `java -cp` takes. */
  readonly classPath: string
}

/**
 * Where the jars of all versions are kept: `COFFEEBUDDY_KAFKA_CACHE`, or `coffeebuddy-kafka` in the user's cache
 * folder.
 */
export const cacheDirectory = (env: NodeJS.ProcessEnv = process.env): string =>
  env["COFFEEBUDDY_KAFKA_CACHE"] ||
  path.join(env["XDG_CACHE_HOME"] || path.join(os.homedir(), ".cache"), "coffeebuddy-kafka")

/**
 * What Maven is asked for. Kafka Connect is left out, it is half of the download and nobody here needs it; and all
 * versions log through slf4j-simple, so that one set of options is right for every version.
 */
const pom = (version: string): string =>
  `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.coffeebuddy</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>${version}</version>
      <exclusions>
        <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>${version}</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
        <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
`

/** The list of files and sizes that is written last, so that a folder without it, or not matching it, is not whole. */
const manifestName = "manifest.json"

const isWhole = async (directory: string, pomHash: string): Promise<boolean> => {
  try {
    const manifest = JSON.parse(await fs.readFile(path.join(directory, manifestName), "utf8")) as {
      readonly pom: string
      readonly jars: Record<string, number>
    }
    if (manifest.pom !== pomHash) return false
    for (const [jar, size] of Object.entries(manifest.jars)) {
      if ((await fs.stat(path.join(directory, "libs", jar))).size !== size) return false
    }
    return true
  } catch {
    return false
  }
}

/** Removes what a fetch left behind that was killed. Nobody fetches for an hour. */
const sweep = async (target: string): Promise<void> => {
  const parent = path.dirname(target)
  for (const name of await fs.readdir(parent)) {
    const file = path.join(parent, name)
    if (!file.startsWith(`${target}.part-`)) continue
    const found = await fs.stat(file).catch(() => undefined)
    if (found !== undefined && Date.now() - found.mtimeMs > 3_600_000) {
      await fs.rm(file, { recursive: true, force: true })
    }
  }
}

const download = async (
  maven: string,
  version: string,
  target: string,
  pomText: string,
  pomHash: string
): Promise<void> => {
  await fs.mkdir(path.dirname(target), { recursive: true })
  await sweep(target)
  const part = await fs.mkdtemp(`${target}.part-`)
  try {
    const libs = path.join(part, "libs")
    await fs.writeFile(path.join(part, "pom.xml"), pomText)
    const fetched = await run(maven, [
      "--batch-mode",
      "--quiet",
      "--file",
      path.join(part, "pom.xml"),
      "dependency:copy-dependencies",
      "-DincludeScope=runtime",
      `-DoutputDirectory=${libs}`
    ]).catch((cause) => {
      throw new KafkaUnavailable(`Maven (${maven}) is needed once, to fetch Kafka's jars, and was not found`, { cause })
    })
    if (fetched.code !== 0) {
      throw new KafkaUnavailable(`Maven could not fetch Kafka ${version}:\n${fetched.stdout}${fetched.stderr}`.trim())
    }
    const jars: Record<string, number> = {}
    for (const jar of await fs.readdir(libs)) jars[jar] = (await fs.stat(path.join(libs, jar))).size
    await fs.writeFile(path.join(part, manifestName), JSON.stringify({ pom: pomHash, jars }))
    // Only a whole folder ever gets the final name. When two processes come here at once, the second one finds that its
    // work is done; what is there and not whole goes away.
    if (await isWhole(target, pomHash)) return
    await fs.rename(target, `${part}.old`).catch(() => undefined)
    await fs.rename(part, target).catch(async (cause) => {
      if (!(await isWhole(target, pomHash))) throw cause
    })
  } finally {
    await fs.rm(part, { recursive: true, force: true })
    await fs.rm(`${part}.old`, { recursive: true, force: true })
  }
}

const sha256 = (text: string): string => crypto.createHash("sha256").update(text).digest("hex")

const findJava = async (): Promise<Pick<Distribution, "java" | "javaVersion" | "javaBuild">> => {
  const home = process.env["JAVA_HOME"]
  const java = home ? path.join(home, "bin", "java") : "java"
  const answer = await run(java, ["-version"]).catch((cause) => {
    throw new KafkaUnavailable(`Java is needed to run Kafka and was not found (tried ${java})`, { cause })
  })
  const said = answer.stderr + answer.stdout
  const found = /version "(?:1\.)?(\d+)/.exec(said)
  if (found === null) throw new KafkaUnavailable(`${java} does not say its version: ${said}`)
  return { java, javaVersion: Number(found[1]), javaBuild: sha256(said).slice(0, 12) }
}

/**
 * Finds Java and the jars of a version of Kafka, fetching them when they are not there yet. Rejects with
 * `KafkaUnavailable` where that cannot be done.
 */
export const resolveDistribution = async (
  options: {
    readonly version?: string | undefined
    readonly log?: ((line: string) => void) | undefined
    /** The folder of all versions, `cacheDirectory()` by default. */
    readonly cache?: string | undefined
    /** The command to fetch with, `mvn` by default. */
    readonly maven?: string | undefined
  } = {}
): Promise<Distribution> => {
  const version = options.version ?? (process.env["KAFKA_VERSION"] || defaultVersion)
  if (!/^\d+\.\d+\.\d+(-\w+)?$/.test(version)) {
    throw new KafkaUnavailable(`"${version}" is no version of Kafka; say for instance ${defaultVersion}`)
  }
  const found = await findJava()
  const needed = Number(version.split(".")[0]) >= 4 ? 17 : 11
  if (found.javaVersion < needed) {
    throw new KafkaUnavailable(
      `Kafka ${version} needs Java ${needed} or newer, and ${found.java} is Java ${found.javaVersion}`
    )
  }
  const directory = path.join(options.cache ?? cacheDirectory(), version)
  const pomText = pom(version)
  const pomHash = sha256(pomText)
  if (!(await isWhole(directory, pomHash))) {
    options.log?.(`Fetching Kafka ${version} into ${directory} (once)`)
    await download(options.maven ?? "mvn", version, directory, pomText, pomHash)
  }
  return { version, ...found, directory, classPath: path.join(directory, "libs", "*") }
}
