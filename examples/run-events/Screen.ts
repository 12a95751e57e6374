/**
 * Where the progress is seen: redrawn in a terminal, line by line in a pipe.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as Terminal from "@effect/platform/Terminal"
import { Clock, Config, Console, Effect } from "effect"
import { format } from "node:util"
import { Style } from "./Style.ts"
import * as View from "./view.ts"

export interface Screen {
  readonly draw: (frame: View.Frame) => Effect.Effect<void, PlatformError>
  /** To be used for all that is printed meanwhile, so that it and the frames don't write across each other. */
  readonly console: Console.Console
}

/** How many of the printed lines a terminal shows. */
const printedLines = 5

/** Draws over the last frame. What is printed is part of the frame. */
const redrawn = Effect.gen(function*() {
  const terminal = yield* Terminal.Terminal
  const style = yield* Style
  const console = yield* Console.consoleWith(Effect.succeed)
  let printed: ReadonlyArray<string> = []
  let height = 0

  const print = (...args: ReadonlyArray<unknown>): void => {
    printed = [...printed, ...format(...args).split("\n")].slice(-printedLines)
  }
  const printing = (...args: ReadonlyArray<unknown>): Effect.Effect<void> => Effect.sync(() => print(...args))

  // hides the cursor, and shows it again however this ends
  yield* Effect.acquireRelease(terminal.display("\x1b[?25l"), () => Effect.orDie(terminal.display("\x1b[?25h")))

  const screen: Screen = {
    draw: (frame) =>
      Effect.gen(function*() {
        // a terminal that does not say how large it is counts as one of 80 by 24
        const columns = (yield* terminal.columns) || 80
        const rows = (yield* terminal.rows) || 24
        const lines = View.board(frame, printed, { columns, rows }, style)
        const toTheTop = height === 0 ? "" : `\x1b[${height}A`
        height = lines.length
        yield* terminal.display(`${toTheTop}${lines.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`)
      }),
    console: {
      ...console,
      log: printing,
      info: printing,
      warn: printing,
      error: printing,
      unsafe: { ...console.unsafe, log: print, info: print, warn: print, error: print }
    }
  }
  return screen
})

/** One line a second. */
const lineByLine = Effect.gen(function*() {
  const console = yield* Console.consoleWith(Effect.succeed)
  let last = 0
  const screen: Screen = {
    draw: (frame) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        if (now - last < 1000) return Effect.void
        last = now
        return console.log(View.line(frame))
      }),
    console
  }
  return screen
})

export const make = Effect.gen(function*() {
  const terminal = yield* Terminal.Terminal
  const kind = yield* Config.string("TERM").pipe(Config.withDefault(""))
  return yield* (yield* terminal.isTTY) && kind !== "dumb" ? redrawn : lineByLine
})
