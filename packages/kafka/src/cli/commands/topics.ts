/** Lists topics. */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Admin from "../../Admin.ts"
import * as cluster from "../cluster.ts"
import { Stdio } from "../Stdio.ts"
import * as table from "../table.ts"
import { count, escapeLine } from "../text.ts"

export interface TopicRow {
  readonly topic: string
  readonly partitions: number
  readonly replicas: number
  /** From the oldest to the newest offset: control records and compacted ones count. */
  readonly records: bigint
  /** Partitions without a leader, or with fewer in-sync replicas than replicas. */
  readonly unwell: number
}

/** What there is to say about topics, by their names on the cluster. */
export const describe = (admin: Admin.Service, names: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const topics = yield* admin.describeTopics(names)
    // the log of a partition without a leader can't be asked
    const led = topics.flatMap(({ partitions, topic }) =>
      partitions.filter(({ leader }) => leader !== undefined).map(({ partition }) => ({ topic, partition }))
    )
    const sum = (offsets: ReadonlyArray<Admin.PartitionOffset>): ReadonlyMap<string, bigint> => {
      const sums = new Map<string, bigint>()
      for (const { offset, topic } of offsets) sums.set(topic, (sums.get(topic) ?? 0n) + offset)
      return sums
    }
    const earliest = sum(yield* admin.listOffsets(led, "earliest"))
    const latest = sum(yield* admin.listOffsets(led, "latest"))
    return topics.map(({ partitions, topic }): TopicRow => ({
      topic,
      partitions: partitions.length,
      replicas: Math.max(0, ...partitions.map(({ replicas }) => replicas.length)),
      records: (latest.get(topic) ?? 0n) - (earliest.get(topic) ?? 0n),
      unwell: partitions.filter(({ inSyncReplicas, leader, replicas }) =>
        leader === undefined || inSyncReplicas.length < replicas.length
      ).length
    }))
  })

export const command = Command.make("topics", {
  envFile: cluster.envFile,
  json: Options.boolean("json").pipe(Options.withDescription("A line of JSON for each topic.")),
  internal: Options.boolean("internal").pipe(Options.withDescription("Kafka's own topics too."))
}, ({ envFile, internal, json }) =>
  cluster.connected(envFile)(Effect.scoped(Effect.gen(function*() {
    const stdio = yield* Stdio
    const admin = yield* Admin.make
    const rows = yield* describe(admin, yield* admin.listTopics({ internal }))
    const lines = json
      ? rows.map((row) => JSON.stringify({ ...row, records: Number(row.records) }))
      : table.lines(
        [
          { title: "TOPIC", align: "left" },
          { title: "PARTITIONS", align: "right" },
          { title: "REPLICAS", align: "right" },
          { title: "RECORDS", align: "right" },
          { title: "UNWELL", align: "right" }
        ],
        rows.map((row) => [
          escapeLine(row.topic),
          count(row.partitions),
          count(row.replicas),
          count(row.records),
          row.unwell === 0 ? "" : count(row.unwell)
        ]),
        stdio.style
      )
    yield* stdio.write(lines.map((line) => `${line}\n`).join(""))
    if (rows.length === 0) yield* stdio.note("There are no topics, or none that this user may see.")
  })))).pipe(Command.withDescription("Lists topics: partitions, replicas, records, and partitions that are not well."))
