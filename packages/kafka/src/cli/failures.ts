/** What the command fails with beside the errors of the library, and how each failure is said. */
import * as ConfigError from "effect/ConfigError"
import * as Data from "effect/Data"
import { escapeLine } from "./text.ts"

/** What was read from standard input, or from a file, is not what it should be. */
export class InputError extends Data.TaggedError("InputError")<{ readonly message: string }> {}

/** Something that was asked for turned out not to be so. What is to be said about it has been printed, or is in here. */
export class Failed extends Data.TaggedError("Failed")<{ readonly message: string | undefined }> {}

/** Every problem of a configuration, each with its variable. */
export const configProblems = (error: ConfigError.ConfigError): ReadonlyArray<string> =>
  ConfigError.reduceWithContext<undefined, ReadonlyArray<string>>(error, undefined, {
    andCase: (_, left, right) => [...left, ...right],
    orCase: (_, left, right) => [...left, ...right],
    invalidDataCase: (_, path, message) => [`${path.join(".")}: ${message}`],
    missingDataCase: (_, path, message) => [`${path.join(".")}: ${message}`],
    sourceUnavailableCase: (_, path, message) => [`${path.join(".")}: ${message}`],
    unsupportedCase: (_, path, message) => [`${path.join(".")}: ${message}`]
  })

/** A failure as lines for a reader. What came from a broker can't take hold of the terminal. */
export const linesOf = (error: unknown): ReadonlyArray<string> => {
  const lines = ConfigError.isConfigError(error)
    ? configProblems(error)
    : (error instanceof Error ? error.message || error.name : String(error)).split("\n")
  return lines.map(escapeLine)
}
