/**
 * One contender, once, in a process of its own: argument 1 its module, argument 2 the function's name there, argument 3
 * the work as JSON. Prints JSON.
 */
import type { Run, Work } from "./harness/model.ts"

const [module, name, input] = process.argv.slice(2)
if (module === undefined || name === undefined || input === undefined) throw new Error("usage: worker MODULE NAME WORK")
const run = ((await import(module)) as Record<string, Run | undefined>)[name]
if (run === undefined) throw new Error(`${module} has no "${name}"`)
const work = JSON.parse(input) as Work

// once for the compiler, once for the clock
if (work.warmUp > 0) await run({ ...work, groupId: `${work.groupId}-warm`, records: work.warmUp })
const cpu = process.cpuUsage()
const result = await run(work)
const { system, user } = process.cpuUsage(cpu)
console.log(JSON.stringify({
  cpuSeconds: (system + user) / 1e6,
  peakRssBytes: process.resourceUsage().maxRSS * 1024,
  ...result
}))
process.exit(0)
