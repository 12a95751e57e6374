/**
 * One assignment of one partition: what has been fetched and not handed out, and how far it has come. Changed only by
 * synchronous steps; knows nothing of fibers, streams or Kafka.
 */
import type { Assignment } from "../../ConsumerRecord.ts"
import type { FetchedChunk } from "../../KafkaClient.ts"
import * as TopicPartition from "../../TopicPartition.ts"

/** Part of a fetched chunk: its records from `from` up to, without, `to`. */
export interface Slice {
  readonly partition: PartitionBuffer
  readonly chunk: FetchedChunk
  readonly from: number
  readonly to: number
}

/**
 * - `"positioning"`: assigned, and it is being found out where to start.
 * - `"active"`: fetched and handed out.
 * - `"revoking"`: the group wants it back: nothing more is handed out, what is in hand may be committed.
 * - `"ended"`: not ours any more: a commit would be stale.
 */
export type Status = "positioning" | "active" | "revoking" | "ended"

export class PartitionBuffer implements Assignment {
  readonly topicPartition: TopicPartition.TopicPartition
  readonly key: TopicPartition.Key
  readonly epoch: number
  status: Status = "positioning"
  /** Where this assignment began. */
  start = 0n
  /** The offset after everything fetched, gaps included. */
  fetched = 0n
  /** The offset after the last record handed out; `start` as long as there is none. */
  handedOut = 0n
  /** The last offset known to be committed in this assignment. */
  committed: bigint | undefined = undefined
  highWatermark: bigint | undefined = undefined
  /** Records from this offset on are not handed out: the bound of a `streamUntil`. */
  end: bigint | undefined = undefined
  bufferedRecords = 0
  bufferedBytes = 0
  /** Its position was not in the log, and a new one is being looked up. */
  resetting = false
  private chunks: Array<FetchedChunk | undefined> = []
  private head = 0
  private index = 0

  constructor(topicPartition: TopicPartition.TopicPartition, epoch: number) {
    this.topicPartition = topicPartition
    this.key = TopicPartition.key(topicPartition)
    this.epoch = epoch
  }

  /** Begins at, or goes on from, an offset: what was buffered is dropped, what is in hand is not touched. */
  startAt(offset: bigint): void {
    this.discard()
    this.start = offset
    this.fetched = offset
    this.handedOut = offset
    this.committed = undefined
  }

  /** Goes on from another offset than the log allowed: what was handed out before still counts. */
  jumpTo(offset: bigint): void {
    this.discard()
    this.fetched = offset
    if (this.handedOut === this.start) {
      this.start = offset
      this.handedOut = offset
    }
  }

  append(chunk: FetchedChunk): void {
    this.fetched = chunk.nextOffset
    this.highWatermark = chunk.highWatermark
    if (chunk.records.length === 0) return
    this.chunks.push(chunk)
    this.bufferedRecords += chunk.records.length
    this.bufferedBytes += chunk.bytes
  }

  /** The next records, at most `max` of them and none past `end`. */
  take(max: number): Slice | undefined {
    const chunk = this.chunks[this.head]
    if (chunk === undefined) return undefined
    const from = this.index
    let to = Math.min(chunk.records.length, from + max)
    if (this.end !== undefined) {
      while (to > from && chunk.view.offset(chunk.records[to - 1]) >= this.end) to--
      if (to === from) {
        this.discard()
        return undefined
      }
    }
    const count = to - from
    this.bufferedRecords -= count
    if (to === chunk.records.length) {
      this.bufferedBytes -= chunk.bytes - share(chunk, from)
      // written over: an array that has got old keeps what it holds alive until the next full collection, and lets it
      // get old in turn, even when it is garbage itself
      this.chunks[this.head++] = undefined
      this.index = 0
      if (this.head === this.chunks.length) {
        this.chunks = []
        this.head = 0
      } else if (this.head >= 32) {
        this.chunks = this.chunks.slice(this.head)
        this.head = 0
      }
      this.handedOut = chunk.nextOffset
    } else {
      this.bufferedBytes -= share(chunk, to) - share(chunk, from)
      this.index = to
      this.handedOut = chunk.view.offset(chunk.records[to - 1]) + 1n
    }
    return { partition: this, chunk, from, to }
  }

  /** Forgets what was not handed out. */
  discard(): void {
    this.chunks = []
    this.head = 0
    this.index = 0
    this.bufferedRecords = 0
    this.bufferedBytes = 0
  }

  /** The next offset a reader will see: past gaps, where nothing is buffered. */
  get position(): bigint {
    const chunk = this.chunks[this.head]
    return chunk === undefined ? this.fetched : chunk.view.offset(chunk.records[this.index])
  }

  /** Whether the bound is reached: nothing below it is left to hand out. */
  get reachedEnd(): boolean {
    return this.end !== undefined && this.position >= this.end
  }

  /** Whether everything handed out is known to be committed. */
  get isCommitted(): boolean {
    return this.handedOut === this.start || (this.committed !== undefined && this.committed >= this.handedOut)
  }
}

/** The bytes of a chunk's first `count` records, taken as of equal size. */
const share = (chunk: FetchedChunk, count: number): number =>
  Math.floor((chunk.bytes * count) / Math.max(1, chunk.records.length))
