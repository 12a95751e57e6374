/**
 * What consumers are doing, told from their events: the state that metrics and health are read from. It holds nothing
 * of a partition that was revoked or lost.
 *
 * @since 0.1.0
 */
import type { KafkaError } from "./KafkaError.ts"
import type { KafkaEvent } from "./KafkaEvent.ts"
import * as TopicPartition from "./TopicPartition.ts"

/**
 * `joining` until the first assignment, `rebalancing` from a revocation or its first sign to the next assignment.
 *
 * @since 0.1.0
 * @category models
 */
export type Status = "joining" | "running" | "rebalancing" | "stopped" | "died"

/**
 * One assigned partition. Times are milliseconds since 1970.
 *
 * @since 0.1.0
 * @category models
 */
export class Partition {
  readonly topicPartition: TopicPartition.TopicPartition
  /** The offset after the last record that was handed out. */
  position: bigint
  committed: bigint | undefined = undefined
  highWatermark: bigint | undefined = undefined
  /** When a record was last handed out or committed, or when the partition was assigned. */
  progressAt: number
  /** Its next record is not due before, in milliseconds since 1970: until then there is no progress to be had. */
  delayedUntil = 0
  /** Its stream was reported to stand still, and has taken nothing since. */
  stalled = false
  /** Chunks that were fetched and not wholly handed out: where each ends, and the time of its last record. */
  private readonly waiting: Array<{ readonly end: bigint; readonly timestamp: number }> = []
  private lastTimestamp: number | undefined = undefined

  constructor(topicPartition: TopicPartition.TopicPartition, position: bigint, now: number) {
    this.topicPartition = topicPartition
    this.position = position
    this.progressAt = now
  }

  /** How many records were not handed out yet. Unknown before the first fetch. */
  get lag(): bigint | undefined {
    if (this.highWatermark === undefined) return undefined
    return this.highWatermark > this.position ? this.highWatermark - this.position : 0n
  }

  /** How many records the group has not committed: what Kafka's own tools call lag. Unknown before the first commit. */
  get committedLag(): bigint | undefined {
    if (this.highWatermark === undefined || this.committed === undefined) return undefined
    return this.highWatermark > this.committed ? this.highWatermark - this.committed : 0n
  }

  /** Whether there are records that were not handed out, or were and are not committed by a group that commits. */
  get hasWork(): boolean {
    return (this.lag ?? 0n) > 0n || (this.committed !== undefined && this.committed < this.position)
  }

  /** How old the next record is that was not handed out, in milliseconds; 0 where there is none. An estimate. */
  lagMillis(now: number): number | undefined {
    if (this.lag === undefined) return undefined
    if (this.lag === 0n) return 0
    const timestamp = this.waiting[0]?.timestamp ?? this.lastTimestamp
    return timestamp === undefined ? undefined : Math.max(0, now - timestamp)
  }

  /** @internal */
  fetched(position: bigint, highWatermark: bigint, timestamp: bigint | undefined): void {
    this.highWatermark = highWatermark
    if (timestamp === undefined) return
    this.lastTimestamp = Number(timestamp)
    // after a seek back, what waited is read again
    while (this.waiting.length > 0 && this.waiting.at(-1)!.end >= position) this.waiting.pop()
    this.waiting.push({ end: position, timestamp: this.lastTimestamp })
  }

  /** @internal */
  handedOut(position: bigint, now: number): void {
    this.position = position
    this.progressAt = now
    this.stalled = false
    let done = 0
    while (done < this.waiting.length && this.waiting[done]!.end <= position) done++
    if (done > 0) this.waiting.splice(0, done)
  }

  /** @internal */
  jumpedTo(position: bigint, now: number): void {
    this.waiting.length = 0
    this.position = position
    this.progressAt = now
  }
}

/**
 * The consumers of one group in this process: mostly one. Times are milliseconds since 1970.
 *
 * @since 0.1.0
 * @category models
 */
export class Group {
  readonly groupId: string
  readonly partitions = new Map<TopicPartition.Key, Partition>()
  status: Status = "joining"
  /** Why it died. */
  failure: KafkaError | undefined = undefined
  connected: boolean | undefined = undefined
  turnedAt: number
  committedAt: number | undefined = undefined
  heartbeatAt: number | undefined = undefined
  bufferedRecords = 0
  bufferedBytes = 0

  constructor(groupId: string, now: number) {
    this.groupId = groupId
    this.turnedAt = now
  }
}

/**
 * Follows all consumers of one process.
 *
 * @since 0.1.0
 * @category models
 */
export class Tracker {
  readonly groups = new Map<string, Group>()

  /** Takes an event that happened now, in milliseconds since 1970. Events of producers are not for it. */
  onEvent(event: KafkaEvent, now: number): void {
    if (event._tag === "Connection") {
      const group = this.groups.get(event.clientId)
      if (group !== undefined) group.connected = event.state === "connected"
      return
    }
    if (!("groupId" in event)) return
    let group = this.groups.get(event.groupId)
    if (group === undefined) {
      group = new Group(event.groupId, now)
      this.groups.set(event.groupId, group)
    }
    follow(group, event, now)
  }
}

type ConsumerEvent = Extract<KafkaEvent, { readonly groupId: string }>

const follow = (group: Group, event: ConsumerEvent, now: number): void => {
  // what comes late from a consumer that has ended is of no interest; only a turn of the loop is another one's beginning
  const over = group.status === "stopped" || group.status === "died"
  if (over && event._tag !== "LoopTurned" && event._tag !== "Stopped" && event._tag !== "Died") return
  const of = (topicPartition: TopicPartition.TopicPartition): Partition | undefined =>
    group.partitions.get(TopicPartition.key(topicPartition))
  switch (event._tag) {
    case "LoopTurned":
      if (over) {
        group.status = "joining"
        group.failure = undefined
      }
      group.turnedAt = now
      group.bufferedRecords = event.bufferedRecords
      group.bufferedBytes = event.bufferedBytes
      return
    case "Heartbeat":
      group.heartbeatAt = now
      return
    case "Polled":
      of(event.topicPartition)?.fetched(event.position, event.highWatermark, event.lastTimestamp)
      group.bufferedRecords = event.bufferedRecords
      group.bufferedBytes = event.bufferedBytes
      return
    case "HandedOut":
      of(event.topicPartition)?.handedOut(event.position, now)
      return
    case "Committed":
      group.committedAt = now
      for (const offset of event.offsets) {
        const partition = of(offset)
        if (partition === undefined) continue
        partition.committed = offset.offset
        partition.progressAt = now
      }
      return
    case "OffsetReset":
      of(event.topicPartition)?.jumpedTo(event.to, now)
      return
    case "Delayed": {
      const partition = of(event.topicPartition)
      if (partition !== undefined) partition.delayedUntil = Math.max(partition.delayedUntil, event.until)
      return
    }
    case "Stalled":
      for (const one of event.partitions) {
        const partition = of(one)
        if (partition !== undefined && partition.delayedUntil <= now) partition.stalled = true
      }
      return
    case "Rebalancing":
      if (group.status === "running") group.status = "rebalancing"
      return
    case "Assigned":
      group.status = "running"
      event.partitions.forEach((one, index) => {
        group.partitions.set(TopicPartition.key(one), new Partition(one, event.positions[index] ?? 0n, now))
      })
      return
    case "Revoked":
    case "Lost":
      for (const one of event.partitions) group.partitions.delete(TopicPartition.key(one))
      if (group.status === "running") group.status = "rebalancing"
      return
    case "Stopped":
    case "Died":
      group.status = event._tag === "Stopped" ? "stopped" : "died"
      if (event._tag === "Died") group.failure = event.error
      group.partitions.clear()
      group.connected = undefined
      group.bufferedRecords = 0
      group.bufferedBytes = 0
      return
  }
}
