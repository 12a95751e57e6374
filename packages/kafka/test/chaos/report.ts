/** A result as people read it. */
import type { Result } from "./chaos.ts"
import type { Departure } from "./verdict.ts"

const times = (millis: ReadonlyArray<number>): string => {
  if (millis.length === 0) return "none"
  const sorted = millis.toSorted((a, b) => a - b)
  return `median ${Math.round(sorted[sorted.length >> 1]!)} ms, longest ${
    Math.round(sorted.at(-1)!)
  } ms (${sorted.length})`
}

const counts = (map: ReadonlyMap<string, number>): string =>
  map.size === 0 ? "none" : [...map].map(([name, count]) => `${count} ${name}`).join(", ")

const departures = (title: string, all: ReadonlyArray<Departure>): ReadonlyArray<string> =>
  all.length === 0 ? [] : [
    `${title}:`,
    `  from SIGTERM to the process's end   ${times(all.map((one) => one.ended))}`,
    `  … less what handlers still took     ${times(all.map((one) => one.ended - one.inHand))}`,
    `  … of it after all was closed        ${times(all.map((one) => one.lingered))}`,
    `  from SIGTERM to the new owners      ${times(all.flatMap((one) => one.handedOver ?? []))}`
  ]

export const report = (result: Result): string => {
  const total = [...result.duplicates.values()].reduce((sum, count) => sum + count, 0)
  return [
    `seed ${result.seed}, ${result.brokers} broker(s), ${result.calm ? "calm" : "with faults"}, ${
      Math.round(result.seconds)
    } s`,
    `acts        ${counts(result.acts)}`,
    `members     ${result.members} processes, ${result.rebalances} assignments`,
    `records     ${result.records} stored, ${result.handled} handled, ${result.interrupted} interrupted and begun again, ${result.unacknowledged} never acknowledged`,
    `duplicates  ${total}${total === 0 ? "" : `: ${counts(result.duplicates)}`}`,
    ...[...result.failures].map(([error, count]) => `failed      ${count} with ${error}`),
    ...departures("leaving in peace, nothing in hand", result.departures.filter((one) => !one.disturbed && one.idle)),
    ...departures("leaving in peace, at work", result.departures.filter((one) => !one.disturbed && !one.idle)),
    ...departures("leaving among faults", result.departures.filter((one) => one.disturbed)),
    ...result.violations.map((one) => `VIOLATION ${one}`),
    ...(result.violations.length === 0 ? ["every promise was kept"] : [
      `journals: ${result.directory}`,
      `again: npm run chaos -- --seed ${result.seed} --brokers ${result.brokers}${result.calm ? " --calm" : ""}`
    ])
  ].join("\n")
}
