/**
 * One simulated life of a group: members come, go and die, brokers fail and come back, requests are lost, all by a
 * seed. The oracle watches.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { inspect } from "node:util"
import * as Consumer from "../../src/Consumer.ts"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import { KafkaClient, type Service as Client } from "../../src/KafkaClient.ts"
import { isKafkaError } from "../../src/KafkaError.ts"
import { KafkaObserver } from "../../src/KafkaEvent.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { Oracle, type Ordering } from "./Oracle.ts"
import { Dice, VirtualTime } from "./VirtualTime.ts"

const Runs = Topic.make("runs", { key: Serde.string, value: Serde.string })
const GROUP = "group"

/** What a seed decides once. */
interface Scenario {
  readonly partitions: number
  readonly protocol: "eager" | "cooperative"
  readonly mode: "stream" | "partitionedStream" | "forEach"
  readonly ordering: Ordering
  readonly concurrency: number
  readonly slowest: number
  /** Whether anything but orderly coming and going happens. */
  readonly faults: boolean
  readonly steps: number
}

export interface Result {
  readonly seed: number
  readonly scenario: Scenario
  readonly records: number
  readonly duplicates: number
  readonly violations: ReadonlyArray<string>
  readonly journal: ReadonlyArray<string>
  /** Simulated milliseconds. */
  readonly elapsed: number
}

/** Breaks a promise on purpose, to see the oracle notice. */
export type Sabotage = (client: Client) => Client

const scenarioOf = (dice: Dice): Scenario => {
  const mode = dice.pick(["stream", "partitionedStream", "forEach"] as const)
  const ordering = mode === "forEach" ? dice.pick(["partition", "key", "unordered"] as const) : "partition"
  return {
    partitions: dice.between(1, 6),
    protocol: dice.pick(["eager", "cooperative"] as const),
    mode,
    ordering,
    concurrency: dice.between(1, 8),
    slowest: dice.pick([0, 5, 50, 400]),
    faults: dice.chance(0.6),
    steps: dice.between(5, 25)
  }
}

interface Member {
  readonly name: string
  /** Stops the consumer in good order, once there is one. */
  stop: Effect.Effect<void>
  readonly scope: Scope.CloseableScope
  readonly fiber: Fiber.RuntimeFiber<void, unknown>
}

export const simulate = (
  seed: number,
  options: { readonly sabotage?: Sabotage | undefined; readonly verbose?: boolean | undefined } = {}
): Result => {
  const { sabotage = (client: Client) => client, verbose = false } = options
  const dice = new Dice(seed)
  const scenario = scenarioOf(dice)
  const time = new VirtualTime(dice)
  const oracle = new Oracle(scenario.partitions, scenario.ordering)
  const journal: Array<string> = []
  const note = (text: string): void => void journal.push(`${String(time.elapsed).padStart(7)} ${text}`)

  const handle =
    (member: string) => (record: { readonly partition: number; readonly offset: bigint; readonly key: string }) =>
      Effect.suspend(() => {
        oracle.start(member, record.partition, Number(record.offset), record.key)
        const pause = dice.between(0, scenario.slowest)
        const done = Effect.sync(() => oracle.finish(record.partition, Number(record.offset)))
        return pause === 0 ? done : Effect.zipRight(Effect.sleep(Duration.millis(pause)), done)
      })

  const consume = (member: string): Effect.Effect<void, unknown, Consumer.Consumer> => {
    const handler = handle(member)
    switch (scenario.mode) {
      case "stream":
        return Consumer.stream(Runs).pipe(
          Stream.mapEffect((record) => Effect.as(handler(record), record)),
          Consumer.commitWithin(dice.between(1, 20), dice.between(1, 500)),
          Stream.runDrain
        )
      case "partitionedStream":
        return Consumer.partitionedStream(Runs).pipe(
          Stream.flatMap(([, records]) =>
            records.pipe(
              Stream.mapEffect((record) => Effect.as(handler(record), record)),
              Consumer.commitWithin(dice.between(1, 20), dice.between(1, 500))
            ), { concurrency: "unbounded" }),
          Stream.runDrain
        )
      case "forEach":
        return Consumer.forEach(Runs, handler, {
          concurrency: scenario.concurrency,
          ordering: scenario.ordering,
          commitCount: dice.between(1, 20),
          commitWithin: dice.between(1, 500)
        })
    }
  }

  const program = Effect.gen(function*() {
    const broker = yield* InMemoryKafka.InMemoryBroker
    const admin = yield* Effect.flatMap(KafkaClient, (client) => client.openAdmin)
    const client = sabotage(yield* KafkaClient)
    yield* admin.createTopics([{ topic: "runs", partitions: scenario.partitions, replicationFactor: 1, config: {} }])

    const watch = Effect.gen(function*() {
      for (const one of yield* broker.committed(GROUP)) oracle.stored(one.partition, Number(one.offset))
    })

    const watching = (name: string) =>
      Layer.succeed(KafkaObserver, {
        enabled: verbose,
        onEvent: (event) => note(`${name} ${inspect(event, { breakLength: Infinity, depth: 4 })}`)
      })

    const members: Array<Member> = []
    let born = 0
    const join = Effect.gen(function*() {
      const name = `m${born++}`
      note(`${name} joins`)
      const scope = yield* Scope.make()
      const layer = Consumer.layer({
        groupId: GROUP,
        rebalanceProtocol: scenario.protocol,
        sessionTimeout: "6 seconds",
        heartbeatInterval: "1 second",
        rebalanceTimeout: "40 seconds",
        revokeTimeout: "30 seconds",
        stopTimeout: "20 seconds",
        unavailableAfter: "2 minutes",
        maxPollRecords: dice.between(1, 30)
      }).pipe(
        Layer.provide(Layer.succeed(KafkaClient, client)),
        Layer.provide(TopicRegistry.layerWith({})),
        Layer.provide(watching(name))
      )
      const fiber = yield* Effect.forkDaemon(
        Effect.gen(function*() {
          const context = yield* Layer.buildWithScope(layer, scope)
          member.stop = Context.get(context, Consumer.Consumer).stop
          yield* Effect.provide(consume(name), context)
        }).pipe(Effect.withUnhandledErrorLogLevel(Option.none()))
      )
      const member: Member = { name, scope, fiber, stop: Effect.void }
      members.push(member)
    })
    const end = (member: Member) => Effect.zipRight(Fiber.interrupt(member.fiber), Scope.close(member.scope, Exit.void))
    const remove = (index: number): Member => members.splice(index, 1)[0]!

    /** A member whose stream has failed is told by its error, and replaced, as a supervisor would. */
    const supervise = Effect.gen(function*() {
      for (let index = members.length - 1; index >= 0; index--) {
        const exit = members[index]!.fiber.unsafePoll()
        if (exit === null) continue
        const member = remove(index)
        const failure = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        note(`${member.name} ended: ${failure === undefined ? "without an error" : String(failure).slice(0, 200)}`)
        if (!isKafkaError(failure)) {
          oracle.violations.push(`${member.name} ended, and not by an error of ours: ${failure}`)
        }
        yield* Effect.forkDaemon(Scope.close(member.scope, Exit.void))
        yield* join
      }
    })

    const cut = new Set<number>()
    const act = Effect.gen(function*() {
      const kinds = scenario.faults
        ? ["join", "leave", "rebalance", "crash", "expire", "outage", "fault", "delay", "cut", "heal"] as const
        : ["join", "leave", "rebalance"] as const
      const kind = dice.pick(kinds)
      switch (kind) {
        case "join":
          return members.length < 4 ? yield* join : undefined
        case "leave": {
          if (members.length < 2) return
          const member = remove(dice.between(0, members.length - 1))
          note(`${member.name} leaves`)
          yield* Effect.forkDaemon(Effect.zipRight(member.stop, end(member)))
          return
        }
        case "rebalance":
          return note(`a rebalance: ${yield* broker.rebalance(GROUP)}`)
        case "crash": {
          if (members.length < 2) return
          const member = remove(dice.between(0, members.length - 1))
          note(`${member.name} crashes`)
          // from one moment to the next nothing of it reaches a broker
          const own = (yield* broker.sessions).filter((one) => one.kind === "consumer" && !cut.has(one.id))
          const mine = dice.pick(own)
          if (mine !== undefined) {
            cut.add(mine.id)
            yield* broker.isolate((one) => one.id === mine.id)
          }
          yield* Effect.forkDaemon(end(member))
          return
        }
        case "expire": {
          const all = (yield* broker.group(GROUP))?.members ?? []
          if (all.length > 0) note(`a session expires: ${yield* broker.expireSession(GROUP, dice.pick(all).memberId)}`)
          return
        }
        case "outage": {
          note(`the broker goes: ${yield* broker.kill()}`)
          yield* Effect.sleep(Duration.millis(dice.between(100, 30_000)))
          note(`the broker is back: ${yield* broker.restart()}`)
          return
        }
        case "fault": {
          const request = dice.pick(
            [
              "fetch",
              "commit",
              "heartbeat",
              "join-group",
              "sync-group",
              "fetch-offsets",
              "list-offsets",
              "metadata"
            ] as const
          )
          const fault = dice.pick(["connection-refused", "request-lost", "response-lost"] as const)
          const times = dice.between(1, 3)
          note(`the next ${times} of ${request} meet ${fault}`)
          yield* broker.failNext(request, times, fault)
          return
        }
        case "delay": {
          const request = dice.pick(["fetch", "commit", "heartbeat", "join-group"] as const)
          const millis = dice.between(1, 3000)
          note(`${request} takes ${millis} ms`)
          const armed = yield* broker.delay(request, Duration.millis(millis))
          yield* Effect.forkDaemon(Effect.zipRight(Effect.sleep("10 seconds"), armed.disarm))
          return
        }
        case "cut": {
          const own = (yield* broker.sessions).filter((one) => one.kind === "consumer" && !cut.has(one.id))
          if (own.length === 0) return
          const one = dice.pick(own)
          cut.add(one.id)
          note(`consumer session ${one.id} is cut off`)
          yield* broker.isolate((session) => session.id === one.id)
          return
        }
        case "heal":
          cut.clear()
          return note(`${yield* broker.reconnect(() => true)} are connected again`)
      }
    })

    const produce = Effect.gen(function*() {
      const partition = dice.between(0, scenario.partitions - 1)
      const count = dice.between(1, 25)
      const keys = Array.from({ length: count }, () => dice.pick(["a", "b", "c"]))
      for (const key of keys) oracle.produced(partition, key)
      yield* broker.produce(TopicPartition.make("runs", partition), keys.map((key) => ({ key, value: "x" })))
    })

    yield* join
    for (let step = 0; step < scenario.steps; step++) {
      yield* produce
      if (dice.chance(0.7)) yield* act
      yield* Effect.sleep(Duration.millis(dice.between(0, 3000)))
      yield* watch
      yield* supervise
    }
    note("the weather clears")
    yield* broker.reconnect(() => true)
    yield* broker.restart()
    for (let wait = 0; wait < 600 && !oracle.complete; wait++) {
      yield* Effect.sleep("1 second")
      yield* watch
      yield* supervise
    }
    note("the end")
    for (const member of members) yield* end(member)
    yield* watch
    oracle.end()
  }).pipe(Effect.scoped, Effect.provide(InMemoryKafka.layer))

  const exit = time.run(program, 3_600_000)
  if (exit === undefined) oracle.violations.push("the simulation came to a stand")
  else if (Exit.isFailure(exit)) oracle.violations.push(`the simulation failed: ${Cause.pretty(exit.cause)}`)
  if (!scenario.faults && oracle.duplicates > 0) {
    oracle.violations.push(
      `${oracle.duplicates} records were handled twice, though members only came and went in order`
    )
  }
  return {
    seed,
    scenario,
    records: oracle.count,
    duplicates: oracle.duplicates,
    violations: oracle.violations,
    journal,
    elapsed: time.elapsed
  }
}

/** A failing seed as a story. */
export const tell = (result: Result): string =>
  [
    `seed ${result.seed}: ${JSON.stringify(result.scenario)}`,
    ...result.journal,
    ...result.violations.slice(0, 20).map((one) => `VIOLATION ${one}`),
    `reproduce: npm run simulate -- --from ${result.seed} --seeds 1 --verbose`
  ].join("\n")
