/**
 * What is being fetched: for each partition where it stands, how much more of it is wanted, and what has arrived and
 * was not delivered yet. Plain state without time or network in it, which drivers on a real cluster share; the session's
 * fibers are its only users.
 */
import type { Demand, Fetched, FetchedChunk, PartitionFault } from "../KafkaClient.ts"
import * as TopicPartition from "../TopicPartition.ts"

interface Lane {
  readonly topicPartition: TopicPartition.TopicPartition
  readonly key: TopicPartition.Key
  position: bigint
  /** Counts seeks: what was fetched before one is dropped. So it is once the lane is closed. */
  version: number
  /** The broker that leads the partition. */
  leader: number | undefined
  /** Bytes that may still be fetched. */
  granted: number
  /** When that came down to nothing. */
  exhaustedAt: number
  demanded: boolean
  /** The fetch under way that it is part of. */
  fetching: Plan | undefined
  /** Set once a fault was told: nothing is fetched until a seek. */
  faulty: boolean
  queue: Array<Fetched>
}

/**
 * Which partitions one fetch asks for.
 */
export class Plan {
  readonly wanted: ReadonlyArray<Wanted>
  /** How long the broker may hold it, in milliseconds. */
  readonly maxWait: number
  private next = 0

  constructor(wanted: ReadonlyArray<Wanted>, maxWait: number) {
    this.wanted = wanted
    this.maxWait = maxWait
  }

  /** What it asks for of a partition. Brokers answer in the order they are asked in, so that it is mostly the next. */
  find(topic: string, partition: number): Wanted | undefined {
    const { wanted } = this
    for (let i = 0; i < wanted.length; i++) {
      const at = (this.next + i) % wanted.length
      const one = wanted[at]!
      if (one.partition === partition && one.topic === topic) {
        this.next = at + 1
        return one
      }
    }
    return undefined
  }
}

/**
 * What a fetch asks for of one partition. Made by a constructor: V8 may come to believe of a literal that what it makes
 * lives for long, since the fetch of an idle broker does, and lets all that it makes from then on be old from birth.
 */
export class Wanted implements TopicPartition.TopicPartition {
  readonly lane: Lane
  readonly topic: string
  readonly partition: number
  readonly position: bigint
  readonly maxBytes: number
  readonly version: number

  constructor(lane: Lane, maxBytes: number) {
    this.lane = lane
    this.topic = lane.topicPartition.topic
    this.partition = lane.topicPartition.partition
    this.position = lane.position
    this.maxBytes = maxBytes
    this.version = lane.version
  }
}

export interface Limits {
  readonly maxBytesPerPartition: number
  readonly maxWait: number
}

/** A broker answers one fetch of a connection at a time, so even a fetch that wants to be short lasts this long. */
const shortestWait = 10

export class Lanes {
  private readonly limits: Limits
  private readonly lanes = new Map<TopicPartition.Key, Lane>()
  private versions = 0
  /** Lanes with something in their queues. Not a `Set`: V8 makes a chain of a set's outgrown tables, which get old. */
  private readonly ready: Array<Lane> = []

  constructor(limits: Limits) {
    this.limits = limits
  }

  has(topicPartition: TopicPartition.TopicPartition): boolean {
    return this.lanes.has(TopicPartition.key(topicPartition))
  }

  partitions(): ReadonlyArray<TopicPartition.TopicPartition> {
    return Array.from(this.lanes.values(), (lane) => lane.topicPartition)
  }

  position(topicPartition: TopicPartition.TopicPartition): bigint | undefined {
    return this.lanes.get(TopicPartition.key(topicPartition))?.position
  }

  /** Starts a partition, or starts it anew. */
  open(topicPartition: TopicPartition.TopicPartition, position: bigint): void {
    const key = TopicPartition.key(topicPartition)
    this.close(topicPartition)
    this.lanes.set(key, {
      topicPartition,
      key,
      position,
      version: this.versions++,
      leader: undefined,
      granted: 0,
      exhaustedAt: 0,
      demanded: false,
      fetching: undefined,
      faulty: false,
      queue: []
    })
  }

  /** Ends a partition; what has arrived for it is dropped. */
  close(topicPartition: TopicPartition.TopicPartition): void {
    const key = TopicPartition.key(topicPartition)
    const lane = this.lanes.get(key)
    if (lane === undefined) return
    lane.version = this.versions++
    this.lanes.delete(key)
    lane.queue.length = 0
    this.clear()
  }

  /** Goes on from another offset; what has arrived is dropped, and so will be what is under way. */
  seek(topicPartition: TopicPartition.TopicPartition, offset: bigint): void {
    const lane = this.lanes.get(TopicPartition.key(topicPartition))
    if (lane === undefined) return
    lane.position = offset
    lane.version = this.versions++
    lane.faulty = false
    lane.queue.length = 0
    this.clear()
  }

  /** Tells who leads what. Answers all leaders there are. */
  lead(leaderOf: (topicPartition: TopicPartition.TopicPartition) => number | undefined): ReadonlySet<number> {
    const leaders = new Set<number>()
    for (const lane of this.lanes.values()) {
      lane.leader = leaderOf(lane.topicPartition)
      if (lane.leader !== undefined) leaders.add(lane.leader)
    }
    return leaders
  }

  /** The broker asked does not lead this partition any more. */
  orphan(topicPartition: TopicPartition.TopicPartition): void {
    const lane = this.lanes.get(TopicPartition.key(topicPartition))
    if (lane !== undefined) lane.leader = undefined
  }

  /** Partitions whose leader is not known. */
  leaderless(): ReadonlyArray<TopicPartition.TopicPartition> {
    return Array.from(this.lanes.values()).filter((lane) => lane.leader === undefined && !lane.faulty)
      .map((lane) => lane.topicPartition)
  }

  /**
   * Replaces the demand, and takes what has arrived of what is demanded, which counts against it. Faults are taken
   * whatever the demand.
   */
  take(demand: ReadonlyMap<TopicPartition.Key, Demand>, now: number): Array<Fetched> {
    const out: Array<Fetched> = []
    for (const lane of this.lanes.values()) {
      const wanted = demand.get(lane.key)?.maxBytes ?? 0
      lane.demanded = wanted > 0
      const taken = lane.queue.length === 0 ? 0 : this.drain(lane, out)
      this.grant(lane, wanted - taken, now)
    }
    this.clear()
    return out
  }

  /** Takes what has arrived since, on the same demand. */
  takeMore(): Array<Fetched> {
    const out: Array<Fetched> = []
    for (const lane of this.ready) this.drain(lane, out)
    this.clear()
    return out
  }

  /** Whether there is something to take on the present demand. */
  hasReady(): boolean {
    for (const lane of this.ready) {
      if (lane.demanded || lane.queue.some((fetched) => fetched._tag !== "Chunk")) return true
    }
    return false
  }

  private drain(lane: Lane, out: Array<Fetched>): number {
    let taken = 0
    let kept = 0
    const { queue } = lane
    for (const fetched of queue) {
      if (fetched._tag === "Chunk" && !lane.demanded) {
        queue[kept++] = fetched
      } else {
        out.push(fetched)
        if (fetched._tag === "Chunk") taken += fetched.bytes
      }
    }
    // in place: the old array would keep what was taken alive, though it were garbage itself
    while (queue.length > kept) queue.pop()
    return taken
  }

  /** Forgets the lanes whose queues are empty by now. */
  private clear(): void {
    const { ready } = this
    let kept = 0
    for (const lane of ready) if (lane.queue.length > 0) ready[kept++] = lane
    ready.length = kept
  }

  private put(lane: Lane, fetched: Fetched): void {
    if (lane.queue.length === 0) this.ready.push(lane)
    lane.queue.push(fetched)
  }

  private grant(lane: Lane, granted: number, now: number): void {
    if (granted <= 0 && lane.granted > 0) lane.exhaustedAt = now
    lane.granted = granted
  }

  /**
   * The next fetch from a broker, if anything is wanted of it. What it asks for counts as being fetched until
   * {@link done}.
   *
   * While a partition of this broker is not wanted for the moment, the others are not waited for long: a broker
   * answers the fetches of a connection one after the other, and it is likely to be wanted again soon.
   */
  plan(leader: number, now: number): Plan | undefined {
    const wanted: Array<Wanted> = []
    let maxWait = this.limits.maxWait
    for (const lane of this.lanes.values()) {
      if (lane.leader !== leader || lane.faulty || lane.fetching !== undefined) continue
      if (lane.granted <= 0) {
        maxWait = Math.min(maxWait, Math.max(shortestWait, now - lane.exhaustedAt))
        continue
      }
      wanted.push(new Wanted(lane, Math.min(lane.granted, this.limits.maxBytesPerPartition)))
    }
    if (wanted.length === 0) return undefined
    const plan = new Plan(wanted, Math.round(maxWait))
    for (const { lane } of wanted) lane.fetching = plan
    return plan
  }

  /** The fetch of a plan has ended, whatever came of it. */
  done(plan: Plan): void {
    for (const { lane } of plan.wanted) if (lane.fetching === plan) lane.fetching = undefined
  }

  /** Takes in what was fetched. Answers whether it was still wanted. */
  arrived(wanted: Wanted, chunk: FetchedChunk, now: number): boolean {
    const lane = this.current(wanted)
    if (lane === undefined) return false
    lane.position = chunk.nextOffset
    this.put(lane, chunk)
    this.grant(lane, lane.granted - chunk.bytes, now)
    return true
  }

  /** Notes what went wrong with a partition. Answers whether anybody still cares. */
  failed(wanted: Wanted, fault: PartitionFault): boolean {
    const lane = this.current(wanted)
    if (lane === undefined || lane.faulty) return false
    lane.faulty = true
    this.put(lane, fault)
    return true
  }

  /** Notes that a partition is of no use any more. Answers whether anybody still cares. */
  fail(topicPartition: TopicPartition.TopicPartition, fault: PartitionFault): boolean {
    const lane = this.lanes.get(TopicPartition.key(topicPartition))
    return lane !== undefined && this.failed(new Wanted(lane, 0), fault)
  }

  private current({ lane, position, version }: Wanted): Lane | undefined {
    return lane.version === version && lane.position === position ? lane : undefined
  }
}
