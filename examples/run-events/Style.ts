/**
 * Colours, where they are seen and wanted.
 */
import * as Terminal from "@effect/platform/Terminal"
import { Config, Context, Effect, Layer, Option } from "effect"
import { styleText } from "node:util"

type Look = "bold" | "dim" | "green" | "yellow" | "red" | "cyan"

/** Plain, unless a layer says otherwise. */
export class Style extends Context.Reference<Style>()("examples/run-events/Style", {
  defaultValue: () => (_look: Look, text: string): string => text
}) {}

/** Coloured in a terminal, unless `NO_COLOR` is set: https://no-color.org */
export const layer = Layer.effect(
  Style,
  Effect.gen(function*() {
    const terminal = yield* Terminal.Terminal
    const unwanted = yield* Config.option(Config.nonEmptyString("NO_COLOR"))
    const coloured = (yield* terminal.isTTY) && Option.isNone(unwanted)
    return coloured ? styleText : (_look, text) => text
  })
)
