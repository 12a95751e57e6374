import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import * as Session from "../../src/drivers/producer/session.ts"
import type { Transport } from "../../src/drivers/producer/transport.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"

/** A cluster whose coordinator begins a transaction, and is out of reach when it is to be ended. */
const cluster = () => {
  let identities = 0
  let answers = false
  const away = (): Promise<never> => Promise.reject(new Error("connection refused"))
  const transport: Transport = {
    meaning: () => ({ _tag: "Timeout" }),
    protocolCode: () => undefined,
    attempt: (operation, about) => ({ ...about, operation, brokers: [], mechanism: "none", millis: 1000, secrets: [] }),
    leaders: () => Effect.succeed(new Map()),
    produce: away,
    initProducerId: () =>
      identities === 0 || answers ? Promise.resolve({ producerId: 1n, producerEpoch: identities++ }) : away(),
    addPartitions: away,
    addOffsets: () => Promise.resolve(),
    commitOffsets: () => Promise.resolve(),
    endTransaction: away
  }
  return { transport, answer: () => void (answers = true), identities: () => identities }
}

const withOpenTransaction = (transport: Transport = cluster().transport) =>
  Effect.gen(function*() {
    const session = yield* Session.make(transport, KafkaJs.capabilities, 1, {
      acks: "all",
      idempotent: true,
      compression: "none",
      transactionalId: "till",
      transactionTimeout: 60_000,
      requestTimeout: 1000,
      deliveryTimeout: 10_000
    })
    yield* session.begin
    yield* session.sendOffsets([{ topic: "orders", partition: 0, offset: 1n }], {
      groupId: "baristas",
      memberId: "",
      generation: -1
    })
    return session
  })

// as `Producer.transaction` ends it: nobody who is interrupted leaves it open
it.scoped("a commit that can not be interrupted ends with its deadline all the same", () =>
  Effect.gen(function*() {
    const session = yield* withOpenTransaction()
    const ending = yield* Effect.fork(Effect.uninterruptible(Effect.flip(session.commit)))
    yield* TestClock.adjust("9 seconds")
    expect(Option.isNone(yield* Fiber.poll(ending))).toBe(true)
    yield* TestClock.adjust("1 seconds")
    // nobody heard of it: nothing is committed
    expect(yield* Fiber.join(ending)).toMatchObject({ _tag: "KafkaTimeoutError" })
  }))

it.scoped("so does an abort, with the time it has to take the transactional id over", () =>
  Effect.gen(function*() {
    const session = yield* withOpenTransaction()
    const ending = yield* Effect.fork(Effect.uninterruptible(Effect.flip(session.abort)))
    yield* TestClock.adjust("10 seconds")
    yield* TestClock.adjust("1 seconds")
    expect(yield* Fiber.join(ending)).toMatchObject({ _tag: "KafkaTimeoutError" })
  }))

it.scoped("what could not be aborted either is ended by what begins next, once brokers answer again", () =>
  Effect.gen(function*() {
    const { transport, ...brokers } = cluster()
    const session = yield* withOpenTransaction(transport)
    const ending = yield* Effect.fork(Effect.flip(session.abort))
    yield* TestClock.adjust("10 seconds")
    yield* TestClock.adjust("1 seconds")
    yield* Fiber.join(ending)
    const tooEarly = yield* Effect.fork(Effect.flip(session.begin))
    yield* TestClock.adjust("1 seconds")
    expect(yield* Fiber.join(tooEarly)).toMatchObject({ _tag: "KafkaTimeoutError" })
    brokers.answer()
    const epochs = brokers.identities()
    yield* session.begin
    // a new identity, which fences what is left of the one before
    expect(brokers.identities()).toBe(epochs + 1)
    yield* session.commit
  }))

it.scoped("neither goes on once its session is closed", () =>
  Effect.gen(function*() {
    const ending = yield* Effect.scoped(
      Effect.flatMap(withOpenTransaction(), (session) =>
        Effect.forkDaemon(Effect.uninterruptible(Effect.flip(session.commit))))
    )
    yield* TestClock.adjust("1 seconds")
    expect(yield* Fiber.join(ending)).toMatchObject({ _tag: "KafkaTimeoutError" })
  }))
