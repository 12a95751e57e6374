import type { BatchResult, RawProducerRecord, SendError } from "@coffeebuddy/kafka/KafkaClient"
import { KafkaTimeoutError, ProducerError } from "@coffeebuddy/kafka/KafkaError"
import type { RecordMetadata } from "@coffeebuddy/kafka/ProducerRecord"
import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import {
  Accumulator,
  anyPartition,
  type Batch,
  batchOverhead,
  Entry,
  type Options,
  type TopicQueues
} from "../../src/engine/producer/accumulator.ts"

const record: RawProducerRecord = { key: null, value: null, headers: [], timestamp: 0n }

/** A record that remembers what it was told. */
class Told extends Entry {
  readonly id: number
  readonly told: Array<"accepted" | RecordMetadata | SendError> = []
  gone = false
  readonly alone: boolean
  constructor(topic: TopicQueues, partition: number, size: number, deadline: number, id: number, alone: boolean) {
    super(topic, partition, record, size, deadline)
    this.id = id
    this.alone = alone
  }
  isWaiting() {
    return !this.gone
  }
  onAccepted() {
    this.told.push("accepted")
  }
  onStored(metadata: RecordMetadata) {
    this.told.push(metadata)
  }
  onFailed(error: SendError) {
    this.told.push(error)
  }
  get results() {
    return this.told.filter((one) => one !== "accepted")
  }
  get error() {
    return this.results.find((one): one is SendError => "_tag" in one)
  }
}

const setUp = (options: Partial<Options> = {}) => {
  const settings: Options = {
    batchSize: 1000,
    maxRequestSize: 2000,
    smallRequest: 300,
    bufferMemory: 10_000,
    linger: 0,
    resendUnknown: false,
    backoff: () => 100,
    random: () => 0,
    onFailed: () => {},
    ...options
  }
  const accumulator = new Accumulator(settings)
  const topic = accumulator.topic("orders", 3)
  let ids = 0
  const append = (
    now: number,
    { alone = true, deadline = 120_000, partition = 0, size = 100 }: {
      partition?: number
      size?: number
      deadline?: number
      alone?: boolean
    } = {}
  ) => {
    const entry = new Told(topic, partition, size, now + deadline, ids++, alone)
    accumulator.append(entry, now)
    return entry
  }
  return { accumulator, append, settings, topic }
}

const ids = (batch: Batch | undefined) => batch?.records.map((one) => (one as Told).id)
const stored = (baseOffset = 0n): BatchResult => ({ _tag: "Stored", baseOffset })
const timeout = new KafkaTimeoutError({ operation: "produce", millis: 1 })
const failed = (outcome: "retry" | "unknown" | "refuse", error: SendError = timeout): BatchResult => ({
  _tag: "Failed",
  error,
  outcome
})
const tooLarge = failed(
  "refuse",
  new ProducerError({ topic: "orders", reason: "too-large", retriable: false, description: "" })
)

describe("Accumulator", () => {
  it("sends at once what comes alone, and together what comes while a request is under way", () => {
    const { accumulator, append } = setUp()
    append(0)
    const [first] = accumulator.drain(0)
    assert.deepStrictEqual(ids(first), [0])
    append(1)
    append(2)
    assert.deepStrictEqual(accumulator.drain(2), [])
    accumulator.settle(first!, stored(), 3)
    assert.deepStrictEqual(accumulator.drain(3).map(ids), [[1, 2]])
  })

  it("lets a batch wait for company as long as it is to linger, and not when it is full", () => {
    const { accumulator, append } = setUp({ linger: 50, batchSize: batchOverhead + 250 })
    append(0)
    assert.deepStrictEqual(accumulator.drain(49), [])
    assert.strictEqual(accumulator.nextReady, 50)
    append(49)
    assert.deepStrictEqual(accumulator.drain(50).map(ids), [[0, 1]])
    append(60, { partition: 1 })
    append(60, { partition: 1 })
    append(60, { partition: 1 })
    assert.deepStrictEqual(accumulator.drain(60).map(ids), [[2, 3]])
  })

  it("waits for nobody while somebody waits for room, or for a flush", () => {
    const { accumulator, append } = setUp({ linger: 50, bufferMemory: 150 })
    append(0)
    append(0)
    assert.deepStrictEqual(accumulator.drain(0).map(ids), [[0]])
    const other = setUp({ linger: 50 })
    other.append(0)
    other.accumulator.flush(() => {})
    assert.deepStrictEqual(other.accumulator.drain(0).map(ids), [[0]])
  })

  it("keeps a request below its size, and lets nobody starve", () => {
    const { accumulator, append } = setUp({ maxRequestSize: 1500 })
    for (const partition of [0, 1, 2]) append(0, { partition, size: 600 })
    const first = accumulator.drain(0)
    assert.deepStrictEqual(first.map(ids), [[0], [1]])
    for (const batch of first) accumulator.settle(batch, stored(), 1)
    append(1, { size: 600 })
    append(1, { partition: 1, size: 600 })
    assert.deepStrictEqual(accumulator.drain(1).map(ids), [[2], [3]])
  })

  it("leaves another request that can go at once half of it, and never the last little", () => {
    const { accumulator, append } = setUp()
    for (const partition of [0, 1, 2]) append(0, { partition, size: 300 })
    assert.deepStrictEqual(accumulator.drain(0, true).map(ids), [[0]])
    assert.strictEqual(accumulator.nextReady, 0, "the other one has something to do")
    assert.deepStrictEqual(accumulator.drain(0).map(ids), [[1], [2]])

    const little = setUp()
    for (const partition of [0, 1, 2]) little.append(0, { partition, size: 30 })
    assert.deepStrictEqual(little.accumulator.drain(0, true).map(ids), [[0], [1], [2]])
  })

  it("does not divide what one caller waits for", () => {
    const { accumulator, append } = setUp()
    for (const partition of [0, 1, 2]) append(0, { partition, size: 300, alone: false })
    append(0)
    assert.deepStrictEqual(accumulator.drain(0, true).map(ids), [[0, 3], [1], [2]])
  })

  it("sends a batch again before those after it, while other partitions go on", () => {
    const { accumulator, append } = setUp()
    append(0)
    const [batch] = accumulator.drain(0)
    append(1)
    append(1, { partition: 1 })
    accumulator.settle(batch!, failed("retry"), 2)
    const [other] = accumulator.drain(2)
    assert.deepStrictEqual(ids(other), [2])
    assert.strictEqual(accumulator.nextReady, 102)
    const [again] = accumulator.drain(102)
    assert.deepStrictEqual(ids(again), [0])
    assert.deepStrictEqual(accumulator.drain(102), [])
    accumulator.settle(again!, stored(), 103)
    assert.deepStrictEqual(accumulator.drain(103).map(ids), [[1]])
  })

  it("fails a batch that may have been stored, unless told to send it again", () => {
    const { accumulator, append } = setUp()
    const entry = append(0)
    accumulator.settle(accumulator.drain(0)[0]!, failed("unknown"), 1)
    const error = entry.error
    assert(error?._tag === "ProducerError")
    assert.deepStrictEqual([error.reason, error.retriable, error.cause], ["unknown-outcome", false, timeout])

    const bold = setUp({ resendUnknown: true })
    const other = bold.append(0)
    bold.accumulator.settle(bold.accumulator.drain(0)[0]!, failed("unknown"), 1)
    assert.deepStrictEqual(bold.accumulator.drain(101).map(ids), [[0]])
    bold.accumulator.expire(200_000)
    assert.deepStrictEqual(other.results.length, 1)
    assert(other.error?._tag === "ProducerError" && !other.error.retriable)
  })

  it("halves a batch that is too large, until only the record that is too large fails", () => {
    const { accumulator, append } = setUp()
    const entries = [0, 1, 2, 3, 4].map(() => append(0))
    let offset = 0n
    for (let batch = accumulator.drain(0)[0]; batch !== undefined; batch = accumulator.drain(0)[0]) {
      if (ids(batch)!.includes(3)) {
        accumulator.settle(batch, tooLarge, 0)
      } else {
        const { length } = batch.records
        accumulator.settle(batch, stored(offset), 0)
        offset += BigInt(length)
      }
    }
    assert(entries[3]!.error?._tag === "ProducerError" && entries[3]!.error.reason === "too-large")
    assert.deepStrictEqual(
      [0, 1, 2, 4].map((i) => entries[i]!.results.map((one) => "offset" in one ? one.offset : one)),
      [[0n], [1n], [2n], [3n]]
    )
  })

  it("gives offsets in order, the broker's time where it has one, and -1 where nobody acknowledges", () => {
    const { accumulator, append } = setUp()
    const entries = [append(0), append(0)]
    accumulator.settle(accumulator.drain(0)[0]!, { _tag: "Stored", baseOffset: 7n, logAppendTime: 99n }, 1)
    assert.deepStrictEqual(entries.flatMap((one) => one.results), [
      { topic: "orders", partition: 0, offset: 7n, timestamp: 99n },
      { topic: "orders", partition: 0, offset: 8n, timestamp: 99n }
    ])
    const unheard = [append(0), append(0)]
    accumulator.settle(accumulator.drain(0)[0]!, stored(-1n), 1)
    assert.deepStrictEqual(unheard.flatMap((one) => one.results).map((one) => "offset" in one && one.offset), [
      -1n,
      -1n
    ])
  })

  it("holds no more than it may, and gives free room to those who wait, in their order", () => {
    const { accumulator, append } = setUp({ bufferMemory: 250 })
    const entries = [append(0), append(0), append(0), append(0, { partition: 1, size: 10 })]
    assert.deepStrictEqual(entries.map((one) => one.told), [["accepted"], ["accepted"], [], []])
    assert.isFalse(accumulator.hasRoom(1))
    accumulator.settle(accumulator.drain(0)[0]!, stored(), 1)
    assert.deepStrictEqual(entries.slice(2).map((one) => one.told), [["accepted"], ["accepted"]])
    assert.strictEqual(accumulator.bufferedBytes, 110)
  })

  it("takes back what is not on its way, and leaves alone what is", () => {
    const { accumulator, append } = setUp({ bufferMemory: 300 })
    const [queued, sent, waiting] = [append(0), append(0, { partition: 1 }), append(0, { size: 250 })]
    accumulator.withdraw(queued!, 0)
    assert.strictEqual(accumulator.bufferedBytes, 100)
    const [batch] = accumulator.drain(0)
    assert.deepStrictEqual(ids(batch), [1])
    accumulator.withdraw(sent!, 0)
    accumulator.withdraw(waiting!, 0)
    assert.deepStrictEqual(batch!.records.length, 1)
    accumulator.settle(batch!, stored(), 1)
    assert.deepStrictEqual(accumulator.drain(1), [])
    assert.deepStrictEqual([queued!.results.length, sent!.results.length, waiting!.told.length], [0, 1, 0])
    assert.deepStrictEqual([accumulator.pending, accumulator.bufferedBytes], [0, 0])
  })

  it("does not send what nobody waits for any more", () => {
    const { accumulator, append } = setUp({ bufferMemory: 250 })
    const entries = [append(0), append(0), append(0)]
    entries[0]!.gone = true
    entries[1]!.gone = true
    assert.deepStrictEqual(accumulator.drain(0), [])
    assert.strictEqual(accumulator.nextReady, 0)
    assert.deepStrictEqual(accumulator.drain(0).map(ids), [[2]])
  })

  it("gives up on a record when its time is over, wherever it is", () => {
    const { accumulator, append } = setUp({ bufferMemory: 300, batchSize: batchOverhead + 100 })
    const inFlight = append(0, { deadline: 1000 })
    const [batch] = accumulator.drain(0)
    const queued = append(0, { deadline: 1000 })
    const young = append(500, { deadline: 1000 })
    const waiting = append(500, { deadline: 500 })
    accumulator.expire(999)
    assert.deepStrictEqual([inFlight, queued, young, waiting].map((one) => one.results.length), [0, 0, 0, 0])
    accumulator.expire(1000)
    const errors = [inFlight, queued, waiting].map((one) => one.error)
    assert.deepStrictEqual(
      errors.map((error) => error?._tag === "ProducerError" && [error.reason, error.retriable]),
      [["timeout", false], ["timeout", true], ["timeout", true]]
    )
    assert.strictEqual(accumulator.nextDeadline, 1500)
    accumulator.settle(batch!, stored(), 1001)
    assert.deepStrictEqual(accumulator.drain(1001).map(ids), [[2]])
    assert.deepStrictEqual(inFlight.results.length, 1)
  })

  it("keeps records without a key together until their batch is full or gone", () => {
    const picks = [0, 1, 0]
    const { accumulator, append } = setUp({ batchSize: batchOverhead + 250, random: () => picks.shift()! })
    const entries = [0, 1, 2, 3].map(() => append(0, { partition: anyPartition }))
    assert.deepStrictEqual(entries.map((one) => one.partition), [0, 0, 1, 1])
    for (const batch of accumulator.drain(0)) accumulator.settle(batch, stored(), 0)
    assert.strictEqual(append(0, { partition: anyPartition }).partition, 0)
  })

  it("keeps records without a key away from a partition that has to be tried again", () => {
    const { accumulator, append } = setUp({ random: () => 0 })
    append(0, { partition: 0 })
    accumulator.settle(accumulator.drain(0)[0]!, failed("retry"), 0)
    assert.strictEqual(append(1, { partition: anyPartition }).partition, 1)
  })

  it("ends a flush when all from before it is settled, whatever comes after", () => {
    const { accumulator, append } = setUp()
    let flushed = 0
    accumulator.flush(() => flushed++)
    assert.strictEqual(flushed, 1)
    append(0)
    append(0, { partition: 1 })
    accumulator.flush(() => flushed++)
    const cancel = accumulator.flush(() => flushed++)
    cancel()
    const [one, two] = accumulator.drain(0)
    append(0)
    accumulator.settle(two!, stored(), 0)
    assert.strictEqual(flushed, 1)
    accumulator.settle(one!, failed("refuse"), 0)
    assert.strictEqual(flushed, 2)
  })

  it("fails all there is, and tells of what was on its way", () => {
    const { accumulator, append } = setUp({ bufferMemory: 250 })
    const entries = [append(0), append(0, { partition: 1 }), append(0)]
    const batches = accumulator.drain(0)
    append(0)
    accumulator.failAll((inFlight, topic, partition) =>
      new ProducerError({
        topic,
        partition: partition ?? -1,
        reason: "closed",
        retriable: !inFlight,
        description: ""
      })
    )
    assert.deepStrictEqual(
      entries.map(({ error }) => error?._tag === "ProducerError" && [error.partition, error.retriable]),
      [[0, false], [1, false], [-1, true]]
    )
    for (const batch of batches) accumulator.settle(batch, stored(), 0)
    assert.deepStrictEqual([accumulator.pending, accumulator.bufferedBytes], [0, 0])
    assert.isTrue(entries.every((one) => one.results.length === 1))
  })
})

// ---------------------------------------------------------------------------------------------------------------------

type Command =
  | {
    readonly _tag: "append"
    readonly partition: number
    readonly size: number
    readonly deadline: number
    readonly alone: boolean
  }
  | { readonly _tag: "drain"; readonly shared: boolean }
  | { readonly _tag: "settle"; readonly which: number; readonly result: BatchResult | "tooLarge" }
  | { readonly _tag: "withdraw" | "leave"; readonly which: number }
  | { readonly _tag: "wait"; readonly millis: number }
  | { readonly _tag: "flush" }

const command: FastCheck.Arbitrary<Command> = FastCheck.oneof(
  {
    weight: 6,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("append" as const),
      partition: FastCheck.integer({ min: anyPartition, max: 2 }),
      size: FastCheck.integer({ min: 1, max: 400 }),
      alone: FastCheck.boolean(),
      deadline: FastCheck.constantFrom(500, 5000)
    })
  },
  {
    weight: 3,
    arbitrary: FastCheck.record({ _tag: FastCheck.constant("drain" as const), shared: FastCheck.boolean() })
  },
  {
    weight: 4,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("settle" as const),
      which: FastCheck.nat(),
      result: FastCheck.constantFrom<BatchResult | "tooLarge">(
        stored(),
        stored(),
        stored(),
        failed("retry"),
        failed("retry"),
        failed("unknown"),
        failed("refuse"),
        "tooLarge"
      )
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constantFrom("withdraw" as const, "leave" as const),
      which: FastCheck.nat()
    })
  },
  {
    weight: 1,
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("wait" as const),
      millis: FastCheck.constantFrom(1, 20, 100, 300)
    })
  },
  { weight: 1, arbitrary: FastCheck.constant<Command>({ _tag: "flush" }) }
)

const run = (commands: ReadonlyArray<Command>, linger: number, seed: number) => {
  let random = seed
  const { accumulator, append, settings } = setUp({
    linger,
    bufferMemory: 1500,
    batchSize: 600,
    maxRequestSize: 1000,
    random: (limit) => (random = (random * 48271) % 0x7fffffff) % limit
  })
  const entries: Array<Told> = []
  const withdrawn = new Set<Told>()
  const flying: Array<Batch> = []
  const logs = new Map<number, Array<number>>()
  const flushes: Array<{ readonly of: ReadonlyArray<Told>; done: boolean }> = []
  let now = 0

  const isOver = (one: Told) => one.results.length > 0 || withdrawn.has(one)
  const settle = (batch: Batch, result: BatchResult) => {
    if (result._tag === "Stored") {
      const log = logs.get(batch.partition) ?? []
      logs.set(batch.partition, log)
      result = stored(BigInt(log.length))
      log.push(...ids(batch)!)
    }
    accumulator.settle(batch, result, now)
  }
  const step = (command: Command) => {
    switch (command._tag) {
      case "append":
        return void entries.push(append(now, command))
      case "drain": {
        const batches = accumulator.drain(now, command.shared)
        const bytes = batches.map((batch) =>
          batch.records.reduce((sum, one) => sum + (one as Told).size, batchOverhead)
        )
        assert.deepStrictEqual(batches.map((batch) => batch.bytes), bytes)
        for (const batch of batches) {
          assert.isTrue(batch.bytes <= settings.batchSize || batch.records.length === 1)
          assert.isFalse(flying.some((other) => other.partition === batch.partition))
          for (const one of batch.records as ReadonlyArray<Entry> as ReadonlyArray<Told>) {
            assert.isFalse(one.gone || isOver(one))
          }
          flying.push(batch)
        }
        return assert.isTrue(batches.length <= 1 || bytes.reduce((a, b) => a + b) <= settings.maxRequestSize)
      }
      case "settle": {
        const [batch] = flying.splice(command.which % Math.max(1, flying.length), 1)
        return batch && settle(batch, command.result === "tooLarge" ? tooLarge : command.result)
      }
      case "withdraw":
      case "leave": {
        const one = entries[command.which % Math.max(1, entries.length)]
        if (one === undefined || one.state === "inFlight" || isOver(one)) return
        withdrawn.add(one)
        if (command._tag === "withdraw") return accumulator.withdraw(one, now)
        one.gone = true
        return
      }
      case "wait":
        now += command.millis
        return accumulator.expire(now)
      case "flush": {
        const flush = { of: entries.filter((one) => !isOver(one)), done: false }
        flushes.push(flush)
        accumulator.flush(() => flush.done = true)
      }
    }
  }
  const check = () => {
    assert.isTrue(accumulator.bufferedBytes >= 0 && accumulator.bufferedBytes <= settings.bufferMemory)
    for (const one of entries) {
      assert.isTrue(one.results.length <= 1)
      assert.isTrue(one.told.length <= 2)
      // a record that left without a word is noticed when it would be sent
      if (one.deadline <= now && !one.gone) assert.isTrue(isOver(one) || withdrawn.has(one))
    }
    for (const log of logs.values()) {
      assert.isTrue(log.every((id, i) => i === 0 || id > log[i - 1]!), "the order within a partition")
    }
    for (const { done, of } of flushes) if (done) assert.isTrue(of.every(isOver))
  }

  for (const command of commands) {
    step(command)
    check()
  }
  // whatever happened, everything comes to an end once the cluster takes it
  for (let i = 0; accumulator.pending > 0 || flying.length > 0; i++) {
    assert.isBelow(i, 1000, "it comes to an end")
    step({ _tag: "wait", millis: 10 })
    for (const batch of flying.splice(0)) settle(batch, stored())
    step({ _tag: "drain", shared: false })
    check()
  }
  assert.strictEqual(accumulator.bufferedBytes, 0)
  for (const one of entries) {
    assert.strictEqual(one.results.length, withdrawn.has(one) && one.results.length === 0 ? 0 : 1)
    const [result] = one.results
    if (result !== undefined && "offset" in result) {
      assert.strictEqual(logs.get(result.partition)![Number(result.offset)], one.id, "it is where it was said to be")
    }
  }
  assert.isTrue(flushes.every((flush) => flush.done))
  assert.strictEqual(new Set([...logs.values()].flat()).size, [...logs.values()].flat().length, "stored once")
}

describe("Accumulator, under any interleaving", () => {
  it("keeps the order, the bounds, and its word: one result for each record", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(command, { maxLength: 120, size: "max" }),
        FastCheck.constantFrom(0, 50),
        FastCheck.integer({ min: 1, max: 1_000_000 }),
        run
      ),
      { numRuns: Number(process.env.FAST_CHECK_RUNS ?? 100) }
    )
  })
})
