/**
 * Asking the brokers that lead some partitions, with metadata that may be out of date: what the requests of both real
 * drivers share.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { isRetriable } from "../engine/consumer/Retry.ts"
import type { OffsetSpec } from "../KafkaClient.ts"
import { type ClientError, KafkaRequestError, UnknownTopicError } from "../KafkaError.ts"
import * as TopicPartition from "../TopicPartition.ts"
import type { LookupError, Requests } from "./consumerSession.ts"

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>

/** Between two tries of a request that failed and may be tried again, in milliseconds. */
const pauses = [50, 100, 200, 400, 800, 1000]

/** A topic or a partition that was made just now is not known everywhere at once: tries for so many milliseconds. */
export const newTopic = Schedule.spaced(100).pipe(Schedule.upTo(1000))

/** What ListOffsets takes for the ends of a log. */
export const timestamps = { earliest: -2n, latest: -1n } as const

/** Tries again what may succeed later, for so many milliseconds. */
export const patiently =
  (millis: number) => <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.flatMap(Effect.clock, (clock) => {
      const deadline = clock.unsafeCurrentTimeMillis() + millis
      const attempt = (n: number): Effect.Effect<A, E> =>
        Effect.catchIf(
          effect,
          (error) => isRetriable(error) && clock.unsafeCurrentTimeMillis() < deadline,
          () =>
            Effect.zipRight(
              Effect.sleep(pauses[Math.min(n, pauses.length - 1)]!),
              Effect.suspend(() => attempt(n + 1))
            )
        )
      return attempt(0)
    })

/** For a partition that nobody leads now. */
export const leaderless = (operation: string, tp: TopicPartition.TopicPartition): KafkaRequestError =>
  new KafkaRequestError({
    operation,
    code: "LEADER_NOT_AVAILABLE",
    retriable: true,
    reason: `${TopicPartition.format(tp)} has no leader`
  })

/** In the shape of most requests: by topic, in the order of their first. */
export const groupByTopic = <A extends { readonly topic: string }, B>(
  all: Iterable<A>,
  f: (one: A) => B
): Array<{ readonly topic: string; readonly partitions: Array<B> }> => {
  const out = new Map<string, Array<B>>()
  for (const one of all) {
    const of = out.get(one.topic)
    if (of === undefined) out.set(one.topic, [f(one)])
    else of.push(f(one))
  }
  return Array.from(out, ([topic, partitions]) => ({ topic, partitions }))
}

/** What looking up offsets needs to know, and one request to the broker that leads the partitions. */
export interface OffsetRequests extends Pick<Requests, "load" | "partitionsOf" | "leaderOf"> {
  readonly refresh: Effect.Effect<void, ClientError>
  /** Tries again what may succeed later. */
  readonly patiently: <A, E extends { readonly _tag: string }>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  /** The first offset that is not older than a time, or an end of the log; less than nought where there is none. */
  readonly offsetsOf: (
    leader: number,
    partitions: Partitions,
    timestamp: bigint,
    operation: string
  ) => Effect.Effect<ReadonlyArray<readonly [TopicPartition.Key, bigint]>, LookupError>
}

const offsetsAt = (
  requests: OffsetRequests,
  partitions: Partitions,
  timestamp: bigint,
  operation: string
): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, LookupError> =>
  Effect.suspend(() => {
    const placed = new Map<number, Array<TopicPartition.TopicPartition>>()
    for (const tp of partitions) {
      if (!requests.partitionsOf(tp.topic).includes(tp.partition)) return new UnknownTopicError({ operation, ...tp })
      const leader = requests.leaderOf(tp)
      if (leader === undefined) return leaderless(operation, tp)
      const of = placed.get(leader)
      if (of === undefined) placed.set(leader, [tp])
      else of.push(tp)
    }
    return Effect.forEach(placed, ([leader, of]) => requests.offsetsOf(leader, of, timestamp, operation), {
      concurrency: "unbounded"
    })
  }).pipe(Effect.map((all) => new Map(all.flat())))

/** Offsets of the log. A time after the last record answers the end. */
export const offsets = (
  requests: OffsetRequests,
  partitions: Partitions,
  spec: OffsetSpec
): Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, LookupError> => {
  const operation = "list offsets"
  if (partitions.length === 0) return Effect.succeed(new Map())
  const found = typeof spec === "string"
    ? offsetsAt(requests, partitions, timestamps[spec], operation)
    : Effect.flatMap(offsetsAt(requests, partitions, spec.timestamp, operation), (offsets) => {
      // none that late: the end
      const beyond = partitions.filter((tp) => (offsets.get(TopicPartition.key(tp)) ?? 0n) < 0n)
      return beyond.length === 0 ? Effect.succeed(offsets) : Effect.map(
        offsetsAt(requests, beyond, timestamps.latest, operation),
        (ends) => new Map([...offsets, ...ends])
      )
    })
  return requests.load(new Set(partitions.map(({ topic }) => topic)), operation).pipe(
    Effect.zipRight(requests.patiently(Effect.tapError(found, () => Effect.ignore(requests.refresh)))),
    // a partition may be newer than what we know
    Effect.retry({
      while: (error) => error._tag === "UnknownTopicError" && error.partition !== undefined,
      schedule: newTopic
    })
  )
}
