/**
 * The report: a table for each bench, as Markdown.
 */
import type { Bench, Measured } from "./model.ts"
import { median } from "./statistics.ts"

/** What one contender did in all rounds, or why it did nothing. */
export type Outcome =
  | { readonly _tag: "Ran"; readonly rounds: ReadonlyArray<Measured> }
  | { readonly _tag: "Failed"; readonly reason: string }
  | { readonly _tag: "Unavailable"; readonly reason: string }

export interface Compared {
  readonly bench: Bench
  readonly outcomes: ReadonlyArray<readonly [contender: string, Outcome]>
}

const rate = (one: Measured): number => one.records / one.seconds

/** What the ratio is of: for times and sizes less is better, for rates more. */
export const figure = (bench: Bench, one: Measured): number => {
  switch (bench.compares ?? "rate") {
    case "rate":
      return rate(one)
    case "p99":
      return one.percentiles?.p99 ?? Number.NaN
    case "seconds":
      return one.seconds
    case "memory":
      return one.peakRssBytes
    case "cpu":
      return one.cpuSeconds
  }
}

/** To the first contender in the same round: the median of all rounds. */
export const ratio = ({ bench, outcomes }: Compared, outcome: Outcome): number | undefined => {
  const first = outcomes[0]?.[1]
  if (first?._tag !== "Ran" || outcome._tag !== "Ran") return undefined
  return median(outcome.rounds.map((one, round) => figure(bench, one) / figure(bench, first.rounds[round]!)))
}

const short = (value: number): string =>
  value >= 100
    ? value.toFixed(0)
    : value >= 10
    ? value.toFixed(1)
    : value >= 0.1
    ? value.toFixed(2)
    : value.toPrecision(2)

const spread = (values: ReadonlyArray<number>): string =>
  `${short(median(values))} (${short(Math.min(...values))}–${short(Math.max(...values))})`

const columns = (
  bench: Bench
): ReadonlyArray<readonly [title: string, cell: (rounds: ReadonlyArray<Measured>) => string]> => {
  const cpu = [
    "CPU s",
    (rounds: ReadonlyArray<Measured>) => short(median(rounds.map((one) => one.cpuSeconds)))
  ] as const
  const memory = [
    "peak RSS MB",
    (rounds: ReadonlyArray<Measured>) => short(median(rounds.map((one) => one.peakRssBytes / 1e6)))
  ] as const
  switch (bench.compares ?? "rate") {
    case "p99":
      return [
        ...(["p50", "p99", "p999"] as const).map((name) =>
          [
            `${name === "p999" ? "p99.9" : name} ms, median (min–max)`,
            (rounds: ReadonlyArray<Measured>) => spread(rounds.map((one) => one.percentiles?.[name] ?? Number.NaN))
          ] as const
        ),
        cpu,
        memory
      ]
    case "seconds":
      return [["seconds, median (min–max)", (rounds) => spread(rounds.map((one) => one.seconds))], cpu, memory]
    default:
      return [["thousand/s, median (min–max)", (rounds) => spread(rounds.map((one) => rate(one) / 1000))], cpu, memory]
  }
}

/** What a table's ratio is of, in words. */
const ratioTitle = (bench: Bench): string => {
  const of = { rate: "rate", p99: "p99", seconds: "time", memory: "memory", cpu: "CPU" }[bench.compares ?? "rate"]
  return `${of}, as a ratio to the first`
}

export const section = (compared: Compared): string => {
  const { bench, outcomes } = compared
  const own = columns(bench)
  const row = (cells: ReadonlyArray<string>): string => `| ${cells.join(" | ")} |`
  return [
    `### ${bench.name}`,
    "",
    bench.about,
    "",
    row(["", ...own.map(([title]) => title), ratioTitle(bench)]),
    row(["---", ...own.map(() => "---"), "---"]),
    ...outcomes.map(([contender, outcome]) =>
      outcome._tag === "Ran"
        ? row([contender, ...own.map(([, cell]) => cell(outcome.rounds)), ratio(compared, outcome)?.toFixed(2) ?? ""])
        : row([
          contender,
          `${outcome._tag === "Failed" ? "failed" : "could not run"}: ${
            outcome.reason.split("\n")[0]!.replaceAll("|", "/")
          }`,
          ...own.map(() => "")
        ])
    )
  ].join("\n")
}
