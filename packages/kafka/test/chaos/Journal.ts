/**
 * What a member wrote down, line by line. Each line is on its way to the disk before the member goes on, so that SIGKILL
 * takes nothing away.
 */
import * as fs from "node:fs"

interface At {
  /** Milliseconds of a clock that all processes of this machine share. */
  readonly at: number
}

export type Entry =
  & At
  & (
    | { readonly _tag: "Up" }
    | {
      readonly _tag: "Began" | "Done" | "Interrupted"
      readonly partition: number
      readonly offset: number
      readonly key: string
      readonly number: number
    }
    | {
      readonly _tag: "Assigned"
      readonly partitions: ReadonlyArray<number>
      readonly positions: ReadonlyArray<number>
    }
    | { readonly _tag: "Revoked" | "Lost"; readonly partitions: ReadonlyArray<number> }
    | { readonly _tag: "Committed"; readonly offsets: ReadonlyArray<readonly [partition: number, offset: number]> }
    | { readonly _tag: "CommitFailed"; readonly partitions: ReadonlyArray<number>; readonly error: string }
    | { readonly _tag: "GateWaited"; readonly millis: number; readonly unsettled: ReadonlyArray<number> }
    /** SIGTERM has come. */
    | { readonly _tag: "Asked" }
    /** Everything is closed: nothing is left to do but to end. */
    | { readonly _tag: "Closed" }
    | { readonly _tag: "Failed"; readonly error: string; readonly typed: boolean }
  )

export type Line = Entry extends infer E ? E extends unknown ? Omit<E, "at"> : never : never

/** The clock of {@link At}: monotonic, and the same in every process. */
export const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000

export const write = (file: number, line: Line): void => {
  fs.writeSync(file, `${JSON.stringify({ at: now(), ...line })}\n`)
}

/** All whole lines; there may be one that a kill cut short. */
export const read = (file: string): ReadonlyArray<Entry> => {
  if (!fs.existsSync(file)) return []
  const text = fs.readFileSync(file, "utf8")
  return text.slice(0, text.lastIndexOf("\n") + 1).split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(line) as Entry
  )
}
