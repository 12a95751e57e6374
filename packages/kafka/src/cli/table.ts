/** Rows under a head, in columns as wide as what stands in them. */
import type { Service } from "./Stdio.ts"

export interface Column {
  readonly title: string
  /** `"right"` for numbers. */
  readonly align: "left" | "right"
}

/** Text must be free of control characters. */
export const lines = (
  columns: ReadonlyArray<Column>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
  style: Service["style"]
): ReadonlyArray<string> => {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...rows.map((row) => row[index]?.length ?? 0))
  )
  const line = (cells: ReadonlyArray<string>): string =>
    columns.map(({ align }, index) => {
      const cell = cells[index] ?? ""
      const width = widths[index] ?? 0
      return align === "right" ? cell.padStart(width) : cell.padEnd(width)
    }).join("  ").trimEnd()
  return [style("bold", line(columns.map(({ title }) => title))), ...rows.map(line)]
}
