/**
 * What consumers are doing, told from their events: the state that metrics and health are read from. It holds nothing
 * of a partition that was revoked or lost.
 *
 * @since 0.1.0
 */
import type { KafkaError } from "./KafkaError.ts"
import type { KafkaEvent, Source } from "./KafkaEvent.ts"
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
  committed: bigint | undefined
  highWatermark: bigint | undefined = undefined
  /** When a record was last handed out or committed, or when there was something to do again, or when it was assigned. */
  progressAt: number
  /** Its next record is not due before, in milliseconds since 1970: until then there is no progress to be had. */
  delayedUntil = 0
  /** Its stream was reported to stand still, and has taken nothing since. */
  stalled = false
  /** Chunks that were fetched and not wholly handed out: where each ends, and the time of its last record. */
  private readonly waiting: Array<{ readonly end: bigint; readonly timestamp: number }> = []
  private lastTimestamp: number | undefined = undefined

  constructor(
    topicPartition: TopicPartition.TopicPartition,
    position: bigint,
    committed: bigint | undefined,
    now: number
  ) {
    this.topicPartition = topicPartition
    this.position = position
    this.committed = committed
    this.progressAt = now
  }

  /** How many records were not handed out yet. Unknown until its end is, some seconds after it was assigned. */
  get lag(): bigint | undefined {
    if (this.highWatermark === undefined) return undefined
    return this.highWatermark > this.position ? this.highWatermark - this.position : 0n
  }

  /** How many records the group has not committed: what Kafka's own tools call lag. Unknown where it never has. */
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
  fetched(position: bigint, highWatermark: bigint, timestamp: bigint | undefined, now: number): void {
    this.endsAt(highWatermark, now)
    if (timestamp === undefined) return
    this.lastTimestamp = Number(timestamp)
    // after a seek back, what waited is read again
    while (this.waiting.length > 0 && this.waiting.at(-1)!.end >= position) this.waiting.pop()
    this.waiting.push({ end: position, timestamp: this.lastTimestamp })
  }

  /** @internal */
  endsAt(highWatermark: bigint, now: number): void {
    const hadWork = this.hasWork
    this.highWatermark = highWatermark
    // who had nothing to do for an hour has not stood still for an hour when something comes
    if (!hadWork && this.hasWork) this.progressAt = now
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
 * One consumer of this process. Times are milliseconds since 1970.
 *
 * @since 0.1.0
 * @category models
 */
export class Member {
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

  /** Whether it was stopped or has died. */
  get isOver(): boolean {
    return this.status === "stopped" || this.status === "died"
  }
}

/**
 * Follows all consumers of one process, until their scopes are closed.
 *
 * @since 0.1.0
 * @category models
 */
export class Tracker {
  private readonly all = new Map<Source | string, Member>()

  /** Every consumer there is, in the order in which they began. */
  get members(): Iterable<Member> {
    return this.all.values()
  }

  /** The consumer that tells of itself as this source; without one there is one consumer to each group. */
  member(groupId: string, source?: Source): Member | undefined {
    return this.all.get(source ?? groupId)
  }

  /** Takes an event that happened now, in milliseconds since 1970. Events of producers are not for it. */
  onEvent(event: KafkaEvent, now: number, source?: Source): void {
    if (event._tag === "Connection") {
      const member = this.member(event.clientId, source)
      if (member !== undefined) member.connected = event.state === "connected"
      return
    }
    if (!("groupId" in event)) return
    const { groupId } = event
    const key = source ?? groupId
    const member = this.all.get(key)
    if (event._tag === "ConsumerClosed") {
      this.all.delete(key)
    } else if (member !== undefined) {
      follow(member, event, now)
    } else if (event._tag === "LoopTurned" || event._tag === "Assigned" || event._tag === "Rebalancing") {
      // who died before it and left nothing else is replaced by it
      if (this.all.get(groupId)?.isOver === true) this.all.delete(groupId)
      follow(this.begin(key, groupId, now), event, now)
    } else {
      this.tellGroup(event, now)
    }
  }

  private begin(key: Source | string, groupId: string, now: number): Member {
    const member = new Member(groupId, now)
    this.all.set(key, member)
    return member
  }

  /** Others tell of a group too: a worker of its delays and of its end. */
  private tellGroup(event: ConsumerEvent, now: number): void {
    const members = [...this.all.values()].filter(({ groupId }) => groupId === event.groupId)
    if (event._tag === "Delayed") { for (const member of members) follow(member, event, now) }
    else if (event._tag === "Died") {
      follow(members.at(-1) ?? this.begin(event.groupId, event.groupId, now), event, now)
    }
  }
}

type ConsumerEvent = Extract<KafkaEvent, { readonly groupId: string }>

const follow = (member: Member, event: ConsumerEvent, now: number): void => {
  // what comes late from a consumer that has ended is of no interest; only a turn of the loop is another one's beginning
  const over = member.isOver
  if (over && event._tag !== "LoopTurned" && event._tag !== "Stopped" && event._tag !== "Died") return
  const of = (topicPartition: TopicPartition.TopicPartition): Partition | undefined =>
    member.partitions.get(TopicPartition.key(topicPartition))
  switch (event._tag) {
    case "LoopTurned":
      if (over) {
        member.status = "joining"
        member.failure = undefined
      }
      member.turnedAt = now
      member.bufferedRecords = event.bufferedRecords
      member.bufferedBytes = event.bufferedBytes
      return
    case "Heartbeat":
      member.heartbeatAt = now
      return
    case "Polled":
      of(event.topicPartition)?.fetched(event.position, event.highWatermark, event.lastTimestamp, now)
      member.bufferedRecords = event.bufferedRecords
      member.bufferedBytes = event.bufferedBytes
      return
    case "HandedOut":
      of(event.topicPartition)?.handedOut(event.position, now)
      return
    case "Committed":
      member.committedAt = now
      for (const offset of event.offsets) {
        const partition = of(offset)
        if (partition === undefined) continue
        partition.committed = offset.offset
        partition.progressAt = now
      }
      return
    case "EndOffsets":
      for (const offset of event.offsets) {
        const partition = of(offset)
        // what was fetched meanwhile may know better
        if (partition !== undefined && offset.offset > (partition.highWatermark ?? -1n)) {
          partition.endsAt(offset.offset, now)
        }
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
      if (member.status === "running") member.status = "rebalancing"
      return
    case "Assigned":
      member.status = "running"
      event.partitions.forEach((one, index) => {
        member.partitions.set(
          TopicPartition.key(one),
          new Partition(one, event.positions[index] ?? 0n, event.committed?.[index], now)
        )
      })
      return
    case "Revoked":
    case "Lost":
      for (const one of event.partitions) member.partitions.delete(TopicPartition.key(one))
      if (member.status === "running") member.status = "rebalancing"
      return
    case "Stopped":
    case "Died":
      member.status = event._tag === "Stopped" ? "stopped" : "died"
      if (event._tag === "Died") member.failure = event.error
      member.partitions.clear()
      member.connected = undefined
      member.bufferedRecords = 0
      member.bufferedBytes = 0
      return
  }
}
