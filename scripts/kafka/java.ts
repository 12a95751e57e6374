/**
 * Running Java programs from Kafka's jars against a cluster.
 */
import * as crypto from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { existingClassArchive } from "./archive.ts"
import type { Distribution } from "./distribution.ts"
import { KafkaFailure, KafkaUnavailable } from "./errors.ts"
import { run } from "./process.ts"

/** Which cluster to talk to, with whose jars. A `KafkaCluster` is one. */
export interface JavaTarget {
  readonly distribution: Distribution
  readonly bootstrapServers: string
  /** Further settings for every client, such as those for security. */
  readonly clientProperties?: Readonly<Record<string, string>> | undefined
}

/** The arguments for a short-lived JVM, up to the name of the class. */
export const shortLivedJvm = async (
  distribution: Distribution,
  extraClassPath = ""
): Promise<ReadonlyArray<string>> => [
  "-XX:TieredStopAtLevel=1",
  "-XX:+UseSerialGC",
  ...(await existingClassArchive(distribution)),
  // Nothing but warnings, and those on standard error.
  "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
  "-cp",
  extraClassPath === "" ? distribution.classPath : `${distribution.classPath}${path.delimiter}${extraClassPath}`
]

/**
 * Compiles one source file that lies in the folder `java` beside this module, once for each text of it, and answers
 * with the folder of its classes.
 */
export const compile = async (distribution: Distribution, name: string): Promise<string> => {
  const source = path.join(import.meta.dirname, "java", `${name}.java`)
  const hash = crypto.createHash("sha256").update(await fs.readFile(source)).digest("hex").slice(0, 12)
  const target = path.join(distribution.directory, `${name}-${distribution.javaBuild}-${hash}`)
  const isThere = () => fs.stat(target).then(() => true, () => false)
  if (await isThere()) return target
  const part = await fs.mkdtemp(`${target}.part-`)
  try {
    const libs = path.dirname(distribution.classPath)
    const jars = (await fs.readdir(libs)).map((jar) => path.join(libs, jar))
    const compiled = await run(distribution.java, [
      ...["--module", "jdk.compiler/com.sun.tools.javac.Main"],
      ...["-encoding", "UTF-8", "-cp", jars.join(path.delimiter), "-d", part, source]
    ])
    if (compiled.code !== 0) {
      const said = compiled.stdout + compiled.stderr
      if (/jdk\.compiler not found/.test(said)) {
        throw new KafkaUnavailable(`${distribution.java} is a Java without a compiler (a JRE); a JDK is needed`)
      }
      throw new KafkaFailure(`${source} does not compile:\n${said}`)
    }
    await fs.rename(part, target).catch(async (cause) => {
      // Another process was first, with the same result.
      if (!(await isThere())) throw cause
    })
    return target
  } finally {
    await fs.rm(part, { recursive: true, force: true })
  }
}
