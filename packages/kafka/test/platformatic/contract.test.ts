/** What the driver uses of the library's low-level API: a version that changes it fails here, and not in production. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readdir, readFile } from "node:fs/promises"
import { fileURLToPath } from "node:url"
import * as Api from "../../src/drivers/platformatic/api.ts"

const library = await import("@platformatic/kafka")

describe("what is used of @platformatic/kafka", () => {
  it.effect("its requests, in these versions", () =>
    Effect.gen(function*() {
      const apis = yield* Api.make(library)
      expect(
        Object.values(apis).map(({ key, name, versions }) => `${key} ${name} ${versions.map((one) => one.version)}`)
          .sort((a, b) => parseInt(a) - parseInt(b))
      ).toMatchInlineSnapshot(`
        [
          "0 Produce 11,10,9",
          "0 Produce 12",
          "1 Fetch 12",
          "2 ListOffsets 9,8,7,6",
          "3 Metadata 12",
          "8 OffsetCommit 9,8",
          "9 OffsetFetch 9,8",
          "10 FindCoordinator 6,5,4",
          "11 JoinGroup 9",
          "12 Heartbeat 4",
          "13 LeaveGroup 5",
          "14 SyncGroup 5",
          "15 DescribeGroups 5",
          "16 ListGroups 5,4",
          "19 CreateTopics 7",
          "20 DeleteTopics 6",
          "21 DeleteRecords 2",
          "22 InitProducerId 5,4",
          "24 AddPartitionsToTxn 3",
          "25 AddOffsetsToTxn 4,3",
          "26 EndTxn 5",
          "26 EndTxn 4,3",
          "28 TxnOffsetCommit 5",
          "28 TxnOffsetCommit 4,3",
          "32 DescribeConfigs 4",
          "37 CreatePartitions 3,2",
          "42 DeleteGroups 2",
          "44 IncrementalAlterConfigs 1",
          "68 ConsumerGroupHeartbeat 1",
          "69 ConsumerGroupDescribe 0",
        ]
      `)
      for (const { key, versions } of Object.values(apis)) {
        for (const version of versions) {
          expect(version.key).toBe(key)
          expect(version.async).toBeTypeOf("function")
        }
      }
    }))

  it("the arguments of each request", () => {
    const { createRequest: _, ...noRequest } = library.metadataV12
    expect(Object.keys(noRequest)).toEqual(expect.arrayContaining(["api", "parseResponse"]))
    const lengths = {
      metadata: library.metadataV12.createRequest.length,
      findCoordinator: library.findCoordinatorV6.createRequest.length,
      initProducerId: library.initProducerIdV5.createRequest.length,
      addPartitionsToTxn: library.addPartitionsToTxnV3.createRequest.length,
      addOffsetsToTxn: library.addOffsetsToTxnV4.createRequest.length,
      txnOffsetCommit: library.txnOffsetCommitV4.createRequest.length,
      endTxn: library.endTxnV4.createRequest.length,
      createTopics: library.createTopicsV7.createRequest.length,
      deleteTopics: library.deleteTopicsV6.createRequest.length,
      createPartitions: library.createPartitionsV3.createRequest.length,
      describeConfigs: library.describeConfigsV4.createRequest.length,
      incrementalAlterConfigs: library.incrementalAlterConfigsV1.createRequest.length,
      deleteRecords: library.deleteRecordsV2.createRequest.length,
      listGroups: library.listGroupsV5.createRequest.length,
      describeGroups: library.describeGroupsV5.createRequest.length,
      consumerGroupDescribe: library.consumerGroupDescribeV0.createRequest.length,
      deleteGroups: library.deleteGroupsV2.createRequest.length,
      fetch: library.fetchV12.createRequest.length,
      listOffsets: library.listOffsetsV9.createRequest.length,
      offsetFetch: library.offsetFetchV9.createRequest.length,
      offsetCommit: library.offsetCommitV9.createRequest.length,
      joinGroup: library.joinGroupV9.createRequest.length,
      syncGroup: library.syncGroupV5.createRequest.length,
      heartbeat: library.heartbeatV4.createRequest.length,
      leaveGroup: library.leaveGroupV5.createRequest.length,
      consumerGroupHeartbeat: library.consumerGroupHeartbeatV1.createRequest.length
    }
    expect(lengths).toMatchInlineSnapshot(`
      {
        "addOffsetsToTxn": 4,
        "addPartitionsToTxn": 1,
        "consumerGroupDescribe": 2,
        "consumerGroupHeartbeat": 10,
        "createPartitions": 3,
        "createTopics": 3,
        "deleteGroups": 1,
        "deleteRecords": 2,
        "deleteTopics": 2,
        "describeConfigs": 1,
        "describeGroups": 2,
        "endTxn": 4,
        "fetch": 9,
        "findCoordinator": 2,
        "heartbeat": 4,
        "incrementalAlterConfigs": 2,
        "initProducerId": 4,
        "joinGroup": 8,
        "leaveGroup": 2,
        "listGroups": 2,
        "listOffsets": 3,
        "metadata": 1,
        "offsetCommit": 5,
        "offsetFetch": 2,
        "syncGroup": 7,
        "txnOffsetCommit": 8,
      }
    `)
  })

  it("the second part of KIP-890 is there under other names, and would be better under its own", () => {
    for (const name of ["produceV12", "txnOffsetCommitV5", "endTxnV5"]) expect(library).not.toHaveProperty(name)
    // the answer to EndTxn 5, as Kafka has it: throttled, error, producer id, epoch, tagged fields
    const answer = Buffer.from([...[0, 0, 0, 7], ...[0, 0], ...[0, 0, 0, 0, 0, 0, 0, 42], ...[0, 3], 0])
    expect(library.initProducerIdV5.parseResponse(1, 26, 5, library.Reader.from(answer))).toMatchObject({
      throttleTimeMs: 7,
      producerId: 42n,
      producerEpoch: 3
    })
    // and the request: transactional id, producer id, epoch, committed, tagged fields
    expect([...library.endTxnV4.createRequest("t", 42n, 3, true).buffer]).toEqual(
      [...[2, 0x74], ...[0, 0, 0, 0, 0, 0, 0, 42], ...[0, 3], 1, 0]
    )
  })

  it("whatever the driver takes from it by name", async () => {
    const folder = fileURLToPath(new URL("../../src/drivers/platformatic/", import.meta.url))
    const files = (await readdir(folder)).filter((file) => file.endsWith(".ts"))
    const sources = await Promise.all(files.map((file) => readFile(`${folder}${file}`, "utf8")))
    const names = new Set(
      sources.flatMap((source) => Array.from(source.matchAll(/\blibrary\.(?!ts\b)(\w+)/g), (found) => found[1]!))
    )
    expect(names.size).toBeGreaterThan(50)
    expect([...names].filter((name) => !(name in library))).toEqual([])
  })

  it("enumerations, which have to be those of the protocol", () => {
    const { ConfigResourceTypes, ConfigSources, IncrementalAlterConfigOperationTypes } = library
    expect(ConfigResourceTypes).toMatchObject({ TOPIC: 2, BROKER: 4 })
    expect(ConfigSources).toMatchObject({ DYNAMIC_TOPIC_CONFIG: 1 })
    expect(IncrementalAlterConfigOperationTypes).toMatchObject({ SET: 0 })
  })

  it("a connection", () => {
    const connection = new library.Connection("contract", { maxInflights: 100_000 })
    for (const name of ["connect", "close", "send", "isConnected", "on", "once", "removeListener"] as const) {
      expect(connection[name]).toBeTypeOf("function")
    }
    expect(connection.status).toBe("none")
    expect(library.ConnectionStatuses).toMatchObject({ CONNECTED: "connected", REAUTHENTICATING: "reauthenticating" })
  })

  it("errors", () => {
    const [answered] = new library.ResponseError(3, 12, { "/topics/0": [6, "in its words"] }, { some: "answer" }).errors
    expect(answered).toMatchObject({
      apiId: "NOT_LEADER_OR_FOLLOWER",
      canRetry: true,
      serverErrorMessage: "in its words"
    })
    expect(new library.ResponseError(3, 12, {}, { some: "answer" })).toMatchObject({ response: { some: "answer" } })
    expect(new library.NetworkError("")).toMatchObject({ code: "PLT_KFK_NETWORK" })
    expect(new library.TimeoutError("")).toMatchObject({ code: "PLT_KFK_NETWORK" })
    expect(new library.AuthenticationError("")).toMatchObject({ code: "PLT_KFK_AUTHENTICATION" })
    expect(new library.UserError("")).toMatchObject({ code: "PLT_KFK_USER" })
    expect(new library.UnexpectedCorrelationIdError("")).toMatchObject({ code: "PLT_KFK_UNEXPECTED_CORRELATION_ID" })
    expect(library.protocolErrors[library.protocolErrorsCodesById[51] ?? ""]).toMatchObject({
      id: "CONCURRENT_TRANSACTIONS",
      canRetry: true
    })
  })

  it("codecs, and the checksum", () => {
    const { crc32c, compressionsAlgorithms: all } = library
    expect(Object.entries(all).map(([name, { bitmask }]) => [name, bitmask])).toEqual([
      ["none", 0],
      ["gzip", 1],
      ["snappy", 2],
      ["lz4", 3],
      ["zstd", 4]
    ])
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283)
  })
})
