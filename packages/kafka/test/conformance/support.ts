/** What tests of the suite are written with: members of groups that are watched, and streams that run beside the test. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Admin from "../../src/Admin.ts"
import * as Consumer from "../../src/Consumer.ts"
import type { ConsumerRecord } from "../../src/ConsumerRecord.ts"
import type { KafkaClient } from "../../src/KafkaClient.ts"
import { type KafkaEvent, KafkaObserver } from "../../src/KafkaEvent.ts"
import * as Producer from "../../src/Producer.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"

// ---------------------------------------------------------------------------------------------------------------------
// waiting
// ---------------------------------------------------------------------------------------------------------------------

/** How long a test waits for something that ought to happen. */
const patience = "40 seconds"

const show = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) => typeof one === "bigint" ? `${one}n` : one) ?? String(value)

/** What has happened, in order; a test waits until it has seen enough. */
export class Seen<A> {
  readonly all: Array<A> = []
  private readonly waiting = new Set<() => void>()

  push(one: A): void {
    this.all.push(one)
    for (const look of this.waiting) look()
  }

  /** Ends as soon as it holds. */
  until(what: string, holds: (all: ReadonlyArray<A>) => boolean): Effect.Effect<ReadonlyArray<A>, Error> {
    return Effect.async<ReadonlyArray<A>>((resume) => {
      const look = (): void => {
        if (!holds(this.all)) return
        this.waiting.delete(look)
        resume(Effect.succeed([...this.all]))
      }
      this.waiting.add(look)
      look()
      return Effect.sync(() => this.waiting.delete(look))
    }).pipe(
      Effect.timeoutFail({
        duration: patience,
        onTimeout: () =>
          new Error(
            `waited in vain: ${what}. The last of ${this.all.length}:\n${this.all.slice(-30).map(show).join("\n")}`
          )
      })
    )
  }

  /** Waits for so many. */
  count(many: number): Effect.Effect<ReadonlyArray<A>, Error> {
    return this.until(`${many} of them`, (all) => all.length >= many)
  }
}

/** Asks again until it holds: for what the brokers do in their own time, and tell nobody. */
export const eventually = <A, E, R>(
  what: string,
  ask: Effect.Effect<A, E, R>,
  holds: (answer: A) => boolean
): Effect.Effect<A, E | Error, R> => {
  let last: A | undefined
  const again: Effect.Effect<A, E, R> = Effect.flatMap(ask, (answer) => {
    last = answer
    return holds(answer) ? Effect.succeed(answer) : Effect.zipRight(Effect.sleep(50), again)
  })
  return Effect.timeoutFail(again, {
    duration: patience,
    onTimeout: () => new Error(`waited in vain: ${what}. The last answer: ${show(last)}`)
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// topics
// ---------------------------------------------------------------------------------------------------------------------

/** A topic of text, whose keys may be absent. */
export const textTopic = <const Slug extends string>(
  slug: Slug,
  partitions = 1,
  config: Readonly<Record<string, string>> = {}
): Topic.Topic<Slug, string | null, string> =>
  Topic.make(slug, { key: Serde.nullable(Serde.string), value: Serde.string, partitions, config })

/** A new topic of text, made on the cluster. */
export const makeTextTopic = (partitions = 1, config: Readonly<Record<string, string>> = {}) => {
  const topic = textTopic("runs", partitions, config)
  return Effect.as(TopicRegistry.ensure([topic]), topic)
}

export type TextTopic = Topic.Topic<string, string | null, string>
export type TextRecord = ConsumerRecord<string | null, string>

/** A partition of a topic, by its physical name. */
export const partitionOf = (topic: Topic.Any, partition = 0) =>
  Effect.map(TopicRegistry.resolve(topic), (name) => TopicPartition.make(name, partition))

/** The partitions of a topic, by its physical name. */
export const partitionsOf = (topic: Topic.Any) =>
  Effect.map(
    TopicRegistry.resolve(topic),
    (name) => Array.from({ length: topic.partitions ?? 1 }, (_, partition) => TopicPartition.make(name, partition))
  )

/** `value-0`, `value-1` and so on. */
export const texts = (count: number, from = 0): Array<string> =>
  Array.from({ length: count }, (_, index) => `value-${from + index}`)

/** Writes texts to one partition, in order. */
export const write = (topic: TextTopic, values: ReadonlyArray<string>, partition = 0) =>
  Producer.sendAll(topic, values.map((value) => ({ key: null, value, partition })))

/** Writes so many texts to each partition of a topic: `0:0`, `0:1`, … `1:0`. Answers all of them. */
export const writeEach = (topic: TextTopic, count: number, from = 0) => {
  const records = Array.from(
    { length: topic.partitions ?? 1 },
    (_, partition) =>
      Array.from({ length: count }, (_, index) => ({ key: null, value: `${partition}:${from + index}`, partition }))
  ).flat()
  return Effect.as(Producer.sendAll(topic, records), records.map((record) => record.value))
}

/**
 * Waits until each partition of a topic is so long, markers included: they are written a little after the end of a
 * transaction was confirmed.
 */
export const grown = (topic: Topic.Any, ends: ReadonlyArray<bigint>) =>
  eventually(
    "the end of the log",
    Admin.listOffsets([topic], "latest"),
    (offsets) => ends.every((end, partition) => offsets.find((one) => one.partition === partition)?.offset === end)
  )

// ---------------------------------------------------------------------------------------------------------------------
// records
// ---------------------------------------------------------------------------------------------------------------------

export const values = <A>(records: Iterable<{ readonly value: A }>): Array<A> =>
  Array.from(records, (record) => record.value)

export const text = (bytes: Uint8Array | null): string | null => bytes === null ? null : new TextDecoder().decode(bytes)

// ---------------------------------------------------------------------------------------------------------------------
// members
// ---------------------------------------------------------------------------------------------------------------------

/** A consumer, and what it tells of itself. */
export interface Member extends Consumer.Service {
  readonly events: Seen<KafkaEvent>
}

export const isEvent = <Tag extends KafkaEvent["_tag"]>(tag: Tag) =>
(
  event: KafkaEvent
): event is Extract<KafkaEvent, { readonly _tag: Tag }> => event._tag === tag

/** The events of one kind. */
export const eventsOf = <Tag extends KafkaEvent["_tag"]>(member: Member, tag: Tag) =>
  member.events.all.filter(isEvent(tag))

/** Waits for an event of this kind. */
export const event = <Tag extends KafkaEvent["_tag"]>(
  member: Member,
  tag: Tag,
  holds: (event: Extract<KafkaEvent, { readonly _tag: Tag }>) => boolean = () => true
): Effect.Effect<Extract<KafkaEvent, { readonly _tag: Tag }>, Error> =>
  Effect.map(
    member.events.until(tag, (all) => all.some((one) => isEvent(tag)(one) && holds(one))),
    (all) => all.filter(isEvent(tag)).find(holds)!
  )

/** A group's name, no other test's. */
export const groupName = (name = "group") =>
  Effect.map(TopicRegistry.TopicRegistry, ({ prefix }) => `${prefix}.${name}`)

/** Options that all members of a test have, unless it says otherwise. */
export class MemberDefaults extends Context.Reference<MemberDefaults>()("conformance/MemberDefaults", {
  defaultValue: (): Partial<Consumer.Options> => ({})
}) {}

/** A consumer in the test's own group, or in another of that name. It lives as long as the Scope. */
export const member = (
  options: Partial<Consumer.Options> = {}
): Effect.Effect<Member, Consumer.MakeError, KafkaClient | TopicRegistry.TopicRegistry | Scope.Scope> =>
  Effect.gen(function*() {
    const events = new Seen<KafkaEvent>()
    const groupId = yield* groupName(options.groupId)
    const defaults = yield* MemberDefaults
    const consumer = yield* Effect.provideService(
      Consumer.make({
        fetch: { maxWait: "100 millis" },
        heartbeatInterval: "250 millis",
        ...defaults,
        ...options,
        groupId
      }),
      KafkaObserver,
      { enabled: true, onEvent: (event) => events.push(event) }
    )
    return { ...consumer, events }
  })

/** Something in a Scope of its own, which the test may close before its end. */
export const closable = <A extends object, E, R>(
  make: Effect.Effect<A, E, R>
): Effect.Effect<A & { readonly close: Effect.Effect<void> }, E, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.gen(function*() {
    const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
    const made = yield* Scope.extend(make, scope)
    return { ...made, close: Scope.close(scope, Exit.void) }
  })

/** Ends when the consumer owns exactly so many partitions, and has found out where to start in them. */
export const owning = (self: Member, many: number) =>
  Effect.zipRight(
    event(self, "Assigned"),
    eventually(`${many} partitions`, self.assignment, (assignment) => assignment.length === many)
  )

/** The next so many records of a topic for the test's group, read by a consumer that is gone then. */
export const readAndLeave = <A, E, R>(
  topic: TextTopic,
  count: number,
  then: (consumer: Member, records: ReadonlyArray<TextRecord>) => Effect.Effect<A, E, R>
) =>
  Effect.scoped(Effect.gen(function*() {
    const consumer = yield* member()
    const records = yield* consumer.stream(topic).pipe(Stream.take(count), Stream.runCollect)
    return yield* then(consumer, [...records])
  }))

// ---------------------------------------------------------------------------------------------------------------------
// streams beside the test
// ---------------------------------------------------------------------------------------------------------------------

/** A stream that runs beside the test. */
export interface Running<A, E> {
  readonly seen: Seen<A>
  readonly fiber: Fiber.RuntimeFiber<void, E>
  /** Waits for records, and fails with the stream where it fails. */
  readonly until: (
    what: string,
    holds: (all: ReadonlyArray<A>) => boolean
  ) => Effect.Effect<ReadonlyArray<A>, E | Error>
  readonly count: (many: number) => Effect.Effect<ReadonlyArray<A>, E | Error>
  /** Interrupts it, and waits for its end. */
  readonly interrupt: Effect.Effect<void>
}

/** Runs a stream beside the test, and keeps what comes out of it. */
export const running = <A, E, R>(
  stream: Stream.Stream<A, E, R>
): Effect.Effect<Running<A, E>, never, R | Scope.Scope> =>
  Effect.gen(function*() {
    const seen = new Seen<A>()
    const fiber = yield* Effect.forkScoped(Stream.runForEach(stream, (one) => Effect.sync(() => seen.push(one))))
    const failure = Effect.flatMap(Fiber.join(fiber), () => Effect.never)
    return {
      seen,
      fiber,
      until: (what, holds) => Effect.raceFirst(seen.until(what, holds), failure),
      count: (many) => Effect.raceFirst(seen.count(many), failure),
      interrupt: Effect.asVoid(Fiber.interrupt(fiber))
    }
  })
