/**
 * How things look: text from values, and nothing else.
 */
import { Array, Duration, HashMap, HashSet, Order } from "effect"
import type { Plan } from "./Plan.ts"
import type { Snapshot } from "./Progress.ts"
import type { Run } from "./Run.ts"
import type { Style } from "./Style.ts"

export interface Frame {
  readonly title: string
  readonly plan: Plan["Type"]
  readonly snapshot: Snapshot
  readonly runs: HashMap.HashMap<string, Run>
}

export interface Size {
  readonly columns: number
  readonly rows: number
}

const number = new Intl.NumberFormat("en").format

const fit = (text: string, width: number): string =>
  text.length > width ? text.slice(0, Math.max(0, width - 1)) + "…" : text

const cell = (text: string, width: number): string => fit(text, width).padEnd(width)

const barWidth = 32

const bar = (style: Style["Type"], label: string, done: number, total: number): string => {
  const full = Math.floor(barWidth * done / Math.max(1, total))
  return `  ${label.padEnd(10)} ${style(done === total ? "green" : "cyan", "█".repeat(full))}${
    style("dim", "░".repeat(barWidth - full))
  } ${number(done)} of ${number(total)}`
}

/** `2 espresso, 1 tea` */
const order = (run: Run): string =>
  Object.entries(Array.groupBy(HashMap.values(run.orders), (drink) => drink))
    .map(([drink, cups]) => `${cups.length} ${drink}`)
    .join(", ")

const row = (style: Style["Type"], columns: number) => (run: Run): string =>
  `  ${cell(run.runId, 13)} ${cell(run.host, 10)} ${String(HashSet.size(run.people)).padStart(6)}  ` +
  `${style(run.completed ? "green" : "yellow", cell(run.completed ? "completed" : "open", 10))} ` +
  fit(order(run), columns - 48)

/** How many events are stored: a reader may see one before its acknowledgement is back. */
const produced = ({ acknowledged, readers }: Snapshot): number =>
  Math.max(acknowledged, readers.projection.reached, readers.printer.reached)

/** The board that a terminal shows, with the last lines that were printed below it. */
export const board = (
  { plan, runs, snapshot, title }: Frame,
  printed: ReadonlyArray<string>,
  { columns, rows }: Size,
  style: Style["Type"]
): ReadonlyArray<string> => {
  const known = Array.filterMap(
    Array.sort(plan.runs, Order.mapInput(Order.number, (run: Plan["Type"]["runs"][number]) => run.startsAfter)),
    ({ runId }) => HashMap.get(runs, runId)
  )
  const room = Math.max(3, Math.min(12, rows - 15))
  const shown = known.length > room ? known.slice(-room) : known
  const earlier = known.length - shown.length
  return [
    style("bold", fit(title, columns)),
    "",
    bar(style, "produced", produced(snapshot), plan.total),
    bar(style, "projected", snapshot.readers.projection.reached, plan.total),
    bar(style, "printed", snapshot.readers.printer.reached, plan.total),
    "",
    style("dim", fit("  run           host       people  state      order", columns)),
    ...shown.map(row(style, columns)),
    ...earlier > 0 ? [style("dim", `  and ${number(earlier)} earlier`)] : [],
    "",
    ...printed.map((line) => style("dim", fit(`  ${line}`, columns)))
  ]
}

/** The same in one line, where nothing can be redrawn. */
export const line = ({ plan, snapshot }: Frame): string =>
  `-- ${number(produced(snapshot))} of ${number(plan.total)} events produced, ` +
  `${number(snapshot.readers.projection.reached)} projected, ${number(snapshot.readers.printer.reached)} printed`

export interface Check {
  readonly ok: boolean
  readonly what: string
}

/** What came of it all. */
export const summary = (
  checks: ReadonlyArray<Check>,
  { runs, total }: Plan["Type"],
  elapsed: Duration.Duration,
  style: Style["Type"]
): ReadonlyArray<string> => [
  style(
    "bold",
    `${number(runs.length)} runs and ${number(total)} events in ${Duration.toSeconds(elapsed).toFixed(1)} s`
  ),
  ...checks.map(({ ok, what }) => `  ${ok ? style("green", "ok") : style("red", "WRONG")}  ${what}`)
]
