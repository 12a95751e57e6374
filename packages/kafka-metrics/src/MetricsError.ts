/**
 * What can go wrong with metrics.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * Settings that make no sense, a registry that has these metrics already, or a port that can't be listened on.
 *
 * - `prefix`, `labels`, `buckets`: the setting is not valid.
 * - `registered`: the registry has a metric of this name. Give each `layerPrometheus` a registry or a prefix of its own.
 * - `scrape`: a metric of the registry threw when it was read.
 * - `listen`: the server can't be opened; mostly the port is in use.
 *
 * @since 0.1.0
 * @category errors
 */
export class MetricsError extends Schema.TaggedError<MetricsError>("@coffeebuddy/kafka-metrics/MetricsError")(
  "MetricsError",
  {
    reason: Schema.Literal("prefix", "labels", "buckets", "registered", "scrape", "listen"),
    description: Schema.String,
    cause: Schema.optional(Schema.Defect)
  }
) {
  override get message(): string {
    return `metrics (${this.reason}): ${this.description}`
  }
}
