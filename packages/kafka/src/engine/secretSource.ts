/** A setting that is given as a value, or as the path of a file that holds it. */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { closeSync, openSync, readSync } from "node:fs"

export interface FileOrValue {
  /** The name of the variable that holds the value; that of the path has `_FILE` behind it. */
  readonly name: string
  /** Whether it may be shown. A path is shown only then: what was meant as a value may stand there by mistake. */
  readonly showable: boolean
  readonly value: Redacted.Redacted<string> | undefined
  readonly file: Redacted.Redacted<string> | undefined
}

export const isSet = (source: FileOrValue): boolean => source.value !== undefined || source.file !== undefined

/** The variable it was given by, or would be. */
export const nameOf = (source: FileOrValue): string => source.file === undefined ? source.name : `${source.name}_FILE`

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "permission denied",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of its path is no directory",
  ENAMETOOLONG: "it is too long for a path"
}

/** More than any password, token or chain of certificates. */
const limit = 1024 * 1024

/** So much of a file, and no more: some have no end. */
const readAtMost = (path: string, most: number): Buffer => {
  const file = openSync(path, "r")
  try {
    const chunks: Array<Buffer> = []
    let left = most
    while (left > 0) {
      const chunk = Buffer.allocUnsafe(Math.min(left, 64 * 1024))
      const read = readSync(file, chunk)
      if (read === 0) break
      chunks.push(chunk.subarray(0, read))
      left -= read
    }
    return Buffer.concat(chunks)
  } finally {
    closeSync(file)
  }
}

/** What it is now. A line's end at the end of a file is not part of it. On the left: why not. */
export const readSource = (source: FileOrValue): Either.Either<string, string> => {
  if (source.file === undefined) {
    return source.value === undefined ? Either.left("it is not set") : Either.right(Redacted.value(source.value))
  }
  const path = Redacted.value(source.file)
  const found = source.showable ? JSON.stringify(path) : "a path (redacted)"
  try {
    const bytes = readAtMost(path, limit + 1)
    if (bytes.length > limit) {
      return Either.left(`expected a file of at most ${limit} bytes, found ${found}: it is larger`)
    }
    const text = bytes.toString("utf8").replace(/\r?\n$/, "")
    if (text.trim() === "") return Either.left(`expected a file with a value in it, found ${found}: it is empty`)
    return Either.right(text)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "unknown"
    return Either.left(`expected the path of a readable file, found ${found}: ${reasons[code] ?? code}`)
  }
}
