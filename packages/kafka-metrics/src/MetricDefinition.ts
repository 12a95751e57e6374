/**
 * Every metric there is, in one table. All layers of `KafkaMetrics` are made from it, and docs/metrics.md is held
 * against it.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 * @category models
 */
export interface Definition {
  readonly type: "counter" | "gauge" | "histogram"
  readonly help: string
  readonly labels: ReadonlyArray<string>
  /** Base units, as Prometheus has them. */
  readonly unit: "seconds" | "bytes" | "records" | "offset" | "boolean" | "count"
}

const counter = (unit: Definition["unit"], labels: ReadonlyArray<string>, help: string) =>
  ({ type: "counter", unit, labels, help }) satisfies Definition
const gauge = (unit: Definition["unit"], labels: ReadonlyArray<string>, help: string) =>
  ({ type: "gauge", unit, labels, help }) satisfies Definition
const seconds = (labels: ReadonlyArray<string>, help: string) =>
  ({ type: "histogram", unit: "seconds", labels, help }) satisfies Definition

const produced = ["client", "topic"]
const consumed = ["group", "topic"]
const partition = ["group", "topic", "partition"]

/**
 * The table, by the name without its prefix.
 *
 * @since 0.1.0
 * @category constants
 */
export const definitions = {
  producer_records_total: counter("records", produced, "Records acknowledged by the broker"),
  producer_bytes_total: counter("bytes", produced, "Bytes of acknowledged records"),
  producer_batches_total: counter("count", produced, "Batches acknowledged by the broker"),
  producer_send_duration_seconds: seconds(produced, "Time from handing a batch to the driver to its acknowledgement"),
  producer_failed_records_total: counter("records", [...produced, "error", "reason"], "Records that were not sent"),
  producer_retries_total: counter("count", produced, "Batches that were sent again"),
  producer_buffered_records: gauge("records", ["client"], "Records that are not acknowledged yet"),
  producer_buffered_bytes: gauge("bytes", ["client"], "Bytes of records that are not acknowledged yet"),
  producer_transaction_duration_seconds: seconds(
    ["transactional_id", "outcome"],
    "Time from the beginning of a transaction to its end"
  ),

  consumer_fetches_total: counter("count", consumed, "Chunks of records fetched"),
  consumer_fetched_records_total: counter("records", consumed, "Records fetched"),
  consumer_fetched_bytes_total: counter("bytes", consumed, "Bytes fetched"),
  consumer_records_total: counter("records", consumed, "Records handed out to the program"),
  consumer_buffered_records: gauge("records", ["group"], "Records fetched and not handed out"),
  consumer_buffered_bytes: gauge("bytes", ["group"], "Bytes fetched and not handed out"),

  consumer_position: gauge("offset", partition, "Offset after the last record handed out"),
  consumer_committed_offset: gauge("offset", partition, "Offset committed last by this consumer"),
  consumer_high_watermark: gauge("offset", partition, "End of the partition at the last fetch"),
  consumer_lag_records: gauge("records", partition, "Records not handed out yet"),
  consumer_committed_lag_records: gauge("records", partition, "Records not committed yet"),
  consumer_lag_seconds: gauge("seconds", partition, "Age of the next record that was not handed out; 0 at the end"),
  consumer_last_progress_age_seconds: gauge(
    "seconds",
    partition,
    "Time since a record was handed out or committed; 0 where there is nothing to do"
  ),

  consumer_commits_total: counter("count", ["group"], "Commits that succeeded"),
  consumer_commit_duration_seconds: seconds(["group"], "Time a commit took, with its retries"),
  consumer_commit_failures_total: counter(
    "count",
    ["group", "error", "reason", "retried"],
    "Commits that failed, and whether they are tried again"
  ),

  consumer_handler_duration_seconds: seconds(consumed, "Time a handler took for a record"),
  consumer_handler_failures_total: counter(
    "count",
    [...consumed, "action"],
    "Failures of a handler, and what was done about it"
  ),
  consumer_dead_letters_total: counter("records", [...consumed, "target"], "Records sent to a dead-letter topic"),
  consumer_decode_failures_total: counter(
    "records",
    [...consumed, "action"],
    "Records that could not be decoded, and what was done about it"
  ),

  consumer_assigned_partitions: gauge("count", ["group"], "Partitions this process reads"),
  consumer_rebalances_total: counter("count", ["group"], "Rebalances, the first joining included"),
  consumer_rebalance_duration_seconds: seconds(["group"], "Time from the first sign of a rebalance to the assignment"),
  consumer_gate_wait_seconds: seconds(["group"], "Time a revocation waited for records in hand"),
  consumer_gate_unsettled_partitions_total: counter(
    "count",
    ["group"],
    "Partitions given up with records in hand, which will be read again"
  ),
  consumer_lost_partitions_total: counter("count", ["group"], "Partitions lost without a chance to commit"),
  consumer_offset_resets_total: counter("count", consumed, "Positions that were out of range and were reset"),
  consumer_stalls_total: counter("count", ["group"], "Streams with records waiting that were not read for long"),
  consumer_failures_total: counter("count", ["group", "error", "reason"], "Consumers that died"),
  consumer_up: gauge("boolean", ["group"], "1 while the consumer runs, 0 after it died"),
  consumer_last_poll_age_seconds: gauge("seconds", ["group"], "Time since the run loop last turned"),
  consumer_last_commit_age_seconds: gauge("seconds", ["group"], "Time since the last commit that succeeded"),
  consumer_last_heartbeat_age_seconds: gauge("seconds", ["group"], "Time since the last heartbeat"),

  connection_up: gauge("boolean", ["client"], "1 while connected to the cluster, 0 while not"),
  observer_failures_total: counter("count", [], "Times that another observer of events threw")
} as const

/**
 * The name of a metric, without its prefix.
 *
 * @since 0.1.0
 * @category models
 */
export type Name = keyof typeof definitions

/**
 * The names of metrics of one type.
 *
 * @since 0.1.0
 * @category models
 */
export type NameOf<T extends Definition["type"]> = {
  [N in Name]: (typeof definitions)[N] extends { readonly type: T } ? N : never
}[Name]

/**
 * @since 0.1.0
 * @category constants
 */
export const names = Object.keys(definitions) as ReadonlyArray<Name>

/**
 * Upper bounds of the buckets of all durations, in seconds: from a millisecond to a minute.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultBuckets: ReadonlyArray<number> = [
  0.001,
  0.0025,
  0.005,
  0.01,
  0.025,
  0.05,
  0.1,
  0.25,
  0.5,
  1,
  2.5,
  5,
  10,
  30,
  60
]
