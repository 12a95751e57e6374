/**
 * What came of it, held against the plan.
 */
import type { Admin } from "@coffeebuddy/kafka"
import { Data, HashMap, Option } from "effect"
import type { Plan } from "./Plan.ts"
import type { Reader, ReaderName, Snapshot } from "./Progress.ts"
import type { Run } from "./Run.ts"
import type { Check } from "./view.ts"

export interface Findings {
  readonly plan: Plan["Type"]
  readonly snapshot: Snapshot
  readonly runs: HashMap.HashMap<string, Run>
  /** What each reader's group has committed in the topic, as the broker says. */
  readonly committed: { readonly [Name in ReaderName]: ReadonlyArray<Admin.CommittedOffset> }
}

export class SummaryWrong extends Data.TaggedError("SummaryWrong")<{ readonly wrong: ReadonlyArray<string> }> {
  override get message(): string {
    return `The summary is wrong:\n${this.wrong.map((what) => `  ${what}`).join("\n")}`
  }
}

const reading = (name: ReaderName, { again, missed, reached }: Reader, total: number): Check => ({
  ok: reached === total && missed === 0,
  what: `${name}: ${reached - missed} of ${total} events, each run in its order` +
    (missed > 0 ? `, ${missed} missing in between` : "") +
    (again > 0 ? `, ${again} delivered again` : "")
})

const projected = ({ plan, runs }: Findings): Check => {
  const different = plan.runs.filter(({ expected, runId }) => !Option.contains(HashMap.get(runs, runId), expected))
  return {
    ok: different.length === 0,
    what:
      `projection: ${
        plan.runs.length - different.length
      } of ${plan.runs.length} runs are in the state that was planned` +
      (different.length > 0 ? `, not ${different.slice(0, 3).map(({ runId }) => runId).join(", ")}` : "")
  }
}

const committing = (name: ReaderName, { committed, snapshot }: Findings): Check => {
  const offsets = new Map(committed[name].map(({ offset, partition }) => [partition, offset]))
  const behind = HashMap.filter(snapshot.ends, (end, partition) => (offsets.get(partition) ?? 0n) < end)
  return {
    ok: HashMap.isEmpty(behind),
    what: `${name}: everything is committed, in ${HashMap.size(snapshot.ends)} partitions` +
      (HashMap.isEmpty(behind) ? "" : `, except in ${[...HashMap.keys(behind)].join(", ")}`)
  }
}

export const make = (findings: Findings): ReadonlyArray<Check> => {
  const { plan, snapshot } = findings
  return [
    {
      ok: snapshot.acknowledged === plan.total,
      what: `producer: ${snapshot.acknowledged} of ${plan.total} events acknowledged`
    },
    projected(findings),
    reading("projection", snapshot.readers.projection, plan.total),
    reading("printer", snapshot.readers.printer, plan.total),
    committing("projection", findings),
    committing("printer", findings)
  ]
}
