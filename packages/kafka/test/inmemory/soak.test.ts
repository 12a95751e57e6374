import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as InMemoryKafka from "../../src/InMemoryKafka.ts"
import { Dice, VirtualTime } from "../simulation/VirtualTime.ts"
import { open, setup, text, type Watched } from "./fixtures.ts"

const faults = [
  "connection-refused",
  "request-lost",
  "response-lost",
  "NOT_COORDINATOR",
  "UNKNOWN_MEMBER_ID",
  "REBALANCE_IN_PROGRESS"
] as const
const kinds = ["fetch", "join-group", "sync-group", "heartbeat", "commit", "fetch-offsets", "list-offsets"] as const

interface Member {
  readonly scope: Scope.CloseableScope
  readonly watched: Watched
  readonly worker: Fiber.RuntimeFiber<void, unknown>
}

/** One simulated life of a group of sessions: they come, go, die, lose the network, and brokers fail under them. */
const soak = (seed: number) => {
  const dice = new Dice(seed)
  const time = new VirtualTime(dice)
  const assignment = dice.pick(["eager", "cooperative"] as const)
  const partitions = dice.between(1, 6)
  const sent = new Set<string>()
  const received = new Set<string>()

  const life = Effect.gen(function*() {
    const { broker, client } = yield* setup(partitions, { replicationFactor: 2 })
    const members = new Set<Member>()
    const delays: Array<InMemoryKafka.Armed> = []
    let names = 0

    /** Polls, and commits what it has got. */
    const work = (watched: Watched, scope: Scope.CloseableScope) =>
      Effect.gen(function*() {
        while (true) {
          const demand = new Map([...watched.owned].map((key) => [key, { maxBytes: 50 }] as const))
          const fetched = yield* watched.session.poll(demand, 2000)
          for (const one of fetched) {
            if (one._tag !== "Chunk") continue
            for (const record of one.records) received.add(text(one.view.value(record))!)
            yield* Effect.ignore(watched.session.commit([{ ...one.topicPartition, offset: one.nextOffset }]))
          }
        }
      }).pipe(Effect.ensuring(Effect.forkDaemon(Scope.close(scope, Exit.void))))

    // interrupted before it began, it would not close anything
    const stop = ({ scope, worker }: Member) => Effect.zipRight(Fiber.interrupt(worker), Scope.close(scope, Exit.void))

    const come = Effect.gen(function*() {
      const scope = yield* Scope.make()
      const groupInstanceId = assignment === "eager" && dice.chance(0.3) ? `instance-${dice.between(0, 2)}` : undefined
      const opened = yield* Effect.exit(Scope.extend(
        Effect.tap(
          open(client, {
            clientId: `member-${names++}`,
            groupInstanceId,
            assignment,
            sessionTimeout: 10_000,
            heartbeatInterval: 1000,
            rebalanceTimeout: 15_000,
            unavailableAfter: 60_000,
            onRevoked: () => Clock.sleep(dice.pick([0, 10, 3000]))
          }),
          (watched) => watched.session.subscribe({ _tag: "Topics", topics: new Set(["t"]) })
        ),
        scope
      ))
      if (Exit.isFailure(opened)) return yield* Scope.close(scope, Exit.void)
      const watched = opened.value
      const worker = yield* Effect.forkDaemon(work(watched, scope))
      members.add({ scope, watched, worker })
    })

    const go = Effect.suspend(() => {
      if (members.size === 0) return Effect.void
      const member = dice.pick([...members])
      members.delete(member)
      return stop(member)
    })

    const produce = Effect.suspend(() => {
      const partition = dice.between(0, partitions - 1)
      const values = Array.from({ length: dice.between(1, 20) }, () => `v${sent.size}`).map((value, i) =>
        `${value}.${i}`
      )
      return Effect.ignore(Effect.tap(
        broker.produce({ topic: "t", partition }, values.map((value) => ({ value }))),
        () => {
          for (const value of values) sent.add(value)
        }
      ))
    })

    const disturb = Effect.suspend(() =>
      dice.pick<() => Effect.Effect<unknown>>([
        () => broker.failNext(dice.pick(kinds), dice.between(1, 3), dice.pick(faults)),
        () => Effect.map(broker.delay(dice.pick(kinds), 500), (delay) => delays.push(delay)),
        () => broker.kill(dice.between(0, 2)),
        () => broker.restart(),
        () => broker.isolate(() => dice.chance(0.3)),
        () => broker.reconnect(() => true),
        () => broker.rebalance("group")
      ])()
    )

    /** Whom the group counts as its members must not own the same. */
    const check = Effect.gen(function*() {
      const group = yield* broker.group("group")
      const ids = new Set(group?.members.map(({ memberId }) => memberId))
      const owners = new Map<string, string>()
      for (const { watched } of members) {
        const memberId = watched.session.groupMetadata()?.memberId
        if (memberId === undefined || !ids.has(memberId)) continue
        for (const key of watched.owned) {
          assert.isUndefined(owners.get(key), `${key} is owned by ${owners.get(key)} and ${memberId}`)
          owners.set(key, memberId)
        }
      }
    })

    yield* come
    for (let i = dice.between(20, 60); i > 0; i--) {
      yield* dice.pick([come, go, produce, produce, produce, disturb, disturb, check])
      yield* Clock.sleep(dice.between(0, 4000))
      yield* check
    }
    // peace
    yield* Effect.forEach(delays, ({ disarm }) => disarm)
    yield* broker.restart()
    yield* broker.reconnect(() => true)
    yield* come
    yield* produce
    yield* Clock.sleep(120_000)
    yield* check
    const alive = [...members].filter(({ worker }) => worker.unsafePoll() === null)
    const owned = alive.flatMap(({ watched }) => [...watched.owned])
    assert.strictEqual(owned.length, partitions, "every partition has an owner")
    const lost = [...sent].filter((value) => !received.has(value))
    assert.deepStrictEqual(lost, [], "every record was received")
    yield* Effect.forEach(members, stop, { discard: true })
    yield* Clock.sleep(60_000)
    assert.strictEqual((yield* broker.group("group"))?.state, "Empty")
  }).pipe(Effect.scoped, Effect.provide(InMemoryKafka.layerWith({ brokers: 3 })))

  const exit = time.run(life, 3_600_000)
  if (exit === undefined) throw new Error(`seed ${seed}: it hangs`)
  if (Exit.isFailure(exit)) throw new Error(`seed ${seed}: ${Cause.pretty(exit.cause)}`)
}

describe("sessions", () => {
  it("whatever happens to a group, in the end every partition has one owner and every record was received", () => {
    const first = Number(process.env["SOAK_SEED"] ?? 1)
    const seeds = Number(process.env["SOAK_SEEDS"] ?? 8)
    for (let seed = first; seed < first + seeds; seed++) soak(seed)
  })
})
