/**
 * What the other tests count on when they run on a real Kafka.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Kafka, type KafkaConfig, logLevel } from "kafkajs"
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import {
  clientEnvironment,
  clientProperties,
  dumpLog,
  javaConsume,
  javaMember,
  type JavaMemberEvent,
  javaPartitions,
  javaProduce,
  javaTools,
  type KafkaCluster,
  type KafkaListener,
  type PasswordMechanism
} from "../../../../scripts/kafka/index.ts"
import * as RealKafka from "./RealKafka.ts"

const bytes = (text: string): Uint8Array => Buffer.from(text)

const client = (bootstrapServers: string, more: Partial<KafkaConfig> = {}) =>
  new Kafka({ brokers: bootstrapServers.split(","), logLevel: logLevel.NOTHING, ...more })

const createTopic = (bootstrapServers: string, topic: string, replicationFactor = 1) =>
  Effect.promise(async () => {
    const admin = client(bootstrapServers).admin()
    await admin.connect()
    await admin.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions: 1, replicationFactor }] })
    await admin.disconnect()
  })

const produce = (bootstrapServers: string, topic: string, values: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    const producer = client(bootstrapServers).producer({ allowAutoTopicCreation: false })
    await producer.connect()
    await producer.send({ topic, messages: values.map((value) => ({ value })) })
    await producer.disconnect()
  })

const consume = (bootstrapServers: string, topic: string, count: number) =>
  Effect.promise(async () => {
    const consumer = client(bootstrapServers).consumer({ groupId: `${topic}-${Date.now()}` })
    await consumer.connect()
    await consumer.subscribe({ topic, fromBeginning: true })
    const values: Array<string> = []
    await new Promise<void>((resolve, reject) => {
      consumer.run({
        eachMessage: async ({ message }) => {
          values.push(String(message.value))
          if (values.length === count) resolve()
        }
      }).catch(reject)
    })
    await consumer.disconnect()
    return values
  })

RealKafka.suite("the shared Kafka", (kafka) => {
  it.live("takes records and gives them back", () =>
    Effect.gen(function*() {
      const topic = `harness-${process.pid}-${Date.now()}`
      yield* createTopic(kafka.bootstrapServers, topic)
      yield* produce(kafka.bootstrapServers, topic, ["espresso", "flat white"])
      expect(yield* consume(kafka.bootstrapServers, topic, 2)).toEqual(["espresso", "flat white"])
    }))
})

RealKafka.suiteOfOwn("a Kafka of one's own", () => {
  it.scopedLive("is at the same address with the same records after a kill and after a stop", () =>
    Effect.gen(function*() {
      const kafka = yield* RealKafka.start()
      yield* createTopic(kafka.bootstrapServers, "orders")
      yield* produce(kafka.bootstrapServers, "orders", ["espresso"])
      const broker = kafka.broker(1)
      yield* broker.kill
      expect(kafka.cluster.broker(1).running).toBe(false)
      yield* broker.start
      yield* produce(kafka.bootstrapServers, "orders", ["ristretto"])
      yield* broker.stop
      expect(kafka.cluster.broker(1).running).toBe(false)
      yield* broker.start
      expect(yield* consume(kafka.bootstrapServers, "orders", 2)).toEqual(["espresso", "ristretto"])
    }))

  it.scopedLive("goes on with two of its three brokers", () =>
    Effect.gen(function*() {
      const kafka = yield* RealKafka.start({ brokers: 3 })
      yield* createTopic(kafka.bootstrapServers, "orders", 3)
      yield* produce(kafka.bootstrapServers, "orders", ["espresso"])
      const tools = javaTools(kafka.cluster)
      const leader = (yield* Effect.promise(() => tools.describeTopic("orders"))).partitions[0]!.leader!
      yield* kafka.broker(leader).kill
      yield* produce(kafka.bootstrapServers, "orders", ["ristretto"])
      expect(yield* consume(kafka.bootstrapServers, "orders", 2)).toEqual(["espresso", "ristretto"])
      const after = (yield* Effect.promise(() => tools.describeTopic("orders"))).partitions[0]!
      expect(after.replicas).toHaveLength(3)
      expect(after.leader).not.toBe(leader)
      expect(after.inSync).not.toContain(leader)
    }))

  it.scopedLive("does not answer while it is paused", () =>
    Effect.gen(function*() {
      const kafka = yield* RealKafka.start()
      yield* createTopic(kafka.bootstrapServers, "orders")
      yield* kafka.broker(1).pause
      const answered = yield* Deferred.make<void>()
      const sending = yield* Effect.fork(
        Effect.zipRight(produce(kafka.bootstrapServers, "orders", ["espresso"]), Deferred.succeed(answered, undefined))
      )
      yield* Effect.sleep("500 millis")
      expect(yield* Deferred.isDone(answered)).toBe(false)
      yield* kafka.broker(1).resume
      yield* Fiber.join(sending)
      expect(yield* consume(kafka.bootstrapServers, "orders", 1)).toEqual(["espresso"])
    }))

  it.scopedLive("says why it did not start, with the end of the broker's log", () =>
    Effect.gen(function*() {
      const failure = yield* Effect.flip(RealKafka.start({ heap: "16m", jvmOptions: ["-Xms16m"] }))
      expect(failure).toBeInstanceOf(RealKafka.KafkaFailure)
      expect(failure.message).toMatch(/^Broker 1 did not start: it ended with code \d+\. The end of its log:\n.+/s)
      const refused = yield* Effect.flip(RealKafka.start({ properties: { "num.partitions": "many" } }))
      expect(refused.message).toContain("num.partitions")
    }))

  it.scopedLive("shows what lies on a broker's disk", () =>
    Effect.gen(function*() {
      const { broker, bootstrapServers, cluster } = yield* RealKafka.start()
      yield* createTopic(bootstrapServers, "orders")
      yield* produce(bootstrapServers, "orders", ["espresso", "ristretto"])
      const batches = yield* Effect.promise(() => dumpLog(cluster.distribution, cluster.broker(1), "orders", 0))
      expect(batches).toMatchObject([{ baseOffset: "0", count: "2", compresscodec: "none", isControl: "false" }])
      expect(broker(1).address).toBe(bootstrapServers)
    }))

  it.live("ends, and leaves nothing behind, when the program that started it is killed", () =>
    Effect.gen(function*() {
      const program = `
        import { register } from "tsx/esm/api"
        register()
        const { startKafka } = await import("./scripts/kafka/index.ts")
        const kafka = await startKafka()
        kafka.broker(1).pause()
        console.log(JSON.stringify({ pid: kafka.broker(1).pid, directory: kafka.directory }))
        setInterval(() => undefined, 1000)`
      const root = path.resolve(import.meta.dirname, "../../../..")
      const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
        cwd: root,
        stdio: ["ignore", "pipe", "inherit"]
      })
      const line = yield* Effect.promise(() =>
        new Promise<string>((resolve, reject) => {
          child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString("utf8")))
          child.once("exit", () => reject(new Error("it ended before it told")))
        })
      )
      const { directory, pid } = JSON.parse(line) as { readonly pid: number; readonly directory: string }
      expect(isAlive(pid)).toBe(true)
      child.kill("SIGKILL")
      yield* eventually(async () => !isAlive(pid) && (await fs.stat(directory).then(() => false, () => true)))
    }))
})

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Asks until it is so; the test's own timeout is the limit. */
const eventually = (condition: () => Promise<boolean>): Effect.Effect<void> =>
  Effect.promise(condition).pipe(
    Effect.flatMap((yes) => yes ? Effect.void : Effect.zipRight(Effect.sleep("20 millis"), eventually(condition)))
  )

/** kafkajs's settings for what `clientEnvironment` says. */
const settings = async (cluster: KafkaCluster, listener: KafkaListener, user: string): Promise<KafkaConfig> => {
  const env = clientEnvironment(cluster, { listener, user })
  const read = (name: string) => env[name] === undefined ? undefined : fs.readFile(env[name], "utf8")
  const [ca, cert, key] = await Promise.all(
    ["KAFKA_SSL_CA_FILE", "KAFKA_SSL_CERT_FILE", "KAFKA_SSL_KEY_FILE"].map(read)
  )
  return {
    brokers: env["KAFKA_BOOTSTRAP_SERVERS"]!.split(","),
    ...(ca === undefined
      ? {}
      : { ssl: { ca, ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }) } }),
    ...(env["KAFKA_SASL_USERNAME"] === undefined ? {} : {
      sasl: {
        mechanism: "scram-sha-512",
        username: env["KAFKA_SASL_USERNAME"],
        password: env["KAFKA_SASL_PASSWORD"]!
      }
    }),
    retry: { retries: 0 }
  }
}

RealKafka.suiteOfOwn("a Kafka with locks on its doors", () => {
  const listeners = ["sasl_plaintext", "sasl_ssl", "ssl", "mtls", "plaintext"] as const

  it.scopedLive("lets clients and Java in by each, and only to what ACLs allow", () =>
    Effect.gen(function*() {
      const { cluster } = yield* RealKafka.start({ listeners, acls: true })
      /** What becomes of the wish to make a topic. */
      const wish = (listener: KafkaListener, user: string, over: Partial<KafkaConfig> = {}) =>
        Effect.promise(async () => {
          const config = await settings(cluster, listener, user)
          const admin = new Kafka({ ...config, ...over, logLevel: logLevel.NOTHING }).admin()
          try {
            await admin.connect()
            await admin.createTopics({ waitForLeaders: false, topics: [{ topic: `${listener}-${user}` }] })
            return "made"
          } catch (cause) {
            const errors = (cause as { readonly errors?: ReadonlyArray<Error> }).errors
            return `${errors?.[0]?.message ?? (cause as Error).message}`
          } finally {
            await admin.disconnect()
          }
        })
      for (const listener of listeners) expect(yield* wish(listener, "admin")).toBe("made")
      for (const listener of ["sasl_plaintext", "sasl_ssl", "mtls"] as const) {
        expect(yield* wish(listener, "alice")).toMatch(/not authorized/i)
      }
      const wrong = { mechanism: "plain", username: "alice", password: "wrong" } as const
      expect(yield* wish("sasl_plaintext", "alice", { sasl: wrong })).toMatch(/invalid username or password/i)
      expect(yield* wish("ssl", "alice", { ssl: true })).toMatch(/certificate/)

      const java = (listener: KafkaListener, mechanism?: PasswordMechanism) => ({
        distribution: cluster.distribution,
        bootstrapServers: cluster.bootstrapServersOf(listener),
        clientProperties: clientProperties(cluster, { listener, mechanism })
      })
      const topic = "sasl_ssl-admin"
      yield* Effect.promise(async () => {
        await javaProduce(java("sasl_ssl"), [{ topic, value: bytes("by sasl_ssl") }])
        await javaProduce(java("mtls"), [{ topic, value: bytes("by mtls") }])
        await javaTools(java("sasl_plaintext", "PLAIN")).consoleProduce(topic, [
          { key: null, value: "by sasl_plaintext", headers: [] }
        ])
      })
      const read = yield* Effect.promise(() => javaConsume(java("ssl"), topic))
      expect(read.map(({ value }) => String(value))).toEqual(["by sasl_ssl", "by mtls", "by sasl_plaintext"])
    }))
})

RealKafka.suiteWithJava("Java's side", (java) => {
  const { bootstrapServers, distribution } = java
  const topicName = (name: string) => `harness-${name}-${process.pid}-${Date.now()}`

  it.live("writes and reads records exact to the byte", () =>
    Effect.gen(function*() {
      const topic = topicName("bytes")
      yield* createTopic(bootstrapServers, topic)
      const every = Uint8Array.from({ length: 256 }, (_, byte) => byte)
      const records = [
        { key: every, value: every, timestamp: 1n, headers: [["a", bytes("1")], ["a", null], ["ü", bytes("")]] },
        { key: null, value: null, timestamp: 1_000_000_000_000n, headers: [] },
        { key: bytes(""), value: bytes(""), timestamp: 0n, headers: [] }
      ] as const
      const stored = yield* Effect.promise(() =>
        javaProduce(java, records.map((record) => ({ ...record, topic, partition: 0 })))
      )
      expect(stored.map(({ offset }) => offset)).toEqual([0n, 1n, 2n])
      const read = yield* Effect.promise(() => javaConsume(java, topic))
      expect(read).toEqual(records.map((record, offset) => ({
        ...record,
        topic,
        partition: 0,
        offset: BigInt(offset),
        ...{ key: record.key === null ? null : Buffer.from(record.key) },
        ...{ value: record.value === null ? null : Buffer.from(record.value) },
        headers: record.headers.map(([name, value]) => [name, value === null ? null : Buffer.from(value)])
      })))
    }))

  it.live("leaves transactions committed, aborted and open", () =>
    Effect.gen(function*() {
      const topic = topicName("transactions")
      yield* createTopic(bootstrapServers, topic)
      for (const transaction of ["commit", "abort", "commit", "leave"] as const) {
        yield* Effect.promise(() =>
          javaProduce(java, [{ topic, value: bytes(transaction) }], {
            transaction,
            properties: { "transactional.id": `${topic}-${transaction}` }
          })
        )
      }
      const values = (isolation: string) =>
        Effect.promise(async () =>
          (await javaConsume(java, topic, { properties: { "isolation.level": isolation } }))
            .map(({ value }) => String(value))
        )
      expect(yield* values("read_committed")).toEqual(["commit", "commit"])
      expect(yield* values("read_uncommitted")).toEqual(["commit", "abort", "commit", "leave"])
    }))

  it.live("is a member of a group, and tells of it", () =>
    Effect.gen(function*() {
      const topic = topicName("member")
      yield* createTopic(bootstrapServers, topic)
      yield* produce(bootstrapServers, topic, ["espresso"])
      const events: Array<JavaMemberEvent> = []
      const committed = yield* Deferred.make<void>()
      const member = yield* Effect.promise(() =>
        javaMember(java, {
          topics: [topic],
          groupId: topic,
          onEvent: (event) => {
            events.push(event)
            if (event.event === "record") member.commit()
            if (event.event === "committed") Deferred.unsafeDone(committed, Effect.void)
          }
        })
      )
      yield* Deferred.await(committed)
      const position = { topic, partition: 0, committed: 1n, end: 1n, lag: 0n }
      const group = yield* Effect.promise(() => javaTools(java).describeGroup(topic))
      expect(group).toMatchObject([{ ...position, memberId: expect.stringContaining("consumer-") }])
      yield* Effect.promise(() => member.stop())
      expect(events.map(({ event }) => event)).toEqual(["assigned", "record", "committed", "revoked"])
      const left = yield* Effect.promise(() => javaTools(java).describeGroup(topic))
      expect(left).toEqual([{ ...position, memberId: undefined, clientId: undefined }])
    }))

  it.live("has console tools", () =>
    Effect.gen(function*() {
      const tools = javaTools(java)
      const topic = topicName("console")
      yield* createTopic(bootstrapServers, topic)
      const records = [
        { key: "k", value: "with\ttab: and, commas", headers: [["a", "1"], ["a", "2"]] },
        { key: null, value: null, headers: [] },
        { key: "", value: "", headers: [["empty", ""]] }
      ] as const
      yield* Effect.promise(() => tools.consoleProduce(topic, records))
      const read = yield* Effect.promise(() => tools.consoleConsume(topic, { records: 3 }))
      expect(read).toMatchObject(records.map((record, offset) => ({ ...record, partition: 0, offset: BigInt(offset) })))
    }))

  it.live("measures", () =>
    Effect.gen(function*() {
      const tools = javaTools(java)
      const topic = topicName("perf")
      yield* createTopic(bootstrapServers, topic)
      const produced = yield* Effect.promise(() => tools.perfProduce({ topic, records: 1_000, recordSize: 200 }))
      expect(produced.records).toBe(1_000)
      expect(produced.recordsPerSecond).toBeGreaterThan(0)
      const consumed = yield* Effect.promise(() => tools.perfConsume({ topic, records: 1_000 }))
      expect(consumed.records).toBe(1_000)
      expect(consumed.recordsPerSecond).toBeGreaterThan(0)
    }))

  it.live("says where its partitioner puts keys", () =>
    Effect.gen(function*() {
      // Of Kafka's own tests for murmur2, and what follows from it for seven partitions.
      const keys = ["21", "foobar", "a-little-bit-long-string", "a-little-bit-longer-string"]
      const hashes = [-973932308, -790332482, -985981536, -1486304829]
      const partitions = yield* Effect.promise(() => javaPartitions({ distribution }, 7, keys.map(bytes)))
      expect(partitions).toEqual(hashes.map((hash) => (hash & 0x7fffffff) % 7))
    }))
})

describe("without a Kafka", () => {
  it("tests are skipped where none can run, and fail where one is required or broke", () => {
    const unavailable = { _tag: "Unavailable", reason: "no Java" } as const
    expect(RealKafka.withoutKafka(unavailable, {})).toBe("skip")
    expect(RealKafka.withoutKafka(unavailable, { REQUIRE_KAFKA: "1" })).toBe("fail")
    expect(RealKafka.withoutKafka({ _tag: "Failed", reason: "it died" }, {})).toBe("fail")
  })
})
