/**
 * What becomes of a record: it is handled, tried again, sent on to wait or to the dead letters, or ends the worker. A
 * handler for `Consumer.forEach`: when it answers, the record's offset may be committed, unless it is postponed.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as ScheduleDecision from "effect/ScheduleDecision"
import * as ScheduleIntervals from "effect/ScheduleIntervals"
import type * as ConsumerRecord from "../../ConsumerRecord.ts"
import { DeserializationError, type ForwardError, HandlerDefectError, HandlerTimeoutError } from "../../KafkaError.ts"
import type { KafkaEvent } from "../../KafkaEvent.ts"
import type { RetryTopics } from "../../RetryTopics.ts"
import { Postponed } from "../consumer/forEach.ts"
import type { Emit } from "../observe.ts"
import * as Delivery from "./Delivery.ts"
import type { Deliveries, Forward } from "./forward.ts"
import { describeError, markDeadLetter, markRetry } from "./headers.ts"
import { keyOf, type Ordered } from "./Ordered.ts"
import * as raw from "./raw.ts"

/** How a handler can fail. */
export type Failure<E> = E | HandlerTimeoutError | HandlerDefectError

export interface Settings<E, R> {
  readonly groupId: string
  readonly serdesOf: (slug: string) => raw.Serdes<R>
  readonly handle: (
    records: Arr.NonEmptyReadonlyArray<ConsumerRecord.Any>,
    context: { readonly attempt: number }
  ) => Effect.Effect<unknown, E, R>
  /** In milliseconds. */
  readonly timeout: number | undefined
  readonly retry: Schedule.Schedule<unknown, Failure<E>, R> | undefined
  readonly retryWhile: (error: Failure<E>) => boolean
  readonly retryTopics: RetryTopics | undefined
  readonly deadLetterWhen: (error: Failure<E>) => boolean
  readonly deadLetterOf: ((slug: string) => raw.RawTopic) | undefined
  readonly onDecodeFailure: "fail" | "skip" | "dead-letter"
  readonly forward: Forward
  readonly ordered: Ordered | undefined
  readonly resolve: (slug: string) => string
  readonly emit: Emit
  readonly now: () => number
}

/** What is remembered of a record between two tries. */
interface Tries {
  /** How often it was tried since it was read. */
  count: number
  /** How many of the retry topics' delays it has had. */
  round: number
  /** Where the schedule is; `undefined` before its first step. */
  schedule: { readonly state: unknown } | undefined
}

interface Decoded {
  readonly good: Array<Delivery.Delivery>
  readonly records: Array<ConsumerRecord.Any>
  readonly bad: Array<readonly [Delivery.Delivery, DeserializationError]>
}

type Action = Extract<KafkaEvent, { readonly _tag: "HandlerFailed" }>["action"]

/** What answers for records that a `forEach` has handed out. */
export interface Deliver<E, R> {
  /** For records of the topic itself. */
  readonly fresh: (
    records: Arr.NonEmptyReadonlyArray<raw.RawRecord>
  ) => Effect.Effect<unknown, Failed<E>, R>
  /** For records of its retry topics. */
  readonly returned: (
    records: Arr.NonEmptyReadonlyArray<raw.RawRecord>
  ) => Effect.Effect<unknown, Failed<E>, R>
  /** When a record of a retry topic is due, in milliseconds since 1970. */
  readonly dueAt: (record: raw.RawRecord) => number
}

export type Failed<E> =
  | Failure<E>
  | ForwardError
  | DeserializationError
  | Effect.Effect.Error<ReturnType<Ordered["find"] | Ordered["refresh"]>>

export const make = <E, R>(settings: Settings<E, R>): Deliver<E, R> => {
  const { deadLetterOf, emit, forward, groupId, handle, now, ordered, retry, retryTopics, timeout } = settings
  const tries = new WeakMap<raw.RawRecord, Tries>()
  /** Records of a batch that is tried again which were settled before: sent on, or left out. */
  const settled = new WeakSet<raw.RawRecord>()

  const triesOf = (delivery: Delivery.Delivery): Tries => {
    const known = tries.get(delivery.raw)
    if (known !== undefined) return known
    const fresh: Tries = { count: 0, round: delivery.round, schedule: undefined }
    tries.set(delivery.raw, fresh)
    return fresh
  }

  const tell = (deliveries: Deliveries, attempt: number, action: Action): void => {
    if (!emit.enabled) return
    for (const delivery of deliveries) {
      emit({
        _tag: "HandlerFailed",
        groupId,
        topicPartition: delivery.topicPartition,
        offset: delivery.offset,
        attempt,
        action
      })
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // sending on
  // -------------------------------------------------------------------------------------------------------------------

  const toDeadLetters = (
    target: raw.RawTopic,
    deliveries: Deliveries,
    attempt: number,
    error: unknown
  ): Effect.Effect<void, ForwardError> => {
    const described = describeError(error)
    return Effect.map(
      forward("dead-letter", target, deliveries, {
        headers: (delivery) =>
          markDeadLetter(delivery.headers, { ...delivery.origin, group: groupId, attempt, ...described })
      }),
      () => {
        if (!emit.enabled) return
        for (const delivery of deliveries) {
          emit({
            _tag: "DeadLettered",
            groupId,
            topicPartition: delivery.topicPartition,
            offset: delivery.offset,
            target: settings.resolve(target.slug)
          })
        }
      }
    )
  }

  /** To wait for its turn in a retry topic: `delay` for what failed, none for what only follows. */
  const toRetryTopic = (
    target: raw.RawTopic,
    deliveries: Deliveries,
    attempts: number | undefined,
    round: number,
    delay: number
  ): Effect.Effect<void, ForwardError | Effect.Effect.Error<ReturnType<Ordered["find"]>>> => {
    const due = delay === 0 ? 0 : now() + delay
    return Effect.flatMap(
      forward("retry-topic", target, deliveries, {
        headers: (delivery) =>
          markRetry(delivery.headers, {
            ...delivery.origin,
            group: groupId,
            attempts: attempts ?? delivery.attempts,
            round,
            due
          }),
        partition: ordered === undefined ? undefined : (delivery) => delivery.partition
      }),
      (places) =>
        ordered === undefined ? Effect.void : Effect.map(ordered.find(deliveries[0]), (locks) => {
          for (const [index, delivery] of deliveries.entries()) {
            const key = keyOf(delivery)
            if (key !== undefined) locks.lock(key, places[index]!.offset)
          }
        })
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // failures
  // -------------------------------------------------------------------------------------------------------------------

  /** When to try again in place; `undefined` where the schedule is over. */
  const nextTry = (of: Tries, error: Failure<E>): Effect.Effect<number | undefined, never, R> => {
    if (retry === undefined) return Effect.succeed(undefined)
    const at = now()
    return Effect.map(
      retry.step(at, error, of.schedule === undefined ? retry.initial : of.schedule.state),
      ([state, _out, decision]) => {
        of.schedule = { state }
        return ScheduleDecision.isDone(decision) ? undefined : Math.max(at, ScheduleIntervals.start(decision.intervals))
      }
    )
  }

  const failed = (
    deliveries: Deliveries,
    of: Tries,
    attempt: number,
    error: Failure<E>,
    fromRetries: boolean
  ): Effect.Effect<unknown, Failed<E>, R> =>
    Effect.gen(function*() {
      const [first] = deliveries
      if (settings.retryWhile(error)) {
        const until = yield* nextTry(of, error)
        if (until !== undefined) {
          of.count++
          tell(deliveries, attempt, "retry")
          return new Postponed(until)
        }
        const stage = retryTopics?.stages[of.round]
        if (retryTopics !== undefined && stage !== undefined) {
          if (fromRetries && retryTopics.order === "key") {
            of.count++
            of.round++
            of.schedule = undefined
            tell(deliveries, attempt, "retry")
            return new Postponed(now() + stage.delay)
          }
          tell(deliveries, attempt, "retry-topic")
          yield* toRetryTopic(stage.topic, deliveries, attempt, of.round + 1, stage.delay)
          return undefined
        }
      }
      if (deadLetterOf !== undefined && settings.deadLetterWhen(error)) {
        tell(deliveries, attempt, "dead-letter")
        yield* toDeadLetters(deadLetterOf(first.slug), deliveries, attempt, error)
        return undefined
      }
      tell(deliveries, attempt, "fail")
      return yield* Effect.fail(error)
    })

  const undecodable = (
    delivery: Delivery.Delivery,
    error: DeserializationError
  ): Effect.Effect<void, ForwardError | DeserializationError> => {
    if (emit.enabled) {
      emit({
        _tag: "DecodeFailed",
        groupId,
        topicPartition: delivery.topicPartition,
        offset: delivery.offset,
        action: settings.onDecodeFailure
      })
    }
    if (settings.onDecodeFailure === "skip") return Effect.void
    if (settings.onDecodeFailure === "fail" || deadLetterOf === undefined) return Effect.fail(error)
    return toDeadLetters(deadLetterOf(delivery.slug), [delivery], 0, error)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // handling
  // -------------------------------------------------------------------------------------------------------------------

  const invoke = (
    deliveries: Deliveries,
    records: Arr.NonEmptyReadonlyArray<ConsumerRecord.Any>,
    fromRetries: boolean
  ): Effect.Effect<unknown, Failed<E>, R> => {
    const [first] = deliveries
    const known = tries.get(first.raw)
    const attempt = first.attempts + (known?.count ?? 0) + 1
    const place = () => ({ topic: first.topic, partition: first.partition, offset: first.offset, attempt })
    const handling = Effect.suspend(() => handle(records, { attempt }))
    const timed: Effect.Effect<unknown, Failure<E>, R> = timeout === undefined ?
      handling :
      Effect.timeoutFail(handling, {
        duration: Duration.millis(timeout),
        onTimeout: () => new HandlerTimeoutError({ ...place(), millis: timeout })
      })
    return Effect.catchAllCause(timed, (cause) => {
      const error = Option.getOrElse(Cause.failureOption(cause), () => {
        const defect = Cause.squash(cause)
        return new HandlerDefectError({
          ...place(),
          reason: defect instanceof Error ? defect.message : String(defect),
          cause: defect
        })
      })
      return failed(deliveries, known ?? triesOf(first), attempt, error, fromRetries)
    })
  }

  const decode = (deliveries: ReadonlyArray<Delivery.Delivery>): Decoded | Effect.Effect<Decoded, never, R> => {
    const decoded: Decoded = { good: [], records: [], bad: [] }
    const keep = (delivery: Delivery.Delivery, answer: ConsumerRecord.Any | DeserializationError): void => {
      if (answer instanceof DeserializationError) decoded.bad.push([delivery, answer])
      else {
        decoded.good.push(delivery)
        decoded.records.push(answer)
      }
    }
    for (const [index, delivery] of deliveries.entries()) {
      const answer = raw.decode(
        delivery,
        settings.serdesOf(delivery.slug),
        (key, value) => delivery.record(key, value)
      )
      if (!Effect.isEffect(answer)) {
        keep(delivery, answer)
        continue
      }
      // a serde that needs an effect: so does the rest, one after the other
      return Effect.flatMap(Effect.merge(answer), (one) => {
        keep(delivery, one)
        const rest = decode(deliveries.slice(index + 1))
        return Effect.map(Effect.isEffect(rest) ? rest : Effect.succeed(rest), (behind): Decoded => ({
          good: [...decoded.good, ...behind.good],
          records: [...decoded.records, ...behind.records],
          bad: [...decoded.bad, ...behind.bad]
        }))
      })
    }
    return decoded
  }

  const run = (
    deliveries: ReadonlyArray<Delivery.Delivery>,
    fromRetries: boolean
  ): Effect.Effect<unknown, Failed<E>, R> => {
    const go = ({ bad, good, records }: Decoded): Effect.Effect<unknown, Failed<E>, R> => {
      const handled = Arr.isNonEmptyArray(good) && Arr.isNonEmptyArray(records)
        ? invoke(good, records, fromRetries)
        : Effect.void
      if (bad.length === 0) return handled
      return Effect.zipRight(
        Effect.forEach(bad, ([delivery, error]) =>
          Effect.map(undecodable(delivery, error), () => {
            settled.add(delivery.raw)
          }), { discard: true }),
        handled
      )
    }
    const decoded = decode(deliveries)
    return Effect.isEffect(decoded) ? Effect.flatMap(decoded, go) : go(decoded)
  }

  /** Sends records after those of their keys that are in the retry topic. Answers the others. */
  const follow = (deliveries: ReadonlyArray<Delivery.Delivery>, by: Ordered, target: raw.RawTopic) =>
    Effect.gen(function*() {
      const [first] = deliveries
      if (first === undefined) return deliveries
      const locks = yield* by.find(first)
      if (locks.isEmpty) return deliveries
      const isLocked = (delivery: Delivery.Delivery): boolean => {
        const key = keyOf(delivery)
        return key !== undefined && locks.isLocked(key)
      }
      if (!deliveries.some(isLocked)) return deliveries
      yield* by.refresh(first)
      const [others, following] = Arr.partition(deliveries, isLocked)
      if (Arr.isNonEmptyArray(following)) {
        yield* toRetryTopic(target, following, undefined, 0, 0)
        for (const delivery of following) settled.add(delivery.raw)
      }
      return others
    })

  return {
    fresh: (records) =>
      Effect.suspend(() => {
        const deliveries: Array<Delivery.Delivery> = []
        for (const record of records) if (!settled.has(record)) deliveries.push(Delivery.direct(record, record.topic))
        if (ordered === undefined || retryTopics === undefined) return run(deliveries, false)
        const [first] = deliveries
        // a record that is being tried again was let through before
        if (first === undefined || tries.has(first.raw) || ordered.known(first)?.isEmpty === true) {
          return run(deliveries, false)
        }
        return Effect.flatMap(follow(deliveries, ordered, retryTopics.stages[0].topic), (others) => run(others, false))
      }),
    returned: (records) =>
      Effect.suspend(() => {
        const slug = retryTopics?.slug ?? records[0].topic
        const deliveries: Array<Delivery.Delivery> = []
        for (const record of records) {
          if (settled.has(record)) continue
          const delivery = Delivery.returned(record, slug)
          // groups may share retry topics: each sees to its own
          if ((delivery.group ?? groupId) === groupId) deliveries.push(delivery)
        }
        return run(deliveries, true)
      }),
    dueAt: (record) => Delivery.returned(record, record.topic).due
  }
}
