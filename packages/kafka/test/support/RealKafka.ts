/**
 * Tests on a real Kafka.
 *
 * With `KAFKA_BOOTSTRAP_SERVERS` set, that cluster is used. Otherwise one broker is started for the whole run, when the
 * first suite needs it. Where neither is possible the suites are skipped, and say so; with `REQUIRE_KAFKA=1` they fail.
 */
// This file defines suites for others, whose names and conditions come from outside.
/* oxlint-disable vitest/valid-title, vitest/no-conditional-tests */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import {
  type Distribution,
  type JavaTarget,
  type KafkaBroker,
  type KafkaCluster,
  KafkaFailure,
  type KafkaOptions,
  KafkaUnavailable,
  prepareJava,
  resolveDistribution,
  startKafka
} from "../../../../scripts/kafka/index.ts"
import { askForSharedKafka, type Missing, type SharedKafka } from "./SharedKafka.ts"

export { type JavaTarget, KafkaFailure, type KafkaOptions, KafkaUnavailable, type SharedKafka }

/** Whether tests that cannot have a Kafka are skipped or fail. Only a machine that cannot run one is an excuse. */
export const withoutKafka = (missing: Missing, env: NodeJS.ProcessEnv = process.env): "skip" | "fail" =>
  missing._tag === "Failed" || env["REQUIRE_KAFKA"] === "1" ? "fail" : "skip"

const insteadOfTests = (missing: Missing): void => {
  if (withoutKafka(missing) === "skip") {
    console.warn(`SKIPPED, there is no real Kafka: ${missing.reason}`)
    it.skip(`skipped: ${missing.reason.split("\n")[0]}`, () => undefined)
  } else {
    it("has a real Kafka to run on", () => {
      throw new KafkaFailure(missing.reason)
    })
  }
}

const missing = (cause: unknown): Missing => ({
  _tag: cause instanceof KafkaUnavailable ? "Unavailable" : "Failed",
  reason: cause instanceof Error ? cause.message : String(cause)
})

/** What is looked for is found before the tests are collected, so that the first download is under no time limit. */
const define = <A>(name: string, timeout: number, find: () => Promise<A>, tests: (found: A) => void): void => {
  describe(name, { timeout }, async () => {
    const found = await find().then((value) => ({ value }), missing)
    if ("value" in found) tests(found.value)
    else insteadOfTests(found)
  })
}

const findShared = async (): Promise<SharedKafka> => {
  const answer = await askForSharedKafka()
  if (answer._tag === "Available") return answer.kafka
  throw answer._tag === "Unavailable" ? new KafkaUnavailable(answer.reason) : new KafkaFailure(answer.reason)
}

/**
 * A suite on the shared Kafka. Other suites use it at the same time, so topics and groups need names of their own.
 *
 *     RealKafka.suite("KafkaJs on a real Kafka", (kafka) => {
 *       it.live("sends", () => … kafka.bootstrapServers …)
 *     })
 */
export const suite = (name: string, tests: (kafka: SharedKafka) => void): void =>
  define(name, 60_000, findShared, tests)

/**
 * A suite on the shared Kafka with Java's clients and tools as counterparts: what it gets is for `javaProduce`,
 * `javaTools` and their like.
 */
export const suiteWithJava = (name: string, tests: (java: JavaTarget) => void): void =>
  define(name, 60_000, async () => {
    const distribution = await resolveDistribution()
    await prepareJava(distribution)
    return { distribution, bootstrapServers: (await findShared()).bootstrapServers }
  }, tests)

/**
 * A suite whose tests `start` clusters of their own. It needs Java even where `KAFKA_BOOTSTRAP_SERVERS` is set.
 */
export const suiteOfOwn = (name: string, tests: (distribution: Distribution) => void): void =>
  define(name, 120_000, resolveDistribution, tests)

/** A broker of a cluster of one's own; see `KafkaBroker` of the harness for what each operation means. */
export interface OwnBroker {
  readonly nodeId: number
  readonly address: string
  readonly stop: Effect.Effect<void, KafkaFailure>
  readonly kill: Effect.Effect<void, KafkaFailure>
  readonly start: Effect.Effect<void, KafkaFailure>
  readonly pause: Effect.Effect<void, KafkaFailure>
  readonly resume: Effect.Effect<void, KafkaFailure>
}

/** A cluster of one's own. */
export interface OwnKafka {
  readonly bootstrapServers: string
  readonly version: string
  readonly broker: (nodeId: number) => OwnBroker
  /** The harness's own handle, for what is rarer. */
  readonly cluster: KafkaCluster
}

const asFailure = (cause: unknown): KafkaFailure =>
  cause instanceof KafkaFailure ? cause : new KafkaFailure(String(cause), { cause })

const attempt = (f: () => void | Promise<void>): Effect.Effect<void, KafkaFailure> =>
  Effect.tryPromise({ try: async () => f(), catch: asFailure })

const ownBroker = (broker: KafkaBroker): OwnBroker => ({
  nodeId: broker.nodeId,
  address: broker.address,
  stop: attempt(broker.stop),
  kill: attempt(broker.kill),
  start: attempt(broker.start),
  pause: attempt(broker.pause),
  resume: attempt(broker.resume)
})

/**
 * Starts a cluster that ends with the scope, for tests that stop, kill or freeze brokers or need settings of their own.
 */
export const start = (
  options: KafkaOptions = {}
): Effect.Effect<OwnKafka, KafkaUnavailable | KafkaFailure, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => startKafka(options),
      catch: (cause) => (cause instanceof KafkaUnavailable ? cause : asFailure(cause))
    }),
    (cluster) => Effect.promise(cluster.close)
  ).pipe(Effect.map((cluster) => ({
    bootstrapServers: cluster.bootstrapServers,
    version: cluster.version,
    broker: (nodeId) => ownBroker(cluster.broker(nodeId)),
    cluster
  })))
