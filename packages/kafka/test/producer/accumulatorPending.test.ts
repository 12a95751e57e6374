import type { BatchResult, SendError } from "@coffeebuddy/kafka/KafkaClient"
import { KafkaTimeoutError } from "@coffeebuddy/kafka/KafkaError"
import type { RecordMetadata } from "@coffeebuddy/kafka/ProducerRecord"
import { assert, describe, it } from "@effect/vitest"
import { Accumulator, type Batch, Entry, type TopicQueues } from "../../src/engine/producer/accumulator.ts"

class Told extends Entry {
  readonly told: Array<RecordMetadata | SendError> = []
  gone = false
  constructor(topic: TopicQueues, deadline: number) {
    super(topic, 0, { key: null, value: null, headers: [], timestamp: 0n }, 100, deadline)
  }
  get alone() {
    return true
  }
  isWaiting() {
    return !this.gone
  }
  onAccepted() {}
  onStored(metadata: RecordMetadata) {
    this.told.push(metadata)
  }
  onFailed(error: SendError) {
    this.told.push(error)
  }
}

const pending: BatchResult = {
  _tag: "Failed",
  outcome: "pending",
  error: new KafkaTimeoutError({ operation: "produce", millis: 1 })
}

const setUp = () => {
  const accumulator = new Accumulator({
    batchSize: 1000,
    maxRequestSize: 2000,
    smallRequest: 300,
    bufferMemory: 10_000,
    linger: 0,
    resendUnknown: false,
    backoff: () => 100,
    random: () => 0,
    onFailed: () => {}
  })
  const topic = accumulator.topic("orders", 1)
  const append = (now: number, deadline = 120_000) => {
    const entry = new Told(topic, now + deadline)
    accumulator.append(entry, now)
    return entry
  }
  const only = (batches: ReadonlyArray<Batch>): Batch => {
    assert.strictEqual(batches.length, 1)
    return batches[0]!
  }
  return { accumulator, append, only }
}

describe("a batch that the session still asks about", () => {
  it("is given again as it was, whoever has gone meanwhile, and tells those who have not", () => {
    const { accumulator, append, only } = setUp()
    const [late, withdrawn, gone, stays] = [append(0, 50), append(0), append(0), append(0)]
    const first = only(accumulator.drain(0))
    const { records } = first
    assert.strictEqual(accumulator.settle(first, pending, 1), "retried")
    const after = append(2)
    accumulator.expire(60)
    accumulator.withdraw(withdrawn, 70)
    gone.gone = true
    assert.deepStrictEqual(accumulator.drain(90), [])

    const again = only(accumulator.drain(101))
    assert.strictEqual(again.records, records)
    assert.deepStrictEqual(
      late.told.map((one) => "_tag" in one && one._tag === "ProducerError" && [one.reason, one.retriable]),
      [["timeout", false]]
    )
    accumulator.settle(again, { _tag: "Stored", baseOffset: 7n }, 102)
    assert.deepStrictEqual(stays.told.map((one) => "offset" in one && one.offset), [10n])
    assert.deepStrictEqual(withdrawn.told, [])
    assert.strictEqual(late.told.length, 1)

    accumulator.settle(only(accumulator.drain(103)), { _tag: "Stored", baseOffset: 11n }, 104)
    assert.deepStrictEqual(after.told.map((one) => "offset" in one && one.offset), [11n])
    assert.deepStrictEqual([accumulator.bufferedBytes, accumulator.pending], [0, 0])
  })

  it("is forgotten when nobody waits for it any more, in flight or not, and what it held is free", () => {
    for (const inFlight of [true, false]) {
      const { accumulator, append, only } = setUp()
      const entries = [append(0, 50), append(0, inFlight ? 50 : 150)]
      const batch = only(accumulator.drain(0))
      if (inFlight) accumulator.expire(60)
      accumulator.settle(batch, pending, 70)
      accumulator.expire(75)
      accumulator.expire(200)
      assert.deepStrictEqual(entries.map((one) => one.told.length), [1, 1])
      assert.deepStrictEqual(accumulator.drain(300), [])
      assert.deepStrictEqual([accumulator.bufferedBytes, accumulator.pending], [0, 0])
    }
  })

  it("is a batch like others once it is certain that it was not stored", () => {
    const { accumulator, append, only } = setUp()
    const [, gone] = [append(0), append(0)]
    accumulator.settle(only(accumulator.drain(0)), pending, 1)
    accumulator.settle(only(accumulator.drain(101)), { ...pending, outcome: "retry" }, 102)
    gone.gone = true
    assert.strictEqual(only(accumulator.drain(202)).records.length, 1)
  })
})
