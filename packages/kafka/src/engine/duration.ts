/** Durations as options give them. */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** In milliseconds. `undefined` for what is none: Effect takes what is negative, and `NaN`, for zero. */
export const millisOf = (input: Duration.DurationInput): number | undefined => {
  const decoded = Duration.decodeUnknown(input)
  const negative = typeof input === "string"
    ? input.trimStart().startsWith("-")
    : (typeof input === "number" || typeof input === "bigint") && !(input >= 0)
  return Option.isSome(decoded) && !negative ? Duration.toMillis(decoded.value) : undefined
}
