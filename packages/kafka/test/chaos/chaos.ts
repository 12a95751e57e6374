/**
 * Several processes in one group on a real Kafka, and what a seed does to them: members are killed, frozen, asked to
 * leave and joined by others, brokers are stopped, killed and frozen, partitions are added. At the end all is well
 * again, and what members wrote down is judged.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { javaConsume, type KafkaBroker, type KafkaCluster } from "../../../../scripts/kafka/index.ts"
import * as Admin from "../../src/Admin.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as Producer from "../../src/Producer.ts"
import * as Serde from "../../src/Serde.ts"
import * as Topic from "../../src/Topic.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { Dice } from "../simulation/VirtualTime.ts"
import { type DriverName, drivers } from "../support/drivers.ts"
import { now } from "./Journal.ts"
import * as members from "./members.ts"
import { type Evidence, judge, type Stored, type Verdict } from "./verdict.ts"

/** What can happen. */
export const calmActs = ["join", "leave", "burst", "partitions"] as const
export const faults = ["kill", "freeze", "stop broker", "kill broker", "freeze broker"] as const
export type Act = typeof calmActs[number] | typeof faults[number]

export interface Options {
  readonly seed: number
  /** `"kafkajs"` if absent. */
  readonly driver?: DriverName | undefined
  /** `"classic"` if absent. */
  readonly groupProtocol?: "classic" | "consumer" | undefined
  readonly members: number
  readonly partitions: number
  /** Nothing but orderly coming and going: no record may be handled twice. */
  readonly calm: boolean
  /** These acts, one after the other; a number leaves them to the seed. */
  readonly acts: ReadonlyArray<Act> | number
  /** How long to wait between two acts, in milliseconds. */
  readonly pace: readonly [least: number, most: number]
  readonly sessionTimeout: number
  /** Records a second. */
  readonly rate: number
  /** How long the group may take to finish what is left, in milliseconds. */
  readonly patience: number
  /** Keeps the journals even where nothing was wrong. */
  readonly keep?: boolean | undefined
  readonly log: (line: string) => void
}

export interface Result extends Verdict {
  readonly seed: number
  readonly brokers: number
  readonly calm: boolean
  readonly members: number
  /** How often each was done. */
  readonly acts: ReadonlyMap<string, number>
  readonly unacknowledged: number
  readonly seconds: number
  /** Where the journals are. */
  readonly directory: string
}

const GROUP = "chaos"
const MOST_PARTITIONS = 12
/** How long a member may take from SIGTERM to its end: its own `stopTimeout` is 10 seconds. */
const EXIT_WITHIN = 20_000

/** Kafka's own consumer says what is stored. */
const logOf = (cluster: KafkaCluster, topic: string, partitions: number) =>
  Effect.map(Effect.promise(() => javaConsume(cluster, topic)), (records) => {
    const log = Array.from({ length: partitions }, (): Array<Stored> => [])
    const text = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString()
    for (const { key, offset, partition, value } of records) {
      log[partition]![Number(offset)] = { key: text(key), number: Number(text(value)) }
    }
    return log
  })

const run = (cluster: KafkaCluster, options: Options, directory: string) =>
  Effect.gen(function*() {
    const { calm, seed } = options
    const dice = new Dice(seed)
    // by its own dice: how often it produces is a matter of time, and what happens is not
    const load = new Dice(seed + 1)
    const startedAt = now()
    const tell = (text: string): void =>
      options.log(`${((now() - startedAt) / 1000).toFixed(1).padStart(6)} s  ${text}`)
    const name = `chaos-${seed}-${Math.floor(startedAt)}`
    const topic = Topic.make(name, { key: Serde.string, value: Serde.string })
    const groupId = `${GROUP}-${name}`
    const admin = yield* Admin.Admin
    const producer = yield* Producer.Producer
    yield* admin.createTopics([{
      topic: name,
      partitions: options.partitions,
      replicationFactor: Math.min(3, cluster.brokers.length)
    }])
    let partitions = options.partitions

    // what is produced
    const acknowledged: Array<Evidence["acknowledged"][number]> = []
    let numbers = 0
    let unacknowledged = 0
    const produce = (count: number) =>
      Effect.suspend(() => {
        const records = Array.from({ length: count }, () => {
          const number = numbers++
          return {
            key: `key-${load.between(0, 50)}`,
            value: String(number),
            partition: load.chance(0.5) ? load.between(0, partitions - 1) : undefined
          }
        })
        return producer.sendAll(topic, records).pipe(
          Effect.matchEffect({
            onSuccess: (stored) =>
              Effect.sync(() => {
                for (const [index, { offset, partition }] of stored.entries()) {
                  acknowledged.push({ number: Number(records[index]!.value), partition, offset: Number(offset) })
                }
              }),
            onFailure: (error) =>
              Effect.sync(() => {
                unacknowledged += count
                tell(`the producer failed with ${count} records: ${error.message}`)
              })
          })
        )
      })
    const sends: Array<Fiber.Fiber<void>> = []
    const send = (count: number) => Effect.map(Effect.fork(produce(count)), (fiber) => void sends.push(fiber))
    const producing = yield* Effect.fork(
      send(Math.max(1, Math.round(options.rate / 10))).pipe(Effect.repeat(Schedule.fixed(100)))
    )

    // what is committed
    const polls: Array<Evidence["polls"][number]> = []
    const look = admin.groupOffsets(groupId).pipe(
      Effect.map((offsets) => {
        const poll = { at: now(), offsets: offsets.map((one) => [one.partition, Number(one.offset)] as const) }
        polls.push(poll)
        return new Map(poll.offsets)
      }),
      Effect.timeout("5 seconds")
    )
    const looking = yield* Effect.fork(Effect.repeat(Effect.ignore(look), Schedule.spaced(500)))

    // who consumes it
    const all: Array<members.Member> = []
    const acts = new Map<string, number>()
    const disturbances: Array<{ readonly from: number; to: number }> = []
    const disturbed = (millis: number): void => {
      const from = now()
      disturbances.push({ from, to: from + millis })
    }
    const present = () => all.filter((one) => members.isUp(one) && one.askedAt === undefined)
    const awake = () => present().filter((one) => !members.isFrozen(one))
    const join = Effect.suspend(() => {
      const own = `m${all.length}`
      const ordering = dice.pick([undefined, "partition", "key"] as const)
      const orders: members.Orders = {
        name: own,
        brokers: cluster.bootstrapServers,
        driver: options.driver ?? "kafkajs",
        groupProtocol: options.groupProtocol ?? "classic",
        topic: name,
        groupId,
        journal: members.journalOf(directory, own),
        seed: seed * 1000 + all.length,
        ordering,
        concurrency: dice.between(1, 8),
        commitCount: dice.between(1, 100),
        commitWithin: dice.between(10, 1000),
        maxPollRecords: dice.between(1, 100),
        slowest: dice.pick([0, 4, 12]),
        sessionTimeout: options.sessionTimeout,
        heartbeatInterval: 1000,
        leave: dice.pick(["stop", "interrupt"] as const)
      }
      tell(`${own} joins: ${ordering === undefined ? "stream" : `forEach by ${ordering}`}, leaves by ${orders.leave}`)
      return Effect.map(members.start(orders), (member) => void all.push(member))
    })
    /** Asks a member to leave, and kills it if it does not in time. */
    const leave = (member: members.Member) =>
      Effect.gen(function*() {
        tell(`${member.orders.name} is asked to leave`)
        members.ask(member)
        const ended = yield* Effect.promise(() => member.ended).pipe(Effect.timeoutOption(EXIT_WITHIN))
        if (ended._tag === "Some") {
          return tell(`${member.orders.name} has left after ${Math.round(member.endedAt! - member.askedAt!)} ms`)
        }
        member.stuck = true
        tell(`${member.orders.name} does not leave`)
        member.child.kill("SIGKILL")
      })
    const background: Array<Fiber.Fiber<void>> = []
    const fork = (effect: Effect.Effect<void>) =>
      Effect.map(Effect.fork(effect), (fiber) => void background.push(fiber))

    const outage = (broker: KafkaBroker, end: () => Promise<void> | void, again: () => Promise<void> | void) =>
      Effect.gen(function*() {
        const from = now()
        const disturbance = { from, to: Infinity }
        disturbances.push(disturbance)
        yield* Effect.promise(async () => end())
        yield* Effect.sleep(dice.between(200, 8000))
        yield* Effect.promise(async () => again())
        tell(`broker ${broker.nodeId} is back`)
        // members find their way, and the group its coordinator
        disturbance.to = now() + 2 * options.sessionTimeout
      })

    const act = (what: Act): Effect.Effect<boolean, never, Scope.Scope> =>
      Effect.gen(function*() {
        const one = dice.pick(awake())
        const broker = dice.pick(cluster.brokers)
        switch (what) {
          case "join":
            if (present().length > options.members + 1) return false
            yield* join
            return true
          case "leave":
            if (one === undefined || awake().length < 2) return false
            yield* fork(leave(one))
            return true
          case "burst": {
            const count = dice.between(100, 2000)
            tell(`${count} records at once`)
            yield* send(count)
            return true
          }
          case "partitions": {
            if (partitions >= MOST_PARTITIONS) return false
            const total = Math.min(MOST_PARTITIONS, partitions + dice.between(1, 2))
            const done = yield* Effect.isSuccess(admin.createPartitions(name, total))
            tell(`partitions are added, ${total} in all: ${done}`)
            if (done) partitions = total
            return done
          }
          case "kill":
            if (one === undefined || awake().length < 2) return false
            tell(`${one.orders.name} is killed`)
            members.kill(one)
            disturbed(2 * options.sessionTimeout)
            return true
          case "freeze": {
            if (one === undefined || awake().length < 2) return false
            const millis = options.sessionTimeout + dice.between(500, 5000)
            tell(`${one.orders.name} is frozen for ${millis} ms`)
            members.freeze(one)
            disturbed(millis + options.sessionTimeout)
            yield* fork(Effect.map(Effect.sleep(millis), () => {
              tell(`${one.orders.name} wakes`)
              members.thaw(one)
            }))
            return true
          }
          case "stop broker":
            tell(`broker ${broker.nodeId} is stopped`)
            yield* outage(broker, broker.stop, broker.start)
            return true
          case "kill broker":
            tell(`broker ${broker.nodeId} is killed`)
            yield* outage(broker, broker.kill, broker.start)
            return true
          case "freeze broker":
            tell(`broker ${broker.nodeId} is frozen`)
            yield* outage(broker, broker.pause, broker.resume)
            return true
        }
      })

    /** Who has ended without being told is replaced, as a supervisor would. */
    const supervise = Effect.gen(function*() {
      for (const one of all) {
        if (members.isUp(one) || one.askedAt !== undefined || one.killedAt !== undefined || replaced.has(one)) continue
        replaced.add(one)
        tell(`${one.orders.name} has ended by itself`)
        yield* join
      }
      if (awake().length === 0) yield* join
    })
    const replaced = new Set<members.Member>()

    for (let count = 0; count < options.members; count++) yield* join
    const kinds: ReadonlyArray<Act> = calm ? calmActs : [...calmActs, ...faults]
    const planned = typeof options.acts === "number" ? options.acts : options.acts.length
    for (let step = 0; step < planned; step++) {
      yield* Effect.sleep(dice.between(...options.pace))
      yield* supervise
      const what = typeof options.acts === "number" ? dice.pick(kinds) : options.acts[step]!
      if (yield* act(what)) acts.set(what, (acts.get(what) ?? 0) + 1)
    }

    tell("the weather clears")
    yield* Fiber.awaitAll(background)
    yield* Fiber.interrupt(producing)
    yield* Fiber.awaitAll(sends)
    const ends = yield* Effect.retry(admin.listOffsets([name], "latest"), Schedule.spaced("1 second"))
    tell(`${ends.reduce((sum, { offset }) => sum + Number(offset), 0)} records are stored`)
    const complete = Effect.gen(function*() {
      yield* supervise
      const committed = yield* Effect.catchAll(look, () => Effect.succeed(new Map<number, number>()))
      return ends.every(({ offset, partition }) => offset === 0n || committed.get(partition) === Number(offset))
    })
    const waited = yield* Effect.repeat(complete, { until: (done) => done, schedule: Schedule.spaced(500) }).pipe(
      Effect.timeoutOption(options.patience)
    )
    tell(waited._tag === "Some" ? "all of them are committed" : "the group does not get on")

    // an idle topic: members go one by one, and others take over
    const settled = admin.describeGroups([groupId]).pipe(
      Effect.map(([group]) => group?.state === "Stable" && group.members.length === awake().length),
      Effect.repeat({ until: (done) => done, schedule: Schedule.spaced(200) }),
      Effect.timeout(2 * options.sessionTimeout),
      Effect.ignore
    )
    while (awake().length < 3) yield* join
    yield* settled
    // who was told by its heartbeat has still to say so
    yield* Effect.sleep(1000)
    while (awake().length > 0) {
      yield* leave(dice.pick(awake()))
      if (awake().length > 0) yield* Effect.zipRight(settled, Effect.sleep(500))
    }
    yield* Effect.ignore(look)
    yield* Fiber.interrupt(looking)

    const log = yield* logOf(cluster, name, partitions)
    const evidence: Evidence = {
      calm,
      sessionTimeout: options.sessionTimeout,
      log,
      acknowledged,
      polls,
      members: all.map(members.testimony),
      disturbances
    }
    fs.writeFileSync(path.join(directory, "evidence.json"), JSON.stringify(evidence))
    const result: Result = {
      ...judge(evidence),
      seed,
      brokers: cluster.brokers.length,
      calm,
      members: all.length,
      acts,
      unacknowledged,
      seconds: (now() - startedAt) / 1000,
      directory
    }
    return result
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.merge(Producer.layer({ closeTimeout: "5 seconds" }), Admin.layer).pipe(
        Layer.provide(drivers[options.driver ?? "kafkajs"]),
        Layer.provide(TopicRegistry.layerWith({})),
        Layer.provide(KafkaConfig.layer({ brokers: cluster.bootstrapServers, clientId: "chaos" }))
      )
    )
  )

/** Runs it. The journals stay where something was wrong, and go where nothing was. */
export const chaos = (cluster: KafkaCluster, options: Options) =>
  Effect.gen(function*() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "coffeebuddy-chaos-"))
    options.log(`journals are in ${directory}`)
    const result = yield* run(cluster, options, directory)
    if (result.violations.length === 0 && options.keep !== true) fs.rmSync(directory, { recursive: true })
    return result
  })
