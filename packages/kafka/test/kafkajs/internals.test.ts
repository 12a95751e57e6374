/**
 * What is used of kafkajs beyond its types is there in the version that is pinned. The tests on a real broker say that
 * it also does what it should; these fail at once, and say what is missing.
 */
import { describe, expect, it } from "@effect/vitest"
import KafkaJs, { Kafka, logLevel } from "kafkajs"
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import * as Internals from "../../src/drivers/kafkajs/internals.ts"

type Functions<A> = { readonly [K in keyof A]: A[K] extends (...args: never) => unknown ? K : never }[keyof A]

/** Complete, or it does not compile. */
const complete = <Name extends string>(names: { readonly [K in Name]: true }): ReadonlyArray<string> =>
  Object.keys(names)

const missing = (self: object, names: ReadonlyArray<string>): ReadonlyArray<string> =>
  names.filter((name) => typeof Reflect.get(self, name) !== "function")

const cluster = () => Internals.open(new Kafka({ brokers: ["localhost:1"], logLevel: logLevel.NOTHING }))

describe("kafkajs", () => {
  it("is pinned to one version, the one that was read", () => {
    const { dependencies } = JSON.parse(
      readFileSync(new URL("../../package.json", import.meta.url), "utf8")
    ) as { readonly dependencies: Readonly<Record<string, string>> }
    const { version } = createRequire(import.meta.url)("kafkajs/package.json") as { readonly version: string }
    expect(dependencies["kafkajs"]).toBe("2.2.4")
    expect(version).toBe("2.2.4")
  })

  it("shows its cluster, with what it knows and whom it knows", () => {
    const { brokerPool } = cluster()
    expect(missing(
      brokerPool,
      complete<Functions<Internals.BrokerPool>>({
        createBroker: true,
        findConnectedBroker: true,
        findBroker: true,
        refreshMetadata: true
      })
    )).toEqual([])
    expect(brokerPool).toHaveProperty("metadata", null)
    expect(brokerPool.brokers).toEqual({})
    expect(brokerPool.connectionPoolBuilder.build).toBeTypeOf("function")
    expect(brokerPool.rootLogger).toBeTypeOf("object")
    expect(brokerPool).toHaveProperty("versions")
  })

  it("has brokers that are asked one question at a time, over connections that can be seen", async () => {
    const { brokerPool } = cluster()
    const connectionPool = await brokerPool.connectionPoolBuilder.build({ host: "localhost", port: 1 })
    const broker = brokerPool.createBroker({ connectionPool, logger: brokerPool.rootLogger, nodeId: 7 })
    expect(missing(
      broker,
      complete<Functions<Internals.Broker>>({
        isConnected: true,
        connect: true,
        disconnect: true,
        produce: true,
        findGroupCoordinator: true,
        initProducerId: true,
        addPartitionsToTxn: true,
        addOffsetsToTxn: true,
        txnOffsetCommit: true,
        endTxn: true,
        fetch: true,
        listOffsets: true,
        deleteRecords: true,
        createTopics: true,
        deleteTopics: true,
        createPartitions: true,
        describeConfigs: true,
        alterConfigs: true,
        listGroups: true,
        describeGroups: true,
        deleteGroups: true,
        leaveGroup: true,
        offsetFetch: true,
        offsetCommit: true
      })
    )).toEqual([])
    expect(broker.nodeId).toBe(7)
    expect(broker.isConnected()).toBe(false)
    expect(connectionPool).toMatchObject({ host: "localhost", port: 1 })
    expect(connectionPool.send).toBeTypeOf("function")
    // one for fetches, one for the rest
    expect(connectionPool.pool).toHaveLength(2)
    for (const { requestQueue } of connectionPool.pool) {
      expect(requestQueue.pending).toEqual([])
      expect(requestQueue.scheduleCheckPendingRequests).toBeTypeOf("function")
    }
  })

  it("has a table of codecs that can be added to", () => {
    expect(Object.isFrozen(KafkaJs.CompressionCodecs)).toBe(false)
  })
})
