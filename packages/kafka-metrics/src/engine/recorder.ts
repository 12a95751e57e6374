/**
 * From events to metrics. Counters and durations are told to a sink as they happen; gauges are read from what the
 * tracker knows, at the moment of a scrape. So nothing is left of a partition that is gone.
 */
import { type Member, type Partition, Tracker } from "@coffeebuddy/kafka/KafkaActivity"
import type { KafkaError } from "@coffeebuddy/kafka/KafkaError"
import type { KafkaEvent, Source } from "@coffeebuddy/kafka/KafkaEvent"
import type { NameOf } from "../MetricDefinition.ts"

/** The values of a metric's labels, in the order of its definition. */
export type LabelValues = ReadonlyArray<string>

/** Where counters and durations go. */
export interface Sink {
  readonly count: (name: NameOf<"counter">, labels: LabelValues, by: number) => void
  /** Given in milliseconds, and shown in seconds. */
  readonly observe: (name: NameOf<"histogram">, labels: LabelValues, millis: ReadonlyArray<number>) => void
}

export interface GaugeSample {
  readonly name: NameOf<"gauge">
  readonly labels: LabelValues
  readonly value: number
}

export class Recorder {
  private readonly tracker = new Tracker()
  private readonly producers = new Map<Source | string, Extract<KafkaEvent, { readonly _tag: "ProducerBuffered" }>>()
  private readonly connections = new Map<Source | string, { readonly client: string; readonly up: boolean }>()
  private readonly sink: Sink

  constructor(sink: Sink) {
    this.sink = sink
  }

  onEvent(event: KafkaEvent, now: number, source?: Source): void {
    this.record(event, source)
    this.tracker.onEvent(event, now, source)
  }

  private record(event: KafkaEvent, source: Source | undefined): void {
    const { sink } = this
    switch (event._tag) {
      case "Produced": {
        const labels = [event.clientId, event.topic]
        sink.count("producer_records_total", labels, event.records)
        sink.count("producer_bytes_total", labels, event.bytes)
        sink.count("producer_batches_total", labels, 1)
        sink.observe("producer_send_duration_seconds", labels, [event.millis])
        return
      }
      case "ProduceFailed":
        sink.count("producer_failed_records_total", [event.clientId, event.topic, ...kind(event.error)], event.records)
        return
      case "ProduceRetried":
        sink.count("producer_retries_total", [event.clientId, event.topic], 1)
        return
      case "ProducerBuffered":
        this.producers.set(source ?? event.clientId, event)
        return
      case "ProducerClosed":
        this.producers.delete(source ?? event.clientId)
        this.connections.delete(source ?? event.clientId)
        return
      case "TransactionEnded":
        sink.observe("producer_transaction_duration_seconds", [event.transactionalId, event.outcome], [
          event.millis
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
        sink.observe("consumer_commit_duration_seconds", [event.groupId], [event.millis])
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
          event.millis
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
        this.connections.set(source ?? event.groupId, { client: event.groupId, up: true })
        // partitions that only change hands within this process are no rebalance
        if (this.tracker.member(event.groupId, source)?.status === "running") return
        sink.count("consumer_rebalances_total", [event.groupId], 1)
        sink.observe("consumer_rebalance_duration_seconds", [event.groupId], [event.millis])
        return
      }
      case "GateWaited":
        sink.observe("consumer_gate_wait_seconds", [event.groupId], [event.millis])
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
        this.connections.delete(source ?? event.groupId)
        return
      case "Stopped":
      case "ConsumerClosed":
        this.connections.delete(source ?? event.groupId)
        return
      case "Connection":
        this.connections.set(source ?? event.clientId, { client: event.clientId, up: event.state === "connected" })
        return
      case "ObserverFailed":
        sink.count("observer_failures_total", [], 1)
        return
      case "Rebalancing":
      case "Revoked":
      case "Heartbeat":
      case "LoopTurned":
      case "EndOffsets":
      case "Delayed":
        return
    }
  }

  /**
   * All gauges, as they are now. What several consumers of a group, or several producers of a client id, have in common
   * is one series: counts are added up, and of states and ages it shows the worst.
   */
  gauges(now: number): Array<GaugeSample> {
    const samples: Array<GaugeSample> = []
    const one = (name: NameOf<"gauge">, label: string, value: number) => samples.push({ name, labels: [label], value })
    for (const [client, all] of by(this.producers.values(), ({ clientId }) => clientId)) {
      one("producer_buffered_records", client, sum(all, ({ records }) => records))
      one("producer_buffered_bytes", client, sum(all, ({ bytes }) => bytes))
    }
    for (const [client, all] of by(this.connections.values(), ({ client }) => client)) {
      one("connection_up", client, all.every(({ up }) => up) ? 1 : 0)
    }
    for (const [group, all] of by(this.tracker.members, ({ groupId }) => groupId)) gaugesOf(group, all, now, samples)
    return samples
  }
}

const by = <A>(all: Iterable<A>, key: (one: A) => string): Map<string, Array<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const one of all) {
    const same = groups.get(key(one))
    if (same === undefined) groups.set(key(one), [one])
    else same.push(one)
  }
  return groups
}

const sum = <A>(all: ReadonlyArray<A>, count: (one: A) => number): number =>
  all.reduce((total, one) => total + count(one), 0)

/** The moment that this age is counted from. */
const first = (all: ReadonlyArray<number | undefined>): number | undefined => {
  const known = all.filter((at) => at !== undefined)
  return known.length === 0 ? undefined : Math.min(...known)
}

const last = (all: ReadonlyArray<number | undefined>): number | undefined => {
  const known = all.filter((at) => at !== undefined)
  return known.length === 0 ? undefined : Math.max(...known)
}

const gaugesOf = (
  group: string,
  all: ReadonlyArray<Member>,
  now: number,
  samples: Array<GaugeSample>
): void => {
  const present = all.filter((one) => one.status !== "stopped")
  if (present.length === 0) return
  let labels: LabelValues = [group]
  const add = (name: NameOf<"gauge">, value: number | bigint | undefined): void => {
    if (value !== undefined) samples.push({ name, labels, value: Number(value) })
  }
  const age = (at: number | undefined) => at === undefined ? undefined : Math.max(0, now - at) / 1000
  const members = present.filter((one) => one.status !== "died")
  add("consumer_up", members.length === present.length ? 1 : 0)
  if (members.length === 0) return
  add("consumer_assigned_partitions", sum(members, ({ partitions }) => partitions.size))
  add("consumer_buffered_records", sum(members, ({ bufferedRecords }) => bufferedRecords))
  add("consumer_buffered_bytes", sum(members, ({ bufferedBytes }) => bufferedBytes))
  add("consumer_last_poll_age_seconds", age(first(members.map(({ turnedAt }) => turnedAt))))
  add("consumer_last_commit_age_seconds", age(last(members.map(({ committedAt }) => committedAt))))
  add("consumer_last_heartbeat_age_seconds", age(first(members.map(({ heartbeatAt }) => heartbeatAt))))
  for (const partition of partitionsOf(members)) {
    labels = [group, partition.topicPartition.topic, String(partition.topicPartition.partition)]
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

/** Each partition once: where two read it, by explicit partitions or for a moment, the one that is further behind. */
const partitionsOf = (members: ReadonlyArray<Member>): Iterable<Partition> => {
  const [only] = members
  if (only !== undefined && members.length === 1) return only.partitions.values()
  const partitions = new Map<string, Partition>()
  for (const member of members) {
    for (const [key, partition] of member.partitions) {
      const other = partitions.get(key)
      if (other === undefined || partition.position < other.position) partitions.set(key, partition)
    }
  }
  return partitions.values()
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
