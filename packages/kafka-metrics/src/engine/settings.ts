/**
 * The options of a layer, checked.
 */
import * as Effect from "effect/Effect"
import { defaultBuckets, definitions } from "../MetricDefinition.ts"
import { MetricsError } from "../MetricsError.ts"

export interface Settings {
  readonly prefix: string
  readonly labels: Readonly<Record<string, string>>
  readonly buckets: ReadonlyArray<number>
}

const ours: ReadonlySet<string> = new Set([...Object.values(definitions).flatMap((one) => one.labels), "le"])

export const make = (options: {
  readonly prefix?: string | undefined
  readonly defaultLabels?: Readonly<Record<string, string>> | undefined
  readonly buckets?: ReadonlyArray<number> | undefined
}): Effect.Effect<Settings, MetricsError> =>
  Effect.suspend(() => {
    const prefix = options.prefix ?? "kafka"
    const labels = options.defaultLabels ?? {}
    const buckets = options.buckets ?? defaultBuckets
    const refuse = (reason: MetricsError["reason"], description: string) =>
      Effect.fail(new MetricsError({ reason, description }))
    if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(prefix)) {
      return refuse("prefix", `"${prefix}" is not valid: letters, digits, _ and :, and no digit first`)
    }
    for (const [name, value] of Object.entries(labels)) {
      if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) || name.startsWith("__")) {
        return refuse("labels", `"${name}" is not valid: letters, digits and _, no digit first, and not two _ first`)
      }
      if (ours.has(name)) return refuse("labels", `"${name}" is a label of the metrics themselves`)
      if (typeof value !== "string") return refuse("labels", `the value of "${name}" is not a string`)
    }
    const ascending = buckets.every((bound, i) => Number.isFinite(bound) && bound > (buckets[i - 1] ?? 0))
    if (buckets.length === 0 || !ascending) {
      return refuse("buckets", `[${buckets.join(", ")}] must be positive seconds, each more than the one before`)
    }
    return Effect.succeed({ prefix: prefix.endsWith("_") ? prefix : `${prefix}_`, labels, buckets })
  })
