/**
 * Kafka's classes as the JVM keeps them in memory, recorded once in a file (class data sharing). A broker that maps
 * the file starts in half the time.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import type { Distribution } from "./distribution.ts"
import { KafkaFailure } from "./errors.ts"

// It fits exactly one build of Java.
const fileOf = (distribution: Distribution): string =>
  path.join(distribution.directory, `classes-${distribution.javaBuild}.jsa`)

const sizeOf = (file: string): Promise<number | undefined> => fs.stat(file).then((found) => found.size, () => undefined)

/** The JVM's options for using the file, where there is one. */
export const existingClassArchive = async (distribution: Distribution): Promise<ReadonlyArray<string>> => {
  const file = fileOf(distribution)
  return (await sizeOf(file)) ? [`-XX:SharedArchiveFile=${file}`] : []
}

/**
 * Records the file unless it is there or Java is too old. `exercise` runs a JVM with the options it is given, to a
 * clean end.
 */
export const classArchive = async (
  distribution: Distribution,
  exercise: (jvmOptions: ReadonlyArray<string>) => Promise<void>
): Promise<ReadonlyArray<string>> => {
  const file = fileOf(distribution)
  if (distribution.javaVersion >= 13 && (await sizeOf(file)) === undefined) await record(file, exercise)
  return existingClassArchive(distribution)
}

const record = async (file: string, exercise: (jvmOptions: ReadonlyArray<string>) => Promise<void>): Promise<void> => {
  const part = `${file}.part-${process.pid}-${Date.now()}`
  try {
    await exercise([`-XX:ArchiveClassesAtExit=${part}`]).catch(async (cause) => {
      // Some builds of Java come without the archive that ours would extend. An empty file keeps us from trying again.
      if (!(cause instanceof KafkaFailure && cause.message.includes("CDS"))) throw cause
      await fs.writeFile(part, "")
    })
    await fs.rename(part, file)
  } finally {
    await fs.rm(part, { force: true })
  }
}
