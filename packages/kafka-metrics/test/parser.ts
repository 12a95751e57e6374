/**
 * Prometheus' own parser: that of its Python client, fetched from PyPI once and kept under node_modules.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

export interface ParsedFamily {
  readonly name: string
  readonly type: string
  readonly help: string
  readonly samples: ReadonlyArray<{
    readonly name: string
    readonly labels: Readonly<Record<string, string>>
    readonly value: string
  }>
}

const version = "0.26.0"
const here = Path.dirname(fileURLToPath(import.meta.url))
const folder = Path.resolve(here, `../../../node_modules/.cache/prometheus-client-${version}`)
const python = Path.join(folder, "bin/python")

/** `false` where Python or the registry of its packages can't be reached. That is said aloud, and in CI it fails. */
export const available = (): boolean => {
  const done = Path.join(folder, "done")
  if (Fs.existsSync(done)) return true
  const steps: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
    ["python3", ["-m", "venv", folder]],
    [python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", `prometheus_client==${version}`]]
  ]
  for (const [command, args] of steps) {
    const { error, status, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: 50_000 })
    if (status === 0) continue
    const why = `${[command, ...args].join(" ")}: ${error?.message ?? stderr.trim()}`
    if ((process.env["CI"] ?? "") !== "") throw new Error(`Prometheus' parser is not there. ${why}`)
    console.warn(`SKIPPED: what is scraped is not held against Prometheus' parser. ${why}`)
    return false
  }
  Fs.writeFileSync(done, "")
  return true
}

/** What a page says. Throws the parser's complaint. */
export const parse = (format: "prometheus" | "openmetrics", page: string): ReadonlyArray<ParsedFamily> => {
  const { status, stderr, stdout } = spawnSync(python, [Path.join(here, "parse.py"), format], {
    input: page,
    encoding: "utf8",
    timeout: 20_000
  })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as ReadonlyArray<ParsedFamily>
}
