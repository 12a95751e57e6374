import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { fromProtocol, type ProtocolCode } from "../../src/drivers/errors.ts"
import * as Session from "../../src/drivers/producer/session.ts"
import type { Transport } from "../../src/drivers/producer/transport.ts"
import type { ProducerBatch } from "../../src/KafkaClient.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"

/** What a broker says. */
class Answered extends Error {
  readonly answer: ProtocolCode
  constructor(code: string, retriable = false) {
    super(code)
    this.answer = { code, reason: code, retriable }
  }
}

const protocolCode = (error: unknown): ProtocolCode | undefined => error instanceof Answered ? error.answer : undefined

/** A promise that is kept when a test says so, and when somebody waits for it. */
const gate = <A>() => {
  let open: (value: A | Promise<A>) => void = () => undefined
  let asked: () => void = () => undefined
  const kept = new Promise<A>((resolve) => void (open = resolve))
  const waitedFor = new Promise<void>((resolve) => void (asked = resolve))
  return {
    wait: () => {
      asked()
      return kept
    },
    open: (value: A | Promise<A>) => open(value),
    waitedFor: Effect.promise(() => waitedFor)
  }
}

type Added = Awaited<ReturnType<Transport["addPartitions"]>>

const cluster = (changes: Partial<Transport> = {}) => {
  let epoch = 0
  const produced: Array<number | undefined> = []
  const added: Array<number> = []
  const transport: Transport = {
    meaning: (error) => error instanceof Answered ? fromProtocol(error.answer) : { _tag: "Timeout" },
    protocolCode,
    attempt: (operation, about) => ({ ...about, operation, brokers: [], mechanism: "none", millis: 1000, secrets: [] }),
    leaders: () => Effect.succeed(new Map([["orders", new Map([[0, 1]])]])),
    produce: ({ identity, members }) => {
      produced.push(identity?.producerEpoch)
      return Promise.resolve(members.map(() => ({ _tag: "Stored", baseOffset: 0n, logAppendTime: undefined })))
    },
    initProducerId: () => Promise.resolve({ producerId: 1n, producerEpoch: epoch++ }),
    addPartitions: (identity, partitions) => {
      added.push(identity.producerEpoch)
      return Promise.resolve(partitions.map((one) => ({ ...one, error: undefined })))
    },
    addOffsets: () => Promise.resolve(),
    commitOffsets: () => Promise.resolve(),
    endTransaction: () => Promise.resolve(undefined),
    ...changes
  }
  return { transport, produced, added }
}

const open = (transport: Transport) =>
  Session.make(transport, KafkaJs.capabilities, 5, {
    acks: "all",
    idempotent: true,
    compression: "none",
    transactionalId: "till",
    transactionTimeout: 60_000,
    requestTimeout: 1000,
    deliveryTimeout: 10_000
  })

const batch = (): ProducerBatch => ({
  topic: "orders",
  partition: 0,
  records: [{ key: null, value: Buffer.from("latte"), headers: [], timestamp: 0n }]
})

const offsets = [{ topic: "orders", partition: 0, offset: 1n }]
const group = { groupId: "baristas", memberId: "", generation: -1 }

it.scoped("a record that still looks for its broker when its transaction ends is not in the next one", () =>
  Effect.gen(function*() {
    for (const end of ["abort", "commit"] as const) {
      const lookup = gate<Map<string, Map<number, number>>>()
      const { produced, transport } = cluster({ leaders: () => Effect.promise(lookup.wait) })
      const session = yield* open(transport)
      yield* session.begin
      const sending = yield* Effect.fork(session.send([batch()]))
      yield* lookup.waitedFor
      yield* session[end]
      yield* session.begin
      lookup.open(new Map([["orders", new Map([[0, 1]])]]))
      expect(yield* Fiber.join(sending)).toMatchObject([{ _tag: "Failed", outcome: "refuse" }])
      expect(produced).toEqual([])
      yield* session.commit
    }
  }))

const whoseAnswerIsLate = () => {
  const answer = gate<Added>()
  let first = true
  const { added, transport, ...rest } = cluster()
  const changed: Transport = {
    ...transport,
    addPartitions: (identity, partitions) => {
      if (!first) return transport.addPartitions(identity, partitions)
      first = false
      return answer.wait()
    }
  }
  return { ...rest, added, answer, transport: changed }
}

it.scoped("a producer that has taken its id over is not fenced by what it hears of the epoch before", () =>
  Effect.gen(function*() {
    const { answer, transport } = whoseAnswerIsLate()
    const session = yield* open(transport)
    yield* session.begin
    const sending = yield* Effect.fork(session.send([batch()]))
    yield* answer.waitedFor
    yield* session.abort
    yield* session.begin
    answer.open(Promise.reject(new Answered("PRODUCER_FENCED")))
    expect(yield* Fiber.join(sending)).toMatchObject([{ _tag: "Failed", error: { code: "PRODUCER_FENCED" } }])
    expect(yield* session.send([batch()])).toMatchObject([{ _tag: "Stored" }])
    yield* session.commit
  }))

it.scoped("what was added to a transaction that was aborted since is not taken to be in the next one", () =>
  Effect.gen(function*() {
    const { added, answer, transport } = whoseAnswerIsLate()
    const session = yield* open(transport)
    yield* session.begin
    const sending = yield* Effect.fork(session.send([batch()]))
    yield* answer.waitedFor
    yield* session.abort
    yield* session.begin
    answer.open(Promise.resolve([{ topic: "orders", partition: 0, error: undefined }]))
    yield* Fiber.join(sending)
    yield* session.send([batch()])
    expect(added).toEqual([1])
  }))

/** What a commit fails with when its requests are answered so, within so long. */
const failedCommit = (endTransaction: Transport["endTransaction"], within: "1 seconds" | "10 seconds") =>
  Effect.gen(function*() {
    const session = yield* open(cluster({ endTransaction }).transport)
    yield* session.begin
    yield* session.sendOffsets(offsets, group)
    const committing = yield* Effect.fork(Effect.flip(session.commit))
    yield* TestClock.adjust(within)
    return { session, error: yield* Fiber.join(committing) }
  })

it.scoped("a commit whose answer is lost, and whose producer is fenced then, may have been committed", () =>
  Effect.gen(function*() {
    let ends = 0
    const { error, session } = yield* failedCommit((_identity, _committed, onSent) => {
      onSent()
      return Promise.reject(ends++ === 0 ? new Error("lost") : new Answered("PRODUCER_FENCED"))
    }, "1 seconds")
    expect(error).toMatchObject({ _tag: "ProducerError", reason: "unknown-outcome" })
    expect(yield* Effect.flip(session.abort)).toMatchObject({ _tag: "ProducerFencedError" })
  }))

it.scoped("so may one of which the coordinator can not say that it is written down", () =>
  Effect.gen(function*() {
    const answer = () => Promise.reject(new Answered("COORDINATOR_NOT_AVAILABLE", true))
    const { error } = yield* failedCommit(answer, "10 seconds")
    expect(error).toMatchObject({ _tag: "ProducerError", reason: "unknown-outcome" })
  }))

it.scoped("so may one that is refused for the moment, and under way again when its time is over", () =>
  Effect.gen(function*() {
    let ends = 0
    const { error } = yield* failedCommit((_identity, _committed, onSent) => {
      onSent()
      return ends++ === 0 ? Promise.reject(new Answered("NOT_COORDINATOR", true)) : new Promise(() => {})
    }, "10 seconds")
    expect(error).toMatchObject({ _tag: "ProducerError", reason: "unknown-outcome" })
  }))

it.scoped("one that every coordinator refused is not committed, whatever ends it", () =>
  Effect.gen(function*() {
    let ends = 0
    const { error } = yield* failedCommit((_identity, _committed, onSent) => {
      if (ends++ === 0) return Promise.reject(new Error("connection refused"))
      onSent()
      return Promise.reject(new Answered(ends === 2 ? "NOT_COORDINATOR" : "PRODUCER_FENCED", ends === 2))
    }, "1 seconds")
    expect(error).toMatchObject({ _tag: "ProducerFencedError" })
  }))
