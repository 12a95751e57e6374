import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { Tracker } from "../src/KafkaActivity.ts"
import { ConsumerError } from "../src/KafkaError.ts"
import type { KafkaEvent } from "../src/KafkaEvent.ts"

const groupId = "kitchen"
const partitions = [0, 1, 2].map((partition) => ({ topic: "orders", partition }))

const someOf = FastCheck.subarray(partitions)
const one = FastCheck.constantFrom(...partitions)
const offset = FastCheck.bigInt({ min: 0n, max: 50n })

const event: FastCheck.Arbitrary<KafkaEvent> = FastCheck.oneof(
  FastCheck.constant<KafkaEvent>({ _tag: "LoopTurned", groupId, bufferedRecords: 0, bufferedBytes: 0 }),
  FastCheck.constant<KafkaEvent>({ _tag: "Rebalancing", groupId }),
  FastCheck.constant<KafkaEvent>({ _tag: "Stopped", groupId, millis: 1 }),
  someOf.map((partitions): KafkaEvent => ({ _tag: "Revoked", groupId, partitions })),
  someOf.map((partitions): KafkaEvent => ({ _tag: "Lost", groupId, partitions })),
  FastCheck.tuple(someOf, offset).map(([partitions, start]): KafkaEvent => ({
    _tag: "Assigned",
    groupId,
    partitions,
    positions: partitions.map(() => start),
    millis: 1
  })),
  FastCheck.tuple(one, offset, offset).map(([topicPartition, position, ahead]): KafkaEvent => ({
    _tag: "Polled",
    groupId,
    topicPartition,
    records: 1,
    bytes: 1,
    position,
    highWatermark: position + ahead,
    lastTimestamp: position,
    bufferedRecords: 1,
    bufferedBytes: 1
  })),
  FastCheck.tuple(one, offset).map(([topicPartition, position]): KafkaEvent => ({
    _tag: "HandedOut",
    groupId,
    topicPartition,
    records: 1,
    position
  })),
  FastCheck.tuple(one, offset).map(([topicPartition, to]): KafkaEvent => ({
    _tag: "OffsetReset",
    groupId,
    topicPartition,
    from: undefined,
    to
  })),
  FastCheck.tuple(one, offset).map(([topicPartition, offset]): KafkaEvent => ({
    _tag: "Committed",
    groupId,
    offsets: [{ ...topicPartition, offset }],
    millis: 1
  }))
)

describe("Tracker", () => {
  it("knows exactly the partitions that are assigned, and no lag is ever below zero, whatever happens", () => {
    FastCheck.assert(FastCheck.property(FastCheck.array(event, { maxLength: 60 }), (events) => {
      const tracker = new Tracker()
      const assigned = new Set<number>()
      let begun = false
      let over = false
      for (const [now, event] of events.entries()) {
        tracker.onEvent(event, now)
        if (event._tag === "LoopTurned") over = false
        if (["LoopTurned", "Assigned", "Rebalancing"].includes(event._tag)) begun = true
        if (event._tag === "Assigned" && !over) {
          for (const { partition } of event.partitions) assigned.add(partition)
        }
        if (event._tag === "Revoked" || event._tag === "Lost") {
          for (const { partition } of event.partitions) assigned.delete(partition)
        }
        if (event._tag === "Stopped" && begun) {
          over = true
          assigned.clear()
        }
        const known = [...tracker.members].flatMap((member) => [...member.partitions.values()])
        expect(new Set(known.map(({ topicPartition }) => topicPartition.partition))).toEqual(assigned)
        for (const partition of known) {
          expect(partition.lag ?? 0n).toBeGreaterThanOrEqual(0n)
          expect(partition.committedLag ?? 0n).toBeGreaterThanOrEqual(0n)
          expect(partition.lagMillis(now) ?? 0).toBeGreaterThanOrEqual(0)
          expect(partition.progressAt).toBeLessThanOrEqual(now)
        }
      }
    }))
  })

  it("several consumers of one group are told apart, until the scope of each is closed", () => {
    const tracker = new Tracker()
    const [first, second] = [{}, {}]
    const assigned = (...indices: ReadonlyArray<number>): KafkaEvent => ({
      _tag: "Assigned",
      groupId,
      partitions: indices.map((index) => partitions[index]!),
      positions: indices.map(() => 0n),
      millis: 1
    })
    const known = () =>
      [...tracker.members].map(({ partitions, status }) => [
        status,
        [...partitions.values()].map(({ topicPartition }) => topicPartition.partition)
      ])
    tracker.onEvent(assigned(0, 1), 1, first)
    tracker.onEvent(assigned(2), 1, second)
    expect(known()).toEqual([["running", [0, 1]], ["running", [2]]])
    tracker.onEvent({ _tag: "Revoked", groupId, partitions: [partitions[1]!] }, 2, first)
    expect(known()).toEqual([["rebalancing", [0]], ["running", [2]]])
    tracker.onEvent({ _tag: "Stopped", groupId, millis: 1 }, 3, first)
    expect(known()).toEqual([["stopped", []], ["running", [2]]])
    tracker.onEvent({ _tag: "ConsumerClosed", groupId }, 4, first)
    expect(known()).toEqual([["running", [2]]])
  })

  it("what others than a consumer tell of its group is no consumer, but is heard", () => {
    const tracker = new Tracker()
    const [consumer, worker] = [{}, {}]
    const delayed: KafkaEvent = { _tag: "Delayed", groupId, topicPartition: partitions[0]!, until: 1000 }
    const died: KafkaEvent = {
      _tag: "Died",
      groupId,
      error: new ConsumerError({ reason: "crashed", groupId, description: "no milk" })
    }
    tracker.onEvent(delayed, 1, worker)
    expect([...tracker.members]).toEqual([])
    tracker.onEvent({ _tag: "Assigned", groupId, partitions, positions: [0n, 0n, 0n], millis: 1 }, 1, consumer)
    tracker.onEvent(delayed, 1, worker)
    expect(tracker.member(groupId, consumer)?.partitions.get("orders:0")?.delayedUntil).toBe(1000)
    tracker.onEvent(died, 2, worker)
    expect([...tracker.members].map(({ status }) => status)).toEqual(["died"])
    tracker.onEvent({ _tag: "ConsumerClosed", groupId }, 3, consumer)
    tracker.onEvent(died, 4, worker)
    tracker.onEvent({ _tag: "LoopTurned", groupId, bufferedRecords: 0, bufferedBytes: 0 }, 5, {})
    expect([...tracker.members].map(({ status }) => status)).toEqual(["joining"])
  })

  it("the lag of a partition from which nothing comes is known from its end and from what the group has committed", () => {
    const tracker = new Tracker()
    const [topicPartition] = partitions
    tracker.onEvent(
      { _tag: "Assigned", groupId, partitions: [topicPartition!], positions: [7n], committed: [5n], millis: 1 },
      0
    )
    const partition = tracker.member(groupId)!.partitions.get("orders:0")!
    expect([partition.lag, partition.committedLag]).toEqual([undefined, undefined])
    tracker.onEvent({ _tag: "EndOffsets", groupId, offsets: [{ ...topicPartition!, offset: 9n }] }, 1)
    expect([partition.lag, partition.committedLag]).toEqual([2n, 4n])
    tracker.onEvent({ _tag: "EndOffsets", groupId, offsets: [{ ...topicPartition!, offset: 8n }] }, 2)
    expect(partition.lag).toBe(2n)
  })

  it("a partition that had nothing to do for long does not stand still when something comes", () => {
    const tracker = new Tracker()
    const [topicPartition] = partitions
    const ends = (offset: bigint): KafkaEvent => ({
      _tag: "EndOffsets",
      groupId,
      offsets: [{ ...topicPartition!, offset }]
    })
    tracker.onEvent({ _tag: "Assigned", groupId, partitions: [topicPartition!], positions: [7n], millis: 1 }, 0)
    tracker.onEvent(ends(7n), 1)
    tracker.onEvent(ends(9n), 3_600_000)
    tracker.onEvent(ends(12n), 3_700_000)
    expect(tracker.member(groupId)?.partitions.get("orders:0")).toMatchObject({ hasWork: true, progressAt: 3_600_000 })
  })

  it("the lag in time is that of the next record that waits, also after going back", () => {
    const tracker = new Tracker()
    const topicPartition = partitions[0]!
    const polled = (position: bigint, lastTimestamp: bigint): KafkaEvent => ({
      _tag: "Polled",
      groupId,
      topicPartition,
      records: 10,
      bytes: 10,
      position,
      highWatermark: 30n,
      lastTimestamp,
      bufferedRecords: 0,
      bufferedBytes: 0
    })
    const handedOut = (position: bigint): KafkaEvent => ({
      _tag: "HandedOut",
      groupId,
      topicPartition,
      records: 1,
      position
    })
    const lagAfter = (...events: ReadonlyArray<KafkaEvent>) => {
      for (const event of events) tracker.onEvent(event, 1000)
      return tracker.member(groupId)?.partitions.get("orders:0")?.lagMillis(1000)
    }
    expect(lagAfter({ _tag: "Assigned", groupId, partitions: [topicPartition], positions: [0n], millis: 1 })).toBe(
      undefined
    )
    expect(lagAfter(polled(10n, 100n), polled(20n, 200n))).toBe(900)
    expect(lagAfter(handedOut(9n))).toBe(900)
    expect(lagAfter(handedOut(10n))).toBe(800)
    expect(lagAfter(handedOut(20n))).toBe(800)
    expect(lagAfter(polled(10n, 100n))).toBe(900)
    expect(lagAfter(polled(30n, 300n), handedOut(30n))).toBe(0)
  })
})
