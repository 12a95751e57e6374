/**
 * Chaos on a real Kafka, started for it.
 *
 *     npm run chaos -- --calm
 *     npm run chaos -- --brokers 3 --seed 7 --steps 40
 *     npm run chaos -- --minutes 30
 *     npm run chaos -- --driver platformatic --protocol consumer
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { spawnSync } from "node:child_process"
import { parseArgs } from "node:util"
import { startKafka } from "../../../../scripts/kafka/index.ts"
import { findNode24, isNewEnough } from "../../../../scripts/node24.ts"
import { withUsage } from "../../../../scripts/usage.ts"
import { driverNames } from "../support/drivers.ts"
import { type Act, calmActs, chaos, faults } from "./chaos.ts"
import { report } from "./report.ts"

const values = withUsage(import.meta.url, () =>
  parseArgs({
    options: {
      seed: { type: "string", default: String(Math.floor(Math.random() * 1_000_000)) },
      steps: { type: "string", default: "12" },
      /** Just these, one after the other: `--acts "kill,join,kill broker"`. */
      acts: { type: "string" },
      /** Runs seed after seed for so long. */
      minutes: { type: "string" },
      brokers: { type: "string", default: "1" },
      driver: { type: "string", default: "kafkajs" },
      protocol: { type: "string", default: "classic" },
      members: { type: "string", default: "3" },
      partitions: { type: "string", default: "6" },
      rate: { type: "string", default: "200" },
      calm: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      quiet: { type: "boolean", default: false },
      help: { type: "boolean", short: "h" }
    }
  }))

const kinds: ReadonlyArray<Act> = [...calmActs, ...faults]
const acts = values.acts?.split(",").map((given) => {
  const act = kinds.find((kind) => kind === given.trim())
  if (act === undefined) throw new Error(`there is no act "${given}": ${kinds.join(", ")}`)
  return act
})
const driver = driverNames.find((name) => name === values.driver)
if (driver === undefined) throw new Error(`there is no driver "${values.driver}": ${driverNames.join(", ")}`)
const groupProtocol = (["classic", "consumer"] as const).find((name) => name === values.protocol)
if (groupProtocol === undefined) throw new Error(`there is no protocol "${values.protocol}": classic, consumer`)
if (driver === "platformatic" && !isNewEnough(process.versions.node)) {
  const { status } = spawnSync(await findNode24(), [...process.execArgv, ...process.argv.slice(1)], {
    stdio: "inherit"
  })
  process.exit(status ?? 1)
}
const sessionTimeout = 10_000
const until = Date.now() + Number(values.minutes ?? 0) * 60_000

const program = Effect.gen(function*() {
  const cluster = yield* Effect.acquireRelease(
    Effect.promise(() =>
      startKafka({
        brokers: Number(values.brokers),
        // with KIP-848 the times of a member are the broker's: what members of the other protocol ask for below
        properties: {
          "group.consumer.session.timeout.ms": String(sessionTimeout),
          "group.consumer.heartbeat.interval.ms": "1000"
        },
        log: console.error
      })
    ),
    (cluster) => Effect.promise(cluster.close)
  )
  let failed = 0
  let seed = Number(values.seed)
  do {
    const result = yield* chaos(cluster, {
      seed,
      driver,
      groupProtocol,
      members: Number(values.members),
      partitions: Number(values.partitions),
      calm: values.calm,
      acts: acts ?? Number(values.steps),
      pace: [500, 6000],
      sessionTimeout,
      rate: Number(values.rate),
      patience: 180_000,
      keep: values.keep,
      log: values.quiet ? () => {} : console.error
    })
    console.log(`\n${report(result)}\n`)
    if (result.violations.length > 0) failed++
    seed++
  } while (Date.now() < until)
  return failed
})

const fiber = Effect.runFork(Effect.scoped(program))
const interrupt = (): void => fiber.unsafeInterruptAsFork(fiber.id())
process.once("SIGINT", interrupt).once("SIGTERM", interrupt)
fiber.addObserver((exit) => {
  if (Exit.isFailure(exit)) console.error(Cause.pretty(exit.cause))
  process.exitCode = Exit.isSuccess(exit) && exit.value === 0 ? 0 : 1
  process.off("SIGINT", interrupt).off("SIGTERM", interrupt)
})
