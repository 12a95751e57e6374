import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import * as TopicPartition from "@coffeebuddy/kafka/TopicPartition"
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import { Context, Effect, FastCheck, Schema } from "effect"

class RunEvent extends Schema.Class<RunEvent>("RunEvent")({
  runId: Schema.String,
  type: Schema.Literal("run_created", "run_completed")
}) {}

const RunEvents = Topic.make("run-events", { key: Serde.string, value: Serde.json(RunEvent), partitions: 6 })

describe("a definition", () => {
  it("holds what it was given, and leaves the rest to the broker", () => {
    expect(RunEvents.slug).toBe("run-events")
    expect(RunEvents.key).toBe(Serde.string)
    expect(RunEvents.partitions).toBe(6)
    expect(RunEvents.replicationFactor).toBeUndefined()
    expect(RunEvents.config).toEqual({})
    expect(Topic.isTopic(RunEvents)).toBe(true)
    expect(Topic.isTopic("run-events")).toBe(false)
    expect(Topic.isTopic({ slug: "run-events" })).toBe(false)
  })

  it("its types are those of its serdes", () => {
    expectTypeOf<Topic.Key<typeof RunEvents>>().toEqualTypeOf<string>()
    expectTypeOf<Topic.Value<typeof RunEvents>>().toEqualTypeOf<RunEvent>()
    expectTypeOf<Topic.Slug<typeof RunEvents>>().toEqualTypeOf<"run-events">()
    expectTypeOf<Topic.Context<typeof RunEvents>>().toEqualTypeOf<never>()

    const Baristas = Topic.make("baristas", { key: Serde.int64, value: Serde.nullable(Serde.bytes) })
    expectTypeOf<Topic.Key<typeof Baristas>>().toEqualTypeOf<bigint>()
    expectTypeOf<Topic.Value<typeof Baristas>>().toEqualTypeOf<Uint8Array | null>()
    expectTypeOf<Topic.Key<string>>().toEqualTypeOf<never>()
  })

  it("needs what either of its serdes needs", () => {
    class Keys extends Context.Tag("test/Keys")<Keys, string>() {}
    class Values extends Context.Tag("test/Values")<Values, string>() {}
    const needing = <R>(tag: Context.Tag<R, string>): Serde.Serde<string, R> =>
      Serde.make<string, R>({ serialize: () => null, deserialize: () => Effect.map(tag, (text) => text) })
    const Needing = Topic.make("needing", { key: needing(Keys), value: needing(Values) })
    expectTypeOf<Topic.Context<typeof Needing>>().toEqualTypeOf<Keys | Values>()
    expect(Needing.slug).toBe("needing")
  })

  it("withConfig adds settings, and leaves the given definition as it is", () => {
    const Compacted = RunEvents.pipe(Topic.withConfig({ "cleanup.policy": "compact" }))
    expect(Compacted.config).toEqual({ "cleanup.policy": "compact" })
    expect(Compacted.partitions).toBe(6)
    expect(RunEvents.config).toEqual({})
    const Short = Topic.withConfig(Compacted, { "retention.ms": "1000", "cleanup.policy": "delete" })
    expect(Short.config).toEqual({ "cleanup.policy": "delete", "retention.ms": "1000" })
    expectTypeOf(Short).toEqualTypeOf<Topic.Topic<"run-events", string, RunEvent>>()
  })

  it.each(["", ".", "..", "run events", "run/events", "café", "a".repeat(250), "run:events"])(
    "%j is refused as a slug, with what is allowed",
    (slug) => {
      expect(() => Topic.make(slug, { key: Serde.string, value: Serde.string })).toThrow(/1 to 249 of letters/)
    }
  )

  it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])("%d is no count", (count) => {
    const serdes = { key: Serde.string, value: Serde.string }
    expect(() => Topic.make("orders", { ...serdes, partitions: count })).toThrow(/"orders": partitions must be/)
    expect(() => Topic.make("orders", { ...serdes, replicationFactor: count })).toThrow(/replicationFactor must be/)
  })

  it.prop("any name that Kafka allows is a slug", [FastCheck.stringMatching(/^[a-zA-Z0-9._-]{1,249}$/)], ([slug]) => {
    FastCheck.pre(slug !== "." && slug !== "..")
    expect(Topic.make(slug, { key: Serde.string, value: Serde.string }).slug).toBe(slug)
  })
})

describe("a pattern", () => {
  it("matches wherever it is asked to, whatever flags it was given", () => {
    const retries = Topic.pattern(/\.retry\./giy, { key: Serde.string, value: Serde.bytes })
    expect(Topic.isPattern(retries)).toBe(true)
    expect(Topic.isPattern(RunEvents)).toBe(false)
    expect(Topic.isTopic(retries)).toBe(false)
    expect(["a.Retry.1m", "a.retry.5m", "a.retry", "a.retry.1h"].map((name) => retries.pattern.test(name)))
      .toEqual([true, true, false, true])
  })
})

describe("a partition's key", () => {
  it.prop(
    "stands for the partition, and for no other",
    [FastCheck.stringMatching(/^[a-zA-Z0-9._-]{1,249}$/), FastCheck.nat()],
    ([topic, partition]) => {
      const tp = TopicPartition.make(topic, partition)
      expect(TopicPartition.fromKey(TopicPartition.key(tp))).toEqual(tp)
      expect(TopicPartition.format(tp)).toBe(`${topic}[${partition}]`)
    }
  )
})
