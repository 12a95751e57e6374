/**
 * The records between `send` and their acknowledgement, gathered into batches for each partition. No effects and no
 * clock in here: every method is told the time, and answers at once.
 *
 * A record waits while the buffer is full, is queued in a batch of its partition, is in flight, and is settled: in this
 * order, and settled exactly once. A partition has one batch in flight at most, and a batch that is sent again goes
 * back to the head of its queue, so the order within a partition never changes.
 */
import type { BatchResult, ProducerBatch, RawProducerRecord, SendError } from "../../KafkaClient.ts"
import { ProducerError } from "../../KafkaError.ts"
import type { RecordMetadata } from "../../ProducerRecord.ts"
import type { RecordHeaders } from "../../RecordHeaders.ts"
import { Metadata } from "./metadata.ts"

/** Sizes in bytes, times in milliseconds since any one moment. */
export interface Options {
  /** A batch takes no further record that would make it larger than this. */
  readonly batchSize: number
  /** All batches of one request together, unless the first alone is larger. */
  readonly maxRequestSize: number
  /** What is not worth a request of its own where it can go with others. */
  readonly smallRequest: number
  /** What may be buffered; what comes then has to wait. */
  readonly bufferMemory: number
  /** How long a batch waits for company. */
  readonly linger: number
  /** Whether a batch whose outcome is unknown is sent again, at the risk of storing it twice. */
  readonly resendUnknown: boolean
  /** How long to wait before a batch is sent again; `attempt` counts from 1. */
  readonly backoff: (attempt: number) => number
  /** A random integer from 0 to below the limit. */
  readonly random: (limit: number) => number
  /** Told of records that failed together. */
  readonly onFailed: (topic: string, partition: number | undefined, records: number, error: SendError) => void
}

/** A batch without records, as the record format has it. */
export const batchOverhead = 61

/** Means that the accumulator is to choose the partition. */
export const anyPartition = -1

/** One record on its way, and who is told what became of it. It is what the driver is given, too. */
export abstract class Entry implements RawProducerRecord {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: RecordHeaders
  readonly timestamp: bigint
  readonly topic: TopicQueues
  partition: number
  readonly size: number
  readonly deadline: number
  state: "new" | "waiting" | "queued" | "inFlight" | "settled" = "new"
  sequence = 0
  batch: Batch | undefined = undefined

  constructor(topic: TopicQueues, partition: number, record: RawProducerRecord, size: number, deadline: number) {
    this.key = record.key
    this.value = record.value
    this.headers = record.headers
    this.timestamp = record.timestamp
    this.topic = topic
    this.partition = partition
    this.size = size
    this.deadline = deadline
  }
  /** Whether its caller waits for nothing else. */
  abstract get alone(): boolean
  /** Whether there is anybody left. Asked when the record is about to be sent: it is withdrawn if not. */
  abstract isWaiting(): boolean
  /** The record has got its place in the buffer. */
  abstract onAccepted(): void
  abstract onStored(metadata: RecordMetadata): void
  abstract onFailed(error: SendError): void
}

/** Records of one partition that are sent together. */
export class Batch implements ProducerBatch {
  readonly queue: PartitionQueue
  /** While it is in flight some of them may be settled already. */
  records: Array<Entry> = []
  bytes = batchOverhead
  /** Records that are not settled. */
  live = 0
  /** When the first record came. */
  readonly since: number
  /** How often it was sent. */
  attempts = 0
  lastError: SendError | undefined = undefined
  /** Whether an earlier attempt may have stored it. */
  perhapsStored = false
  /** Whether the session knows it by its records, so that they stay as they are, those that nobody waits for included. */
  pinned = false

  constructor(queue: PartitionQueue, since: number) {
    this.queue = queue
    this.since = since
  }
  get topic(): string {
    return this.queue.topic.name
  }
  get partition(): number {
    return this.queue.partition
  }
  add(entry: Entry): void {
    this.records.push(entry)
    this.bytes += entry.size
    this.live++
    entry.batch = this
    entry.state = "queued"
  }
  /**
   * All of them are settled. Written over: an array that has got old keeps what it holds alive until the next full
   * collection, though it were garbage itself, and these hold all that a send consists of.
   */
  forget(): void {
    const records: Array<Entry | undefined> = this.records
    records.fill(undefined)
    records.length = 0
  }
  /** Forgets the settled records; answers the bytes that this frees. */
  compact(): number {
    if (this.pinned || this.live === this.records.length) return 0
    const before = this.bytes
    this.records = this.records.filter((entry) => entry.state !== "settled")
    this.bytes = this.records.reduce((sum, entry) => sum + entry.size, batchOverhead)
    return before - this.bytes
  }
}

/** The batches of one partition, oldest first. */
export class PartitionQueue {
  readonly topic: TopicQueues
  readonly partition: number
  readonly batches: Array<Batch> = []
  inFlight: Batch | undefined = undefined
  /** Not to be sent before. */
  notBefore = 0
  /** Whether it is among those that `drain` looks at. */
  listed = false

  constructor(topic: TopicQueues, partition: number) {
    this.topic = topic
    this.partition = partition
  }
}

/** The partitions of one topic. */
export class TopicQueues {
  readonly name: string
  partitionCount: number
  readonly queues: Array<PartitionQueue | undefined> = []
  /** Where records without a key go until its batch is full or sent. */
  sticky: PartitionQueue | undefined = undefined

  constructor(name: string, partitionCount: number) {
    this.name = name
    this.partitionCount = partitionCount
  }
}

interface Flush {
  readonly upTo: number
  remaining: number
  readonly done: () => void
}

export class Accumulator {
  private readonly options: Options
  private readonly topics = new Map<string, TopicQueues>()
  /** Queues with batches and none in flight; those that waited longest come first. */
  private listed: Array<PartitionQueue> = []
  private waiting: Array<Entry> = []
  private waitingHead = 0
  private readonly flushes = new Set<Flush>()
  private sequence = 0
  private hurried = false

  /** Bytes that are buffered, what is in flight included. */
  bufferedBytes = 0
  /** Records that are not settled, those that wait for room included. */
  pending = 0
  /** Those of them that are alone. */
  private alone = 0
  /** No record's deadline is before this. */
  nextDeadline = Infinity
  /** When the next batch can be sent, as the last `drain` saw it. */
  nextReady = Infinity

  constructor(options: Options) {
    this.options = options
  }

  topic(name: string, partitionCount: number): TopicQueues {
    let topic = this.topics.get(name)
    if (topic === undefined) {
      topic = new TopicQueues(name, partitionCount)
      this.topics.set(name, topic)
    }
    topic.partitionCount = partitionCount
    return topic
  }

  /** Whether so many bytes would be taken at once. */
  hasRoom(bytes: number): boolean {
    return this.waitingHead === this.waiting.length && this.bufferedBytes + bytes <= this.options.bufferMemory
  }

  /** Takes a record. Answers whether there is a reason to `drain` now. */
  append(entry: Entry, now: number): boolean {
    entry.sequence = ++this.sequence
    this.pending++
    if (entry.alone) this.alone++
    if (entry.deadline < this.nextDeadline) this.nextDeadline = entry.deadline
    if (this.hasRoom(entry.size)) return this.place(entry, now)
    entry.state = "waiting"
    this.waiting.push(entry)
    return true
  }

  /** Takes a record back, if it is not in flight. Its waiter is told nothing more, whatever becomes of it. */
  withdraw(entry: Entry, now: number): void {
    if (entry.state === "waiting" || entry.state === "queued") {
      this.drop(entry)
      this.admit(now)
    }
  }

  /**
   * What is to be sent now: at most one batch of each partition, in flight from here on. Whoever calls has to `settle`
   * each of them. Where it is `shared` with another request that can go at once, the other one is left half of it, if
   * it is much, and of callers who can go on when their half is stored.
   */
  drain(now: number, shared = false): Array<Batch> {
    const taken: Array<Batch> = []
    const left: Array<PartitionQueue> = []
    const hurry = this.hurried || this.flushes.size > 0 || this.waitingHead < this.waiting.length
    let room = shared && this.alone > this.pending / 2 ? this.half() : this.options.maxRequestSize
    this.nextReady = Infinity
    for (const queue of this.listed) {
      queue.listed = false
      const head = queue.batches[0]
      if (head === undefined) continue
      const lingers = !hurry && head.attempts === 0 && queue.batches.length === 1 && head.bytes < this.options.batchSize
      const readyAt = Math.max(queue.notBefore, lingers ? head.since + this.options.linger : 0)
      const batch = readyAt > now ? undefined : this.take(queue, taken.length === 0 ? Infinity : room)
      if (batch !== undefined) {
        taken.push(batch)
        room -= batch.bytes
      } else if (queue.batches.length > 0) {
        this.nextReady = Math.min(this.nextReady, Math.max(readyAt, now))
        queue.listed = true
        left.push(queue)
      }
    }
    this.listed = left
    if (this.admit(now)) this.nextReady = now
    return taken
  }

  /** What one of two requests may take of what is queued. */
  private half(): number {
    let queued = 0
    for (const { batches } of this.listed) if (batches[0] !== undefined) queued += batches[0].bytes
    return Math.min(this.options.maxRequestSize, Math.max(this.options.smallRequest, queued / 2))
  }

  /** The first batch of a queue that anybody waits for, in flight, if there is room for it. */
  private take(queue: PartitionQueue, room: number): Batch | undefined {
    for (let batch = queue.batches[0]; batch !== undefined; batch = queue.batches[0]) {
      if (!batch.pinned) {
        for (const entry of batch.records) {
          if (entry.state === "queued" && !entry.isWaiting()) this.drop(entry)
        }
        if (batch.live === 0) continue
        batch.compact()
      }
      if (batch.bytes > room) return undefined
      batch.attempts++
      for (const entry of batch.records) if (entry.state === "queued") entry.state = "inFlight"
      queue.batches.shift()
      queue.inFlight = batch
      return batch
    }
    return undefined
  }

  /** Tells what became of a batch that `drain` gave out, and answers what that meant. */
  settle(batch: Batch, result: BatchResult, now: number): "stored" | "retried" | "split" | "failed" {
    const queue = batch.queue
    queue.inFlight = undefined
    queue.notBefore = 0
    const meaning = this.judge(batch, result, now)
    this.list(queue)
    this.admit(now)
    return meaning
  }

  private judge(batch: Batch, result: BatchResult, now: number): "stored" | "retried" | "split" | "failed" {
    const queue = batch.queue
    const entries = batch.records
    if (result._tag === "Stored") {
      this.release(batch.bytes - batchOverhead)
      const known = result.baseOffset >= 0n
      let offset = result.baseOffset
      for (let i = 0; i < entries.length; i++) {
        const entry = entries[i]!
        if (entry.state !== "settled") {
          this.finish(entry)
          const timestamp = result.logAppendTime ?? entry.timestamp
          entry.onStored(new Metadata(queue.topic.name, queue.partition, offset, timestamp))
        }
        if (known) offset++
      }
      batch.forget()
      return "stored"
    }
    const error = result.error
    batch.pinned = result.outcome === "pending"
    if (
      result.outcome === "retry" || batch.pinned || (result.outcome === "unknown" && this.options.resendUnknown)
    ) {
      batch.lastError = error
      batch.perhapsStored ||= result.outcome !== "retry"
      this.release(batch.compact())
      if (batch.live > 0) {
        for (const entry of batch.records) if (entry.state === "inFlight") entry.state = "queued"
        queue.batches.unshift(batch)
        queue.notBefore = now + this.options.backoff(batch.attempts)
      } else {
        this.release(batch.bytes - batchOverhead)
      }
      return "retried"
    }
    if (
      result.outcome === "refuse" && error._tag === "ProducerError" && error.reason === "too-large" &&
      entries.length > 1
    ) {
      this.release(batch.compact())
      if (batch.live > 0) queue.batches.unshift(...halves(batch))
      return "split"
    }
    this.release(batch.bytes - batchOverhead)
    const failure = result.outcome === "unknown" ? unknownOutcome(batch, error) : error
    this.fail(batch.records, failure)
    return "failed"
  }

  /** Fails what is past its deadline. */
  expire(now: number): void {
    if (now < this.nextDeadline) return
    this.nextDeadline = Infinity
    const isLate = (entry: Entry): boolean => {
      if (entry.state === "settled") return false
      if (entry.deadline <= now) return true
      if (entry.deadline < this.nextDeadline) this.nextDeadline = entry.deadline
      return false
    }
    for (const batch of this.inFlight()) {
      const late = batch.records.filter(isLate)
      if (late.length > 0) this.fail(late, timedOut(batch.topic, batch.partition, "no acknowledgement", false))
    }
    for (const batch of this.queued()) {
      const late = batch.records.filter(isLate)
      if (late.length === 0) continue
      const why = batch.attempts === 0 ? "not sent" : `sent ${batch.attempts} times without success`
      this.fail(late, timedOut(batch.topic, batch.partition, why, !batch.perhapsStored, batch.lastError))
    }
    for (const entry of this.waiting.slice(this.waitingHead)) {
      if (isLate(entry)) this.fail([entry], timedOut(entry.topic.name, undefined, "the buffer stayed full", true))
    }
    this.admit(now)
  }

  /** Fails everything there is, in flight or not. */
  failAll(error: (inFlight: boolean, topic: string, partition: number | undefined) => SendError): void {
    for (const batch of this.inFlight()) this.fail(batch.records, error(true, batch.topic, batch.partition))
    this.failQueued(error)
  }

  /** Fails everything that is not in flight. */
  failQueued(error: (inFlight: boolean, topic: string, partition: number | undefined) => SendError): void {
    for (const batch of this.queued()) this.fail(batch.records, error(false, batch.topic, batch.partition))
    const waiting = this.waiting.slice(this.waitingHead)
    this.waiting = []
    this.waitingHead = 0
    for (const entry of waiting) this.fail([entry], error(false, entry.topic.name, undefined))
  }

  /** Sends without lingering until everything taken so far is settled, then tells. Answers how to call it off. */
  flush(done: () => void): () => void {
    if (this.pending === 0) {
      done()
      return () => {}
    }
    const flush: Flush = { upTo: this.sequence, remaining: this.pending, done }
    this.flushes.add(flush)
    return () => void this.flushes.delete(flush)
  }

  /** From now on nothing lingers. */
  hurry(): void {
    this.hurried = true
  }

  // -------------------------------------------------------------------------------------------------------------------

  // Not kept in a `Set`: V8 makes a chain of a set's outgrown tables, on which garbage gets old.
  private inFlight(): ReadonlyArray<Batch> {
    return this.queues().flatMap((queue) => queue.inFlight ?? [])
  }

  private queued(): ReadonlyArray<Batch> {
    return this.queues().flatMap((queue) => queue.batches)
  }

  private queues(): ReadonlyArray<PartitionQueue> {
    return [...this.topics.values()].flatMap((topic) => topic.queues.filter((queue) => queue !== undefined))
  }

  private place(entry: Entry, now: number): boolean {
    this.bufferedBytes += entry.size
    const queue = entry.partition === anyPartition ? this.stick(entry, now) : this.queue(entry.topic, entry.partition)
    let batch = openBatch(queue)
    const fresh = batch === undefined || batch.bytes + entry.size > this.options.batchSize
    if (batch === undefined || fresh) {
      batch = new Batch(queue, now)
      queue.batches.push(batch)
      this.list(queue)
    }
    batch.add(entry)
    entry.onAccepted()
    return fresh || this.options.linger === 0 || batch.bytes >= this.options.batchSize
  }

  private queue(topic: TopicQueues, partition: number): PartitionQueue {
    return topic.queues[partition] ??= new PartitionQueue(topic, partition)
  }

  /** Where a record without a key goes: one partition until its batch is full or gone, then another. */
  private stick(entry: Entry, now: number): PartitionQueue {
    const topic = entry.topic
    let queue = topic.sticky
    const open = queue === undefined ? undefined : openBatch(queue)
    if (queue === undefined || open === undefined || open.bytes + entry.size > this.options.batchSize) {
      queue = this.queue(topic, this.otherPartition(topic, now))
      topic.sticky = queue
    }
    entry.partition = queue.partition
    return queue
  }

  /** A random partition, not the one before, and none that is waiting to be sent again, if there is a choice. */
  private otherPartition(topic: TopicQueues, now: number): number {
    const count = topic.partitionCount
    const start = this.options.random(count)
    let second = start
    for (let i = 0; i < count; i++) {
      const partition = (start + i) % count
      if (partition === topic.sticky?.partition) continue
      if ((topic.queues[partition]?.notBefore ?? 0) <= now) return partition
      second = partition
    }
    return second
  }

  private list(queue: PartitionQueue): void {
    if (queue.listed || queue.inFlight !== undefined || queue.batches.length === 0) return
    queue.listed = true
    this.listed.push(queue)
  }

  /** Gives free room to those that wait for it, in their order. Answers whether somebody got some. */
  private admit(now: number): boolean {
    const before = this.waitingHead
    while (this.waitingHead < this.waiting.length) {
      const entry = this.waiting[this.waitingHead]!
      if (entry.state === "waiting") {
        if (this.bufferedBytes + entry.size > this.options.bufferMemory) break
        this.place(entry, now)
      }
      this.waitingHead++
    }
    const admitted = this.waitingHead > before
    if (this.waitingHead === this.waiting.length || this.waitingHead > 1024) {
      this.waiting = this.waiting.slice(this.waitingHead)
      this.waitingHead = 0
    }
    return admitted
  }

  private release(bytes: number): void {
    this.bufferedBytes -= bytes
  }

  /** The entry is settled. What it holds of the buffer is freed elsewhere. */
  private finish(entry: Entry): void {
    entry.state = "settled"
    this.pending--
    if (entry.alone) this.alone--
    if (entry.batch !== undefined) {
      entry.batch.live--
      entry.batch = undefined
    }
    for (const flush of this.flushes) {
      if (entry.sequence <= flush.upTo && --flush.remaining === 0) {
        this.flushes.delete(flush)
        flush.done()
      }
    }
  }

  /** Settles an entry that is not in flight, and frees what it holds. */
  private drop(entry: Entry): void {
    const batch = entry.batch
    this.finish(entry)
    if (batch === undefined) return
    batch.bytes -= entry.size
    this.release(entry.size)
    if (batch.live === 0) {
      // what was settled in flight and kept its place
      this.release(batch.bytes - batchOverhead)
      const batches = batch.queue.batches
      batches.splice(batches.indexOf(batch), 1)
    }
  }

  private fail(entries: ReadonlyArray<Entry>, error: SendError): void {
    let failed = 0
    let partition: number | undefined
    let topic = ""
    for (const entry of entries) {
      if (entry.state === "settled") continue
      failed++
      topic = entry.topic.name
      if (entry.partition !== anyPartition) partition = entry.partition
      if (entry.state === "queued") this.drop(entry)
      else this.finish(entry)
      entry.onFailed(error)
    }
    if (failed > 0) this.options.onFailed(topic, partition, failed, error)
  }
}

/** The batch that takes further records: the youngest, unless it was sent before. */
const openBatch = (queue: PartitionQueue): Batch | undefined => {
  const last = queue.batches.at(-1)
  return last === undefined || last.attempts > 0 ? undefined : last
}

const halves = (batch: Batch): Array<Batch> => {
  const middle = Math.ceil(batch.records.length / 2)
  return [batch.records.slice(0, middle), batch.records.slice(middle)].filter((half) => half.length > 0).map((half) => {
    const out = new Batch(batch.queue, batch.since)
    out.attempts = batch.attempts
    out.lastError = batch.lastError
    out.perhapsStored = batch.perhapsStored
    for (const entry of half) out.add(entry)
    return out
  })
}

const timedOut = (
  topic: string,
  partition: number | undefined,
  why: string,
  retriable: boolean,
  cause?: SendError | undefined
): ProducerError =>
  new ProducerError({
    topic,
    ...(partition === undefined ? {} : { partition }),
    reason: "timeout",
    retriable,
    description: `the delivery timeout is over: ${why}`,
    ...(cause === undefined ? {} : { cause })
  })

const unknownOutcome = (batch: Batch, error: SendError): SendError =>
  error._tag === "ProducerError" && error.reason === "unknown-outcome" ? error : new ProducerError({
    topic: batch.topic,
    partition: batch.partition,
    reason: "unknown-outcome",
    retriable: false,
    description: `it may or may not have been stored: ${error.message}`,
    cause: error
  })
