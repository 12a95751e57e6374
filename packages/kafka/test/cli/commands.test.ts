import * as Admin from "@coffeebuddy/kafka/Admin"
import * as InMemoryKafka from "@coffeebuddy/kafka/InMemoryKafka"
import { KafkaClient } from "@coffeebuddy/kafka/KafkaClient"
import { KafkaAuthenticationError, KafkaConnectionError } from "@coffeebuddy/kafka/KafkaError"
import * as Producer from "@coffeebuddy/kafka/Producer"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import * as TopicPartition from "@coffeebuddy/kafka/TopicPartition"
import * as TopicRegistry from "@coffeebuddy/kafka/TopicRegistry"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Deferred, Effect, Fiber, Layer, TestClock } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { wantsColour } from "../../src/cli/Stdio.ts"
import { cli, environment } from "./support.ts"

type Services = Admin.Admin | InMemoryKafka.InMemoryBroker | KafkaClient

const Test = Admin.layer.pipe(Layer.provideMerge(Layer.merge(InMemoryKafka.layer, TopicRegistry.layerWith({}))))

const test = (name: string, effect: () => Effect.Effect<void, unknown, Services>): void =>
  it.effect(name, () => Effect.provide(effect(), Test))

const orders = { topic: "orders", partitions: 2 }

const text = (bytes: Uint8Array | null | undefined) => bytes === null ? null : Buffer.from(bytes ?? []).toString()

/** What stands in a partition: key, value, and headers as `name=value`. */
const log = (topic: string, partition: number) =>
  Effect.gen(function*() {
    const broker = yield* InMemoryKafka.InMemoryBroker
    const records = yield* broker.log(TopicPartition.make(topic, partition))
    return records.map(({ headers, key, value }) => [
      text(key),
      text(value),
      ...headers.map(([name, value]) => `${name}=${text(value)}`)
    ])
  })

describe("produce", () => {
  test("each line is a value, and it is said how many went where", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "orders", partitions: 1 }])
      const { code, err, out } = yield* cli(["produce", "orders"], {
        input: ["two ", "espressi\nthe bill\r\n", "\n", "tip"]
      })
      assert.deepStrictEqual({ code, err }, { code: 0, err: "" })
      assert.strictEqual(out, "4 records to orders\n  partition 0: 4 records, offset 0 to 3\n")
      assert.deepStrictEqual(yield* log("orders", 0), [[null, "two espressi"], [null, "the bill"], [null, ""], [
        null,
        "tip"
      ]])
    }))

  test("keys come before a separator, headers from the command line", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "orders", partitions: 1 }])
      const args = ["--key-separator", "→", "--header", "by=hand", "--header", "by=cli"]
      yield* cli(["produce", ...args, "orders"], { input: ["t1→tea→hot\n", "→no key\n"] })
      assert.deepStrictEqual(yield* log("orders", 0), [["t1", "tea→hot", "by=hand", "by=cli"], [
        "",
        "no key",
        "by=hand",
        "by=cli"
      ]])
    }))

  test("a line without its separator ends it with 1, and what came before is stored", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "orders", partitions: 1 }])
      const { code, err, out } = yield* cli(["produce", "orders", "--key-separator", ":"], {
        input: ["a:1\nb2\nc:3\n"]
      })
      assert.strictEqual(code, 1)
      assert.strictEqual(out, "1 record to orders\n  partition 0: 1 record, offset 0\n")
      assert.strictEqual(err, "line 2 has no \":\" between key and value\nThe records counted here are stored.\n")
      assert.deepStrictEqual(yield* log("orders", 0), [["a", "1"]])
    }))

  test("as JSON a record brings key, value, headers, partition and time", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([orders])
      const input = [
        `{"key":"k","value":"text","headers":{"a":"1","b":null},"partition":1,"timestamp":"2026-11-23T10:00:00.000Z"}\n`,
        `\n`,
        `{"value":{"runId":"run-42"},"partition":1,"headers":[{"name":"raw","valueBase64":"/w=="}]}\n`,
        `{"keyBase64":"aw==","value":null,"partition":1}\n`
      ]
      const { code, err } = yield* cli(["produce", "orders", "--json", "--key", "spare"], { input })
      assert.deepStrictEqual({ code, err }, { code: 0, err: "" })
      assert.deepStrictEqual(yield* log("orders", 1), [
        ["k", "text", "a=1", "b=null"],
        ["spare", `{"runId":"run-42"}`, "raw=\ufffd"],
        ["k", null]
      ])
      const broker = yield* InMemoryKafka.InMemoryBroker
      const [first] = yield* broker.log(TopicPartition.make("orders", 1))
      assert.strictEqual(first?.timestamp, BigInt(Date.UTC(2026, 10, 23, 10)))
    }))

  for (
    const [line, complaint] of [
      [`{"key":"a","valeu":1}`, /^line 1 is not a record as JSON at valeu: is unexpected/],
      [`{"key":"a"}`, /^line 1 has no value: null makes a tombstone/],
      [`{"value":1,"valueBase64":"AA=="}`, /^line 1 has both value and valueBase64/],
      [`{"key":"a","keyBase64":"AA==","value":1}`, /^line 1 has both key and keyBase64/],
      [`{"value":1,"valu`, /^line 1 is not a record as JSON: /],
      [`{"value":1,"partition":-1}`, /^line 1 is not a record as JSON at partition: /],
      [`{"value":1,"timestamp":"yesterday"}`, /^line 1 is not a record as JSON at timestamp: /],
      [Buffer.from([0x22, 0xff, 0x22]), /^line 1 is not UTF-8/]
    ] as const
  ) {
    test(`is told what is wrong with ${String(line)}`, () =>
      Effect.gen(function*() {
        yield* Admin.createTopics([orders])
        const { code, err, out } = yield* cli(["produce", "orders", "--json"], { input: [line] })
        assert.strictEqual(code, 1)
        assert.match(err, complaint)
        assert.include(err, "Nothing is stored.")
        assert.strictEqual(out, "0 records to orders\n")
      }))
  }

  test("a line without end is refused before it fills the memory", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([orders])
      const { code, err } = yield* cli(["produce", "orders"], {
        input: ["first\n", new Uint8Array(40 * 1024 * 1024).fill(0x61), new Uint8Array(40 * 1024 * 1024).fill(0x61)]
      })
      assert.strictEqual(code, 1)
      assert.match(err, /^line 2 is longer than 64 MiB/)
    }))

  test("a topic that is not there ends it with 1", () =>
    Effect.gen(function*() {
      const { code, err } = yield* cli(["produce", "orders"], { input: ["a\n"] })
      assert.strictEqual(code, 1)
      assert.match(err, /topic "orders" does not exist/)
    }))
})

describe("consume", () => {
  const filled = Effect.gen(function*() {
    yield* Admin.createTopics([orders])
    const broker = yield* InMemoryKafka.InMemoryBroker
    for (const [partition, key, at] of [[0, "a", 1000n], [0, "b", 2000n], [1, "c", 3000n], [1, null, 4000n]] as const) {
      yield* broker.produce(TopicPartition.make("orders", partition), [
        { key, value: `to ${key}`, headers: key === "c" ? { by: "hand" } : {}, timestamp: at }
      ])
    }
  })

  test("prints what is there, and ends at the end", () =>
    Effect.gen(function*() {
      yield* filled
      const { code, err, out } = yield* cli(["consume", "orders", "--until-end"])
      assert.deepStrictEqual({ code, err }, { code: 0, err: "" })
      assert.sameMembers(out.split("\n"), [
        "0@0  1970-01-01T00:00:01.000Z  a  to a",
        "0@1  1970-01-01T00:00:02.000Z  b  to b",
        "1@0  1970-01-01T00:00:03.000Z  c  to c  {by=hand}",
        "1@1  1970-01-01T00:00:04.000Z  null  to null",
        ""
      ])
    }))

  test("joins no group and commits nothing", () =>
    Effect.gen(function*() {
      yield* filled
      yield* cli(["consume", "orders", "--until-end"])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* Admin.listGroups, [])
    }))

  test("with --group it commits what was printed, and goes on from there", () =>
    Effect.gen(function*() {
      yield* filled
      const args = ["consume", "orders", "--group", "g", "--until-end"]
      const first = yield* cli([...args, "--max", "3"])
      const second = yield* cli(args)
      assert.strictEqual(first.out.split("\n").length, 4)
      assert.strictEqual(second.out.split("\n").length, 2)
      assert.strictEqual((yield* Admin.lag("g")).records, 0n)
    }))

  test("starts at an offset, a time or the end", () =>
    Effect.gen(function*() {
      yield* filled
      const places = (...args: ReadonlyArray<string>) =>
        Effect.map(
          cli(["consume", "orders", "--until-end", ...args]),
          ({ out }) => (out.match(/^\d@\d/gm) ?? []).sort()
        )
      assert.deepStrictEqual(yield* places("--from", "1"), ["0@1", "1@1"])
      assert.deepStrictEqual(yield* places("--from", "1970-01-01T00:00:02.000Z"), ["0@1", "1@0", "1@1"])
      assert.deepStrictEqual(yield* places("--from", "end"), [])
      assert.deepStrictEqual(yield* places("--from", "beginning", "--partition", "1"), ["1@0", "1@1"])
      assert.deepStrictEqual(yield* places("--from", "99"), [])
      const broker = yield* InMemoryKafka.InMemoryBroker
      yield* broker.deleteBefore(TopicPartition.make("orders", 0), 1n)
      assert.deepStrictEqual(yield* places("--from", "0"), ["0@1", "1@0", "1@1"])
    }))

  test("waits for more until it has as many as it was told", () =>
    Effect.gen(function*() {
      yield* filled
      const seen = yield* Deferred.make<void>()
      const reading = yield* Effect.fork(cli(["consume", "orders", "--from", "end", "--max", "2"], {
        onWrite: () => Deferred.succeed(seen, undefined)
      }))
      const broker = yield* InMemoryKafka.InMemoryBroker
      const add = broker.produce(TopicPartition.make("orders", 0), [{ value: "later" }])
      // where the end is, is asked before anything is read
      yield* Effect.repeat(Effect.zipRight(Effect.yieldNow(), broker.sessions), {
        until: (sessions) => sessions.some(({ kind }) => kind === "consumer")
      })
      yield* add
      yield* TestClock.adjust("1 second")
      yield* Deferred.await(seen)
      yield* add
      yield* TestClock.adjust("1 second")
      const { code, out } = yield* Fiber.join(reading)
      assert.strictEqual(code, 0)
      assert.strictEqual(out.match(/later/g)?.length, 2)
    }))

  test("what it prints as JSON can be produced again", () =>
    Effect.gen(function*() {
      yield* filled
      yield* Admin.createTopics([{ topic: "copy", partitions: 2 }])
      const { out } = yield* cli(["consume", "orders", "--until-end", "--json"])
      yield* cli(["produce", "copy", "--json"], { input: [out] })
      assert.deepStrictEqual(yield* log("copy", 1), [["c", "to c", "by=hand"], [null, "to null"]])
      assert.deepStrictEqual(yield* log("copy", 0), yield* log("orders", 0))
    }))

  test("ends with 0 and says nothing when its reader has gone, as head does", () =>
    Effect.gen(function*() {
      yield* filled
      const { code, err } = yield* cli(["consume", "orders"], { closedAfter: 0 })
      assert.deepStrictEqual({ code, err }, { code: 0, err: "" })
    }))

  test("is coloured in a terminal only, and a record can't draw there", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "orders", partitions: 1 }])
      const broker = yield* InMemoryKafka.InMemoryBroker
      yield* broker.produce(TopicPartition.make("orders", 0), [{ value: "\x1b[2J\x07" }])
      const terminal = yield* cli(["consume", "orders", "--until-end"], { terminal: true })
      const pipe = yield* cli(["consume", "orders", "--until-end"])
      assert.include(terminal.out, "\x1b[2m")
      assert.include(terminal.out, "\\u001b[2J\\u0007")
      assert.notInclude(terminal.out, "\x1b[2J")
      assert.notInclude(pipe.out, "\x1b")
    }))

  test("refuses what contradicts a group, and a partition that is not there", () =>
    Effect.gen(function*() {
      yield* filled
      const time = yield* cli(["consume", "orders", "--group", "g", "--from", "7"])
      assert.strictEqual(time.code, 1)
      assert.match(time.err, /^with --group it is the group that says where to start/)
      const partition = yield* cli(["consume", "orders", "--partition", "2"])
      assert.strictEqual(partition.code, 1)
      assert.strictEqual(partition.err, "orders has 2 partitions: there is no partition 2\n")
    }))
})

describe("topics, groups, lag", () => {
  test("topics are listed with partitions and records, as a table or as JSON", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([orders, { topic: "bills", partitions: 1 }])
      yield* cli(["produce", "orders"], { input: ["a\nb\nc\n"] })
      const table = yield* cli(["topics"])
      assert.deepStrictEqual(table.out.split("\n").map((line) => line.split(/ +/)), [
        ["TOPIC", "PARTITIONS", "REPLICAS", "RECORDS", "UNWELL"],
        ["bills", "1", "1", "0"],
        ["orders", "2", "1", "3"],
        [""]
      ])
      const json = yield* cli(["topics", "--json"])
      assert.deepStrictEqual(JSON.parse(json.out.split("\n")[1] ?? ""), {
        topic: "orders",
        partitions: 2,
        replicas: 1,
        records: 3,
        unwell: 0
      })
    }))

  test("groups are listed with their members", () =>
    Effect.scoped(Effect.gen(function*() {
      yield* Admin.createTopics([orders])
      const broker = yield* InMemoryKafka.InMemoryBroker
      yield* broker.join("baristas", ["orders"])
      yield* TestClock.adjust("5 seconds")
      const { out } = yield* cli(["groups"])
      assert.match(out, /\nbaristas +Stable +1 +2 +orders\n$/)
      const json = yield* cli(["groups", "--json"])
      assert.deepStrictEqual(JSON.parse(json.out), {
        group: "baristas",
        state: "Stable",
        members: 1,
        topics: ["orders"],
        partitions: 2
      })
    })))

  const behind = Effect.gen(function*() {
    yield* Admin.createTopics([{ topic: "orders", partitions: 1 }])
    yield* cli(["produce", "orders"], { input: ["a\nb\nc\n"] })
    yield* cli(["consume", "orders", "--group", "g", "--max", "1"])
  })

  test("the lag of a group, and an exit code where it is too much", () =>
    Effect.gen(function*() {
      yield* behind
      const table = yield* cli(["lag", "g"])
      assert.strictEqual(table.code, 0)
      assert.deepStrictEqual(table.out.split("\n").map((line) => line.split(/ +/)), [
        ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"],
        ["orders", "0", "1", "3", "2"],
        ["in", "all", "2"],
        [""]
      ])
      assert.strictEqual((yield* cli(["lag", "g", "--fail-above", "2"])).code, 0)
      const above = yield* cli(["lag", "g", "--fail-above", "1"])
      assert.strictEqual(above.code, 1)
      assert.strictEqual(above.err, "the lag is 2 records, more than 1\n")
      const json = JSON.parse((yield* cli(["lag", "g", "--json"])).out)
      assert.deepStrictEqual(json, {
        group: "g",
        records: 2,
        partitions: [{ topic: "orders", partition: 0, committed: 1, end: 3, records: 2 }]
      })
    }))

  test("how old the oldest unread record is, where that is asked for", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("1 hour")
      yield* behind
      yield* TestClock.adjust("90 seconds")
      const { out } = yield* cli(["lag", "g", "--time"])
      assert.match(out, /^TOPIC .* LAG +AGE\norders .* 2 +1m 3\ds\nin all +2 +1m 3\ds\n$/)
      const json = JSON.parse((yield* cli(["lag", "g", "--time", "--json"])).out)
      assert.isAtLeast(json.millis, 90_000)
    }))

  test("in a pipe, --watch prints one table after the other", () =>
    Effect.gen(function*() {
      yield* behind
      let out = ""
      const watching = yield* Effect.fork(cli(["lag", "g", "--watch", "--interval", "1 minute"], {
        onWrite: (written) => Effect.sync(() => void (out = written))
      }))
      yield* TestClock.adjust("150 seconds")
      yield* Fiber.interrupt(watching)
      assert.deepStrictEqual(out.match(/^1970-.*$/gm), [
        "1970-01-01T00:00:00.000Z  g",
        "1970-01-01T00:01:00.000Z  g",
        "1970-01-01T00:02:00.000Z  g"
      ])
      assert.notInclude(out, "\x1b")
    }))

  it.effect("partitions without a leader are counted, and fail the check", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "orders", partitions: 4 }])
      const broker = yield* InMemoryKafka.InMemoryBroker
      yield* broker.kill(1)
      yield* TestClock.adjust("1 minute")
      const listing = yield* Effect.fork(Effect.all([cli(["topics"]), cli(["check", "orders"])]))
      yield* TestClock.adjust("5 minutes")
      const [{ out }, checked] = yield* Fiber.join(listing)
      assert.match(out, /\norders +4 +1 +0 +2\n$/)
      assert.strictEqual(checked.code, 1)
      assert.match(checked.out, /^✗ topics +orders: 2 partitions of 4 without a leader/m)
    }).pipe(Effect.provide(
      Admin.layer.pipe(
        Layer.provideMerge(Layer.merge(InMemoryKafka.layerWith({ brokers: 2 }), TopicRegistry.layerWith({})))
      )
    )))

  test("nothing to list is said beside the empty table", () =>
    Effect.gen(function*() {
      assert.include((yield* cli(["topics"])).err, "There are no topics")
      assert.include((yield* cli(["groups"])).err, "There are no groups")
    }))

  test("a group that has committed nothing ends it with 1", () =>
    Effect.gen(function*() {
      const { code, err } = yield* cli(["lag", "nobody"])
      assert.strictEqual(code, 1)
      assert.match(err, /^the group "nobody" has committed nothing/)
    }))

  test("the table is drawn again over itself in a terminal, and goes on after a failure", () =>
    Effect.gen(function*() {
      yield* behind
      const broker = yield* InMemoryKafka.InMemoryBroker
      let out = ""
      const watching = yield* Effect.fork(cli(["lag", "g", "--watch", "--interval", "3 seconds"], {
        terminal: true,
        onWrite: (written) => Effect.sync(() => void (out = written))
      }))
      yield* TestClock.adjust("1 second")
      assert.match(out, /^\x1b\[2J\x1b\[H/) // oxlint-disable-line no-control-regex
      yield* broker.produce(TopicPartition.make("orders", 0), [{ value: "d" }])
      const failing = yield* broker.failNext("admin", 1, "GROUP_AUTHORIZATION_FAILED")
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* failing.fired, 1)
      yield* TestClock.adjust("3 seconds")
      const frames = out.split("\x1b[H")
      assert.strictEqual(frames.length, 3)
      assert.include(frames[1], "in all                               2")
      assert.include(frames[2], "in all                               3")
      yield* Fiber.interrupt(watching)
    }))

  test("a table that is higher than the terminal says how much is left out", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "orders", partitions: 30 }])
      yield* cli(["consume", "orders", "--group", "g", "--until-end"])
      yield* Admin.resetOffsets("g", ["orders"], "earliest")
      let out = ""
      const watching = yield* Effect.fork(cli(["lag", "g", "--watch"], {
        terminal: true,
        rows: 10,
        onWrite: (written) => Effect.sync(() => void (out = written))
      }))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(watching)
      const frame = out.split("\x1b[H").at(-1) ?? ""
      assert.strictEqual(frame.split("\n").length, 10)
      assert.include(frame, "… 25 more partitions")
      assert.include(frame, "in all")
    }))
})

describe("check", () => {
  /** The first sign and the name of each step. */
  const steps = (out: string) =>
    out.split("\n").flatMap((line) => /^([✓✗-]) (\w+)/.exec(line)?.slice(1, 3).join(" ") ?? [])

  test("each step is a tick when all is well", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([orders])
      yield* cli(["produce", "orders"], { input: ["a\n"] })
      const { code, err, out } = yield* cli(["check", "orders", "--group", "baristas"])
      assert.deepStrictEqual({ code, err }, { code: 0, err: "" })
      assert.deepStrictEqual(steps(out), ["✓ configuration", "✓ reach", "✓ authenticate", "✓ authorise", "✓ topics"])
      assert.include(out, "orders: 2 partitions, 1 replica of each, 1 record")
    }))

  test("a wrong configuration is told in whole, and nothing is tried", () =>
    Effect.gen(function*() {
      const { code, out } = yield* cli(["check"], {
        env: { KAFKA_BOOTSTRAP_SERVERS: "kafka:0", KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_SASL_PASSWORD: "hunter2" }
      })
      assert.strictEqual(code, 1)
      assert.deepStrictEqual(steps(out), ["✗ configuration", "- reach", "- authenticate", "- authorise", "- topics"])
      assert.include(out, "KAFKA_BOOTSTRAP_SERVERS: expected a port from 1 to 65535")
      assert.include(out, "KAFKA_SASL_MECHANISM: is set, but KAFKA_SECURITY_PROTOCOL is PLAINTEXT")
      assert.notInclude(out, "hunter2")
    }))

  test("a cluster that does not answer fails at reaching it", () =>
    Effect.gen(function*() {
      yield* (yield* InMemoryKafka.InMemoryBroker).kill()
      const checking = yield* Effect.fork(cli(["check"]))
      yield* TestClock.adjust("1 minute")
      const { code, out } = yield* Fiber.join(checking)
      assert.strictEqual(code, 1)
      assert.deepStrictEqual(steps(out), ["✓ configuration", "✗ reach", "- authenticate", "- authorise", "- topics"])
    }))

  test("a refused password fails at authenticating", () =>
    Effect.gen(function*() {
      const client = yield* KafkaClient
      const refused = new KafkaAuthenticationError({
        operation: "connect",
        mechanism: "plain",
        reason: "the broker says: Invalid username or password"
      })
      const { code, out } = yield* Effect.provideService(cli(["check"]), KafkaClient, {
        ...client,
        openAdmin: Effect.fail(refused)
      })
      assert.strictEqual(code, 1)
      assert.deepStrictEqual(steps(out), ["✓ configuration", "✓ reach", "✗ authenticate", "- authorise", "- topics"])
      assert.include(out, "Invalid username or password")
    }))

  test("a missing permission fails at authorising, and names the resource", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([orders])
      yield* (yield* InMemoryKafka.InMemoryBroker).deny("topic", "orders")
      const { code, out } = yield* cli(["check", "orders"])
      assert.strictEqual(code, 1)
      assert.deepStrictEqual(steps(out), ["✓ configuration", "✓ reach", "✓ authenticate", "✗ authorise", "- topics"])
      assert.include(out, "not authorized on topic \"orders\"")
    }))

  test("neither it nor consume --until-end waits for a transaction that is open", () =>
    Effect.scoped(Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "orders", partitions: 1 }])
      const producer = yield* Producer.make({ transactionalId: "bills" })
      const Orders = Topic.make("orders", { key: Serde.string, value: Serde.string })
      const sent = yield* Deferred.make<void>()
      yield* Effect.forkScoped(producer.transaction(
        producer.send(Orders, { key: "a", value: "tea" }).pipe(
          Effect.zipRight(Deferred.succeed(sent, undefined)),
          Effect.zipRight(Effect.never)
        )
      ))
      yield* Deferred.await(sent)
      for (const args of [["check", "orders"], ["consume", "orders", "--until-end", "--from", "end"]]) {
        assert.strictEqual((yield* cli(args)).code, 0)
      }
    })).pipe(Effect.provide(TopicRegistry.layerWith({}))))

  test("a failure that is no refusal is not taken for one", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([orders])
      const client = yield* KafkaClient
      const failing = Effect.map(client.openAdmin, (admin) => ({
        ...admin,
        listOffsets: () =>
          Effect.fail(
            new KafkaConnectionError({ operation: "list offsets", brokers: ["kafka-2:9092"], reason: "unreachable" })
          )
      }))
      const { code, out } = yield* Effect.provideService(cli(["check", "orders"]), KafkaClient, {
        ...client,
        openAdmin: failing
      })
      assert.strictEqual(code, 1)
      assert.deepStrictEqual(steps(out), ["✓ configuration", "✓ reach", "✓ authenticate", "✓ authorise", "✗ topics"])
      assert.include(out, "kafka-2:9092")
    }))

  test("a topic that is not there fails at topics, under its name on the cluster", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "coffee.orders", partitions: 1 }])
      const env = { ...environment, KAFKA_TOPIC_PREFIX: "coffee" }
      const { code, out } = yield* cli(["check", "orders", "coffee.orders", "bills"], { env })
      assert.strictEqual(code, 1)
      assert.deepStrictEqual(steps(out), ["✓ configuration", "✓ reach", "✓ authenticate", "✓ authorise", "✗ topics"])
      assert.include(out, "topic \"coffee.bills\" does not exist")
      assert.strictEqual((yield* cli(["check", "orders"], { env })).code, 0)
      const none = yield* cli(["check"], { env: { ...env, KAFKA_TOPIC_PREFIX: "tea" } })
      assert.include(none.out, "there are none under the prefix tea")
    }))
})

describe("coffeebuddy-kafka", () => {
  for (
    const args of [
      ["brew"],
      ["consume"],
      ["consume", "orders", "--from", "yesterday"],
      ["consume", "orders", "--from", "2026-13-01"],
      ["consume", "orders", "--max", "-1"],
      ["consume", "orders", "--partition", "x"],
      ["lag", "g", "--interval", "soon"],
      ["topics", "--colour"],
      ["check", "--env-file", "/nowhere/.env"]
    ]
  ) {
    test(`ends with 2 when called wrongly: ${args.join(" ")}`, () =>
      Effect.gen(function*() {
        const { code, err, out } = yield* cli(args)
        assert.deepStrictEqual({ code, out }, { code: 2, out: "" })
        assert.notStrictEqual(err.trim(), "")
      }))
  }

  test("says its version, and what it can do", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* cli(["--version"]), { code: 0, out: "1.2.3\n", err: "" })
      for (const args of [[], ["--help"], ["consume", "--help"]]) {
        const { code, out } = yield* cli(args)
        assert.strictEqual(code, 0)
        assert.match(out, /USAGE/)
      }
    }))

  test("puts the prefix before a topic, unless it stands there already", () =>
    Effect.gen(function*() {
      yield* Admin.createTopics([{ topic: "coffee.orders", partitions: 1 }])
      const env = { ...environment, KAFKA_TOPIC_PREFIX: "coffee" }
      for (const topic of ["orders", "coffee.orders"]) {
        const { out } = yield* cli(["produce", topic], { env, input: ["a\n"] })
        assert.match(out, /^1 record to coffee\.orders\n/)
      }
    }))

  test("there are colours in a terminal, unless NO_COLOR is set or the terminal is dumb", () =>
    Effect.gen(function*() {
      const colours = (isTerminal: boolean, env: Record<string, string>) =>
        Effect.withConfigProvider(wantsColour(isTerminal), ConfigProvider.fromMap(new Map(Object.entries(env))))
      assert.isTrue(yield* colours(true, {}))
      assert.isTrue(yield* colours(true, { NO_COLOR: "", TERM: "xterm" }))
      assert.isFalse(yield* colours(true, { NO_COLOR: "1" }))
      assert.isFalse(yield* colours(true, { TERM: "dumb" }))
      assert.isFalse(yield* colours(false, {}))
    }))

  test("a topic that can't be called so is a sentence", () =>
    Effect.gen(function*() {
      const { code, err } = yield* cli(["consume", "two words"])
      assert.strictEqual(code, 1)
      assert.match(err, /^"two words" is no topic name/)
    }))

  test("variables come from a file too, behind those of the environment", () =>
    Effect.acquireUseRelease(
      Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "coffeebuddy-cli-"))),
      (folder) =>
        Effect.gen(function*() {
          const file = Path.join(folder, ".env")
          Fs.writeFileSync(file, "# ours\nKAFKA_BOOTSTRAP_SERVERS=from-file:9092\nKAFKA_CLIENT_ID=\"from file\"\n")
          const both = yield* cli(["check", "--env-file", file])
          assert.include(both.out, "configuration  memory:9092, PLAINTEXT, client id from file")
          const alone = yield* cli(["check", "--env-file", file], { env: {} })
          assert.include(alone.out, "configuration  from-file:9092")
        }),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true }))
    ))
})
