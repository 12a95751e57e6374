import * as Admin from "@coffeebuddy/kafka/Admin"
import * as InMemoryKafka from "@coffeebuddy/kafka/InMemoryKafka"
import * as KafkaClient from "@coffeebuddy/kafka/KafkaClient"
import * as KafkaConfig from "@coffeebuddy/kafka/KafkaConfig"
import type { TopicMismatchError } from "@coffeebuddy/kafka/KafkaError"
import * as KafkaJs from "@coffeebuddy/kafka/KafkaJs"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import * as TopicRegistry from "@coffeebuddy/kafka/TopicRegistry"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, FastCheck, Fiber, Layer, TestClock } from "effect"
import { differences, type Wanted } from "../src/engine/topics.ts"
import * as RealKafka from "./support/RealKafka.ts"

const serdes = { key: Serde.string, value: Serde.string }
const Orders = Topic.make("orders", { ...serdes, partitions: 3 })

describe("names", () => {
  it.effect("a slug gets the prefix of KafkaConfig and a dot", () =>
    Effect.gen(function*() {
      const registry = yield* TopicRegistry.TopicRegistry
      expect(registry.prefix).toBe("coffeebuddy")
      expect(registry.resolve(Orders)).toBe("coffeebuddy.orders")
      expect(registry.resolve("run-events")).toBe("coffeebuddy.run-events")
      expect(yield* TopicRegistry.resolve(Orders)).toBe("coffeebuddy.orders")
      expect(registry.slug("coffeebuddy.orders")).toBe("orders")
      expect(registry.slug("coffeebuddy.")).toBeUndefined()
      expect(registry.slug("teabuddy.orders")).toBeUndefined()
      expect(registry.slug("orders")).toBeUndefined()
    }).pipe(
      Effect.provide(TopicRegistry.layer),
      Effect.provide(KafkaConfig.layer({ brokers: "kafka-1:9092", topicPrefix: "coffeebuddy" }))
    ))

  it.effect("without a prefix a slug is the name", () =>
    Effect.gen(function*() {
      const registry = yield* TopicRegistry.TopicRegistry
      expect(registry.prefix).toBeUndefined()
      expect(registry.resolve(Orders)).toBe("orders")
      expect(registry.slug("anything.at.all")).toBe("anything.at.all")
    }).pipe(Effect.provide(TopicRegistry.layer), Effect.provide(KafkaConfig.layer({ brokers: "kafka-1:9092" }))))

  it.effect("a prefix of one's own, whatever KafkaConfig says; a wrong one is refused", () =>
    Effect.gen(function*() {
      const resolve = TopicRegistry.resolve("orders")
      expect(yield* Effect.provide(resolve, TopicRegistry.layerWith({ prefix: "tea.buddy" }))).toBe("tea.buddy.orders")
      expect(yield* Effect.provide(resolve, TopicRegistry.layerWith({}))).toBe("orders")
      for (const prefix of ["", ".", "a.", ".a", "a b", "ü", "a".repeat(201)]) {
        const error = yield* Effect.flip(Effect.provide(resolve, TopicRegistry.layerWith({ prefix })))
        expect(error).toMatchObject({ _op: "InvalidData", path: ["topicPrefix"] })
      }
    }))

  const slug = FastCheck.stringMatching(/^[a-zA-Z0-9._-]{1,20}$/).filter(Topic.isValidName)
  const prefix = FastCheck.stringMatching(/^[a-zA-Z0-9_-]([a-zA-Z0-9._-]{0,10}[a-zA-Z0-9_-])?$/)

  it.prop("two slugs never share a name, and every name leads back to its slug", [
    FastCheck.option(prefix, { nil: undefined }),
    slug,
    slug
  ], ([prefix, one, other]) => {
    const registry = Either.getOrThrow(TopicRegistry.make({ prefix }))
    expect(registry.resolve(one) === registry.resolve(other)).toBe(one === other)
    expect(registry.slug(registry.resolve(one))).toBe(one)
    expect(Topic.isValidName(registry.resolve(one))).toBe(true)
  })
})

describe("documentation", () => {
  it.effect("definitions are rows with their physical names, in order, and a table in Markdown", () =>
    Effect.gen(function*() {
      const Runs = Topic.make("a-runs", {
        ...serdes,
        replicationFactor: 2,
        config: { "cleanup.policy": "compact", "retention.ms": "1000" }
      })
      const rows = yield* TopicRegistry.describe([Orders, Runs])
      expect(rows).toEqual([
        {
          slug: "a-runs",
          topic: "coffeebuddy.a-runs",
          partitions: undefined,
          replicationFactor: 2,
          config: { "cleanup.policy": "compact", "retention.ms": "1000" }
        },
        { slug: "orders", topic: "coffeebuddy.orders", partitions: 3, replicationFactor: undefined, config: {} }
      ])
      expect(TopicRegistry.toMarkdown(rows)).toBe([
        "| topic | partitions | replicas | configuration |",
        "| --- | ---: | ---: | --- |",
        "| coffeebuddy.a-runs | broker default | 2 | cleanup.policy=compact, retention.ms=1000 |",
        "| coffeebuddy.orders | 3 | broker default |  |"
      ].join("\n"))
    }).pipe(Effect.provide(TopicRegistry.layerWith({ prefix: "coffeebuddy" }))))
})

describe("differences", () => {
  const actual = (partitions: number, replicas: number): KafkaClient.TopicDescription => ({
    topic: "orders",
    partitions: Array.from({ length: partitions }, (_, partition) => ({
      partition,
      leader: 0,
      replicas: Array.from({ length: replicas }, (_, id) => id),
      inSyncReplicas: [0]
    }))
  })
  const wanted = (some: Partial<Wanted>): Wanted => ({
    topic: "orders",
    partitions: undefined,
    replicationFactor: undefined,
    config: {},
    ...some
  })
  const entry = (value: string | null): KafkaClient.ConfigEntry => ({ value, isDefault: false })

  it("what a definition leaves open is no difference", () => {
    expect(differences(wanted({}), actual(3, 2), { "cleanup.policy": entry("compact") })).toEqual([])
  })

  it("each setting that differs is named with both sides", () => {
    const found = differences(
      wanted({
        partitions: 6,
        replicationFactor: 3,
        config: { "cleanup.policy": "compact", "retention.ms": "1", "min.insync.replicas": "2" }
      }),
      actual(3, 2),
      { "cleanup.policy": entry("delete"), "retention.ms": entry("1"), "min.insync.replicas": entry(null) }
    )
    expect(found.map(({ actual, expected, setting }) => [setting, expected, actual])).toEqual([
      ["partitions", "6", "3"],
      ["replicationFactor", "3", "2"],
      ["cleanup.policy", "compact", "delete"],
      ["min.insync.replicas", "2", "not set"]
    ])
  })

  it("a list is the same with spaces and without", () => {
    const config = { "cleanup.policy": "compact, delete" }
    expect(differences(wanted({ config }), actual(1, 1), { "cleanup.policy": entry("compact,delete") })).toEqual([])
  })

  it("replicas that differ between partitions are named so", () => {
    const uneven = { topic: "orders", partitions: [...actual(1, 1).partitions, ...actual(1, 3).partitions] }
    expect(differences(wanted({ replicationFactor: 3 }), uneven, {})[0]?.actual).toBe("1 and 3")
  })
})

let count = 0

type Services = Admin.Admin | KafkaClient.KafkaClient | TopicRegistry.TopicRegistry

/** The same promises on every driver. */
const promises = (test: (name: string, effect: () => Effect.Effect<void, unknown, Services>) => void): void => {
  const slug = (): string => `ensured-${process.pid}-${Date.now()}-${++count}`
  const partitionsOf = (topic: Topic.Any) =>
    Effect.map(Admin.describeTopics([topic]), ([found]) => found?.partitions.length)

  test("what is missing is created as defined, and what is there is left alone", () =>
    Effect.gen(function*() {
      const First = Topic.make(slug(), { ...serdes, partitions: 3, replicationFactor: 1 })
      const Second = Topic.make(slug(), { ...serdes, config: { "cleanup.policy": "compact" } })
      const topics = [`coffeebuddy.${First.slug}`, `coffeebuddy.${Second.slug}`]
      expect(yield* TopicRegistry.ensure([First])).toEqual([
        { slug: First.slug, topic: topics[0], outcome: "created" }
      ])
      expect(yield* TopicRegistry.ensure([First, Second])).toEqual([
        { slug: First.slug, topic: topics[0], outcome: "unchanged" },
        { slug: Second.slug, topic: topics[1], outcome: "created" }
      ])
      expect(yield* partitionsOf(First)).toBe(3)
      expect((yield* Admin.topicConfigs([Second])).get(topics[1] ?? "")?.["cleanup.policy"]?.value).toBe("compact")
      expect((yield* TopicRegistry.ensure([First, Second])).map(({ outcome }) => outcome))
        .toEqual(["unchanged", "unchanged"])
      expect(yield* TopicRegistry.ensure([])).toEqual([])
    }))

  test("a contradiction fails with every difference, and nothing is changed", () =>
    Effect.gen(function*() {
      const There = Topic.make(slug(), { ...serdes, partitions: 3 })
      yield* TopicRegistry.ensure([There])
      const Missing = Topic.make(slug(), serdes)
      const Other = Topic.make(There.slug, {
        ...serdes,
        partitions: 5,
        replicationFactor: 2,
        config: { "cleanup.policy": "compact" }
      })
      const error = yield* Effect.flip(TopicRegistry.ensure([Missing, Other]))
      const topic = `coffeebuddy.${There.slug}`
      expect(error._tag).toBe("TopicMismatchError")
      expect((error as TopicMismatchError).differences).toEqual([
        { topic, setting: "partitions", expected: "5", actual: "3" },
        { topic, setting: "replicationFactor", expected: "2", actual: "1" },
        { topic, setting: "cleanup.policy", expected: "compact", actual: "delete" }
      ])
      expect(error.message).toContain(`${topic}: cleanup.policy is delete, defined as compact`)
      expect(yield* Admin.listTopics()).not.toContain(`coffeebuddy.${Missing.slug}`)
    }))

  test("partitions are added when told to, and only then", () =>
    Effect.gen(function*() {
      const Three = Topic.make(slug(), { ...serdes, partitions: 3 })
      yield* TopicRegistry.ensure([Three])
      const Five = Topic.make(Three.slug, { ...serdes, partitions: 5 })
      expect((yield* Effect.flip(TopicRegistry.ensure([Five])))._tag).toBe("TopicMismatchError")
      expect((yield* TopicRegistry.ensure([Five], { addPartitions: true }))[0]?.outcome).toBe("extended")
      expect(yield* partitionsOf(Five)).toBe(5)
      expect((yield* TopicRegistry.ensure([Five], { addPartitions: true }))[0]?.outcome).toBe("unchanged")
      // they can't be taken away
      expect((yield* Effect.flip(TopicRegistry.ensure([Three], { addPartitions: true })))._tag).toBe(
        "TopicMismatchError"
      )
    }))

  test("nothing is added where something else differs", () =>
    Effect.gen(function*() {
      const Three = Topic.make(slug(), { ...serdes, partitions: 3 })
      yield* TopicRegistry.ensure([Three])
      const Other = Topic.make(Three.slug, { ...serdes, partitions: 5, config: { "cleanup.policy": "compact" } })
      const error = yield* Effect.flip(TopicRegistry.ensure([Other], { addPartitions: true }))
      expect((error as TopicMismatchError).differences.map(({ setting }) => setting)).toEqual(["cleanup.policy"])
      expect(yield* partitionsOf(Three)).toBe(3)
    }))

  test("two definitions of one name are held against each other", () =>
    Effect.gen(function*() {
      const One = Topic.make(slug(), { ...serdes, partitions: 2 })
      const Same = Topic.make(One.slug, serdes)
      expect((yield* TopicRegistry.ensure([One, Same])).map(({ outcome }) => outcome)).toEqual(["created", "created"])
      const Other = Topic.make(One.slug, { ...serdes, partitions: 4 })
      expect((yield* Effect.flip(TopicRegistry.ensure([One, Other])))._tag).toBe("TopicMismatchError")
    }))

  test("of two definitions of one new name both count: what one of them says is not left out", () =>
    Effect.gen(function*() {
      const One = Topic.make(slug(), { ...serdes, partitions: 2 })
      yield* TopicRegistry.ensure([One, Topic.make(One.slug, serdes)])
      expect(yield* partitionsOf(One)).toBe(2)
      const Two = Topic.make(slug(), { ...serdes, partitions: 2 })
      const error = yield* Effect.flip(TopicRegistry.ensure([Two, Topic.make(Two.slug, { ...serdes, partitions: 4 })]))
      expect((error as TopicMismatchError).differences).toMatchObject([{ setting: "partitions", expected: "4" }])
    }))

  test("several processes may ensure the same at the same time", () =>
    Effect.gen(function*() {
      const Shared = Topic.make(slug(), { ...serdes, partitions: 2 })
      const all = yield* Effect.all(Array.from({ length: 4 }, () => TopicRegistry.ensure([Shared])), {
        concurrency: "unbounded"
      })
      expect(all.filter(([one]) => one?.outcome === "created")).toHaveLength(1)
      expect(yield* partitionsOf(Shared)).toBe(2)
    }))

  test("a name that is too long with its prefix is refused before anything is created", () =>
    Effect.gen(function*() {
      const Long = Topic.make("a".repeat(240), serdes)
      const Missing = Topic.make(slug(), serdes)
      const error = yield* Effect.flip(TopicRegistry.ensure([Missing, Long]))
      expect(error).toMatchObject({ _tag: "KafkaRequestError", code: "INVALID_TOPIC_EXCEPTION" })
      expect(error.message).toMatch(/252 characters, and Kafka allows 249: use a shorter prefix or slug/)
      expect(yield* Admin.listTopics()).not.toContain(`coffeebuddy.${Missing.slug}`)
    }))

  test("what the broker refuses is told by its name", () =>
    Effect.gen(function*() {
      const Wrong = Topic.make(slug(), { ...serdes, config: { "no.such.entry": "1" } })
      expect(yield* Effect.flip(TopicRegistry.ensure([Wrong])))
        .toMatchObject({ _tag: "KafkaRequestError", code: "INVALID_CONFIG" })
      const Many = Topic.make(slug(), { ...serdes, replicationFactor: 99 })
      expect(yield* Effect.flip(TopicRegistry.ensure([Many])))
        .toMatchObject({ _tag: "KafkaRequestError", code: "INVALID_REPLICATION_FACTOR" })
    }))
}

const services = Layer.provideMerge(Admin.layer, TopicRegistry.layerWith({ prefix: "coffeebuddy" }))

describe("ensure on InMemoryKafka", () => {
  promises((name, effect) =>
    it.effect(name, () => Effect.provide(effect(), Layer.provideMerge(services, InMemoryKafka.layer)))
  )
})

RealKafka.suite("ensure on a real Kafka", (kafka) => {
  const live = services.pipe(
    Layer.provideMerge(KafkaJs.layer),
    Layer.provideMerge(KafkaConfig.layer({ brokers: kafka.bootstrapServers }))
  )
  promises((name, effect) => it.live(name, () => Effect.provide(effect(), live)))
})

describe("ensure", () => {
  /** A cluster in which new topics are not known at once, or never get a leader. */
  const slow = (stateAt: (call: number) => "unknown" | "leaderless" | "ready") =>
    Layer.effect(
      KafkaClient.KafkaClient,
      Effect.map(KafkaClient.KafkaClient, (client): KafkaClient.Service => {
        let calls = 0
        const slowed = (session: KafkaClient.AdminSession): KafkaClient.AdminSession["describeTopics"] => (topics) =>
          Effect.flatMap(session.describeTopics(topics), (found) => {
            const state = stateAt(++calls)
            if (state === "ready") return Effect.succeed(found)
            if (state === "unknown") return session.describeTopics(["no-such-topic"])
            return Effect.succeed(found.map(({ partitions, topic }) => ({
              topic,
              partitions: partitions.map(({ inSyncReplicas, partition, replicas }) => ({
                partition,
                leader: undefined,
                replicas,
                inSyncReplicas
              }))
            })))
          })
        return {
          driver: client.driver,
          capabilities: client.capabilities,
          openConsumer: client.openConsumer,
          openProducer: client.openProducer,
          openAdmin: Effect.map(
            client.openAdmin,
            (session) => Object.assign({}, session, { describeTopics: slowed(session) })
          )
        }
      })
    ).pipe(Layer.provide(InMemoryKafka.layer))

  it.effect("waits until what it created is known and has leaders", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(TopicRegistry.ensure([Orders]))
      yield* TestClock.adjust("1 second")
      expect((yield* Fiber.join(fiber))[0]?.outcome).toBe("created")
    }).pipe(
      Effect.provide(TopicRegistry.layerWith({})),
      Effect.provide(slow((call) => call <= 2 ? "unknown" : call <= 4 ? "leaderless" : "ready"))
    ))

  it.effect("waits for leaders no longer than half a minute", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(Effect.flip(TopicRegistry.ensure([Orders])))
      yield* TestClock.adjust("31 seconds")
      expect(yield* Fiber.join(fiber)).toMatchObject({
        _tag: "KafkaTimeoutError",
        operation: "ensure topics: waiting for partition leaders",
        millis: 30_000
      })
    }).pipe(Effect.provide(TopicRegistry.layerWith({})), Effect.provide(slow(() => "leaderless"))))
})
