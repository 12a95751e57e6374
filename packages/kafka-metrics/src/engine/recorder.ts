/**
 * From events to metrics. Counters and durations are told to a sink as they happen; gauges are read from what the
 * tracker knows, at the moment of a scrape. So nothing is left of a partition that is gone.
 */
import { type Group, Tracker } from "@coffeebuddy/kafka/KafkaActivity"
import type { KafkaError } from "@coffeebuddy/kafka/KafkaError"
import type { KafkaEvent } from "@coffeebuddy/kafka/KafkaEvent"
import type { NameOf } from "../MetricDefinition.ts"

/** The values of a metric's labels, in the order of its definition. */
export type LabelValues = ReadonlyArray<string>

/** Where counters and durations go. */
export interface Sink {
  readonly count: (name: NameOf<"counter">, labels: LabelValues, by: number) => void
  /** In seconds. */
  readonly observe: (name: NameOf<"histogram">, labels: LabelValues, values: ReadonlyArray<number>) => void
}

export interface GaugeSample {
  readonly name: NameOf<"gauge">
  readonly labels: LabelValues
  readonly value: number
}

export class Recorder {
  private readonly tracker = new Tracker()
  private readonly producers = new Map<string, { readonly records: number; readonly bytes: number }>()
  private readonly connections = new Map<string, boolean>()
  private readonly sink: Sink

  constructor(sink: Sink) {
    this.sink = sink
  }

  onEvent(event: KafkaEvent, now: number): void {
    this.record(event)
    this.tracker.onEvent(event, now)
  }

  private record(event: KafkaEvent): void {
    const { sink } = this
    switch (event._tag) {
      case "Produced": {
        const labels = [event.clientId, event.topic]
        sink.count("producer_records_total", labels, event.records)
        sink.count("producer_bytes_total", labels, event.bytes)
        sink.count("producer_batches_total", labels, 1)
        sink.observe("producer_send_duration_seconds", labels, [event.millis / 1000])
        return
      }
      case "ProduceFailed":
        sink.count("producer_failed_records_total", [event.clientId, event.topic, ...kind(event.error)], event.records)
        return
      case "ProduceRetried":
        sink.count("producer_retries_total", [event.clientId, event.topic], 1)
        return
      case "ProducerBuffered":
        this.producers.set(event.clientId, event)
        return
      case "TransactionEnded":
        sink.observe("producer_transaction_duration_seconds", [event.transactionalId, event.outcome], [
          event.millis / 1000
        ])
        return
      case "Polled": {
        const labels = [event.groupId, event.topicPartition.topic]
        sink.count("consumer_fetches_total", labels, 1)
        sink.count("consumer_fetched_records_total", labels, event.records)
        sink.count("consumer_fetched_bytes_total", labels, event.bytes)
        return
      }
      case "HandedOut":
        sink.count("consumer_records_total", [event.groupId, event.topicPartition.topic], event.records)
        return
      case "Committed":
        sink.count("consumer_commits_total", [event.groupId], 1)
        sink.observe("consumer_commit_duration_seconds", [event.groupId], [event.millis / 1000])
        return
      case "CommitFailed":
        sink.count("consumer_commit_failures_total", [
          event.groupId,
          ...kind(event.error),
          String(event.willRetry)
        ], 1)
        return
      case "Handled":
        sink.observe(
          "consumer_handler_duration_seconds",
          [event.groupId, event.topicPartition.topic],
          event.millis.map((millis) => millis / 1000)
        )
        return
      case "HandlerFailed":
        sink.count("consumer_handler_failures_total", [
          event.groupId,
          event.topicPartition.topic,
          event.action
        ], 1)
        return
      case "DeadLettered":
        sink.count("consumer_dead_letters_total", [event.groupId, event.topicPartition.topic, event.target], 1)
        return
      case "DecodeFailed":
        sink.count("consumer_decode_failures_total", [
          event.groupId,
          event.topicPartition.topic,
          event.action
        ], 1)
        return
      case "Assigned": {
        this.connections.set(event.groupId, true)
        // partitions that only change hands within this process are no rebalance
        const status = this.tracker.groups.get(event.groupId)?.status
        if (status === "running") return
        sink.count("consumer_rebalances_total", [event.groupId], 1)
        sink.observe("consumer_rebalance_duration_seconds", [event.groupId], [event.millis / 1000])
        return
      }
      case "GateWaited":
        sink.observe("consumer_gate_wait_seconds", [event.groupId], [event.millis / 1000])
        if (event.unsettled.length > 0) {
          sink.count("consumer_gate_unsettled_partitions_total", [event.groupId], event.unsettled.length)
        }
        return
      case "Lost":
        if (event.partitions.length > 0) {
          sink.count("consumer_lost_partitions_total", [event.groupId], event.partitions.length)
        }
        return
      case "OffsetReset":
        sink.count("consumer_offset_resets_total", [event.groupId, event.topicPartition.topic], 1)
        return
      case "Stalled":
        sink.count("consumer_stalls_total", [event.groupId], 1)
        return
      case "Died":
        sink.count("consumer_failures_total", [event.groupId, ...kind(event.error)], 1)
        this.connections.delete(event.groupId)
        return
      case "Stopped":
        this.connections.delete(event.groupId)
        return
      case "Connection":
        this.connections.set(event.clientId, event.state === "connected")
        return
      case "ObserverFailed":
        sink.count("observer_failures_total", [], 1)
        return
      case "Rebalancing":
      case "Revoked":
      case "Heartbeat":
      case "LoopTurned":
        return
    }
  }

  /** All gauges, as they are now. */
  gauges(now: number): Array<GaugeSample> {
    const samples: Array<GaugeSample> = []
    for (const [client, { bytes, records }] of this.producers) {
      samples.push({ name: "producer_buffered_records", labels: [client], value: records })
      samples.push({ name: "producer_buffered_bytes", labels: [client], value: bytes })
    }
    for (const [client, up] of this.connections) {
      samples.push({ name: "connection_up", labels: [client], value: up ? 1 : 0 })
    }
    for (const group of this.tracker.groups.values()) gaugesOf(group, now, samples)
    return samples
  }
}

const gaugesOf = (group: Group, now: number, samples: Array<GaugeSample>): void => {
  if (group.status === "stopped") return
  let labels: LabelValues = [group.groupId]
  const add = (name: NameOf<"gauge">, value: number | bigint | undefined): void => {
    if (value !== undefined) samples.push({ name, labels, value: Number(value) })
  }
  const age = (at: number | undefined) => at === undefined ? undefined : Math.max(0, now - at) / 1000
  add("consumer_up", group.status === "died" ? 0 : 1)
  if (group.status === "died") return
  add("consumer_assigned_partitions", group.partitions.size)
  add("consumer_buffered_records", group.bufferedRecords)
  add("consumer_buffered_bytes", group.bufferedBytes)
  add("consumer_last_poll_age_seconds", age(group.turnedAt))
  add("consumer_last_commit_age_seconds", age(group.committedAt))
  add("consumer_last_heartbeat_age_seconds", age(group.heartbeatAt))
  for (const partition of group.partitions.values()) {
    labels = [group.groupId, partition.topicPartition.topic, String(partition.topicPartition.partition)]
    const lagMillis = partition.lagMillis(now)
    add("consumer_position", partition.position)
    add("consumer_committed_offset", partition.committed)
    add("consumer_high_watermark", partition.highWatermark)
    add("consumer_lag_records", partition.lag)
    add("consumer_committed_lag_records", partition.committedLag)
    add("consumer_lag_seconds", lagMillis === undefined ? undefined : lagMillis / 1000)
    add("consumer_last_progress_age_seconds", partition.hasWork ? age(partition.progressAt) : 0)
  }
}

/** The kind of a failure, from small closed sets: its tag, and its reason where it has a typed one. */
const kind = (error: KafkaError): readonly [error: string, reason: string] => {
  switch (error._tag) {
    case "ProducerError":
    case "CommitError":
    case "ConsumerError":
    case "TransactionError":
      return [error._tag, error.reason]
    default:
      return [error._tag, ""]
  }
}
