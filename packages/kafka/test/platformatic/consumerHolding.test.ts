import { expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Held } from "../../src/drivers/platformatic/consumerHolding.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

const [a, b, c] = [0, 1, 2].map((partition) => TopicPartition.make("t", partition)) as [
  TopicPartition.TopicPartition,
  TopicPartition.TopicPartition,
  TopicPartition.TopicPartition
]

const shown = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): string =>
  partitions.map(({ partition }) => partition).join(" ")

/** What is held, and what its engine was told; it lets go, and finds out where to start, when it is told to. */
const make = Effect.gen(function*() {
  const told: Array<string> = []
  const settled = yield* Deferred.make<void>()
  const positioned = yield* Deferred.make<void>()
  const held = new Held(
    {
      assign: (partitions) =>
        Effect.zipRight(Effect.sync(() => told.push(`assign ${shown(partitions)}`)), Deferred.await(positioned)),
      halt: (partitions) => void told.push(`halt ${shown(partitions)}`),
      revoke: (partitions) =>
        Effect.zipRight(Effect.sync(() => told.push(`revoke ${shown(partitions)}`)), Deferred.await(settled)),
      lose: (partitions) => Effect.sync(() => told.push(`lose ${shown(partitions)}`)),
      notice: () => undefined
    },
    yield* Effect.scope
  )
  return { held, told, settle: Deferred.succeed(settled, undefined), position: Deferred.succeed(positioned, undefined) }
})

it.scoped("what is given away is not fetched from then on, and is held until it has settled", () =>
  Effect.gen(function*() {
    const { held, position, settle, told } = yield* make
    yield* position
    yield* held.assign([a, b, c], Effect.never)
    const revoking = yield* Effect.fork(held.revoke([a, c]))
    yield* Effect.yieldNow()
    expect(shown(held.partitions)).toBe("0 1 2")
    yield* settle
    yield* Fiber.join(revoking)
    expect(shown(held.partitions)).toBe("1")
    expect(told).toEqual(["assign 0 1 2", "halt 0 2", "revoke 0 2"])
  }))

it.scoped("what is lost is waited for no more: all of it is lost, once, and nothing of it is given away", () =>
  Effect.gen(function*() {
    const { held, position, told } = yield* make
    yield* position
    yield* held.assign([a, b], Effect.never)
    const revoking = yield* Effect.fork(held.revoke([a]))
    yield* Effect.yieldNow()
    held.lose()
    yield* Fiber.join(revoking)
    yield* held.revoke([b])
    yield* held.giveUp
    yield* held.giveUp
    expect(held.partitions).toEqual([])
    expect(told).toEqual(["assign 0 1", "halt 0", "revoke 0", "halt 0 1", "lose 0 1"])
  }))

it.scoped("who is still looking for where to start does not hold up what comes next", () =>
  Effect.gen(function*() {
    const { held, position, settle, told } = yield* make
    yield* held.assign([a], Effect.void)
    yield* settle
    yield* held.revoke([a])
    yield* held.assign([], Effect.void)
    yield* position
    expect(told).toEqual(["assign 0", "halt 0", "revoke 0", "assign "])
  }))
