/**
 * What was produced, and how far each reader is. Only events of the plan count: a topic may hold others.
 */
import type { ProducerRecord } from "@coffeebuddy/kafka"
import { Context, Effect, HashMap, HashSet, Layer, Option, Ref } from "effect"
import { Plan } from "./Plan.ts"
import type { RunEvent } from "./RunEvent.ts"

export type ReaderName = "projection" | "printer"

export interface Reader {
  /** The last event that was seen of each run, by its number. */
  readonly last: HashMap.HashMap<string, number>
  /** How many events that is, added up. */
  readonly reached: number
  /** Events that were jumped over: lost, or out of order. */
  readonly missed: number
  /** Events that came again, as Kafka may deliver them after a crash. */
  readonly again: number
}

export interface Snapshot {
  readonly acknowledged: number
  /** For each partition the offset after the last event that was acknowledged. */
  readonly ends: HashMap.HashMap<number, bigint>
  readonly readers: { readonly [Name in ReaderName]: Reader }
}

export class Progress extends Context.Tag("examples/run-events/Progress")<Progress, {
  readonly acknowledged: (place: ProducerRecord.RecordMetadata) => Effect.Effect<void>
  readonly saw: (reader: ReaderName, event: RunEvent) => Effect.Effect<void>
  readonly snapshot: Effect.Effect<Snapshot>
}>() {}

const start: Reader = { last: HashMap.empty(), reached: 0, missed: 0, again: 0 }

export const see = (reader: Reader, { runId, sequence }: RunEvent): Reader => {
  const last = Option.getOrElse(HashMap.get(reader.last, runId), () => 0)
  if (sequence <= last) return { ...reader, again: reader.again + 1 }
  return {
    ...reader,
    last: HashMap.set(reader.last, runId, sequence),
    reached: reader.reached + sequence - last,
    missed: reader.missed + sequence - last - 1
  }
}

/** Whether everything is produced, and every reader has reached the end. */
export const isCaughtUp = (snapshot: Snapshot, total: number): boolean =>
  snapshot.acknowledged === total && Object.values(snapshot.readers).every(({ reached }) => reached === total)

export const layer: Layer.Layer<Progress, never, Plan> = Layer.effect(
  Progress,
  Effect.gen(function*() {
    const plan = yield* Plan
    const ours = HashSet.fromIterable(plan.runs.map(({ runId }) => runId))
    const state = yield* Ref.make<Snapshot>({
      acknowledged: 0,
      ends: HashMap.empty(),
      readers: { projection: start, printer: start }
    })
    return {
      acknowledged: ({ offset, partition }) =>
        Ref.update(state, (now) => ({
          ...now,
          acknowledged: now.acknowledged + 1,
          ends: HashMap.modifyAt(now.ends, partition, (end) =>
            Option.some(
              Option.getOrElse(end, () => 0n) > offset
                ? Option.getOrElse(end, () => 0n)
                : offset + 1n
            ))
        })),
      saw: (name, event) =>
        HashSet.has(ours, event.runId)
          ? Ref.update(state, (now) => ({ ...now, readers: { ...now.readers, [name]: see(now.readers[name], event) } }))
          : Effect.void,
      snapshot: Ref.get(state)
    }
  })
)
