/**
 * What members wrote down, held against what the brokers have: which promise was broken, and what each repetition was
 * due to. The oracle is that of the simulation; what it is told here has happened in several processes.
 */
import { Oracle } from "../simulation/Oracle.ts"
import type { Entry } from "./Journal.ts"

/** All that is known of a member after its end. */
export interface Testimony {
  readonly name: string
  readonly ordering: "partition" | "key"
  readonly journal: ReadonlyArray<Entry>
  readonly killedAt: number | undefined
  readonly frozen: ReadonlyArray<{ readonly from: number; readonly to: number }>
  /** When it was sent SIGTERM. */
  readonly askedAt: number | undefined
  readonly endedAt: number | undefined
  /** It did not end by itself. */
  readonly stuck: boolean
  readonly exit: number | string
  /** What it wrote to its standard output and error. */
  readonly errors: string
}

/** What a partition of the log has, at its offset. */
export interface Stored {
  readonly key: string
  readonly number: number
}

export interface Evidence {
  /** Whether members only came and left in good order, and no broker was touched. */
  readonly calm: boolean
  readonly sessionTimeout: number
  /** The partitions of the topic, read by Kafka's own consumer. */
  readonly log: ReadonlyArray<ReadonlyArray<Stored>>
  /** What our producer was told about its records. */
  readonly acknowledged: ReadonlyArray<{
    readonly number: number
    readonly partition: number
    readonly offset: number
  }>
  /** Committed offsets as an admin has seen them. */
  readonly polls: ReadonlyArray<{
    readonly at: number
    readonly offsets: ReadonlyArray<readonly [partition: number, offset: number]>
  }>
  readonly members: ReadonlyArray<Testimony>
  /** When something was done that no orderly group has to bear: brokers and dead or frozen members. */
  readonly disturbances: ReadonlyArray<{ readonly from: number; readonly to: number }>
}

/** An orderly end of a member, in milliseconds. */
export interface Departure {
  readonly member: string
  readonly at: number
  /** From SIGTERM to the end of the process. */
  readonly ended: number
  /** The part of it after all was closed. */
  readonly lingered: number
  /** The handlers' own time: until the last record that was in hand was done. */
  readonly inHand: number
  /** From SIGTERM until others had all of its partitions, where it had any and others were there. */
  readonly handedOver: number | undefined
  /** Something else was wrong at the same time. */
  readonly disturbed: boolean
  /** There was nothing in hand. */
  readonly idle: boolean
}

export interface Verdict {
  readonly violations: ReadonlyArray<string>
  readonly records: number
  /** How many times a handler ran to its end. */
  readonly handled: number
  /** Handlers that leaving members interrupted, as they were told to. */
  readonly interrupted: number
  /** Records handled again, by what they are due to. */
  readonly duplicates: ReadonlyMap<string, number>
  readonly rebalances: number
  /** Members that ended with an error of ours, by that error. */
  readonly failures: ReadonlyMap<string, number>
  readonly departures: ReadonlyArray<Departure>
}

type Moment =
  | { readonly at: number; readonly member: Testimony; readonly entry: Entry }
  | { readonly at: number; readonly member: undefined; readonly poll: Evidence["polls"][number] }

/** A handler's run. */
interface Run {
  readonly member: Testimony
  /** When the member was given the partition. */
  readonly assigned: number
  readonly began: number
}

const covers = (entry: Entry, partition: number): boolean => {
  switch (entry._tag) {
    case "Lost":
    case "CommitFailed":
      return entry.partitions.includes(partition)
    case "GateWaited":
      return entry.unsettled.includes(partition)
    default:
      return false
  }
}

/** Whether a member was frozen at some time between two, or had just come back. */
const wasFrozen = (member: Testimony, from: number, until: number, grace: number): boolean =>
  member.frozen.some((one) => one.from <= until && one.to + grace >= from)

/** Whether a member goes on with what it was given before it was frozen. */
const goesOn = (run: Run, grace: number): boolean =>
  run.member.frozen.some(({ from, to }) => run.assigned <= to && from <= run.began && run.began <= to + grace)

/** What a record handled by one member and then by another is due to. */
const reason = (earlier: Run, later: Run, partition: number, grace: number): string | undefined => {
  const at = later.began
  const one = earlier.member
  if (goesOn(later, grace)) return "by one that woke after others had taken over"
  if (one.killedAt !== undefined && one.killedAt <= at) return "killed"
  if (wasFrozen(one, earlier.began, at, grace)) return "frozen"
  for (const entry of one.journal) {
    if (entry.at < earlier.began || entry.at > at || !covers(entry, partition)) continue
    switch (entry._tag) {
      case "Lost":
        return "lost its session"
      case "CommitFailed":
        return "could not commit"
      case "GateWaited":
        return "too slow for the gate"
    }
  }
  if (one.journal.some((entry) => entry._tag === "Failed" && entry.at <= at)) return "failed"
  return undefined
}

const departure = (evidence: Evidence, member: Testimony): Departure | undefined => {
  const { askedAt, endedAt, journal } = member
  const closed = journal.findLast((entry) => entry._tag === "Closed")
  if (askedAt === undefined || endedAt === undefined || closed === undefined) return undefined
  const last = journal.findLast((entry) =>
    entry.at > askedAt && (entry._tag === "Done" || entry._tag === "Interrupted")
  )
  const held = new Set<number>()
  for (const entry of journal) {
    if (entry.at > askedAt) break
    if (entry._tag === "Assigned") { for (const partition of entry.partitions) held.add(partition) }
    if (entry._tag === "Revoked" || entry._tag === "Lost") {
      for (const partition of entry.partitions) held.delete(partition)
    }
  }
  let handedOver: number | undefined = undefined
  for (const partition of held) {
    const next = evidence.members.flatMap((other) =>
      other === member ?
        [] :
        other.journal.filter((entry) =>
          entry._tag === "Assigned" && entry.at > askedAt && entry.partitions.includes(partition)
        ).slice(0, 1)
    ).map((entry) => entry.at).sort((a, b) => a - b)[0]
    if (next === undefined) {
      handedOver = undefined
      break
    }
    handedOver = Math.max(handedOver ?? 0, next - askedAt)
  }
  const until = askedAt + Math.max(endedAt - askedAt, handedOver ?? 0)
  return {
    member: member.name,
    at: askedAt,
    ended: endedAt - askedAt,
    lingered: endedAt - closed.at,
    inHand: last === undefined ? 0 : last.at - askedAt,
    handedOver,
    disturbed: evidence.disturbances.some(({ from, to }) => from <= until && to >= askedAt),
    idle: last === undefined
  }
}

const count = (counts: Map<string, number>, name: string): void => void counts.set(name, (counts.get(name) ?? 0) + 1)

export const judge = (evidence: Evidence): Verdict => {
  const { log } = evidence
  const oracle = new Oracle(log.length, "partition")
  const violations: Array<string> = []
  const violate = (text: string): void => void (violations.length < 20 && violations.push(text))

  const wanted = new Map<number, string>()
  for (const [partition, records] of log.entries()) {
    for (const [offset, { key, number }] of records.entries()) {
      oracle.produced(partition, key)
      const before = wanted.get(number)
      if (before !== undefined) violate(`number ${number} is stored at ${before} and at ${partition}@${offset}`)
      wanted.set(number, `${partition}@${offset}`)
    }
  }
  for (const { number, offset, partition } of evidence.acknowledged) {
    const where = wanted.get(number)
    if (where !== `${partition}@${offset}`) {
      violate(`number ${number} was acknowledged at ${partition}@${offset}, and is ${where ?? "nowhere"}`)
    }
  }

  const moments: Array<Moment> = [
    ...evidence.members.flatMap((member) => member.journal.map((entry) => ({ at: entry.at, member, entry }))),
    ...evidence.polls.map((poll) => ({ at: poll.at, member: undefined, poll }))
  ]
  moments.sort((one, other) => one.at - other.at)

  const confirmed = new Map<number, number>()
  const confirm = (partition: number, offset: number): void => {
    confirmed.set(partition, Math.max(offset, confirmed.get(partition) ?? 0))
  }
  /** Who ran the handler of a record to its end, or is about to. */
  const runs = new Map<string, Run>()
  const next = new Map<string, number>()
  const assigned = new Map<string, number>()
  const duplicates = new Map<string, number>()
  const failures = new Map<string, number>()
  let handled = 0
  let interrupted = 0
  let rebalances = 0
  for (const moment of moments) {
    if (moment.member === undefined) {
      for (const [partition, offset] of moment.poll.offsets) {
        oracle.stored(partition, offset)
        confirm(partition, offset)
      }
      continue
    }
    const { entry, member } = moment
    switch (entry._tag) {
      case "Began": {
        const { key, number, offset, partition } = entry
        const place = `${partition}@${offset}`
        const stored = log[partition]?.[offset]
        if (stored === undefined || stored.number !== number) {
          violate(`${member.name}: ${place} is ${number}, and ${stored?.number ?? "nothing"} in the log`)
          break
        }
        oracle.start(member.name, partition, offset, key, member.ordering)
        const lane = `${member.name} ${partition}`
        const expected = next.get(lane)
        if (member.ordering === "partition" && expected !== offset) {
          violate(`${member.name}: ${place} comes where ${expected ?? "nothing"} was to come`)
        }
        next.set(lane, offset + 1)
        const run: Run = { member, assigned: assigned.get(lane) ?? 0, began: entry.at }
        const before = runs.get(place)
        const least = confirmed.get(partition) ?? 0
        const excused = goesOn(run, evidence.sessionTimeout) ||
          evidence.disturbances.some(({ from, to }) => from <= entry.at && entry.at <= to)
        if (offset < least && !excused) violate(`${member.name} begins ${place}, where ${least} was committed`)
        if (before !== undefined) {
          const why = reason(before, run, partition, evidence.sessionTimeout)
          if (why === undefined || evidence.calm) {
            violate(`${place} is handled by ${member.name} after ${before.member.name}: ${why ?? "for no reason"}`)
          }
          count(duplicates, why ?? "no reason")
        }
        runs.set(place, run)
        break
      }
      case "Done":
        handled++
        oracle.finish(entry.partition, entry.offset)
        break
      case "Interrupted":
        interrupted++
        oracle.interrupt(entry.partition, entry.offset)
        runs.delete(`${entry.partition}@${entry.offset}`)
        break
      case "Assigned":
        rebalances++
        for (const [index, partition] of entry.partitions.entries()) {
          const position = entry.positions[index]!
          next.set(`${member.name} ${partition}`, position)
          assigned.set(`${member.name} ${partition}`, entry.at)
          const least = confirmed.get(partition) ?? 0
          if (position < least) {
            violate(`${member.name} starts partition ${partition} at ${position}, where ${least} was committed`)
          }
        }
        break
      case "Committed":
        for (const [partition, offset] of entry.offsets) {
          oracle.confirmed(partition, offset)
          confirm(partition, offset)
        }
        break
      case "Failed":
        if (!entry.typed) violate(`${member.name} ended with what is no error of ours: ${entry.error}`)
        else count(failures, entry.error.split("\n")[0]!)
        if (evidence.calm) violate(`${member.name} failed, though nothing was wrong: ${entry.error}`)
        break
    }
  }
  oracle.end()

  for (const member of evidence.members) {
    if (member.stuck) violate(`${member.name} did not end after SIGTERM`)
    if (member.killedAt !== undefined || member.stuck) continue
    const [up, closed] = (["Up", "Closed"] as const).map((tag) => member.journal.some(({ _tag }) => _tag === tag))
    const asked = member.askedAt !== undefined
    // one that was asked while it was still loading has had nobody to tell
    if (up && !closed) violate(`${member.name} ended with ${member.exit} and closed nothing: ${member.errors}`)
    if (!up && !asked) violate(`${member.name} never came up, and ended with ${member.exit}: ${member.errors}`)
    if (closed && asked && member.exit !== 0) violate(`${member.name} ended with ${member.exit}: ${member.errors}`)
  }
  const departures = evidence.members.flatMap((member) => departure(evidence, member) ?? [])
  for (const { disturbed, handedOver, member } of departures) {
    if (!disturbed && handedOver !== undefined && handedOver >= evidence.sessionTimeout) {
      violate(`${member} left in order, and others had its partitions only after ${Math.round(handedOver)} ms`)
    }
  }
  return {
    violations: [...oracle.violations, ...violations],
    records: oracle.count,
    handled,
    interrupted,
    duplicates,
    rebalances,
    failures,
    departures
  }
}
