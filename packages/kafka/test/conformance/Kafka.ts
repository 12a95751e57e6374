/**
 * What the conformance suite runs on. A test is written once, against the public API, and runs on every driver: each
 * test has a prefix of its own for its topics and groups, so that all of them can share one cluster.
 */
// What only one kind of broker can show is skipped aloud on the other.
/* oxlint-disable vitest/no-disabled-tests */
import { describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Crypto from "node:crypto"
import * as Admin from "../../src/Admin.ts"
import type * as Consumer from "../../src/Consumer.ts"
import type { InMemoryBroker } from "../../src/InMemoryKafka.ts"
import type { KafkaClient } from "../../src/KafkaClient.ts"
import * as Producer from "../../src/Producer.ts"
import type { TopicPartition } from "../../src/TopicPartition.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { MemberDefaults } from "./support.ts"

/** What a test does to the brokers, on every driver. */
export class Broker extends Context.Tag("conformance/Broker")<Broker, {
  /** Gives a member up, as the coordinator does when its session is over. */
  readonly evict: (groupId: string, memberId: string) => Effect.Effect<void, unknown>
  /** From now on, joining a group takes a while, as it does on a real cluster by itself. */
  readonly slowJoins: Effect.Effect<void>
  /** Has a compacted partition cleaned. It may still be under way when this ends. */
  readonly compact: (topicPartition: TopicPartition) => Effect.Effect<void>
}>() {}

/** A cluster that is a test's own, and may be taken down. */
export class Outage extends Context.Tag("conformance/Outage")<Outage, {
  /** All brokers are gone at once. */
  readonly begin: Effect.Effect<void, unknown>
  /** They are back, with what they had. */
  readonly end: Effect.Effect<void, unknown>
}>() {}

/** What a test finds. */
export type World = KafkaClient | TopicRegistry.TopicRegistry | Admin.Admin | Producer.Producer | Broker | Scope.Scope

export type Test<R> = (name: string, body: Effect.Effect<void, unknown, R>) => void

export interface Driver {
  readonly name: string
  /** A cluster that is up. */
  readonly cluster: Layer.Layer<KafkaClient | Broker, unknown>
  /** A driver that finds nobody where it looks, and looks for half a second. */
  readonly unreachable: Layer.Layer<KafkaClient, unknown>
  /** Set where the cluster is in this process. */
  readonly inMemory: Layer.Layer<KafkaClient | Broker | InMemoryBroker, unknown> | undefined
}

/** The suite's way to define tests. */
export interface Suite {
  readonly driver: Driver
  readonly test: Test<World>
  /** What one driver can not do, and why. */
  readonly exceptOn: (driver: string, name: string, why: string, body: Effect.Effect<void, unknown, World>) => void
  /** What no test can do to a real cluster, and why. */
  readonly onlyInMemory: (name: string, why: string, body: Effect.Effect<void, unknown, World | InMemoryBroker>) => void
}

const prefix = Effect.sync(() => `conformance-${Crypto.randomBytes(5).toString("hex")}`)

const registry = Layer.unwrapEffect(Effect.map(prefix, (prefix) => TopicRegistry.layerWith({ prefix })))

/** A world on a cluster. */
export const world = <R, E>(cluster: Layer.Layer<R | KafkaClient, E>) =>
  Layer.merge(Producer.layer(), Admin.layer).pipe(Layer.provideMerge(registry), Layer.provideMerge(cluster))

/** Defines tests that each have a world on such a cluster. */
export const testOn = <R, E>(cluster: Layer.Layer<R | KafkaClient, E>): Test<World | R> => (name, body) =>
  // a test needs no more than its world, which is what the layer makes
  it.scopedLive(name, () => Effect.provide(body, world(cluster)) as Effect.Effect<void, unknown, Scope.Scope>)

/** The parts of the suite, on one driver. */
export const conformance = (
  driver: Driver,
  parts: ReadonlyArray<(suite: Suite) => unknown>,
  options: { readonly members?: Partial<Consumer.Options> } = {}
): void => {
  const { cluster, inMemory } = driver
  const on = <R, E>(cluster: Layer.Layer<R | KafkaClient, E>): Test<World | R> => (name, body) =>
    testOn(cluster)(name, Effect.provideService(body, MemberDefaults, options.members ?? {}))
  const suite: Suite = {
    driver,
    test: on(cluster),
    exceptOn: (name, title, why, body) =>
      driver.name === name ? it.skip(`${title} (not on ${name}: ${why})`, () => undefined) : on(cluster)(title, body),
    onlyInMemory: (name, why, body) =>
      inMemory === undefined
        ? it.skip(`${name} (in memory only: ${why})`, () => undefined)
        : on(inMemory)(name, body)
  }
  // most of a test's time is waiting for others: that goes well together
  describe.concurrent("conformance", () => {
    for (const part of parts) part(suite)
  })
}
