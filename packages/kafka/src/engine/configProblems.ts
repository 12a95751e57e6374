/** What is wrong with a configuration, all of it. */
import * as Arr from "effect/Array"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import type { Options } from "../KafkaConfig.ts"

/** What each setting is called where it was given: in code, or in the environment. */
export type SettingNames = { readonly [K in keyof Options]-?: ReadonlyArray<string> }

/** A value as it was found, for a message. Effect itself can't show every duration. */
export const shown = (found: unknown): string =>
  JSON.stringify(Duration.isDuration(found) ? `${Duration.toMillis(found)} ms` : String(found))

/** The most bytes that the protocol has room for in a name. */
const longestName = 32_767

/** What is wrong with a name that is sent to brokers. */
export const nameProblem = (name: string): string | undefined =>
  typeof name !== "string"
    ? `expected a name, found ${shown(name)}`
    : name === ""
    ? "expected a name, found an empty one"
    : Buffer.byteLength(name) > longestName
    ? `expected a name of at most ${longestName} bytes, found one of ${Buffer.byteLength(name)}`
    : undefined

/** Gathers problems, so that they are said at once rather than one at a time. */
export class ConfigProblems {
  private readonly found: Array<ConfigError.ConfigError> = []

  add(path: ReadonlyArray<string>, message: string): undefined {
    this.found.push(ConfigError.InvalidData([...path], message))
    return undefined
  }

  /** What `Config.withDefault` and `Config.option` may answer for: nothing is there at all. */
  missing(path: ReadonlyArray<string>, message: string): undefined {
    this.found.push(ConfigError.MissingData([...path], message))
    return undefined
  }

  orElse<A>(value: () => A): Either.Either<A, ConfigError.ConfigError> {
    return Arr.isNonEmptyArray(this.found)
      ? Either.left(this.found.reduce((left, right) => ConfigError.And(left, right)))
      : Either.right(value())
  }
}
