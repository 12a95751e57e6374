/**
 * Where the command reads from and writes to. Results go to standard output, everything about them to standard error,
 * so that a pipe carries results alone.
 */
import type * as PlatformError from "@effect/platform/Error"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import { stripVTControlCharacters, styleText } from "node:util"
import type { InputError } from "./failures.ts"

export type Look = "bold" | "dim" | "green" | "yellow" | "red" | "cyan"

/** Standard output takes nothing any more. */
export class OutputError extends Data.TaggedError("OutputError")<{
  /** Whoever read it has gone, as `head` does once it has enough. */
  readonly closed: boolean
  readonly message: string
}> {}

export interface Service {
  readonly input: Stream.Stream<Uint8Array, InputError | PlatformError.PlatformError>
  readonly inputIsTerminal: boolean
  readonly outputIsTerminal: boolean
  readonly rows: () => number
  /** Writes a result, and ends when it was taken. */
  readonly write: (text: string) => Effect.Effect<void, OutputError>
  /** A line of standard error. */
  readonly note: (line: string) => Effect.Effect<void>
  /** A line of standard error that takes the place of the one before: seen in a terminal only. */
  readonly progress: (line: string) => Effect.Effect<void>
  /** Does nothing where standard output shows no colours. */
  readonly style: (look: Look, text: string) => string
}

export class Stdio extends Context.Tag("@coffeebuddy/kafka/cli/Stdio")<Stdio, Service>() {}

/** Whether a stream shows colours: a terminal does, unless `NO_COLOR` is set (https://no-color.org) or it is dumb. */
export const wantsColour = (isTerminal: boolean): Effect.Effect<boolean> =>
  Effect.map(
    Effect.all([Config.option(Config.nonEmptyString("NO_COLOR")), Config.option(Config.string("TERM"))]),
    ([unwanted, kind]) => isTerminal && Option.isNone(unwanted) && Option.getOrNull(kind) !== "dumb"
  ).pipe(Effect.orElseSucceed(() => false))

const looks = {
  bold: "bold",
  dim: "dim",
  green: "green",
  yellow: "yellow",
  red: "red",
  cyan: "cyan"
} as const satisfies Record<Look, string>

export const style = (colours: boolean): Service["style"] =>
  colours ? (look, text) => styleText(looks[look], text, { validateStream: false }) : (_look, text) => text

/** What @effect/cli prints, with colours or without. */
export const plain = (colours: boolean, text: string): string => colours ? text : stripVTControlCharacters(text)
