import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { Lane } from "../../src/engine/consumer/Lane.ts"
import { PartitionBuffer } from "../../src/engine/consumer/PartitionBuffer.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import { chunk } from "./chunks.ts"

const make = () => {
  const lane = new Lane<never>({
    now: () => 0,
    isHeldBack: () => false,
    onTaken: () => {},
    onReturned: () => {},
    onHungry: () => {}
  })
  const partition = new PartitionBuffer(TopicPartition.make("runs", 0), 1)
  partition.startAt(0n)
  partition.status = "active"
  lane.add(partition)
  const arrive = (offsets: ReadonlyArray<number>): void => {
    partition.append(chunk(offsets))
    lane.offer(partition)
  }
  const pulled = Effect.map(lane.pull(10), ({ chunk, from, to }) => chunk.records.slice(from, to))
  return { arrive, lane, partition, pulled }
}

it.effect("a reader that is interrupted while it waits leaves what comes then to the next", () =>
  Effect.gen(function*() {
    const { arrive, lane, pulled } = make()
    const first = yield* Effect.fork(pulled)
    yield* Effect.yieldNow()
    expect(lane.hungry).toBe(true)
    yield* Fiber.interrupt(first)
    arrive([0, 1])
    expect(yield* pulled).toEqual([0n, 1n])
  }))

it.effect("a reader that is interrupted just when something came leaves that to the next", () =>
  Effect.gen(function*() {
    const { arrive, pulled } = make()
    const first = yield* Effect.fork(pulled)
    yield* Effect.yieldNow()
    arrive([0, 1])
    yield* Fiber.interrupt(first)
    expect(yield* pulled).toEqual([0n, 1n])
  }))

it.effect("what came and was taken back before the reader looked is not handed out", () =>
  Effect.gen(function*() {
    const { arrive, lane, partition, pulled } = make()
    const reader = yield* Effect.fork(pulled)
    yield* Effect.yieldNow()
    arrive([0, 1])
    partition.discard()
    lane.remove(partition)
    lane.finish(Option.none())
    expect(yield* Effect.flip(Fiber.join(reader))).toEqual(Option.none())
  }))
