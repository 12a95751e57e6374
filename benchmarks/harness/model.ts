/**
 * What a benchmark is made of: works, contenders, and what a contender's process is told and answers.
 */
import { fileURLToPath } from "node:url"

/** Told to a contender's process. */
export interface Work {
  readonly brokers: ReadonlyArray<string>
  /** Read from, and filled beforehand. */
  readonly topic: string
  /** Written to. */
  readonly sink: string
  readonly groupId: string
  readonly partitions: number
  /** The size of a record's value. */
  readonly bytes: number
  /** How many records the measured run is over. */
  readonly records: number
  /** How many records are worked on before, so that the compiler has done its part. */
  readonly warmUp: number
  /** What else this contender is told: its driver, its concurrency, … */
  readonly parameters: Parameters
}

export type Parameters = Readonly<Record<string, string | number | boolean>>

/** Answered by a contender. Those that read count from the first record to the last. */
export interface Result {
  readonly records: number
  readonly seconds: number
  /** Milliseconds, where latency is what is measured. */
  readonly percentiles?: { readonly p50: number; readonly p99: number; readonly p999: number }
  /** Where the contender's work is done by other processes than its own, or not all of it counts. */
  readonly cpuSeconds?: number
}

/** A contender's work, in a module of its own process. */
export type Run = (work: Work) => Promise<Result>

/** A {@link Result}, with what it cost. */
export interface Measured extends Result {
  readonly cpuSeconds: number
  readonly peakRssBytes: number
}

export interface Command {
  readonly file: string
  readonly args: ReadonlyArray<string>
  readonly cwd?: string
}

/** Why a contender can't run here. It is printed and stands in the report. */
export class Unavailable extends Error {
  override readonly name = "Unavailable"
}

export interface Contender {
  readonly name: string
  readonly parameters: Parameters
  /** Somebody else's client: its failure stands in the report, and is none of this repository. */
  readonly foreign?: boolean
  /** How its process is started; given the work as its last argument, in JSON. Rejects with {@link Unavailable}. */
  readonly command: () => Promise<Command>
}

/** What is compared: the first contender is the measure of the others. */
export interface Bench {
  /** For `--only`, by its beginning. */
  readonly name: string
  /** A sentence for the report. */
  readonly about: string
  readonly contenders: ReadonlyArray<Contender>
  /** What the ratio is of. A rate by default. */
  readonly compares?: "rate" | "p99" | "seconds" | "memory" | "cpu"
  /** Which part of the records is enough for slow work. All by default. */
  readonly share?: number
  /** Other than the default topic: 6 partitions, values of 190 bytes. */
  readonly partitions?: number
  readonly bytes?: number
}

const worker = fileURLToPath(new URL("../worker.ts", import.meta.url))

/**
 * The arguments of a Node process that runs a function of a module in `contenders/`. The library is what users get: its
 * built JavaScript.
 */
export const nodeArguments = (module: string, name: string): ReadonlyArray<string> => [
  "--import",
  "tsx",
  worker,
  new URL(`../contenders/${module}.ts`, import.meta.url).href,
  name
]

/** A contender that is a function of a module in `contenders/`, run by this Node. */
export const inNode = (
  name: string,
  [module, run]: readonly [string, string],
  parameters: Parameters = {}
): Contender => ({
  name,
  parameters,
  command: () => Promise.resolve({ file: process.execPath, args: nodeArguments(module, run) })
})
