/**
 * The report's picture: a bar for each contender's ratio to the first of its bench.
 */
import { type Compared, ratio } from "./report.ts"

const width = 900
const labels = 330
const rowHeight = 20
const headHeight = 34

const text = (value: string): string => value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

/** As SVG that needs nothing else. The scale is logarithmic: a bar to the right is more, to the left is less. */
export const chart = (all: ReadonlyArray<Compared>, title: string): string => {
  const rows: Array<string> = []
  let y = 40
  const middle = labels + (width - labels) * 0.4
  const perDoubling = (width - middle - 70) / 6
  for (const compared of all) {
    const { bench, outcomes } = compared
    const better = bench.compares === undefined || bench.compares === "rate" ? "more is better" : "less is better"
    rows.push(
      `<text x="12" y="${y + 20}" font-weight="600">${text(bench.name)}</text>`,
      `<text x="${width - 12}" y="${y + 20}" text-anchor="end" fill="#777">${better}</text>`
    )
    y += headHeight
    for (const [contender, outcome] of outcomes) {
      const value = ratio(compared, outcome)
      rows.push(`<text x="${labels - 8}" y="${y + 13}" text-anchor="end">${text(contender)}</text>`)
      if (value === undefined || !Number.isFinite(value) || value <= 0) {
        rows.push(
          `<text x="${middle + 6}" y="${y + 13}" fill="#999">${outcome._tag === "Ran" ? "" : "did not run"}</text>`
        )
      } else {
        const length = Math.max(-(middle - labels), Math.min(width - middle - 60, Math.log2(value) * perDoubling))
        const [x, w] = length < 0 ? [middle + length, -length] : [middle, length]
        const good = (value >= 1) === (better === "more is better")
        rows.push(
          `<rect x="${x.toFixed(1)}" y="${y + 2}" width="${Math.max(1.5, w).toFixed(1)}" height="${
            rowHeight - 6
          }" rx="2" fill="${good ? "#3b8f5a" : "#b5653a"}"/>`,
          `<text x="${(length < 0 ? middle + 6 : middle + length + 6).toFixed(1)}" y="${y + 13}">${
            value.toFixed(2)
          }×</text>`
        )
      }
      y += rowHeight
    }
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y + 16}" viewBox="0 0 ${width} ${
      y + 16
    }" font-family="system-ui, sans-serif" font-size="12" fill="#222">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="12" y="26" font-size="15" font-weight="600">${text(title)}</text>`,
    `<line x1="${middle}" y1="44" x2="${middle}" y2="${y + 4}" stroke="#bbb"/>`,
    ...rows,
    "</svg>",
    ""
  ].join("\n")
}
